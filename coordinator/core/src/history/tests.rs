//! Promises about the fold of the journal and about where a run can go on.

use std::iter;

use super::*;
use crate::{
    Cause, FailureKind, LedgerRow, MemberEntry, Receipt, Restore, SelectSpec, Split, WorkerBounds, WorkerName,
};

fn spec() -> RunSpec {
    RunSpec {
        workers: WorkerBounds::fixed(2),
        shards: 2,
        epochs: 9,
        steps_per_epoch: 10,
        eval_samples: 20,
        test_samples: 10,
        eval_block: 8,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 2,
        join_timeout_ms: 60_000,
        lease_ms: 3000,
    }
}

fn row(epoch: u32, correct: u64) -> EpochRow {
    EpochRow {
        epoch: Epoch(epoch),
        step: spec().start_of(Epoch(epoch + 1)).step,
        learning_rate: 0.1,
        train: Metrics { loss_sum: 0.1 + 0.2, correct: 1, count: 40 },
        split: Split::Val,
        eval: Metrics { loss_sum: 1.0 / 3.0, correct, count: 20 },
        ema: None,
        improved: true,
        restored: None,
        ledger: LedgerRow { expected: 40, seen: 40, digest: "ef".into(), ..LedgerRow::default() },
        weights_digest: "ab".into(),
        train_ms: 3,
        eval_ms: 4,
        peak_memory_bytes: BTreeMap::from([("w0".into(), u64::MAX)]),
    }
}

fn stored(step: u64) -> Entry {
    let position = Position { epoch: Epoch((step / 10) as u32), step: Step(step) };
    Entry::CheckpointStored(CheckpointEntry { position, size_bytes: 7 })
}

/// A run whose epochs reached these accuracies, each with its checkpoint.
fn journal(accuracies: &[u64]) -> Vec<Entry> {
    let created = Entry::Created { spec: spec(), origin: Origin::default() };
    let epochs = accuracies.iter().zip(0..).flat_map(|(correct, epoch)| {
        [Entry::EpochEnded(row(epoch, *correct)), stored(u64::from(epoch + 1) * 10)]
    });
    iter::once(created).chain(epochs).collect()
}

fn resumed(step: u64, damaged: &[u64]) -> Entry {
    Entry::Resumed {
        position: Position { epoch: Epoch((step / 10) as u32), step: Step(step) },
        damaged: damaged.iter().copied().map(Step).collect(),
    }
}

fn taken_over(term: u64) -> Entry {
    Entry::TakenOver { term: Term(term), workers: WorkerBounds { min: 2, start: 5, max: 8 }, epochs: 12 }
}

fn history(entries: &[Entry]) -> History {
    History::from_entries(entries.to_vec()).unwrap()
}

fn steps(steps: &[u64]) -> BTreeSet<Step> {
    steps.iter().copied().map(Step).collect()
}

/// Accuracies, the checkpoints that verify, and the step to go on from.
#[test]
fn a_run_goes_on_from_the_newest_checkpoint_that_is_whole_together_with_the_best_up_to_it() {
    let cases: [(&[u64], &[u64], Option<u64>); 9] = [
        (&[1, 2, 3], &[10, 20, 30], Some(30)),
        // The newest is damaged: the one before it, whose best one is itself.
        (&[1, 2, 3], &[10, 20], Some(20)),
        // The newest is not the best, and damaged.
        (&[1, 3, 2], &[10, 20], Some(20)),
        // The best is damaged: what came after it is of no use, what came before is.
        (&[1, 3, 2], &[10, 30], Some(10)),
        (&[5, 3, 2], &[20, 30], None),
        // Of equal ones the first is the best.
        (&[5, 5, 2], &[10, 30], Some(30)),
        (&[5, 5, 2], &[20, 30], None),
        (&[1, 2, 3], &[], None),
        (&[], &[], None),
    ];
    for (accuracies, verified, step) in cases {
        let point = history(&journal(accuracies)).resume_point(&steps(verified));
        assert_eq!(point.map(|position| position.step.0), step, "{accuracies:?} {verified:?}");
    }
}

#[test]
fn a_checkpoint_that_the_journal_does_not_know_is_no_point_to_go_on_from() {
    assert_eq!(history(&journal(&[1])).resume_point(&steps(&[10, 20])).unwrap().step, Step(10));
}

#[test]
fn a_checkpoint_within_an_epoch_counts_the_rows_before_it() {
    let mut entries = journal(&[1, 2]);
    entries.push(stored(25));
    entries.push(Entry::EpochEnded(row(2, 9)));
    let point = history(&entries).resume_point(&steps(&[10, 20, 25])).unwrap();
    assert_eq!((point.epoch, point.step), (Epoch(2), Step(25)));
    assert_eq!(history(&entries).resume_point(&steps(&[10, 25])).unwrap().step, Step(10));
}

#[test]
fn a_resume_undoes_what_lies_beyond_and_finds_the_best_again() {
    let mut entries = journal(&[4, 3, 9]);
    assert_eq!(history(&entries).best().unwrap().step, Step(30));
    entries.push(resumed(20, &[30]));
    let undone = history(&entries);
    assert_eq!(undone.rows.len(), 2);
    assert_eq!(undone.best().unwrap().step, Step(10));
    assert_eq!(undone.checkpoints.keys().copied().collect::<BTreeSet<_>>(), steps(&[10, 20]));
    assert_eq!(undone.position().step, Step(20));
    entries.extend([Entry::EpochEnded(row(2, 1)), stored(30)]);
    assert_eq!(history(&entries).rows.len(), 3);
}

#[test]
fn a_run_taken_over_is_not_over_any_more_and_has_a_newer_term() {
    let mut entries = journal(&[4, 3, 9]);
    assert_eq!(history(&entries).term, Term(1));
    entries.push(Entry::Tested { step: Step(30), metrics: Metrics::default() });
    entries.push(Entry::Ended { outcome: Outcome::Done { early: false } });
    let over = history(&entries);
    assert!(over.tested.is_some() && over.outcome.is_some());
    entries.push(taken_over(2));
    let again = history(&entries);
    assert_eq!((again.term, again.tested, &again.outcome), (Term(2), None, &None));
    assert_eq!((again.spec.workers.start, again.spec.epochs, again.rows.len()), (5, 12, 3));
}

#[test]
fn a_history_knows_the_members_of_the_newest_generation() {
    let member = |name: &str| MemberEntry {
        worker: name.into(),
        device: "cpu".into(),
        host: "here".into(),
        pid: 1,
        shards: (0, 1),
    };
    let mut entries = journal(&[]);
    for (generation, name) in [(1, "w0"), (3, "w1")] {
        let (members, position) = (vec![member(name)], Position::default());
        entries.push(Entry::GenerationBegan { generation: Generation(generation), members, position });
    }
    let history = history(&entries);
    assert_eq!((history.generation, history.members), (Generation(3), vec![member("w1")]));
}

#[test]
fn a_resume_forgets_damaged_checkpoints_that_lie_before_it() {
    let entries: Vec<Entry> = journal(&[4, 5, 6]).into_iter().chain([resumed(30, &[10])]).collect();
    let history = history(&entries);
    assert_eq!(history.checkpoints.keys().copied().collect::<BTreeSet<_>>(), steps(&[20, 30]));
    assert_eq!(history.rows.len(), 3);
}

#[test]
fn a_resume_in_the_middle_of_an_epoch_keeps_the_rows_before_it() {
    let mut entries = journal(&[4, 5]);
    entries.extend([stored(24), Entry::EpochEnded(row(2, 1)), resumed(24, &[])]);
    let history = history(&entries);
    assert_eq!((history.rows.len(), history.position().step), (2, Step(24)));
}

/// Patience, accuracies, and whether nothing is left to train.
#[test]
fn patience_counts_the_epochs_since_the_best() {
    let cases: [(u32, &[u64], bool); 7] = [
        (0, &[5, 4, 3, 2], false),
        (2, &[], false),
        (2, &[5], false),
        (2, &[5, 5], false),
        (2, &[5, 5, 5], true),
        (2, &[5, 4, 6], false),
        (1, &[5, 4], true),
    ];
    for (patience, accuracies, trained) in cases {
        let mut history = history(&journal(accuracies));
        history.spec.select.patience = patience;
        assert_eq!(
            (history.is_out_of_patience(), history.is_trained()),
            (trained, trained),
            "{accuracies:?}"
        );
        history.spec.epochs = accuracies.len() as u32;
        assert!(history.is_trained());
    }
}

#[test]
fn a_journal_begins_with_the_runs_creation() {
    assert_eq!(History::from_entries([]), None);
    assert_eq!(History::from_entries([Entry::StopRequested]), None);
}

fn receipt(cause: Cause, culprit: Option<WorkerName>) -> Entry {
    Entry::GenerationStarted(Receipt {
        generation: Generation(4),
        cause,
        culprit,
        reason: "w1: killed by SIGKILL".into(),
        position: Position { epoch: Epoch(3), step: Step(31) },
        detect_ms: 1,
        halt_ms: 2,
        agree_ms: 3,
        connect_ms: 4,
        state_ms: 5,
        first_step_ms: 6,
        total_ms: u64::MAX,
        steps_lost: 1,
    })
}

/// One of each kind, with numbers that only survive when every bit does.
fn every_kind() -> Vec<Entry> {
    let origin = Origin {
        recipe: "seed = 7\n[data]\nname = \"cifar10\"\n".into(),
        data_digest: "00".into(),
        train_samples: 50_000,
        test_samples: 10_000,
        weights_digest: Some("11".into()),
        classes: vec!["cat".into(), "d\u{f6}g".into()],
    };
    let member = MemberEntry {
        worker: "w \"0\"".into(),
        device: "cuda:0".into(),
        host: "host".into(),
        pid: 1,
        shards: (0, 2),
    };
    let position = Position { epoch: Epoch(3), step: Step(u64::MAX) };
    let failed = |kind| Entry::Ended { outcome: Outcome::Failed { reason: "…".into(), kind } };
    let mut entries = vec![
        Entry::Created { spec: spec(), origin },
        resumed(20, &[10, 30]),
        taken_over(u64::MAX),
        Entry::GenerationBegan { generation: Generation(u64::MAX), members: vec![member], position },
        receipt(Cause::Loss, Some("w1".into())),
        receipt(Cause::Start, None),
        Entry::EpochEnded(EpochRow { restored: Some(Step(1)), ema: Some(row(2, 3).eval), ..row(2, 3) }),
        stored(10),
        Entry::CheckpointDeleted { step: Step(3) },
        Entry::WorkerLost {
            worker: WorkerName::from("w1"),
            generation: Generation(2),
            reason: "line\nbreak".into(),
            log: vec!["panicked at \"x\"".into(), "\u{1b}[31mred".into()],
        },
        Entry::WorkerLost {
            worker: "w2".into(),
            generation: Generation(2),
            reason: String::new(),
            log: Vec::new(),
        },
        Entry::WorkerLeft { worker: "w3".into(), generation: Generation(2) },
        Entry::Straggler {
            worker: "w3".into(),
            generation: Generation(2),
            shard_ms: 0.1 + 0.2,
            others_ms: 1.0 / 3.0,
        },
        Entry::PrefixTold { line: "the outputs of \"layer3\"".into() },
        Entry::StopRequested,
        Entry::Ended { outcome: Outcome::Done { early: true } },
        Entry::Ended { outcome: Outcome::Stopped { position } },
        failed(FailureKind::Run),
        failed(FailureKind::Data),
        failed(FailureKind::Cluster),
        failed(FailureKind::Worker),
    ];
    for loss_sum in
        [0.1 + 0.2, 1.0 / 3.0, 5e-324, f64::MAX, f64::MIN_POSITIVE, -0.0, 3.0, 1e300, 123_456_789.123_456_79]
    {
        entries.push(Entry::Tested { step: Step(9), metrics: Metrics { loss_sum, correct: 1, count: 2 } });
        let train = Metrics { loss_sum, correct: u64::MAX, count: 1 };
        entries.push(Entry::EpochEnded(EpochRow { train, learning_rate: loss_sum, ..row(1, 1) }));
    }
    entries
}

#[test]
fn entries_come_back_from_json_to_the_last_bit() {
    for entry in every_kind() {
        let text = serde_json::to_string(&entry).unwrap();
        let back: Entry = serde_json::from_str(&text).unwrap();
        assert_eq!(back, entry, "{text}");
        // Equality takes -0.0 for 0.0; the text does not.
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        let (Entry::Tested { metrics: there, .. }, Entry::Tested { metrics: here, .. }) = (&back, &entry)
        else {
            continue;
        };
        assert_eq!(there.loss_sum.to_bits(), here.loss_sum.to_bits(), "{text}");
    }
}

#[test]
fn an_entry_says_in_one_line_what_it_is() {
    let text = serde_json::to_string(&stored(10)).unwrap();
    let expected = r#"{"event":"checkpoint_stored","position":{"epoch":1,"step":10},"size_bytes":7}"#;
    assert_eq!(text, expected);
    assert!(every_kind().iter().all(|entry| !serde_json::to_string(entry).unwrap().contains('\n')));
}
