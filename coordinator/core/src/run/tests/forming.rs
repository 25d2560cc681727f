//! Promises about joining and about how a generation forms.

use super::*;

#[test]
fn a_name_is_given_once_and_a_full_or_ended_run_takes_nobody() {
    let first = WorkerName::from("w0");
    let stranger = WorkerName::from("x");
    let taken = Err(Reject::NameTaken { worker: first.clone() });
    let full = Err(Reject::Full { workers: 2 });

    let mut gathering = Bench::new(spec());
    gathering.ok(joined(&first));
    assert_eq!(gathering.told("w0"), [&Message::Welcome]);
    assert_eq!(gathering.apply(joined(&first)), taken);
    let mut forming = Bench::forming(spec());
    let mut training = Bench::training(spec());
    for bench in [&mut forming, &mut training] {
        assert_eq!(bench.apply(joined(&first)), taken);
        assert_eq!(bench.apply(joined(&stranger)), full);
        bench.ok(Event::WorkerLost { worker: first.clone(), reason: "gone".into() });
        for name in [&first, &WorkerName::from("w1"), &stranger] {
            assert_eq!(bench.apply(joined(name)), Err(Reject::RunOver));
        }
    }
}

#[test]
fn workers_are_told_to_prepare_once_all_have_joined() {
    let mut bench = Bench::new(spec());
    bench.ok(joined(&"w1".into()));
    assert_eq!(bench.told("w1"), [&Message::Welcome]);
    bench.ok(joined(&"w0".into()));
    let prepare = Message::Prepare { generation: Generation(1) };
    assert_eq!(bench.told("w0"), [&Message::Welcome, &prepare]);
    assert_eq!(bench.told("w1"), [&prepare]);
}

#[test]
fn a_generation_begins_only_when_all_are_prepared() {
    let mut bench = Bench::forming(spec());
    let prepared = |worker: &str| Event::Prepared {
        worker: worker.into(),
        generation: Generation(1),
        address: format!("{worker}:1"),
    };
    bench.ok(prepared("w1"));
    bench.ok(prepared("w1"));
    assert_eq!((bench.effects.len(), bench.run.history.generation), (0, Generation(0)));
    assert_eq!(bench.run.status().reason, "1 of 2 workers are ready");
    let stranger = bench.apply(prepared("x"));
    assert_eq!(stranger, Err(Reject::UnknownWorker { worker: "x".into() }));
    bench.ok(prepared("w0"));
    assert!(matches!(bench.effects[0], Effect::Record(Entry::GenerationBegan { .. })));
    assert_eq!(bench.run.history.generation, Generation(1));
    assert!(matches!(bench.apply(prepared("w0")), Err(Reject::OutOfPlace { message: "Prepared", .. })));
}

#[test]
fn ranks_follow_names_and_shards_are_contiguous_whatever_the_order_of_joining() {
    let order = ["w2", "w0", "w3", "w1"];
    let mut bench = Bench::new(with(|spec| (spec.workers, spec.shards) = (4, 6)));
    order.iter().for_each(|name| bench.ok(joined(&WorkerName::from(*name))));
    for name in order.iter().rev() {
        let (worker, generation) = (WorkerName::from(*name), Generation(1));
        bench.ok(Event::Prepared { worker, generation, address: format!("{name}:1") });
    }
    for (rank, name) in ["w0", "w1", "w2", "w3"].into_iter().enumerate() {
        let begin = bench.begin(name);
        let peer = &begin.peers[rank];
        assert_eq!(
            (begin.rank as usize, &*peer.worker.0, &*peer.address),
            (rank, name, &*format!("{name}:1"))
        );
        assert_eq!(
            begin.peers.iter().map(|peer| peer.shards).collect::<Vec<_>>(),
            [(0, 2), (2, 4), (4, 5), (5, 6)]
        );
        assert_eq!((begin.position, begin.checkpoint, begin.hold), (Position::default(), None, false));
    }
    let Some(Entry::GenerationBegan { members, .. }) = bench.entries.last() else { panic!() };
    assert_eq!(members.iter().map(|member| &*member.worker.0).collect::<Vec<_>>(), ["w0", "w1", "w2", "w3"]);
}

#[test]
fn what_belongs_to_another_generation_is_refused() {
    let position = Position::default();
    for given in [Generation(0), Generation(2)] {
        let (worker, generation) = (WorkerName::from("w0"), given);
        let stale = Err(Reject::StaleGeneration { given, current: Generation(1) });

        let mut bench = Bench::forming(spec());
        let address = "w0:1".to_owned();
        assert_eq!(bench.apply(Event::Prepared { worker: worker.clone(), generation, address }), stale);

        let mut bench = Bench::training(spec());
        let report = bench.reports(3).remove(0).1;
        let (blocks, reason) = (Vec::new(), String::new());
        let events = [
            Event::Progressed { worker: worker.clone(), generation, progress: Progress::default() },
            Event::EpochReported { worker: worker.clone(), generation, report },
            Event::EvalReported { worker: worker.clone(), generation, split: Split::Test, blocks },
            Event::Halted { worker, generation, position },
            Event::CheckpointStored { generation, position, size_bytes: 1 },
            Event::CheckpointFailed { generation, position, reason },
        ];
        for event in events {
            assert_eq!(bench.apply(event.clone()), stale, "{event:?}");
        }
        assert_eq!(bench.run.admit_upload(given), stale);
    }
}

#[test]
fn what_a_stranger_says_is_refused() {
    let mut bench = Bench::training(spec());
    let (worker, generation) = (WorkerName::from("x"), Generation(1));
    let stranger = Err(Reject::UnknownWorker { worker: worker.clone() });
    let position = Position::default();
    assert_eq!(bench.apply(Event::Halted { worker: worker.clone(), generation, position }), stranger);
    let progress = Progress::default();
    assert_eq!(bench.apply(Event::Progressed { worker, generation, progress }), stranger);
}

#[test]
fn workers_that_do_not_come_or_get_ready_in_time_fail_the_run() {
    let one_joined = || {
        let mut bench = Bench::new(spec());
        bench.ok(joined(&"w0".into()));
        bench
    };
    let cases = [
        (Bench::new(spec()), "0 of 2 workers joined within 60 s"),
        (one_joined(), "1 of 2 workers joined within 60 s"),
        (Bench::forming(spec()), "0 of 2 workers got ready within 60 s"),
    ];
    for (mut bench, reason) in cases {
        let deadline = bench.run.next_deadline().unwrap();
        assert_eq!(deadline, Time(61_000));
        bench.now = Time(deadline.0 - 1);
        bench.ok(Event::Tick);
        assert!(bench.effects.is_empty());
        bench.now = deadline;
        bench.ok(Event::Tick);
        assert_eq!(bench.failure(), reason);
        assert_eq!(bench.run.next_deadline(), None);
    }
}

#[test]
fn a_run_that_trains_has_no_deadline() {
    let mut bench = Bench::training(spec());
    assert_eq!(bench.run.next_deadline(), None);
    bench.now = Time(1 << 40);
    bench.ok(Event::Tick);
    assert!(bench.effects.is_empty());
}

#[test]
fn a_resumed_run_starts_from_its_checkpoint_with_as_many_workers_as_wanted_and_a_higher_generation() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.store(13);
    let mut bench = Bench::resumed(bench.entries, &[10, 13], 3);
    assert_eq!(bench.effects[1..], [Effect::Publish { last: Step(13), best: Some(Step(10)) }]);
    bench.names().iter().for_each(|name| bench.ok(joined(name)));
    bench.prepare();
    let begin = bench.begin("w2");
    assert_eq!((begin.generation, begin.rank, begin.peers.len()), (Generation(2), 2, 3));
    assert_eq!((begin.position, begin.checkpoint, begin.hold), (bench.at(13), Some(Step(13)), false));
}
