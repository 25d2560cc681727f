//! Promises about receipts: what a change of generation cost, and whose doing it was.

use super::*;
use crate::{Cause, Receipt};

fn timings(connect_ms: u64, state_ms: u64, first_step_ms: u64) -> StartTimings {
    StartTimings { connect_ms, state_ms, first_step_ms }
}

fn receipts(bench: &Bench) -> usize {
    bench.entries.iter().filter(|entry| matches!(entry, Entry::GenerationStarted(_))).count()
}

#[test]
fn a_loss_is_accounted_for_from_the_last_sign_of_life_to_the_first_step() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.all_step(4);
    bench.pass(200, &["w0", "w1"]);
    // Nothing else is heard of w2 for 200 ms; then it is blamed, and its session ends.
    bench.detach("w2");
    bench.broken("w0", &["w2"]);
    bench.now.0 += 30;
    bench.paused("w0", 2, bench.at(4));
    bench.paused("w1", 2, bench.at(4));
    bench.follow("w0");
    bench.follow("w1");
    bench.now.0 += 70;
    bench.started("w0", timings(9, 2, 50));
    assert_eq!(receipts(&bench), 1, "that of the start; w1 has yet to step");
    bench.started("w1", timings(5, 7, 40));
    let expected = Receipt {
        generation: Generation(2),
        cause: Cause::Loss,
        culprit: Some("w2".into()),
        reason: "w2: w0 lost it: connection reset".into(),
        position: bench.at(4),
        detect_ms: 200,
        halt_ms: 30,
        agree_ms: 0,
        connect_ms: 9,
        state_ms: 7,
        first_step_ms: 50,
        total_ms: 300,
        steps_lost: 1,
    };
    assert_eq!((bench.receipt(), receipts(&bench)), (&expected, 2));
}

#[test]
fn a_join_costs_no_step() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.come("w2");
    bench.pause("w2");
    bench.now.0 += 20;
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    bench.now.0 += 80;
    bench.all_begin();
    let expected = Receipt {
        generation: Generation(2),
        cause: Cause::Join,
        culprit: Some("w2".into()),
        reason: "it is ready to take part".into(),
        position: bench.at(5),
        detect_ms: 0,
        halt_ms: 20,
        agree_ms: 0,
        connect_ms: 0,
        state_ms: 0,
        first_step_ms: 0,
        total_ms: 100,
        steps_lost: 0,
    };
    assert_eq!(bench.receipt(), &expected);
}

#[test]
fn leaving_costs_no_step() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.leave("w1");
    bench.now.0 += 10;
    bench.paused("w0", 2, bench.at(4));
    bench.paused("w1", 2, bench.at(4));
    bench.now.0 += 5;
    bench.all_begin();
    let receipt = bench.receipt();
    assert_eq!((receipt.cause, receipt.culprit.clone()), (Cause::Leave, Some("w1".into())));
    assert_eq!((receipt.reason.as_str(), receipt.position), ("it asked to leave", bench.at(4)));
    assert_eq!((receipt.detect_ms, receipt.halt_ms, receipt.total_ms), (0, 10, 15));
    assert_eq!(receipt.steps_lost, 0);
}

#[test]
fn the_first_generation_has_a_receipt_too() {
    let bench = Bench::training(spec());
    let receipt = bench.receipt();
    assert_eq!(
        (receipt.generation, receipt.cause, receipt.culprit.clone()),
        (Generation(1), Cause::Start, None)
    );
    assert_eq!((receipt.position, receipt.steps_lost, receipts(&bench)), (Position::default(), 0, 1));
}

#[test]
fn a_loss_in_the_middle_of_a_change_is_what_that_change_is_accounted_to() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.all_step(4);
    bench.come("w3");
    bench.die("w1");
    bench.all_pause();
    bench.all_begin();
    let receipt = bench.receipt();
    assert_eq!((receipt.cause, receipt.culprit.clone()), (Cause::Loss, Some("w1".into())));
    assert_eq!((receipt.generation, receipts(&bench)), (Generation(2), 2));
    assert_eq!(receipt.steps_lost, 1, "the step under way was not finished");
}

#[test]
fn one_of_a_pair_lost_before_the_first_step_leaves_two_receipts() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.die("w2");
    bench.all_pause();
    bench.die("w1");
    bench.all_pause();
    bench.all_begin();
    assert_eq!(receipts(&bench), 3);
    let began = bench.begun_generations().len();
    assert_eq!((began, bench.receipt().culprit.clone()), (3, Some("w1".into())));
}

#[test]
fn steps_that_nobody_has_any_more_are_lost_as_well() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.all_step(14);
    bench.die("w0");
    bench.die("w1");
    bench.come("w2");
    bench.pause("w2");
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10)]) });
    bench.all_begin();
    assert_eq!((bench.receipt().steps_lost, bench.receipt().cause), (5, Cause::Loss));
}

#[test]
fn a_loss_while_no_step_is_under_way_loses_none() {
    let mut bench = Bench::training(spec());
    let report = bench.reports(5).remove(0);
    bench.report(vec![report]);
    bench.die("w1");
    bench.all_pause();
    bench.all_begin();
    assert_eq!(bench.receipt().steps_lost, 0);
}

#[test]
fn what_becomes_of_the_frozen_prefix_is_recorded_when_it_is_new() {
    let mut bench = Bench::training(spec());
    let mut tell = |worker: &str, line: &str| {
        let (worker, generation, line) = (worker.into(), bench.run.generation(), line.to_owned());
        bench.ok(Event::PrefixTold { worker, generation, line });
        bench.effects.len()
    };
    assert_eq!(tell("w0", "cached"), 1);
    assert_eq!(tell("w1", "cached"), 0, "by whom it is told does not matter");
    assert_eq!(tell("w0", "not cached"), 1);
    let late = Event::PrefixTold { worker: "w0".into(), generation: Generation(9), line: String::new() };
    assert!(bench.apply(late).is_err());
}
