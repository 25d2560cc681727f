//! Promises about workers that leave on purpose, their own or somebody else's: nothing is lost, whoever goes.

use super::*;
use crate::Cause;

fn finish() -> Message {
    Message::Finish { reason: "it asked to leave".into() }
}

#[test]
fn a_worker_that_wants_to_leave_goes_at_the_next_boundary_and_no_step_is_lost() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.leave("w1");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
    bench.paused("w1", 2, bench.at(5));
    assert_eq!(bench.departures(), [""; 0], "it stays until all have paused");
    bench.paused("w0", 2, bench.at(5));
    assert_eq!((bench.departures(), bench.told("w1")), (vec!["w1"], vec![&finish()]));
    assert_eq!((bench.member_names(), bench.begin("w0").position), (vec!["w0"], bench.at(5)));
    bench.all_begin();
    assert_eq!((bench.receipt().cause, bench.receipt().steps_lost), (Cause::Leave, 0));
    assert_eq!(bench.losses(), []);
}

#[test]
fn one_that_leaves_with_the_newest_state_stays_until_another_has_it() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.leave("w1");
    bench.paused("w1", 2, bench.at(5));
    bench.paused("w0", 2, bench.at(4));
    let begin = bench.begin("w0").clone();
    assert_eq!((begin.position, begin.start), (bench.at(5), Start::Peer { rank: 1 }));
    assert_eq!(bench.departures(), [""; 0]);
    bench.all_begin();
    bench.pass(100, &["w0", "w1"]);
    bench.paused("w0", 3, bench.at(6));
    bench.paused("w1", 3, bench.at(6));
    assert_eq!((bench.departures(), bench.member_names()), (vec!["w1"], vec!["w0"]));
}

#[test]
fn the_last_one_leaves_when_its_state_is_stored_and_the_run_waits_for_more() {
    let mut bench = Bench::training(workers(1, 1, 4));
    bench.all_step(4);
    bench.leave("w0");
    bench.paused("w0", 2, bench.at(5));
    let begin = bench.begin("w0").clone();
    assert_eq!((begin.position, begin.save, begin.hold), (bench.at(5), true, true));
    assert_eq!(bench.departures(), [""; 0]);
    bench.follow("w0");
    bench.store(5);
    assert_eq!((bench.departures(), bench.told("w0").last()), (vec!["w0"], Some(&&finish())));
    assert_eq!((bench.phase(), bench.outcome()), ("gathering workers", None));
    bench.pass(100_000, &[]);
    assert_eq!(bench.phase(), "gathering workers", "as long as it takes");
}

#[test]
fn who_comes_after_the_last_has_left_goes_on_from_what_it_stored() {
    let mut bench = Bench::training(workers(1, 1, 4));
    bench.all_step(4);
    bench.leave("w0");
    bench.paused("w0", 2, bench.at(5));
    bench.follow("w0");
    bench.store(5);
    bench.come("w7");
    bench.all_pause();
    assert!(bench.effects.contains(&Effect::VerifyCheckpoints));
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(5)]) });
    let begin = bench.begin("w7");
    assert_eq!((begin.position, begin.start), (bench.at(5), Start::Checkpoint(Step(5))));
}

#[test]
fn the_last_one_that_leaves_at_an_epochs_end_evaluates_it_first() {
    let mut bench = Bench::training(workers(1, 1, 4));
    bench.all_step(9);
    bench.leave("w0");
    bench.paused("w0", 2, bench.unjudged(10));
    let begin = bench.begin("w0").clone();
    assert_eq!((begin.judged, begin.save, begin.hold), (false, false, false));
    bench.follow("w0");
    assert!(bench.end_epoch(5).unwrap().hold);
    assert_eq!(bench.departures(), [""; 0]);
    bench.store(10);
    assert_eq!((bench.departures(), bench.epoch(), bench.stored()), (vec!["w0"], 1, vec![10]));
}

#[test]
fn all_that_leave_at_once_store_the_state_first() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.leave("w0");
    bench.leave("w1");
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    let begin = bench.begin("w1");
    assert_eq!((begin.save, begin.hold, begin.peers.len()), (true, true, 2));
    bench.all_begin();
    bench.store(5);
    assert_eq!(bench.departures(), ["w0", "w1"]);
}

/// One goes, the other is too few, and then asks to leave as well.
#[test]
fn one_that_waits_with_the_newest_state_stores_it_before_it_leaves() {
    let mut bench = Bench::training(workers(2, 2, 4));
    bench.all_step(4);
    bench.leave("w0");
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    assert_eq!((bench.phase(), bench.departures()), ("gathering workers", vec!["w0"]));
    bench.leave("w1");
    assert_eq!(bench.departures(), ["w0"], "it has what nobody else has");
    assert_eq!(bench.asked_to_pause(), [("w1", 3, false)]);
    bench.pause("w1");
    assert_eq!((bench.begin("w1").save, bench.begin("w1").hold), (true, true));
    bench.follow("w1");
    bench.store(5);
    assert_eq!(bench.departures(), ["w0", "w1"]);
}

#[test]
fn one_that_waits_for_others_leaves_at_once_when_another_has_its_state_too() {
    let mut bench = Bench::training(workers(3, 3, 4));
    bench.all_step(4);
    bench.die("w2");
    bench.all_pause();
    assert_eq!(bench.phase(), "gathering workers");
    bench.leave("w0");
    assert_eq!((bench.departures(), bench.phase()), (vec!["w0"], "gathering workers"));
}

#[test]
fn a_worker_may_leave_before_it_has_taken_part() {
    let mut gathering = Bench::new(spec());
    gathering.come("w0");
    gathering.leave("w0");
    assert_eq!((gathering.departures(), gathering.told("w0")), (vec!["w0"], vec![&finish()]));
    let mut training = Bench::training(spec());
    training.join("w2");
    training.leave("w2");
    assert_eq!((training.departures(), training.phase()), (vec!["w2"], "training"));
}

#[test]
fn a_worker_that_asks_to_leave_while_an_epoch_is_judged_waits_for_the_verdict() {
    let mut bench = Bench::training(spec());
    let mut reports = bench.reports(5);
    let last = reports.pop().unwrap();
    bench.report(reports);
    bench.leave("w1");
    bench.pass(500, &["w0", "w1"]);
    assert_eq!(bench.phase(), "ending an epoch");
    bench.report(vec![last]);
    bench.follow_verdict();
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
}

fn asked_back() -> Message {
    Message::Finish { reason: "it was asked back".into() }
}

#[test]
fn a_worker_that_is_asked_back_goes_at_the_next_boundary_and_no_step_is_repeated() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ask_back("w1");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
    assert_eq!(bench.departures(), [""; 0], "it stays until all have paused");
    bench.paused("w1", 2, bench.at(5));
    bench.paused("w0", 2, bench.at(5));
    assert_eq!((bench.departures(), bench.told("w1")), (vec!["w1"], vec![&asked_back()]));
    assert_eq!((bench.member_names(), bench.begin("w0").position), (vec!["w0"], bench.at(5)));
    bench.all_begin();
    let receipt = bench.receipt();
    assert_eq!((receipt.cause, receipt.culprit.clone()), (Cause::Leave, Some("w1".into())));
    assert_eq!((receipt.reason.as_str(), receipt.steps_lost), ("it was asked back", 0));
    assert_eq!(bench.losses(), []);
}

#[test]
fn a_worker_that_was_asked_back_and_says_nothing_of_leaving_leaves_all_the_same() {
    let mut bench = Bench::training(spec());
    let mut reports = bench.reports(5);
    let last = reports.pop().unwrap();
    bench.report(reports);
    bench.ask_back("w1");
    assert_eq!(bench.asked_to_pause(), [], "the epoch is being judged");
    bench.pass(500, &["w0", "w1"]);
    bench.report(vec![last]);
    bench.follow_verdict();
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
    bench.all_pause();
    assert_eq!((bench.departures(), bench.member_names()), (vec!["w1"], vec!["w0"]));
}

#[test]
fn a_worker_that_was_asked_back_leaves_though_its_session_broke_meanwhile() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ask_back("w1");
    bench.detach("w1");
    bench.come_back("w1", 2, 1).unwrap();
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    assert_eq!(bench.departures(), ["w1"]);
}

#[test]
fn a_worker_that_takes_no_part_goes_at_once_when_it_is_asked_back() {
    let mut gathering = Bench::new(spec());
    gathering.come("w0");
    gathering.ask_back("w0");
    assert_eq!((gathering.departures(), gathering.told("w0")), (vec!["w0"], vec![&asked_back()]));
    let mut training = Bench::training(spec());
    training.join("w2");
    training.ask_back("w2");
    assert_eq!((training.departures(), training.told("w2")), (vec!["w2"], vec![&asked_back()]));
    assert_eq!((training.phase(), training.generation()), ("training", 1));
}

/// It takes no part in the generation that is being formed, and goes once that is settled.
#[test]
fn a_newcomer_that_is_asked_back_while_a_generation_is_formed_is_no_member_of_it() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.come("w2");
    bench.pass(1000, &["w0", "w1", "w2"]);
    bench.ask_back("w2");
    ["w0", "w1"].iter().for_each(|worker| bench.paused(worker, 2, bench.at(5)));
    bench.pause("w2");
    assert_eq!((bench.departures(), bench.member_names()), (vec!["w2"], vec!["w0", "w1"]));
}

#[test]
fn several_that_are_asked_back_at_once_cost_one_change() {
    let mut bench = Bench::training(workers(1, 4, 4));
    bench.all_step(4);
    ["w1", "w2", "w3"].iter().for_each(|worker| bench.ask_back(worker));
    assert_eq!(bench.generation(), 2);
    ["w0", "w1", "w2", "w3"].iter().for_each(|worker| bench.paused(worker, 2, bench.at(5)));
    assert_eq!((bench.departures(), bench.member_names()), (vec!["w1", "w2", "w3"], vec!["w0"]));
    bench.all_begin();
    assert_eq!((bench.generation(), bench.receipt().steps_lost), (2, 0));
}

#[test]
fn the_last_one_that_is_asked_back_stores_its_state_first() {
    let mut bench = Bench::training(workers(1, 1, 4));
    bench.all_step(4);
    bench.ask_back("w0");
    bench.paused("w0", 2, bench.at(5));
    assert_eq!((bench.begin("w0").save, bench.begin("w0").hold), (true, true));
    bench.follow("w0");
    bench.store(5);
    assert_eq!((bench.departures(), bench.told("w0").last()), (vec!["w0"], Some(&&asked_back())));
    assert_eq!((bench.phase(), bench.outcome()), ("gathering workers", None));
}

#[test]
fn a_worker_that_is_asked_back_twice_is_asked_once() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ask_back("w1");
    bench.ask_back("w1");
    assert_eq!((bench.asked_to_pause(), bench.generation()), (vec![], 2));
}

/// Another process of its name is another worker.
#[test]
fn a_new_process_under_the_name_of_one_that_was_asked_back_may_stay() {
    let mut bench = Bench::training(spec());
    bench.ask_back("w1");
    bench.die("w1");
    bench.come("w1");
    bench.all_pause();
    bench.all_begin();
    bench.pass(2000, &["w0", "w1"]);
    bench.all_pause();
    assert_eq!((bench.member_names(), bench.departures()), (vec!["w0", "w1"], vec![]));
}

#[test]
fn only_workers_of_a_run_that_is_not_over_can_be_asked_back() {
    for mut bench in phases() {
        let worker = WorkerName::from("nobody");
        let refusal = bench.apply(Event::LeaveRequested { worker: worker.clone() });
        assert_eq!(refusal, Err(Reject::UnknownWorker { worker }));
    }
    let mut bench = Bench::training(spec());
    bench.ok(Event::Abandoned { reason: "enough".into(), kind: FailureKind::Cluster });
    assert_eq!(bench.apply(Event::LeaveRequested { worker: "w0".into() }), Err(Reject::RunOver));
}

#[test]
fn a_worker_can_be_asked_back_whatever_its_run_is_at() {
    for mut bench in phases() {
        let phase = bench.phase();
        bench.ask_back("w1");
        assert_eq!(bench.outcome(), None, "{phase}");
        bench.pass(1000, &["w0"]);
        assert_eq!(bench.losses(), [], "{phase}");
    }
}
