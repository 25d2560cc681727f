//! Promises about workers that leave on purpose: nothing is lost, whoever goes.

use super::*;

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
    assert_eq!((bench.receipt().cause, bench.receipt().steps_lost), (crate::Cause::Leave, 0));
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
