//! What is written is what the model was, in both forms, and PyTorch's layout is kept.

use std::fs;

use serde_json::json;

use super::*;
use crate::data::BlobCache;
use crate::model::{self, StateDtype};
use crate::recipe::ModelName;
use crate::trained::{Origin, Which, find};
use crate::weights::Entry;

/// A ResNet-18 with three classes whose tensors all differ.
fn state() -> StateDict {
    let entries = model::state(ModelName::Resnet18, 3).into_iter().enumerate().map(|(index, tensor)| {
        let count: usize = tensor.shape.iter().product();
        let element = match tensor.dtype {
            StateDtype::F32 => (index as f32 / 7.0).to_le_bytes().to_vec(),
            StateDtype::I64 => (index as i64).to_le_bytes().to_vec(),
        };
        Entry { tensor, bytes: element.repeat(count) }
    });
    StateDict { entries: entries.collect() }
}

struct Case {
    folder: tempfile::TempDir,
    cache: BlobCache,
    trained: TrainedModel,
}

fn case() -> Case {
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(folder.path().join("cache")).unwrap();
    let trained = TrainedModel {
        name: "a-run".to_owned(),
        model: ModelName::Resnet18,
        classes: ["cat", "dog", "žába"].map(str::to_owned).to_vec(),
        image_size: 64,
        mean: [0.1, 0.2, 0.3],
        std: [0.4, 0.5, 0.6],
        weights: cache.path(&state().store(&cache).unwrap()),
        run: None,
        recipe: None,
        metrics: json!({ "test": { "acc_top1": 0.75 } }),
        origin: Origin { run: Some("a-run".to_owned()), step: Some(12), ..Origin::default() },
        notes: Vec::new(),
    };
    Case { folder, cache, trained }
}

#[test]
fn a_model_that_is_exported_and_found_again_is_the_same() {
    let Case { folder, cache, trained } = case();
    for format in [Format::Safetensors, Format::Pth] {
        let path = folder.path().join(format!("out.{}", format.extension()));
        let exported = export(&trained, format, &path, false).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(exported.sha256, hex::encode(Sha256::digest(&bytes)));
        assert_eq!((exported.size_bytes, exported.tensors), (bytes.len() as u64, 122));

        let loaded = weights::load(&path, None).unwrap();
        assert!(loaded.state == state(), "{format:?}");
        let found = find(folder.path(), &cache, path.to_str().unwrap(), Which::Best, false).unwrap();
        assert_eq!((found.model, &found.classes), (trained.model, &trained.classes));
        assert_eq!((found.image_size, found.mean, found.std), (64, trained.mean, trained.std));
        assert_eq!((&found.metrics, &found.origin), (&trained.metrics, &trained.origin));
        assert_eq!(found.notes, [""; 0]);
        assert_eq!(found.weights, trained.weights, "equal numbers are one file in the cache");
    }
}

#[test]
fn an_archive_has_pytorchs_records_uncompressed_and_aligned() {
    let Case { trained, .. } = case();
    let bytes = encode(&state(), &Description::of(&trained), Format::Pth).unwrap();
    let mut archive = zip::ZipArchive::new(io::Cursor::new(&bytes)).unwrap();
    assert_eq!(archive.len(), 122 + 4);
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let record = archive.by_index(index).unwrap();
        assert_eq!(record.compression(), zip::CompressionMethod::Stored);
        assert_eq!(record.data_start().unwrap() % 64, 0, "{:?}", record.name());
        names.push(record.name().unwrap().into_owned());
    }
    assert_eq!(names[..3], ["archive/data.pkl", "archive/byteorder", "archive/data/0"]);
    assert_eq!(names[124..], ["archive/version", "archive/lockstep.json"]);
    assert!(
        encode(&state(), &Description::of(&trained), Format::Pth).unwrap() == bytes,
        "equal models, equal bytes"
    );
}

#[test]
fn a_safetensors_file_has_one_metadata_key() {
    let Case { trained, .. } = case();
    let bytes = encode(&state(), &Description::of(&trained), Format::Safetensors).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["lockstep"]);
    let description: serde_json::Value = serde_json::from_str(&metadata["lockstep"]).unwrap();
    assert_eq!(description["classes"], json!(["cat", "dog", "žába"]));
    assert_eq!(description["normalisation"]["std"][0], json!(0.4));
}

#[test]
fn a_file_that_exists_stays_unless_it_may_be_replaced() {
    let Case { folder, trained, .. } = case();
    let path = folder.path().join("out.pth");
    fs::write(&path, "precious").unwrap();
    let refused = export(&trained, Format::Pth, &path, false);
    assert!(matches!(refused, Err(ExportError::Exists { .. })));
    // Also when it appears while the model is read.
    assert!(matches!(write(&path, b"new", false), Err(ExportError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    export(&trained, Format::Pth, &path, true).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 1 << 20);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| name == "out.pth" || name == "cache"), "nothing is left aside");
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
    let Case { folder, trained, .. } = case();
    let path = folder.path().join("nowhere/out.pth");
    let error = export(&trained, Format::Pth, &path, false).unwrap_err();
    assert!(error.to_string().contains("nowhere/out.pth"), "{error}");
}
