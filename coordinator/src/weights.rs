//! Weights in: torchvision's own, or a file of any form that PyTorch has written, checked and made one thing.
//!
//! Whatever a file looks like, what leaves here is a safetensors file under torchvision's names, named by its own
//! sha256: 32-bit floats, and the counters of BatchNorm as 64-bit integers. Workers fetch it by that digest, and
//! only this crate knows formats. Names and shapes are checked against the network before anything is made, and no
//! pickle is ever run.
//!
//! Everything here blocks (files, sockets, hashing).

mod elements;
mod error;
mod file;
mod fit;
mod harmless;
mod official;
mod pickle_names;
mod state_dict;
#[cfg(test)]
pub(crate) mod torch_file;

use std::path::{Path, PathBuf};

pub use error::WeightsError;
pub(crate) use file::{DESCRIPTION, record};
pub use state_dict::{Entry, StateDict};

use crate::data::BlobCache;
use crate::download::{self, DownloadProgress};
use crate::recipe::{ModelName, Weights};
use fit::Fit;

/// Initial weights that are ready to be fetched by workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// sha256 of the file in the cache, in lower-case hexadecimal digits.
    pub digest: String,
    /// What the user should know of them, each a sentence.
    pub notes: Vec<String>,
}

/// A file of weights, read.
#[derive(Debug)]
pub struct LoadedWeights {
    pub model: ModelName,
    /// Outputs of the head.
    pub classes: u32,
    pub state: StateDict,
    /// The JSON text that Lockstep puts into what it exports.
    pub description: Option<String>,
    /// What the user should know of them, each a sentence.
    pub notes: Vec<String>,
}

/// Finds, checks and stores a recipe's initial weights, downloading torchvision's when they are not here yet. `None`
/// where the recipe asks for none.
///
/// A head with another number of outputs than `classes` stays in the file, and a note says that it is replaced:
/// workers draw a new one from the seed.
pub fn resolve(
    weights: &Weights,
    model: ModelName,
    classes: u32,
    cache: &BlobCache,
    progress: &dyn DownloadProgress,
) -> Result<Option<Resolved>, WeightsError> {
    resolve_from(&official::base_url(), weights, model, classes, cache, progress)
}

/// [`resolve`] with the address of torchvision's weights given, so that tests can bring their own server.
fn resolve_from(
    base_url: &str,
    weights: &Weights,
    model: ModelName,
    classes: u32,
    cache: &BlobCache,
    progress: &dyn DownloadProgress,
) -> Result<Option<Resolved>, WeightsError> {
    let official = |recipe| {
        let name = official::file_name(model, recipe).ok_or(WeightsError::NoSuchOfficial { model })?;
        Ok::<PathBuf, WeightsError>(download::fetch(
            &official::source(base_url, name),
            cache.dir(),
            progress,
        )?)
    };
    let path = match weights {
        Weights::None => return Ok(None),
        Weights::Imagenet1kV1 => official(official::Recipe::V1)?,
        Weights::Imagenet1kV2 => official(official::Recipe::V2)?,
        Weights::File(path) => path.clone(),
    };
    let mut loaded = load(&path, Some(model))?;
    if loaded.classes != classes {
        loaded.notes.push(format!(
            "the weights' head has {} classes and the data {classes}: it is replaced by a new one, drawn from the seed",
            loaded.classes
        ));
    }
    Ok(Some(Resolved { digest: loaded.state.store(cache)?, notes: loaded.notes }))
}

/// Reads a file of weights as `model`'s, or as those of the ResNet that its names and shapes are.
pub fn load(path: &Path, model: Option<ModelName>) -> Result<LoadedWeights, WeightsError> {
    let file = file::open(path)?;
    let fit = Fit::find(path, &file)?;
    let model = model.unwrap_or_else(|| fit.nearest());
    let (state, mut notes) = fit.read(model)?;
    if file.is_model {
        notes
            .insert(0, "the file is a whole model: its numbers are read, and its code is not run".to_owned());
    }
    if !fit.prefix.is_empty() {
        notes.insert(
            0,
            format!("the weights are those under `{}` in the file", fit.prefix.trim_end_matches('.')),
        );
    }
    // In range: `read` has bounded it, and a head without a bias is an error there.
    let classes = fit.classes().unwrap_or_default() as u32;
    Ok(LoadedWeights { model, classes, state, description: file.description, notes })
}

#[cfg(test)]
mod tests;
