//! Promises about stops: at a boundary, with that step's checkpoint stored first.

use super::*;

#[test]
fn a_stop_before_anybody_has_trained_ends_the_run() {
    let mut gathering = Bench::new(spec());
    gathering.ok(Event::StopRequested);
    assert_eq!(gathering.stopped_at(), Some(0));
    assert!(gathering.entries.contains(&Entry::StopRequested));
    let mut forming = Bench::forming(spec());
    forming.ok(Event::StopRequested);
    forming.all_pause();
    assert_eq!(forming.stopped_at(), Some(0));
}

#[test]
fn a_stop_while_stepping_pauses_all_at_a_boundary_and_stores_its_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ok(Event::StopRequested);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false)]);
    bench.ok(Event::StopRequested);
    assert!(bench.effects.is_empty(), "once is enough");
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    let begin = bench.begin("w1");
    assert_eq!((begin.position, begin.save, begin.hold), (bench.at(5), true, true));
    assert_eq!(bench.stopped_at(), None);
    bench.store(5);
    assert_eq!(bench.stopped_at(), Some(5));
    assert_eq!(bench.told("w0").last(), Some(&&Message::Finish { reason: "stopped at step 5".into() }));
}

#[test]
fn a_stop_at_a_step_that_is_stored_already_ends_the_run_at_once() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.ok(Event::StopRequested);
    bench.all_pause();
    assert_eq!(bench.stopped_at(), Some(10));
}

#[test]
fn a_stop_stores_the_newest_state_though_one_lags() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ok(Event::StopRequested);
    bench.paused("w0", 2, bench.at(4));
    bench.paused("w1", 2, bench.at(5));
    assert_eq!((bench.member_names(), bench.begin("w1").position), (vec!["w1"], bench.at(5)));
    bench.store(5);
    assert_eq!(bench.stopped_at(), Some(5));
}

#[test]
fn a_stop_at_an_epochs_end_turns_the_verdict_into_a_hold() {
    let mut bench = Bench::training(spec());
    let mut reports = bench.reports(5);
    let last = reports.pop().unwrap();
    bench.report(reports);
    bench.ok(Event::StopRequested);
    bench.report(vec![last]);
    assert!(bench.verdict().unwrap().hold);
    bench.store(4);
    assert_eq!(bench.outcome(), None);
    bench.store(10);
    assert_eq!(bench.stopped_at(), Some(10));
}

#[test]
fn a_stop_that_pauses_all_at_an_epochs_end_has_it_evaluated_first() {
    let mut bench = Bench::training(spec());
    bench.all_step(9);
    bench.ok(Event::StopRequested);
    bench.paused("w0", 2, bench.unjudged(10));
    bench.paused("w1", 2, bench.unjudged(10));
    assert_eq!((bench.begin("w0").save, bench.begin("w0").hold), (false, false));
    bench.all_begin();
    assert!(bench.end_epoch(5).unwrap().hold);
    bench.store(10);
    assert_eq!((bench.stopped_at(), bench.epoch()), (Some(10), 1));
}

#[test]
fn a_stop_while_a_verdict_waits_turns_it_into_a_hold_too() {
    let mut bench = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    bench.end_epoch(5);
    bench.follow_verdict();
    bench.end_epoch(4);
    bench.ok(Event::StopRequested);
    bench.store(10);
    assert!(bench.verdict().unwrap().hold);
    bench.store(20);
    assert_eq!(bench.stopped_at(), Some(20));
}

#[test]
fn a_stop_while_a_generation_forms_ends_it_with_a_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.die("w1");
    bench.ok(Event::StopRequested);
    bench.pause("w0");
    assert_eq!((bench.begin("w0").save, bench.begin("w0").hold), (true, true));
    bench.store(4);
    assert_eq!(bench.stopped_at(), Some(4));
}

#[test]
fn a_stop_while_members_have_yet_to_begin_is_kept() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.die("w1");
    bench.pause("w0");
    bench.ok(Event::StopRequested);
    assert_eq!(bench.asked_to_pause(), [("w0", 3, false)]);
}

#[test]
fn a_stop_while_too_few_wait_stores_what_they_have() {
    let mut bench = Bench::training(workers(2, 2, 4));
    bench.all_step(4);
    bench.die("w1");
    bench.pause("w0");
    assert_eq!(bench.phase(), "gathering workers");
    bench.ok(Event::StopRequested);
    assert_eq!(bench.asked_to_pause(), [("w0", 3, false)]);
    bench.pause("w0");
    bench.store(4);
    assert_eq!(bench.stopped_at(), Some(4));
}

#[test]
fn a_stop_survives_the_loss_of_the_one_that_stores_the_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.ok(Event::StopRequested);
    bench.all_pause();
    bench.die("w0");
    bench.pause("w1");
    assert_eq!((bench.begin("w1").rank, bench.begin("w1").save), (0, true));
    bench.store(4);
    assert_eq!(bench.stopped_at(), Some(4));
}

#[test]
fn a_stop_with_nobody_left_ends_at_the_newest_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.all_step(14);
    bench.ok(Event::StopRequested);
    bench.die("w0");
    bench.die("w1");
    assert_eq!(bench.stopped_at(), Some(10));
}

#[test]
fn workers_that_want_to_leave_do_not_keep_a_stop_from_its_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.leave("w0");
    bench.ok(Event::StopRequested);
    bench.leave("w1");
    bench.all_pause();
    assert_eq!((bench.begin("w0").save, bench.departures().len()), (true, 0));
    bench.store(4);
    assert_eq!(bench.stopped_at(), Some(4));
}

#[test]
fn a_stop_once_trained_does_not_keep_the_run_from_its_end() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.end_epoch(5);
    bench.follow_verdict();
    bench.ok(Event::StopRequested);
    bench.store(10);
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn a_stop_while_testing_leaves_the_test() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.finish_epoch(5);
    bench.ok(Event::StopRequested);
    assert_eq!((bench.stopped_at(), bench.run.history.tested), (Some(10), None));
}

#[test]
fn a_stop_whatever_the_run_is_at_ends_it_once_all_pause_and_report() {
    for mut bench in phases() {
        let phase = bench.phase();
        bench.ok(Event::StopRequested);
        for _ in 0..20 {
            let end = bench.unjudged(10);
            match &bench.run.phase {
                Phase::Ended(_) => break,
                Phase::Forming(_) => bench.all_pause(),
                Phase::Training(Training { stage: Stage::Collecting(_), .. }) => drop(bench.end_epoch(5)),
                Phase::Training(Training { stage: Stage::AwaitingBest(_), .. }) => bench.store(10),
                Phase::Training(Training { stage: Stage::Holding { step }, .. }) => {
                    let step = step.0;
                    bench.store(step);
                }
                Phase::Training(Training { stage: Stage::Testing(_), .. }) => bench.test(3),
                Phase::Training(_) | Phase::Gathering(_) | Phase::Returning { .. } => {
                    panic!("{phase}: {} {end:?}", bench.phase())
                }
            }
        }
        assert!(bench.run.history.outcome.is_some(), "{phase}");
    }
}

#[test]
fn a_process_that_replaces_the_last_one_that_a_stop_waited_for_comes_too_late() {
    let mut bench = Bench::forming(spec());
    bench.ok(Event::StopRequested);
    bench.die("w1");
    bench.detach("w0");
    assert_eq!(bench.stopped_at(), None);
    bench.come_back("w0", 77, 1).unwrap();
    assert_eq!(bench.stopped_at(), Some(0));
    assert!(bench.told("w0").iter().all(|message| !matches!(message, Message::Welcome { .. })));
    assert!(bench.run.workers.is_empty());
}
