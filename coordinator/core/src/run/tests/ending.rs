//! Promises about how runs end.

use super::*;

fn halt() -> Message {
    Message::Halt { generation: Generation(1) }
}

fn stopped_at(bench: &Bench, step: u64) -> Option<Outcome> {
    Some(Outcome::Stopped { position: bench.at(step) })
}

#[test]
fn a_stop_before_training_ends_the_run_at_once() {
    for mut bench in [Bench::new(spec()), Bench::forming(spec())] {
        bench.ok(Event::StopRequested);
        assert_eq!(bench.outcome().cloned(), stopped_at(&bench, 0));
        assert!(bench.entries.contains(&Entry::StopRequested));
    }
}

#[test]
fn a_stop_while_stepping_ends_the_run_when_all_have_halted_and_the_checkpoint_is_stored() {
    for checkpoint_last in [true, false] {
        let mut bench = Bench::training(spec());
        bench.ok(Event::StopRequested);
        assert_eq!((bench.told("w0"), bench.told("w1")), (vec![&halt()], vec![&halt()]));
        bench.ok(Event::StopRequested);
        assert!(bench.effects.is_empty(), "once is enough");
        bench.halt("w1", 4);
        if checkpoint_last {
            bench.halt("w0", 4);
            assert_eq!(bench.outcome(), None);
            bench.store(4);
        } else {
            bench.store(4);
            assert_eq!(bench.outcome(), None);
            bench.halt("w0", 4);
        }
        assert_eq!(bench.outcome().cloned(), stopped_at(&bench, 4));
        assert_eq!(bench.told("w0"), [&Message::Finish { reason: "stopped at step 4".into() }]);
    }
}

#[test]
fn members_that_halt_at_different_steps_fail_the_run() {
    let mut bench = Bench::training(spec());
    bench.ok(Event::StopRequested);
    bench.halt("w0", 4);
    bench.halt("w1", 5);
    assert_eq!(bench.failure(), "members halted at different steps");
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
    assert_eq!(bench.outcome().cloned(), stopped_at(&bench, 10));
}

#[test]
fn a_stop_while_a_verdict_waits_turns_it_into_a_hold_too() {
    let mut bench = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    bench.end_epoch(5);
    bench.end_epoch(4);
    bench.ok(Event::StopRequested);
    bench.store(10);
    assert!(bench.verdict().unwrap().hold);
    bench.store(20);
    assert_eq!(bench.outcome().cloned(), stopped_at(&bench, 20));
}

#[test]
fn a_stop_once_trained_does_not_keep_the_run_from_its_end() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.end_epoch(5);
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
    assert_eq!(bench.outcome().cloned(), stopped_at(&bench, 10));
    assert_eq!(bench.run.history.tested, None);
}

#[test]
fn the_test_split_is_evaluated_once_with_the_best_weights() {
    let mut bench = Bench::training(spec());
    [4, 6, 5].into_iter().for_each(|correct| bench.finish_epoch(correct));
    let order = Message::Evaluate { generation: Generation(1), split: Split::Test, weights_step: Step(20) };
    assert_eq!((bench.told("w0"), bench.told("w1")), (vec![&order], vec![&order]));
    bench.test(3);
    let metrics = Metrics { loss_sum: 0.5, correct: 3, count: 10 };
    assert_eq!(bench.run.history.tested, Some((Step(20), metrics)));
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
    let tests = bench.entries.iter().filter(|entry| matches!(entry, Entry::Tested { .. }));
    assert_eq!(tests.count(), 1);
}

#[test]
fn a_run_that_selects_by_the_test_split_or_has_none_needs_no_test_pass() {
    let select = |spec: &mut RunSpec| spec.select.split = Split::Test;
    for spec in [with(select), with(|spec| spec.test_samples = 0)] {
        let mut bench = Bench::training(spec);
        [4, 6, 5].into_iter().for_each(|correct| bench.finish_epoch(correct));
        assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
        assert_eq!(bench.run.history.tested, None);
    }
}

#[test]
fn a_test_that_is_not_whole_or_not_finite_fails_the_run() {
    type Change = fn(&mut Vec<BlockMetrics>);
    let cases: [(Change, &str); 3] = [
        (|blocks| blocks.clear(), "block 0 of the test split was evaluated 0 times"),
        (|blocks| blocks[0].metrics.count = 7, "9 of 10 samples of the test split were evaluated"),
        (
            |blocks| blocks[0].metrics.loss_sum = f64::INFINITY,
            "the test loss of epoch 0 is not a finite number; a lower learning rate may help",
        ),
    ];
    for (change, reason) in cases {
        let mut bench = Bench::training(with(|spec| spec.epochs = 1));
        bench.finish_epoch(5);
        for (rank, worker) in bench.names().into_iter().enumerate() {
            let mut blocks = dealt(10, 3, rank, 2);
            if rank == 0 {
                change(&mut blocks);
            }
            bench.ok(Event::EvalReported { worker, generation: Generation(1), split: Split::Test, blocks });
        }
        assert_eq!(bench.failure(), reason);
        assert_eq!(bench.run.history.tested, None);
    }
}

#[test]
fn reports_out_of_place_are_refused() {
    let generation = Generation(1);
    let eval = |split| Event::EvalReported { worker: "w0".into(), generation, split, blocks: Vec::new() };
    let halted = Event::Halted { worker: "w0".into(), generation, position: Position::default() };
    let out_of_place = |message, phase| Err(Reject::OutOfPlace { worker: "w0".into(), message, phase });

    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    assert_eq!(bench.apply(eval(Split::Test)), out_of_place("EvalReport", "training"));
    let report = bench.reports(5).remove(0).1;
    bench.end_epoch(5);
    assert_eq!(bench.apply(halted), out_of_place("Halted", "storing the last checkpoint"));
    let again = Event::EpochReported { worker: "w0".into(), generation, report };
    assert_eq!(bench.apply(again), out_of_place("EpochReport", "storing the last checkpoint"));
    bench.store(10);
    assert_eq!(bench.apply(eval(Split::Val)), out_of_place("EvalReport", "testing"));
}

/// A bench in every phase of a run's life.
fn phases() -> Vec<Bench> {
    let mut all = vec![Bench::new(spec()), Bench::forming(spec()), Bench::training(spec())];
    all[0].ok(joined(&"w0".into()));
    let mut collecting = Bench::training(spec());
    let report = collecting.reports(5).remove(0);
    collecting.report(vec![report]);
    let mut awaiting = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    awaiting.end_epoch(5);
    awaiting.end_epoch(4);
    let mut halting = Bench::training(spec());
    halting.halt("w0", 4);
    let mut holding = Bench::training(with(|spec| spec.epochs = 1));
    holding.end_epoch(5);
    let mut testing = Bench::training(with(|spec| spec.epochs = 1));
    testing.finish_epoch(5);
    all.extend([collecting, awaiting, halting, holding, testing]);
    all
}

#[test]
fn a_lost_worker_fails_the_run_in_every_phase_with_its_reason() {
    for mut bench in phases() {
        let phase = bench.run.phase_name();
        bench.ok(Event::WorkerLost { worker: "w0".into(), reason: "killed by SIGKILL".into() });
        assert_eq!(bench.failure(), "w0: killed by SIGKILL", "{phase}");
        let lost = |entry: &Entry| matches!(entry, Entry::WorkerLost { reason, .. } if reason == "killed by SIGKILL");
        assert!(bench.entries.iter().any(lost), "{phase}");
        let finish = Message::Finish { reason: "failed: w0: killed by SIGKILL".into() };
        if phase != "gathering workers" {
            assert_eq!(bench.told("w1"), [&finish], "{phase}");
        }
        assert!(bench.told("w0").is_empty(), "{phase}");
    }
}

#[test]
fn a_worker_says_itself_why_and_whose_fault_it_is() {
    for kind in [FailureKind::Run, FailureKind::Data, FailureKind::Cluster] {
        let mut bench = Bench::training(spec());
        bench.ok(Event::WorkerFailed { worker: "w1".into(), reason: "no such file".into(), kind });
        let reason = "w1: no such file".to_owned();
        assert_eq!(bench.outcome(), Some(&Outcome::Failed { reason, kind }));
        // Then its session ends, and others follow: the first reason stands.
        bench.ok(Event::WorkerLost { worker: "w1".into(), reason: "its session ended".into() });
        bench.ok(Event::WorkerLost { worker: "w0".into(), reason: "its session ended".into() });
        assert!(bench.effects.is_empty());
    }
}

#[test]
fn a_worker_that_ends_before_it_could_join_fails_the_run() {
    let mut bench = Bench::new(spec());
    bench.ok(Event::WorkerLost { worker: "w1".into(), reason: "exit code 3".into() });
    assert_eq!(bench.failure(), "w1 did not join: exit code 3");
}

#[test]
fn what_comes_after_the_end_changes_nothing() {
    for mut bench in phases() {
        bench.ok(Event::WorkerLost { worker: "w0".into(), reason: "gone".into() });
        let ended = bench.run.clone();
        let (worker, generation) = (WorkerName::from("w1"), bench.run.generation());
        let position = Position::default();
        for event in [
            Event::StopRequested,
            Event::Tick,
            Event::WorkerLost { worker: worker.clone(), reason: String::new() },
            Event::CheckpointStored { generation, position, size_bytes: 1 },
            Event::Halted { worker: worker.clone(), generation, position },
            Event::Prepared { worker, generation, address: String::new() },
        ] {
            bench.now = Time(1 << 40);
            drop(bench.apply(event));
            assert_eq!(bench.run, ended);
        }
    }
}

#[test]
fn a_run_resumed_once_trained_is_tested_without_training() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 2));
    bench.finish_epoch(6);
    bench.finish_epoch(5);
    let mut bench = Bench::resumed(bench.entries, &[10, 20], 1);
    bench.ok(joined(&"w0".into()));
    bench.prepare();
    assert!(bench.begin("w0").hold);
    let order = Message::Evaluate { generation: Generation(2), split: Split::Test, weights_step: Step(10) };
    assert_eq!(bench.told("w0")[1..], [&order]);
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}
