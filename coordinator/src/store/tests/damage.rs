//! Whatever happens to a checkpoint's bytes, it is not taken for whole, and the last good one is found.

use lockstep_core::{
    CheckpointEntry, EpochRow, History, Metrics, Origin, Restore, RunSpec, SelectSpec, Split, WorkerBounds,
};
use proptest::prelude::*;

use super::*;

/// All files of a checkpoint.
const FILES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", MANIFEST];

/// Steps of an epoch in the history below.
const STEPS: u64 = 10;

#[test]
fn every_truncation_and_every_turned_bit_is_found_in_every_file() {
    let (_folder, store) = store();
    write(&store, 9);
    for path in FILES.map(|file| store.path(Step(9)).join(file)) {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert!(store.verify(Step(9)).is_err(), "{} cut to {at} bytes", path.display());
            for bit in 0..8 {
                let mut turned = whole.clone();
                turned[at] ^= 1 << bit;
                fs::write(&path, turned).unwrap();
                assert!(store.verify(Step(9)).is_err(), "{} bit {bit} of byte {at}", path.display());
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.verify(Step(9)), Err(Damage::Missing { .. })));
        fs::write(&path, whole).unwrap();
        store.verify(Step(9)).unwrap();
    }
}

#[test]
fn another_releases_manifest_is_told_from_a_damaged_one() {
    let (_folder, store) = store();
    write(&store, 1);
    let path = store.path(Step(1)).join(MANIFEST);
    let old = Manifest { format_version: 1, ..manifest(1) };
    fs::write(&path, serde_json::to_vec_pretty(&old).unwrap()).unwrap();
    assert!(matches!(store.verify(Step(1)), Err(Damage::Version { found: 1, .. })));
    let unsealed = serde_json::to_vec_pretty(&manifest(1)).unwrap();
    fs::write(&path, unsealed).unwrap();
    assert!(matches!(store.verify(Step(1)), Err(Damage::Digest { .. })));
    fs::write(&path, manifest(2).seal().unwrap()).unwrap();
    assert!(matches!(store.verify(Step(1)), Err(Damage::OtherStep { found: Step(2), .. })));
}

#[test]
fn a_survey_tells_whole_damaged_and_unknown_apart() {
    let (_folder, store) = store();
    [1, 2, 3, 4].into_iter().for_each(|step| write(&store, step));
    damage(&store, 2, 0);
    damage(&store, 4, 2);
    let survey = store.survey([1, 2, 7].map(Step));
    assert_eq!(survey.whole, [Step(1)].into());
    assert_eq!(survey.damaged.keys().copied().collect::<Vec<_>>(), [Step(2), Step(7)]);
    assert_eq!(survey.unknown, [manifest(3)]);
}

/// Checkpoints in the middle and at the end of each of three epochs, the second of which is the best.
fn history(store: &CheckpointStore) -> History {
    let select = SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 };
    let spec = RunSpec {
        workers: WorkerBounds::fixed(1),
        shards: 1,
        epochs: 9,
        steps_per_epoch: STEPS,
        eval_samples: 4,
        test_samples: 0,
        eval_block: 4,
        select,
        ema: false,
        keep: 9,
        join_timeout_ms: 1,
        lease_ms: 1,
    };
    let mut history = History::new(spec, Origin::default());
    for (epoch, correct) in [(0, 1), (1, 3), (2, 2)] {
        let step = u64::from(epoch + 1) * STEPS;
        history.rows.push(row(epoch, correct));
        let positions = [(epoch, step - STEPS / 2), (epoch + 1, step)];
        for (epoch, step) in positions {
            write(store, step);
            let position = Position { epoch: Epoch(epoch), step: Step(step) };
            history.checkpoints.insert(Step(step), CheckpointEntry { position, size_bytes: 1 });
        }
    }
    history
}

fn row(epoch: u32, correct: u64) -> EpochRow {
    let metrics = Metrics { loss_sum: 1.0, correct, count: 4 };
    EpochRow {
        epoch: Epoch(epoch),
        step: Step(u64::from(epoch + 1) * STEPS),
        learning_rate: 0.1,
        train: metrics,
        split: Split::Val,
        eval: metrics,
        ema: None,
        improved: false,
        restored: None,
        ledger: lockstep_core::LedgerRow::default(),
        weights_digest: String::new(),
        train_ms: 0,
        eval_ms: 0,
        peak_memory_bytes: std::collections::BTreeMap::new(),
    }
}

fn damage(store: &CheckpointStore, step: u64, file: usize) {
    let path = store.path(Step(step)).join(FILES[file]);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_last_good_checkpoint_is_gone_on_from() {
    let (_folder, store) = store();
    let history = history(&store);
    let resume = || {
        let survey = store.survey(history.checkpoints.keys().copied());
        history.resume_point(&survey.whole).map(|position| position.step.0)
    };
    assert_eq!(resume(), Some(30));
    damage(&store, 30, 0);
    damage(&store, 25, 2);
    assert_eq!(resume(), Some(20));
    // In the middle of the second epoch the first one's model is the best, and it is whole.
    damage(&store, 20, 1);
    assert_eq!(resume(), Some(15));
    // Without that one, only what lies before it is of use.
    damage(&store, 10, 0);
    assert_eq!(resume(), Some(5));
    damage(&store, 5, 2);
    assert_eq!(resume(), None);
}

proptest! {
    /// Any number of damaged ones: what is gone on from verifies, the best before it too, and nothing newer would do.
    #[test]
    fn what_is_gone_on_from_is_always_good(
        hits in prop::collection::vec((0..6_usize, 0..3_usize, any::<prop::sample::Index>(), 0..8_u8, any::<bool>()), 0..8)
    ) {
        let (_folder, store) = store();
        let history = history(&store);
        let steps: Vec<Step> = history.checkpoints.keys().copied().collect();
        for (step, file, at, bit, cut) in hits {
            let path = store.path(steps[step]).join(FILES[file]);
            let mut bytes = fs::read(&path).unwrap();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            }
            fs::write(&path, bytes).unwrap();
        }
        let survey = store.survey(steps.iter().copied());
        let best = |step: Step| match step.0 { 20.. => Some(Step(20)), 10.. => Some(Step(10)), _ => None };
        let is_good = |step: Step| {
            store.verify(step).is_ok() && best(step).is_none_or(|best| store.verify(best).is_ok())
        };
        let expected = steps.iter().rev().copied().find(|step| is_good(*step));
        prop_assert_eq!(history.resume_point(&survey.whole).map(|position| position.step), expected);
    }
}
