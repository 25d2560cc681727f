//! What is promised of a file that bears its final name.

mod damage;

use std::fs;

use lockstep_core::{Epoch, Position, Step};
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
        position: Position { epoch: Epoch(0), step: Step(step) },
        metric: Some(ManifestMetric { name: "val/acc_top1".to_owned(), value: 0.1 + 0.2, epoch: 0 }),
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
    assert!(store.holds(&manifest(3)) && store.is_complete(Step(3)));
    assert_eq!(store.steps().unwrap(), [Step(3)]);
}

#[test]
fn what_is_whole_is_not_written_again_and_what_is_damaged_is() {
    use std::os::unix::fs::MetadataExt;
    let (folder, store) = store();
    let best = folder.path().join("best.safetensors");
    write(&store, 3);
    store.publish(Step(3), None, &best).unwrap();
    let model = store.path(Step(3)).join("model.safetensors");
    let inode = || fs::metadata(&model).unwrap().ino();
    let first = inode();
    write(&store, 3);
    assert_eq!((inode(), store.points_at("last")), (first, Some(Step(3))));

    fs::write(&model, b"something else").unwrap();
    assert!(!store.holds(&manifest(3)) && !store.is_complete(Step(3)));
    write(&store, 3);
    store.verify(Step(3)).unwrap();
}

#[test]
fn several_uploads_of_one_step_at_a_time_do_not_disturb_each_other() {
    let (folder, store) = store();
    let whole = [MODEL, OPTIMIZER].concat();
    let begin = || store.begin(manifest(5)).unwrap();
    let (mut first, mut second, mut third) = (begin(), begin(), begin());
    for piece in whole.chunks(5) {
        [&mut first, &mut second].into_iter().for_each(|writer| writer.write(piece).unwrap());
    }
    third.write(&whole[..9]).unwrap();
    first.finish().unwrap();
    drop(third);
    store.verify(Step(5)).unwrap();
    second.finish().unwrap();
    store.verify(Step(5)).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 1, "nothing else is left");

    let threads: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || write(&store, 6))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    store.verify(Step(6)).unwrap();
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
    assert!(matches!(store.begin(named), Err(WriteError::Files { .. })));
    let mut half = manifest(1);
    half.files.truncate(1);
    assert!(matches!(store.begin(half), Err(WriteError::Files { .. })));
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
    assert_eq!(store.steps().unwrap(), []);
}
