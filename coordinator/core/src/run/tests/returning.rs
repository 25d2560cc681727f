//! Promises about a coordinator that takes a run over, whose workers may have gone on without one.

use super::*;

/// A new coordinator reads the journal a minute later. The workers are as they were.
fn taken_over(former: Bench, expected: &[&str]) -> Bench {
    let Bench { run, entries, heartbeats, processes, .. } = former;
    let spec = &run.history.spec;
    let expected = expected.iter().map(|name| WorkerName::from(*name)).collect();
    let history = History::from_entries(entries.clone()).unwrap();
    let (run, effects) = Run::take_over(Time(1000), history, spec.workers, spec.epochs, expected);
    let mut bench = Bench::of(run, effects, entries);
    (bench.heartbeats, bench.processes) = (heartbeats, processes);
    bench
}

/// The same process comes back and goes on as it was.
fn back(bench: &mut Bench, worker: &str, process: u32) {
    assert_eq!(bench.come_back(worker, process, 1), Ok(()));
    bench.beat(worker, |_| ());
}

#[test]
fn when_all_come_back_the_generation_goes_on() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    let taken_over = Entry::TakenOver { term: Term(2), workers: spec().workers, epochs: 3 };
    assert_eq!(bench.effects[0], Effect::Record(taken_over));
    assert_eq!(bench.run.status().reason, "waits for members of before to come back: w0, w1");
    back(&mut bench, "w0", 1);
    assert_eq!(bench.phase(), "waiting for workers to come back");
    assert_eq!(bench.come_back("w1", 2, 1), Ok(()));
    assert_eq!(bench.told("w1"), [&Message::Welcome { term: Term(2), lease_ms: 3000 }]);
    bench.stepping("w1", 5);
    assert_eq!((bench.phase(), bench.generation(), bench.effects.len()), ("training", 1, 0));
    bench.pass(5000, &["w0", "w1"]);
    assert!(bench.effects.is_empty());
    assert_eq!(bench.losses(), []);
    bench.finish_epoch(5);
    assert_eq!((bench.epoch(), bench.stored()), (1, vec![10]));
}

#[test]
fn a_generation_that_goes_on_changes_like_any_other() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    bench.come("w2");
    bench.all_pause();
    assert_eq!(
        (bench.member_names().len(), bench.generation(), bench.begin("w2").position),
        (3, 2, bench.at(4))
    );
}

#[test]
fn when_some_do_not_come_back_within_their_lease_the_others_form_a_new_generation() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    bench.pass(2900, &["w0"]);
    assert_eq!(bench.phase(), "waiting for workers to come back");
    bench.pass(100, &["w0"]);
    assert_eq!(bench.losses(), [("w1", "it did not come back to the new coordinator")]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true)]);
    bench.paused("w0", 2, bench.at(4));
    let begin = bench.begin("w0");
    assert_eq!((begin.position, begin.start), (bench.at(4), Start::Peer { rank: 0 }));
}

#[test]
fn when_none_come_back_the_run_waits_for_workers_and_resumes_from_a_checkpoint() {
    let mut former = Bench::training(spec());
    former.finish_epoch(5);
    former.all_step(13);
    let mut bench = taken_over(former, &["w0", "w1"]);
    assert!(bench.effects.contains(&Effect::Publish { last: Step(10), best: Some(Step(10)) }));
    bench.pass(3000, &[]);
    assert_eq!((bench.phase(), bench.losses().len()), ("gathering workers", 2));
    bench.come("w0");
    bench.come("w1");
    bench.all_pause();
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10)]) });
    assert!(bench.entries.contains(&Entry::Resumed { position: bench.at(10), damaged: vec![] }));
    let begin = bench.begin("w0");
    assert_eq!((begin.generation, begin.start), (Generation(2), Start::Checkpoint(Step(10))));
}

#[test]
fn a_run_of_another_day_expects_nobody_and_starts_with_as_many_as_it_is_given_now() {
    let mut former = Bench::training(spec());
    former.finish_epoch(5);
    let (history, entries) = (former.run.history.clone(), former.entries);
    let bounds = WorkerBounds { min: 3, start: 3, max: 3 };
    let (run, effects) = Run::take_over(Time(1000), history, bounds, 7, BTreeSet::new());
    let mut bench = Bench::of(run, effects, entries);
    assert_eq!((bench.phase(), bench.run.history.spec.epochs), ("gathering workers", 7));
    ["w0", "w1", "w2"].into_iter().for_each(|worker| bench.come(worker));
    bench.all_pause();
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10)]) });
    let begin = bench.begin("w2");
    assert_eq!((begin.generation, begin.rank, begin.peers.len()), (Generation(2), 2, 3));
}

#[test]
fn another_process_of_a_members_name_is_not_the_one_that_is_waited_for() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    bench.come("w1");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w1", 2, true)], "there is none to wait for");
    bench.all_pause();
    let has_state: Vec<bool> = bench.begin("w1").peers.iter().map(|peer| peer.has_state).collect();
    assert_eq!((has_state, bench.begin("w1").position), (vec![true, false], bench.at(4)));
}

#[test]
fn one_that_is_known_to_be_dead_is_not_waited_for() {
    for joined_before in [false, true] {
        let mut former = Bench::training(spec());
        former.all_step(4);
        let mut bench = taken_over(former, &["w0", "w1"]);
        if joined_before {
            assert_eq!(bench.come_back("w1", 2, 1), Ok(()));
        }
        back(&mut bench, "w0", 1);
        bench.die("w1");
        assert_eq!(bench.losses(), [("w1", "killed by SIGKILL")]);
        assert_eq!(bench.asked_to_pause(), [("w0", 2, true)], "{joined_before}");
    }
}

#[test]
fn a_coordinator_that_hears_of_a_newer_one_is_fenced() {
    let mut bench = Bench::training(spec());
    let (own, newest) = (Term(1), Term(2));
    assert_eq!(bench.come_back("w0", 1, 2), Err(Reject::Fenced { own, newest }));
    assert_eq!(bench.come_back("w9", 9, 2), Err(Reject::Fenced { own, newest }));
    let mut bench = taken_over(bench, &["w0"]);
    assert_eq!(bench.come_back("w0", 1, 2), Ok(()));
}

#[test]
fn a_verdict_that_the_former_coordinator_recorded_is_given_again() {
    let mut former = Bench::training(spec());
    let verdict = former.end_epoch(5).unwrap();
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    assert_eq!((bench.verdict(), bench.phase()), (Some(verdict), "training"));
    bench.store(10);
    assert_eq!(bench.stored(), [10]);
}

#[test]
fn reports_that_the_former_coordinator_did_not_record_are_taken_again() {
    let mut former = Bench::training(spec());
    let reports = former.reports(5);
    former.report(vec![reports[0].clone()]);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    bench.report(reports);
    assert_eq!((bench.epoch(), bench.verdict().unwrap().epoch), (1, Epoch(0)));
}

#[test]
fn members_that_broke_meanwhile_form_a_new_generation() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w1", 2);
    assert_eq!(bench.come_back("w0", 1, 1), Ok(()));
    bench.broken("w0", &["w1"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w1", 2, true)]);
}

/// The former coordinator's last generations never began.
#[test]
fn numbers_that_workers_have_heard_of_are_not_given_again() {
    let mut former = Bench::training(workers(2, 3, 4));
    former.all_step(4);
    former.die("w2");
    former.paused("w0", 2, former.at(4));
    let mut bench = taken_over(former, &["w0", "w1"]);
    bench.heartbeats.get_mut(&WorkerName::from("w0")).unwrap().prepared = Generation(7);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    assert_eq!(bench.asked_to_pause(), [("w0", 8, true), ("w1", 8, true)]);
    bench.all_pause();
    assert_eq!(bench.generation(), 8);
}

/// One that was cut off comes while a generation forms; what it paused for is of a former life.
#[test]
fn a_generation_that_forms_is_numbered_above_all_that_a_newcomer_has_heard_of() {
    let mut bench = Bench::forming(spec());
    bench.join("w2");
    bench.beat("w2", |heartbeat| {
        (heartbeat.address, heartbeat.prepared) = ("w2:1".into(), Generation(5));
    });
    assert_eq!(bench.asked_to_pause(), [("w0", 6, false), ("w1", 6, false), ("w2", 6, false)]);
    bench.all_pause();
    assert_eq!((bench.generation(), bench.begin("w2").generation), (6, Generation(6)));
}

#[test]
fn a_stop_before_all_are_back_is_kept_until_they_are() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    bench.ok(Event::StopRequested);
    assert_eq!((bench.outcome(), bench.asked_to_pause()), (None, vec![]));
    back(&mut bench, "w1", 2);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
}

#[test]
fn a_run_taken_over_once_trained_is_tested_without_training() {
    let mut former = Bench::training(with(|spec| spec.epochs = 2));
    former.finish_epoch(6);
    former.finish_epoch(5);
    let mut bench = taken_over(former, &[]);
    bench.come("w0");
    bench.come("w1");
    bench.all_pause();
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10), Step(20)]) });
    assert!(bench.begin("w0").hold);
    let order = Message::Evaluate { generation: Generation(2), split: Split::Test, weights_step: Step(10) };
    assert_eq!(bench.told("w0").last(), Some(&&order));
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn members_that_hold_are_gathered_into_a_new_generation_to_be_tested() {
    let mut former = Bench::training(with(|spec| spec.epochs = 1));
    former.finish_epoch(5);
    let mut bench = taken_over(former, &["w0", "w1"]);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    bench.all_pause();
    assert!(bench.begin("w0").hold);
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn a_generation_that_holds_for_the_former_coordinator_forms_anew() {
    let mut former = Bench::training(with(|spec| spec.epochs = 1));
    former.finish_epoch(5);
    former.die("w1");
    former.pause("w0");
    former.follow("w0");
    former.beat("w0", |heartbeat| heartbeat.activity = Activity::Forming);
    let mut bench = taken_over(former, &["w0"]);
    back(&mut bench, "w0", 1);
    assert_eq!((bench.phase(), bench.generation()), ("training", 2));
    bench.beat("w0", |heartbeat| heartbeat.activity = Activity::Holding);
    assert_eq!(bench.asked_to_pause(), [("w0", 3, true)]);
    bench.pause("w0");
    assert!(bench.begin("w0").hold);
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn one_that_comes_back_while_the_others_form_is_asked_for_its_state_at_once() {
    let mut former = Bench::training(workers(1, 3, 4));
    former.all_step(4);
    let mut bench = taken_over(former, &["w0", "w1", "w2"]);
    back(&mut bench, "w0", 1);
    back(&mut bench, "w1", 2);
    bench.pass(3000, &["w0", "w1"]);
    assert_eq!(bench.come_back("w2", 3, 1), Ok(()));
    bench.stepping("w2", 5);
    assert_eq!(bench.asked_to_pause(), [("w2", 2, true)]);
    bench.all_pause();
    let begin = bench.begin("w0");
    assert_eq!((begin.position, begin.start), (bench.at(5), Start::Peer { rank: 2 }));
}

/// It is taken for dead, and goes on waiting for another of its generation that this coordinator has never seen.
#[test]
fn one_that_waits_for_somebody_unknown_is_let_pause_at_once() {
    let mut former = Bench::training(spec());
    former.all_step(4);
    let mut bench = taken_over(former, &[]);
    back(&mut bench, "w0", 1);
    bench.come("w2");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w2", 2, false)]);
    bench.pause("w2");
    bench.waits("w0", "w1");
    bench.pass(1500, &["w0", "w2"]);
    assert_eq!(bench.asked_to_pause().last(), Some(&("w0", 2, true)));
    bench.pause("w0");
    assert_eq!((bench.begin("w2").position, bench.losses()), (bench.at(4), vec![]));
}
