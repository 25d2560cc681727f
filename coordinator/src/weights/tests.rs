//! From a recipe's setting to the file that workers fetch.

use std::fs;

use super::torch_file::{Stored, legacy, pickle, zip};
use super::*;
use crate::data::BlobCache;
use crate::download::server::{Serve, serve};
use crate::download::{DownloadError, NoProgress};
use crate::model::{self, StateDtype};

const MODEL: ModelName = ModelName::Resnet18;

fn cache() -> (tempfile::TempDir, BlobCache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(folder.path().join("cache")).unwrap();
    (folder, cache)
}

/// A ResNet-18 of constants: each tensor repeats one stored element, so that the file is small.
fn constants(prefix: &str) -> Vec<Stored> {
    let tensors = model::state(MODEL, 10).into_iter().enumerate();
    let stored = tensors.map(|(index, tensor)| {
        let name = format!("{prefix}{}", tensor.name);
        let (kind, storage) = match tensor.dtype {
            StateDtype::F32 => ("FloatStorage", (index as f32).to_le_bytes().to_vec()),
            StateDtype::I64 => ("LongStorage", (index as i64).to_le_bytes().to_vec()),
        };
        let mut stored = Stored::new(&name, kind, &tensor.shape, storage, 1);
        stored.stride.fill(0);
        stored
    });
    stored.collect()
}

fn resolve_file(path: &Path, classes: u32, cache: &BlobCache) -> Resolved {
    let weights = Weights::File(path.to_owned());
    resolve(&weights, MODEL, classes, cache, &NoProgress).unwrap().unwrap()
}

#[test]
fn equal_weights_have_one_digest_whatever_file_they_came_in() {
    let (folder, cache) = cache();
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (plain, wrapped) = (constants(""), constants("module."));
    let new = write("new.pth", zip(&pickle(&[], &plain, b""), &plain));
    let first = resolve_file(&new, 10, &cache);
    assert_eq!(first.notes, [""; 0]);
    assert!(cache.verify(&first.digest).unwrap());

    let old = write("old.pt", legacy(&pickle(&["state_dict"], &wrapped, b""), &wrapped));
    let second = resolve_file(&old, 10, &cache);
    assert_eq!(second.digest, first.digest);
    assert_eq!(second.notes, ["the weights are those under `state_dict.module` in the file"]);
    // And of the file that is the result itself.
    assert_eq!(resolve_file(&cache.path(&first.digest), 10, &cache), first);
}

#[test]
fn a_head_of_other_classes_stays_in_the_file_and_its_replacement_is_said() {
    let (folder, cache) = cache();
    let path = folder.path().join("weights.pth");
    let tensors = constants("");
    fs::write(&path, zip(&pickle(&[], &tensors, b""), &tensors)).unwrap();
    let resolved = resolve_file(&path, 100, &cache);
    assert_eq!(
        resolved.notes,
        [
            "the weights' head has 10 classes and the data 100: it is replaced by a new one, drawn from the seed"
        ]
    );
    let loaded = load(&cache.path(&resolved.digest), Some(MODEL)).unwrap();
    assert_eq!((loaded.classes, loaded.state.entries.len()), (10, 122));
    let bias = &loaded.state.entries[121];
    assert_eq!((&*bias.tensor.name, &bias.bytes[..4]), ("fc.bias", &121f32.to_le_bytes()[..]));
}

#[test]
fn no_weights_are_none() {
    let (_folder, cache) = cache();
    assert_eq!(resolve(&Weights::None, MODEL, 10, &cache, &NoProgress).unwrap(), None);
}

#[test]
fn torchvisions_weights_are_asked_for_by_their_file_name_and_checked() {
    let (_folder, cache) = cache();
    let (url, requests) = serve(b"not the weights".to_vec(), &[Serve::Ranges]);
    let base = url.rsplit_once('/').unwrap().0;
    let resolved = resolve_from(base, &Weights::Imagenet1kV1, MODEL, 10, &cache, &NoProgress);
    let error = resolved.unwrap_err();
    assert!(matches!(error, WeightsError::Download(DownloadError::Checksum { .. })), "{error}");
    assert!(error.to_string().contains("resnet18-f37072fd.pth") && error.to_string().contains("f37072fd"));
    assert!(error.hint().is_some());
    assert_eq!(requests.iter().count(), 1);
}

#[test]
fn weights_that_torchvision_does_not_have_are_an_error_that_says_so() {
    let (_folder, cache) = cache();
    for model in [ModelName::Resnet18, ModelName::Resnet34] {
        let error = resolve(&Weights::Imagenet1kV2, model, 10, &cache, &NoProgress).unwrap_err();
        assert_eq!(error.to_string(), format!("torchvision has no IMAGENET1K_V2 weights for {model}"));
        assert!(error.hint().unwrap().contains("imagenet1k-v1"));
    }
}
