//! Promises about an epoch's end: the row, the best one, and the verdict.

use super::*;

#[test]
fn the_row_tells_what_the_members_reported() {
    let mut bench = Bench::training(spec());
    bench.end_epoch(5);
    let row = bench.run.history.rows[0].clone();
    assert_eq!((row.epoch, row.step, row.split, row.learning_rate), (Epoch(0), Step(10), Split::Val, 0.1));
    assert_eq!(row.eval, Metrics { loss_sum: 0.75, correct: 5, count: 20 });
    assert_eq!(row.train, Metrics { loss_sum: 4.5, correct: 7, count: 40 });
    assert_eq!((row.train_ms, row.eval_ms), (101, 11));
    assert_eq!(row.peak_memory_bytes, BTreeMap::from([("w0".into(), 1), ("w1".into(), 2)]));
    assert!(row.ledger.is_exact());
}

#[test]
fn a_running_average_is_told_beside_the_weights_and_decides_nothing() {
    let mut bench = Bench::training(with(|spec| spec.ema = true));
    bench.end_epoch(5);
    let row = bench.run.history.rows[0].clone();
    assert_eq!(row.eval.correct, 5);
    assert_eq!(row.ema.map(|ema| (ema.correct, ema.count)), Some((6, 20)));
    bench.store(10);
    let mut reports = bench.reports(5);
    reports[0].1.ema_blocks.clear();
    bench.report(reports);
    assert!(matches!(bench.run.history.outcome, Some(Outcome::Failed { .. })), "blocks are missing");
}

#[test]
fn verdicts_follow_the_restore_rule_and_only_a_higher_accuracy_improves() {
    /// Restore, the epochs' accuracies, the step that each verdict restores, and which epochs improve.
    type Case = (Restore, [u64; 3], [Option<u64>; 3], [bool; 3]);
    let cases: [Case; 6] = [
        (Restore::Never, [5, 4, 3], [None, None, None], [true, false, false]),
        (Restore::Never, [5, 5, 6], [None, None, None], [true, false, true]),
        (Restore::End, [5, 4, 3], [None, None, Some(10)], [true, false, false]),
        (Restore::End, [5, 4, 6], [None, None, None], [true, false, true]),
        (Restore::Epoch, [5, 4, 3], [None, Some(10), Some(10)], [true, false, false]),
        (Restore::Epoch, [5, 6, 6], [None, None, Some(20)], [true, true, false]),
    ];
    for (restore, accuracies, restored, improved) in cases {
        let mut bench = Bench::training(with(|spec| spec.select.restore = restore));
        for (epoch, correct) in accuracies.iter().enumerate() {
            let verdict = bench.end_epoch(*correct).unwrap();
            let expected = Verdict {
                generation: Generation(1),
                epoch: Epoch(epoch as u32),
                restore: restored[epoch].map(Step),
                save: true,
                keep: improved[epoch],
                hold: epoch == 2,
            };
            assert_eq!(verdict, expected, "{restore:?} {accuracies:?}");
            let row = bench.run.history.rows.last().unwrap();
            assert_eq!((row.restored, row.improved), (expected.restore, improved[epoch]));
            bench.follow_verdict();
            bench.store(10 * (epoch as u64 + 1));
        }
    }
}

#[test]
fn the_first_of_equal_epochs_is_the_best() {
    let mut bench = Bench::training(spec());
    [4, 6, 6].into_iter().for_each(|correct| bench.finish_epoch(correct));
    assert_eq!(bench.run.history.best().unwrap().epoch, Epoch(1));
}

#[test]
fn a_verdict_waits_until_the_checkpoint_that_it_restores_is_stored() {
    let mut bench = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    bench.end_epoch(5).unwrap();
    bench.follow_verdict();
    assert_eq!(bench.end_epoch(4), None);
    assert_eq!(bench.run.status().reason, "the best model's checkpoint is being stored");
    bench.store(7);
    assert_eq!(bench.verdict(), None);
    bench.store(10);
    let verdict = bench.verdict().unwrap();
    assert_eq!((verdict.epoch, verdict.restore, verdict.hold), (Epoch(1), Some(Step(10)), false));
}

#[test]
fn patience_ends_training_early() {
    let mut bench = Bench::training(with(|spec| (spec.epochs, spec.select.patience) = (9, 2)));
    for (correct, hold) in [(5, false), (5, false), (6, false), (6, false), (1, true)] {
        assert_eq!(bench.end_epoch(correct).unwrap().hold, hold, "{correct}");
        bench.follow_verdict();
        bench.store(u64::from(bench.epoch()) * 10);
    }
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: true }));
}

#[test]
fn restore_at_the_end_happens_when_patience_runs_out_too() {
    let select = SelectSpec { split: Split::Val, restore: Restore::End, patience: 1 };
    let mut bench = Bench::training(with(|spec| spec.select = select));
    bench.finish_epoch(5);
    let verdict = bench.end_epoch(5).unwrap();
    assert_eq!((verdict.restore, verdict.hold), (Some(Step(10)), true));
}

/// What one member's report says that cannot be, and what the run fails with.
#[test]
fn reports_that_cannot_all_be_true_fail_the_run() {
    type Change = fn(&mut EpochReport);
    let cases: [(Change, &str); 9] = [
        (|report| report.weights_digest = "cd".into(), "w1 and w0 differ in weights after epoch 0"),
        (|report| report.position.step.0 += 1, "w1 and w0 differ in position after epoch 0"),
        (|report| report.epoch.0 += 1, "w1 and w0 differ in position after epoch 0"),
        (|report| report.train.correct += 1, "w1 and w0 differ in training metrics after epoch 0"),
        (|report| report.train.loss_sum = f64::NAN, "w1 and w0 differ in training metrics after epoch 0"),
        (|report| report.ledger.digest = "x".into(), "w1 and w0 differ in samples visited after epoch 0"),
        (|report| report.blocks.clear(), "block 1 of the val split was evaluated 0 times"),
        (|report| report.blocks[0].block = 0, "block 0 of the val split was evaluated 2 times"),
        (|report| report.blocks[0].metrics.count -= 1, "19 of 20 samples of the val split were evaluated"),
    ];
    for (change, reason) in cases {
        let mut bench = Bench::training(spec());
        let mut reports = bench.reports(5);
        change(&mut reports[1].1);
        bench.report(reports);
        assert_eq!(bench.failure(), reason);
        assert!(matches!(bench.outcome(), Some(Outcome::Failed { kind: FailureKind::Run, .. })));
        assert_eq!(bench.epoch(), 0, "a doubtful epoch has no row");
    }
}

/// What all members report alike and still cannot be.
#[test]
fn members_may_agree_on_what_fails_the_run() {
    type Change = fn(&mut EpochReport);
    let hint = "a lower learning rate may help";
    let cases: [(Change, String); 6] = [
        (
            |report| report.train.loss_sum = f64::NAN,
            format!("the train loss of epoch 0 is not a finite number; {hint}"),
        ),
        (
            |report| report.blocks.iter_mut().for_each(|block| block.metrics.loss_sum = f64::INFINITY),
            format!("the val loss of epoch 0 is not a finite number; {hint}"),
        ),
        (|report| report.ledger.lost = 1, "epoch 0 lost 1 samples and repeated 0".into()),
        (|report| report.ledger.repeated = 2, "epoch 0 lost 0 samples and repeated 2".into()),
        (
            |report| report.epoch.0 = 1,
            "the members ended epoch 1 at step 10 while epoch 0 was under way".into(),
        ),
        (
            |report| report.position.step.0 = 9,
            "the members ended epoch 0 at step 9 while epoch 0 was under way".into(),
        ),
    ];
    for (change, reason) in cases {
        let mut bench = Bench::training(spec());
        let mut reports = bench.reports(5);
        reports.iter_mut().for_each(|(_, report)| change(report));
        bench.report(reports);
        assert_eq!(bench.failure(), reason);
    }
}

#[test]
fn an_epoch_has_one_row_however_often_a_member_reports() {
    let mut bench = Bench::training(spec());
    let reports = bench.reports(5);
    bench.report(vec![reports[0].clone(), reports[0].clone()]);
    assert_eq!(bench.epoch(), 0);
    assert_eq!(bench.run.status().reason, "1 of 2 members ended the epoch");
    bench.report(vec![reports[1].clone()]);
    assert_eq!(bench.epoch(), 1);
}
