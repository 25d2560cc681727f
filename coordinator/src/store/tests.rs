//! What is promised of a file that bears its final name.

use std::fs;

use lockstep_core::{Epoch, Position, Step};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

const MODEL: &[u8] = b"the model's bytes, some of them";
const OPTIMIZER: &[u8] = b"the optimizer's";

fn store() -> (TempDir, CheckpointStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("checkpoints")).unwrap();
    (folder, store)
}

fn manifest(step: u64) -> Manifest {
    let file = |name: &str, bytes: &[u8]| ManifestFile {
        name: name.to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    Manifest {
        format_version: FORMAT_VERSION,
        lockstep_version: "0".to_owned(),
        run: "run".to_owned(),
        generation: 1,
        position: Position { epoch: Epoch(0), step: Step(step) },
        metric: None,
        files: vec![file("model.safetensors", MODEL), file("optimizer.safetensors", OPTIMIZER)],
    }
}

fn write(store: &CheckpointStore, step: u64) {
    let mut writer = store.begin(manifest(step)).unwrap();
    // Pieces that run across the files' border.
    [MODEL, OPTIMIZER].concat().chunks(7).for_each(|piece| writer.write(piece).unwrap());
    assert_eq!(writer.finish().unwrap(), (MODEL.len() + OPTIMIZER.len()) as u64);
}

#[test]
fn what_was_written_is_read_back() {
    let (_folder, store) = store();
    write(&store, 3);
    assert_eq!(store.verify(Step(3)).unwrap(), manifest(3));
    assert_eq!(fs::read(store.path(Step(3)).join("model.safetensors")).unwrap(), MODEL);
    // Stored once more by a run that went on from an earlier step.
    write(&store, 3);
    store.verify(Step(3)).unwrap();
}

#[test]
fn what_arrives_short_long_or_changed_never_gets_a_name() {
    let (folder, store) = store();
    let whole = [MODEL, OPTIMIZER].concat();
    let attempt = |bytes: &[u8]| {
        let mut writer = store.begin(manifest(1)).unwrap();
        writer.write(bytes).and_then(|()| writer.finish())
    };
    assert!(matches!(attempt(&whole[..whole.len() - 1]), Err(WriteError::Short { missing_bytes: 1 })));
    assert!(matches!(attempt(&[&whole[..], b"x"].concat()), Err(WriteError::Excess)));
    let mut changed = whole.clone();
    changed[2] ^= 1;
    assert!(matches!(attempt(&changed), Err(WriteError::Digest { .. })));
    let mut named = manifest(1);
    named.files[0].name = "../model.safetensors".to_owned();
    assert!(matches!(store.begin(named), Err(WriteError::Name(_))));
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn an_interrupted_write_is_swept_away_at_the_next_start() {
    let (folder, store) = store();
    let writer = store.begin(manifest(1)).unwrap();
    std::mem::forget(writer); // as a kill does
    let path = folder.path().join("checkpoints");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    CheckpointStore::open(path.clone()).unwrap();
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}

#[test]
fn pointers_follow_and_never_point_at_nothing() {
    let (folder, store) = store();
    let best = folder.path().join("best.safetensors");
    write(&store, 1);
    write(&store, 2);
    store.publish(Step(2), Some(Step(1)), &best).unwrap();
    assert_eq!((store.points_at("last"), store.points_at("best")), (Some(Step(2)), Some(Step(1))));
    assert_eq!(fs::read(&best).unwrap(), MODEL);
    store.delete(Step(2)).unwrap();
    store.set_aside(Step(1)).unwrap();
    assert_eq!((store.points_at("last"), store.points_at("best")), (None, None));
    assert!(best.is_file(), "a published model stays");
}

proptest! {
    /// Truncated anywhere, or with any bit turned: never taken for whole.
    #[test]
    fn any_damage_is_found(file in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>()) {
        let (_folder, store) = store();
        write(&store, 9);
        let path = store.path(Step(9)).join(["model.safetensors", "optimizer.safetensors", MANIFEST][file]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1_u8 << bit;
        }
        fs::write(&path, bytes).unwrap();
        // A manifest can change where it says nothing of the files; then the files are still whole.
        let verdict = store.verify(Step(9));
        prop_assert!(verdict.is_err() || (file == 2 && !cut && verdict.unwrap().files == manifest(9).files));
    }
}
