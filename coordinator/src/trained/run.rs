//! A trained model from a run's folder, which may be written to at the same time.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_core::Step;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::{Origin, TrainedError, TrainedModel, Which};
use crate::data::BlobCache;
use crate::model::StateDtype;
use crate::recipe::Recipe;
use crate::store::{CheckpointStore, Damage, Manifest};
use crate::weights::{self, StateDict};

/// What the running average's tensors are called in a checkpoint's `optimizer.safetensors`, before their own names.
const AVERAGE: &str = "ema.";

/// A run that goes on deletes old checkpoints. The pointer moves first, so looking again finds the next one.
const LOOKS: u32 = 5;

pub(super) fn find(
    folder: &Path,
    name: &str,
    cache: &BlobCache,
    which: Which,
    ema: bool,
) -> Result<TrainedModel, TrainedError> {
    let (step, checkpoint, manifest) = checkpoint(folder, name, which)?;
    let facts = facts(folder)?;
    let recipe = recipe(folder, name)?;
    let mut weights = checkpoint.join("model.safetensors");
    let mut loaded = weights::load(&weights, Some(recipe.model.name))?;
    if ema {
        take_average(&mut loaded.state, &checkpoint.join("optimizer.safetensors"), name)?;
        weights = cache.path(&loaded.state.store(cache)?);
    }
    let mut notes = loaded.notes;
    let classes = classes(&facts, loaded.classes, &mut notes);
    let (mean, std) = recipe.data.normalize.mean_std();
    Ok(TrainedModel {
        name: name.to_owned(),
        model: loaded.model,
        classes,
        image_size: recipe.data.image_size,
        mean,
        std,
        weights,
        run: Some(folder.to_owned()),
        metrics: metrics(&facts, &manifest, which, ema),
        origin: Origin {
            run: Some(name.to_owned()),
            checkpoint: Some(which.as_str().to_owned()),
            step: Some(step.0),
            ema,
            file: None,
        },
        recipe: Some(recipe),
        notes,
    })
}

/// The checkpoint that the run's pointer names, every byte of it compared with its manifest.
fn checkpoint(folder: &Path, run: &str, which: Which) -> Result<(Step, PathBuf, Manifest), TrainedError> {
    let store = CheckpointStore::reading(folder.join("checkpoints"));
    let mut look = 1;
    loop {
        let Some(step) = store.points_at(which.as_str()) else {
            return Err(TrainedError::NoCheckpoint { run: run.to_owned(), which: which.as_str() });
        };
        match store.verify(step) {
            Ok(manifest) => return Ok((step, store.path(step), manifest)),
            Err(Damage::Missing { .. }) if look < LOOKS => look += 1,
            Err(damage) => {
                return Err(TrainedError::Damaged { run: run.to_owned(), which: which.as_str(), damage });
            }
        }
    }
}

/// `run.json`; nothing where there is none, as of a run that stopped before its first epoch ended.
fn facts(folder: &Path) -> Result<Value, TrainedError> {
    let path = folder.join("run.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(TrainedError::io(&path)(error)),
    };
    serde_json::from_slice(&text).map_err(|error| TrainedError::RunFile { path, reason: error.to_string() })
}

fn recipe(folder: &Path, run: &str) -> Result<Recipe, TrainedError> {
    let path = folder.join("recipe.toml");
    let text = fs::read_to_string(&path).map_err(TrainedError::io(&path))?;
    Recipe::from_toml_str(&text, &path.display().to_string())
        .map_err(|source| TrainedError::Recipe { run: run.to_owned(), source: Box::new(source) })
}

fn classes(facts: &Value, outputs: u32, notes: &mut Vec<String>) -> Vec<String> {
    let names = facts["run"]["classes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if names.len() == outputs as usize {
        return names;
    }
    notes.push(format!("run.json does not name the model's {outputs} classes: they are numbered"));
    (0..outputs).map(|label| label.to_string()).collect()
}

/// The checkpoint's own metric, and what the run tells of its best model where that is the one.
fn metrics(facts: &Value, manifest: &Manifest, which: Which, ema: bool) -> Value {
    let mut metrics = json!({ "checkpoint": manifest.metric });
    // The test is of the best model, and of its weights themselves.
    if which == Which::Best && !ema {
        metrics["best"] = facts["best"].clone();
        metrics["test"] = facts["test"].clone();
    }
    metrics
}

/// Puts the running average in the place of the weights that it was taken of; what is frozen has none.
fn take_average(state: &mut StateDict, path: &Path, run: &str) -> Result<(), TrainedError> {
    let wrong = |reason: String| TrainedError::Average { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(TrainedError::io(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut taken = 0;
    for (name, tensor) in file.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(AVERAGE)?, tensor)))
    {
        let entry = state.entries.iter_mut().find(|entry| entry.tensor.name == name);
        let entry = entry.ok_or_else(|| wrong(format!("the model has no tensor {name}")))?;
        let dtype = match entry.tensor.dtype {
            StateDtype::F32 => Dtype::F32,
            StateDtype::I64 => Dtype::I64,
        };
        if tensor.dtype() != dtype || tensor.shape() != entry.tensor.shape {
            let (shape, expected) = (tensor.shape(), &entry.tensor.shape);
            return Err(wrong(format!("tensor {name} has shape {shape:?}, expected {expected:?}")));
        }
        entry.bytes.copy_from_slice(tensor.data());
        taken += 1;
    }
    if taken == 0 { Err(TrainedError::NoAverage { run: run.to_owned() }) } else { Ok(()) }
}
