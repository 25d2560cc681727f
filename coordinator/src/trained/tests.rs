//! Runs' folders and files, whole and broken.

use std::fs;

use lockstep_core::{Epoch, Position, Step};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::durable;
use crate::model::{self, StateDtype};
use crate::recipe::{Normalize, Sources};
use crate::store::{FORMAT_VERSION, Manifest, ManifestFile, ManifestMetric};
use crate::weights::{self, Entry, StateDict};

const NAME: &str = "first";

/// A ResNet-18 with two classes, every element the same.
fn state(value: f32) -> StateDict {
    let entries = model::state(ModelName::Resnet18, 2).into_iter().map(|tensor| {
        let count: usize = tensor.shape.iter().product();
        let bytes = match tensor.dtype {
            StateDtype::F32 => value.to_le_bytes().repeat(count),
            StateDtype::I64 => 5i64.to_le_bytes().to_vec(),
        };
        Entry { tensor, bytes }
    });
    StateDict { entries: entries.collect() }
}

struct Home {
    folder: tempfile::TempDir,
    cache: BlobCache,
}

impl Home {
    fn find(&self, what: &str, which: Which, ema: bool) -> Result<TrainedModel, TrainedError> {
        find(self.folder.path(), &self.cache, what, which, ema)
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("runs").join(NAME)
    }

    /// Stores a checkpoint whose running average of `fc.bias` is 9, and points `pointer` at it.
    fn checkpoint(&self, step: u64, value: f32, pointer: &str) {
        let folder = self.run().join(format!("checkpoints/step-{step:08}"));
        fs::create_dir_all(&folder).unwrap();
        let average: Vec<u8> = 9f32.to_le_bytes().repeat(2);
        let view = TensorView::new(Dtype::F32, vec![2], &average).unwrap();
        let optimizer =
            safetensors::serialize([("ema.fc.bias", view.clone()), ("momentum.fc.bias", view)], None);
        let files = [
            ("model.safetensors", state(value).to_safetensors("format", "pt".to_owned()).unwrap()),
            ("optimizer.safetensors", optimizer.unwrap()),
        ];
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            lockstep_version: "0".to_owned(),
            run: NAME.to_owned(),
            position: Position { epoch: Epoch(1), step: Step(step) },
            metric: Some(ManifestMetric { name: "val/acc_top1".to_owned(), value: 0.5, epoch: 0 }),
            files: files
                .iter()
                .map(|(name, bytes)| ManifestFile {
                    name: (*name).to_owned(),
                    size_bytes: bytes.len() as u64,
                    sha256: hex::encode(Sha256::digest(bytes)),
                })
                .collect(),
        };
        files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        fs::write(folder.join("manifest.json"), manifest.seal().unwrap()).unwrap();
        let link = self.run().join("checkpoints").join(pointer);
        durable::point(&link, &format!("step-{step:08}")).unwrap();
    }
}

/// A home with one run: its best checkpoint is of step 10, its last of step 20.
fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(folder.path().join("cache")).unwrap();
    let home = Home { folder, cache };
    fs::create_dir_all(home.run()).unwrap();
    let sets = ["data.name=shapes", "data.image_size=64", "data.normalize=imagenet", "model.name=resnet18"];
    let sources = Sources { sets: sets.map(str::to_owned).to_vec(), default_shards: 1, ..Sources::default() };
    let recipe = Recipe::load(&sources).unwrap().recipe;
    fs::write(home.run().join("recipe.toml"), recipe.to_toml()).unwrap();
    let facts = json!({
        "best": { "epoch": 0, "acc_top1": 0.5 },
        "test": { "acc_top1": 0.4 },
        "run": { "classes": ["cat", "dog"] },
    });
    fs::write(home.run().join("run.json"), facts.to_string()).unwrap();
    home.checkpoint(10, 1.0, "best");
    home.checkpoint(20, 2.0, "last");
    home
}

/// The first element of `fc.bias`.
fn bias(trained: &TrainedModel) -> f32 {
    let loaded = weights::load(&trained.weights, Some(trained.model)).unwrap();
    let bias = loaded.state.entries.last().unwrap();
    f32::from_le_bytes(*bias.bytes.first_chunk().unwrap())
}

#[test]
fn a_run_gives_its_best_or_last_model_with_all_that_is_needed_to_use_it() {
    let home = home();
    let best = home.find(NAME, Which::Best, false).unwrap();
    assert_eq!(
        (best.model, &best.classes[..]),
        (ModelName::Resnet18, &["cat".to_owned(), "dog".to_owned()][..])
    );
    assert_eq!(best.image_size, 64);
    assert_eq!((best.mean, best.std), Normalize::Imagenet.mean_std());
    assert_eq!((bias(&best), best.origin.step), (1.0, Some(10)));
    assert_eq!(best.metrics["test"]["acc_top1"], json!(0.4));
    assert_eq!(best.recipe.as_ref().unwrap().model.name, ModelName::Resnet18);
    assert_eq!((best.run.as_deref(), best.notes.len()), (Some(&*home.run()), 0));

    let last = home.find(NAME, Which::Last, false).unwrap();
    assert_eq!((bias(&last), last.origin.step), (2.0, Some(20)));
    assert!(last.metrics.get("test").is_none(), "the test was of the best model");
}

#[test]
fn the_running_average_replaces_what_it_was_taken_of() {
    let home = home();
    let average = home.find(NAME, Which::Best, true).unwrap();
    assert_eq!(bias(&average), 9.0);
    let loaded = weights::load(&average.weights, None).unwrap();
    assert_eq!(loaded.state.entries[0].bytes[..4], 1f32.to_le_bytes(), "what has no average stays");
    assert!(average.origin.ema && average.metrics.get("test").is_none());
    // The checkpoint itself is untouched.
    assert_eq!(bias(&home.find(NAME, Which::Best, false).unwrap()), 1.0);
}

#[test]
fn a_damaged_or_missing_checkpoint_is_an_error_that_says_what_else_there_is() {
    let home = home();
    let model = home.run().join("checkpoints/step-00000010/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&model, bytes).unwrap();
    let error = home.find(NAME, Which::Best, false).unwrap_err();
    assert!(error.to_string().contains("does not match its digest"), "{error}");
    assert!(error.hint().unwrap().contains("--last"));

    fs::remove_file(home.run().join("checkpoints/last")).unwrap();
    let error = home.find(NAME, Which::Last, false).unwrap_err();
    assert_eq!(error.to_string(), "run first has no last checkpoint yet");
}

#[test]
fn a_run_without_an_average_says_so() {
    let home = home();
    let folder = home.run().join("checkpoints/step-00000010");
    let optimizer = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    let mut manifest: Manifest =
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    manifest.files[1].size_bytes = optimizer.len() as u64;
    manifest.files[1].sha256 = hex::encode(Sha256::digest(&optimizer));
    fs::write(folder.join("optimizer.safetensors"), optimizer).unwrap();
    fs::write(folder.join("manifest.json"), manifest.seal().unwrap()).unwrap();
    let error = home.find(NAME, Which::Best, true).unwrap_err();
    assert!(matches!(error, TrainedError::NoAverage { .. }), "{error}");
    assert!(error.hint().unwrap().contains("train.ema_decay"));
}

#[test]
fn a_file_that_says_nothing_of_itself_is_recognised_and_the_rest_assumed_aloud() {
    let home = home();
    let path = home.folder.path().join("plain.safetensors");
    fs::write(&path, state(3.0).to_safetensors("format", "pt".to_owned()).unwrap()).unwrap();
    let found = home.find(path.to_str().unwrap(), Which::Best, false).unwrap();
    assert_eq!(
        (found.model, &found.classes[..]),
        (ModelName::Resnet18, &["0".to_owned(), "1".to_owned()][..])
    );
    assert_eq!((found.image_size, found.mean), (224, Normalize::Imagenet.mean_std().0));
    assert_eq!((bias(&found), found.origin.file.as_deref()), (3.0, Some("plain.safetensors")));
    assert!(found.notes[0].contains("assumed"), "{:?}", found.notes);
    let error = home.find(path.to_str().unwrap(), Which::Best, true).unwrap_err();
    assert!(matches!(error, TrainedError::AverageOfFile { .. }), "{error}");
}

#[test]
fn a_file_whose_description_is_not_of_its_weights_is_refused() {
    let home = home();
    let path = home.folder.path().join("liar.safetensors");
    let mut description = Description::of(&home.find(NAME, Which::Best, false).unwrap());
    let write = |description: &Description| {
        let text = serde_json::to_string(description).unwrap();
        fs::write(&path, state(3.0).to_safetensors("lockstep", text).unwrap()).unwrap();
        home.find(path.to_str().unwrap(), Which::Best, false)
    };
    assert_eq!(write(&description).unwrap().classes, ["cat", "dog"]);
    description.classes.push("mouse".to_owned());
    let error = write(&description).unwrap_err();
    assert!(error.to_string().contains("names 3 classes, and its head has 2"), "{error}");
    description.classes.pop();
    description.model = "resnet50".to_owned();
    let error = write(&description).unwrap_err();
    assert!(error.to_string().contains("says resnet50 and holds a resnet18"), "{error}");
}

#[test]
fn a_name_that_is_neither_leads_to_the_run_that_was_meant() {
    let home = home();
    let error = home.find("frist", Which::Best, false).unwrap_err();
    assert_eq!(error.to_string(), "there is no run and no file named frist");
    assert_eq!(error.hint().unwrap(), "did you mean the run first?");
    let error = home.find("../../etc", Which::Best, false).unwrap_err();
    assert!(error.hint().unwrap().contains("--home"));
}
