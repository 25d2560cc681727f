//! Promises about joining and about how a life's first generation forms.

use super::*;

#[test]
fn a_name_is_given_once_and_a_full_or_ended_run_takes_nobody() {
    let taken = Err(Reject::NameTaken { worker: "w0".into() });
    let full = Err(Reject::Full { workers: 2 });
    let small = || workers(1, 2, 2);
    let welcome = Message::Welcome { term: Term(1), lease_ms: 3000 };

    let mut gathering = Bench::new(small());
    gathering.join("w0");
    assert_eq!(gathering.told("w0"), [&welcome]);
    let again = gathering.joined("w0");
    assert_eq!(gathering.apply(again), taken);
    for mut bench in [Bench::forming(small()), Bench::training(small())] {
        let (again, stranger) = (bench.joined("w0"), bench.joined("x"));
        assert_eq!(bench.apply(again.clone()), taken);
        assert_eq!(bench.apply(stranger.clone()), full);
        bench.ok(Event::Abandoned { reason: "no".into(), kind: FailureKind::Cluster });
        assert_eq!(bench.apply(again), Err(Reject::RunOver));
        assert_eq!(bench.apply(stranger), Err(Reject::RunOver));
    }
}

#[test]
fn workers_are_asked_to_pause_once_as_many_as_the_run_starts_with_are_ready() {
    let mut bench = Bench::new(spec());
    bench.come("w1");
    bench.join("w0");
    assert_eq!((bench.asked_to_pause(), bench.phase()), (vec![], "gathering workers"));
    assert_eq!(bench.run.status().reason, "1 of 2 workers are ready");
    bench.ready("w0");
    assert_eq!(bench.asked_to_pause(), [("w0", 1, false), ("w1", 1, false)]);
    assert_eq!(bench.run.status().reason, "waits for w0, w1 to pause");
}

#[test]
fn a_generation_begins_only_when_all_have_paused() {
    let mut bench = Bench::forming(spec());
    bench.pause("w1");
    bench.pause("w1");
    assert_eq!((bench.effects.len(), bench.run.history.generation), (0, Generation(0)));
    assert_eq!(bench.run.status().reason, "waits for w0 to pause");
    bench.pause("w0");
    assert!(matches!(bench.effects[0], Effect::Record(Entry::GenerationBegan { .. })));
    assert_eq!(bench.run.history.generation, Generation(1));
}

#[test]
fn ranks_follow_names_and_shards_are_contiguous_whatever_the_order_of_joining() {
    let order = ["w2", "w0", "w3", "w1"];
    let mut bench = Bench::new(with(|spec| (spec.workers, spec.shards) = (WorkerBounds::fixed(4), 6)));
    order.iter().for_each(|name| bench.come(name));
    bench.all_pause();
    for (rank, name) in ["w0", "w1", "w2", "w3"].into_iter().enumerate() {
        let begin = bench.begin(name);
        let peer = &begin.peers[rank];
        assert_eq!(
            (begin.rank as usize, &*peer.worker.0, &*peer.address),
            (rank, name, &*format!("{name}:1"))
        );
        let shards: Vec<(u32, u32)> = begin.peers.iter().map(|peer| peer.shards).collect();
        assert_eq!(shards, crate::shard_blocks(4, 6));
        assert!(begin.peers.iter().all(|peer| !peer.has_state));
        assert_eq!((begin.position, begin.start), (Position::default(), Start::Initial));
        assert_eq!((begin.judged, begin.save, begin.hold), (false, false, false));
    }
    assert_eq!(bench.member_names(), ["w0", "w1", "w2", "w3"]);
}

#[test]
fn with_fewer_than_wanted_a_run_starts_when_its_patience_is_over() {
    let mut bench = Bench::new(workers(1, 3, 4));
    bench.come("w0");
    bench.come("w1");
    bench.pass(19_900, &["w0", "w1"]);
    assert_eq!((bench.asked_to_pause(), bench.phase()), (vec![], "gathering workers"));
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 1, false), ("w1", 1, false)]);
}

#[test]
fn below_the_least_a_run_waits_however_long_until_the_join_deadline_and_fails_then() {
    let reason = "of at least 2 workers joined and got ready within 60 s";
    for ready in [0, 1] {
        let mut bench = Bench::new(workers(2, 3, 4));
        bench.join("w0");
        if ready == 1 {
            bench.ready("w0");
        }
        bench.pass(59_900, &["w0"]);
        assert!(bench.effects.is_empty());
        bench.pass(100, &["w0"]);
        assert!(bench.failure().starts_with(&format!("{ready} {reason}")), "{}", bench.failure());
        let kind = bench.run.history.outcome.clone();
        assert!(matches!(kind, Some(Outcome::Failed { kind: FailureKind::Cluster, .. })));
        assert_eq!(bench.run.next_deadline(), None);
    }
}

#[test]
fn the_least_start_when_the_last_of_them_comes_late() {
    let mut bench = Bench::new(workers(2, 3, 4));
    bench.come("w0");
    bench.pass(30_000, &["w0"]);
    bench.come("w1");
    assert_eq!(bench.asked_to_pause(), [("w0", 1, false), ("w1", 1, false)]);
}

#[test]
fn a_worker_that_gets_ready_while_the_others_pause_takes_part_at_once() {
    let mut bench = Bench::forming(spec());
    bench.come("w2");
    bench.pause("w0");
    bench.pass(100, &["w0", "w1", "w2"]);
    assert_eq!(bench.asked_to_pause(), [("w2", 1, false)]);
    bench.pause("w1");
    assert_eq!(bench.phase(), "forming a generation");
    bench.pause("w2");
    assert_eq!(bench.member_names(), ["w0", "w1", "w2"]);
}

#[test]
fn what_belongs_to_another_generation_is_refused() {
    for given in [Generation(0), Generation(2)] {
        let (worker, generation) = (WorkerName::from("w0"), given);
        let stale = Err(Reject::StaleGeneration { given, current: Generation(1) });
        let mut bench = Bench::training(spec());
        bench.now.0 += 1;
        let report = bench.reports(3).remove(0).1;
        let (blocks, timings) = (Vec::new(), StartTimings::default());
        let events = [
            Event::Progressed { worker: worker.clone(), generation, progress: Progress::default() },
            Event::Started { worker: worker.clone(), generation, timings },
            Event::EpochReported { worker: worker.clone(), generation, report },
            Event::EvalReported { worker, generation, split: Split::Test, blocks },
        ];
        for event in events {
            assert_eq!(bench.apply(event.clone()), stale, "{event:?}");
        }
    }
}

#[test]
fn what_a_stranger_says_is_refused() {
    let mut bench = Bench::training(spec());
    let (worker, generation) = (WorkerName::from("x"), Generation(1));
    let stranger = Err(Reject::UnknownWorker { worker: worker.clone() });
    let heartbeat = Heartbeat { sequence: 1, ..Heartbeat::default() };
    assert_eq!(bench.apply(Event::Heartbeat { worker: worker.clone(), heartbeat }), stranger);
    let progress = Progress::default();
    assert_eq!(bench.apply(Event::Progressed { worker, generation, progress }), stranger);
}

#[test]
fn what_a_worker_that_is_no_member_reports_is_refused() {
    let mut bench = Bench::training(spec());
    bench.join("w2");
    bench.now.0 += 1;
    let (worker, generation) = (WorkerName::from("w2"), Generation(1));
    let report = bench.reports(3).remove(0).1;
    let timings = StartTimings::default();
    let phase = "training";
    let refused = |message| Err(Reject::OutOfPlace { worker: "w2".into(), message, phase });
    let started = Event::Started { worker: worker.clone(), generation, timings };
    assert_eq!(bench.apply(started), refused("Started"));
    let reported = Event::EpochReported { worker, generation, report };
    assert_eq!(bench.apply(reported), refused("EpochReport"));
}

#[test]
fn a_heartbeat_that_was_overtaken_is_passed_over() {
    let mut bench = Bench::forming(spec());
    let late = bench.heartbeats[&WorkerName::from("w0")].clone();
    bench.pause("w0");
    let before = bench.run.clone();
    let prepared = Generation(9);
    bench.ok(Event::Heartbeat { worker: "w0".into(), heartbeat: Heartbeat { prepared, ..late } });
    assert_eq!(bench.run, before);
}
