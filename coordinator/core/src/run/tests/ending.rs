//! Promises about how runs end.

use super::*;

#[test]
fn the_test_split_is_evaluated_once_with_the_best_weights() {
    let mut bench = Bench::training(spec());
    [4, 6, 5].into_iter().for_each(|correct| bench.finish_epoch(correct));
    let order = Message::Evaluate { generation: Generation(1), split: Split::Test, weights_step: Step(20) };
    assert_eq!((bench.told("w0").last(), bench.told("w1").last()), (Some(&&order), Some(&&order)));
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
        for (rank, worker) in bench.members().into_iter().enumerate() {
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
    let out_of_place = |message, phase| Err(Reject::OutOfPlace { worker: "w0".into(), message, phase });

    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.now.0 += 1;
    assert_eq!(bench.apply(eval(Split::Test)), out_of_place("EvalReport", "training"));
    let mut report = bench.reports(5).remove(0).1;
    bench.end_epoch(5);
    report.epoch = Epoch(1);
    bench.now.0 += 1;
    let beyond = Event::EpochReported { worker: "w0".into(), generation, report };
    assert_eq!(bench.apply(beyond), out_of_place("EpochReport", "storing the last checkpoint"));
    bench.store(10);
    assert_eq!(bench.apply(eval(Split::Val)), out_of_place("EvalReport", "testing"));
}

#[test]
fn what_comes_after_the_end_changes_nothing() {
    for mut bench in phases() {
        bench.ok(Event::Abandoned { reason: "gone".into(), kind: FailureKind::Cluster });
        let ended = bench.run.clone();
        let (worker, generation) = (WorkerName::from("w1"), bench.run.generation());
        let (position, reason, kind) = (Position::default(), String::new(), FailureKind::Worker);
        let heartbeat = Heartbeat { sequence: 1 << 40, prepared: Generation(9), ..Heartbeat::default() };
        let timings = StartTimings::default();
        for event in [
            Event::StopRequested,
            Event::Tick,
            Event::WorkerLost { worker: worker.clone(), reason: reason.clone() },
            Event::WorkerFailed { worker: worker.clone(), reason: reason.clone(), kind },
            Event::Abandoned { reason, kind },
            Event::CheckpointStored { position, size_bytes: 1 },
            Event::CheckpointsVerified { verified: BTreeSet::new() },
            Event::Started { worker: worker.clone(), generation, timings },
            Event::Heartbeat { worker, heartbeat },
        ] {
            bench.now = Time(1 << 40);
            drop(bench.apply(event));
            assert_eq!(bench.run, ended);
        }
        assert_eq!(bench.run.next_deadline(), None);
    }
}

#[test]
fn a_member_may_still_be_lost_after_the_end() {
    let mut bench = Bench::training(spec());
    bench.ok(Event::Abandoned { reason: "gone".into(), kind: FailureKind::Cluster });
    bench.detach("w0");
    bench.die("w0");
    assert!(bench.effects.is_empty());
}
