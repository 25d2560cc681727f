//! Trained models, found by a run's name or a file's path: what evaluation, prediction and export begin with.
//!
//! A model is more than its numbers: without the class names, the picture size and the statistics that pixels are
//! normalised by, its outputs mean nothing. A run's folder has all of it, and so has a file that Lockstep exported; of
//! any other file it is assumed, and said.

mod description;
mod error;
mod file;
mod run;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use description::{Description, Origin};
pub use error::TrainedError;

use crate::data::BlobCache;
use crate::recipe::{ModelName, Recipe};
use crate::run_folder::RunFolder;

/// Which of a run's checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Best,
    Last,
}

impl Which {
    /// The pointer's name among the run's checkpoints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Last => "last",
        }
    }
}

/// A trained model, ready to be used.
#[derive(Debug, Clone)]
pub struct TrainedModel {
    /// As asked for.
    pub name: String,
    pub model: ModelName,
    /// Class names by label; as many as the head has outputs.
    pub classes: Vec<String>,
    /// Pixels per side that the model was trained with.
    pub image_size: u32,
    /// Of pixels in 0..1, per channel (red, green, blue).
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// A safetensors file of the whole `state_dict` under torchvision's names.
    pub weights: PathBuf,
    /// The run's folder.
    pub run: Option<PathBuf>,
    pub recipe: Option<Recipe>,
    /// What is known of how well it does, as `run.json` has it.
    pub metrics: Value,
    /// Where the numbers come from.
    pub origin: Origin,
    /// What the user should know, each a sentence: what was assumed, and what was found in the file.
    pub notes: Vec<String>,
}

impl TrainedModel {
    /// The name of a file without its folder and extension: what files that are made of it are called by.
    #[must_use]
    pub fn file_stem(&self) -> String {
        Path::new(&self.name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Finds the model of the run `what` under `home`, or of the file `what`. A run's name wins; `./what` is always a file.
///
/// With `ema`, the running average of the weights that the run kept takes the place of its weights.
///
/// # Errors
/// [`TrainedError`] tells what is missing or damaged, and hints at what can be done.
pub fn find(
    home: &Path,
    cache: &BlobCache,
    what: &str,
    which: Which,
    ema: bool,
) -> Result<TrainedModel, TrainedError> {
    match RunFolder::path_of(home, what) {
        Ok(folder) if folder.is_dir() => run::find(&folder, what, cache, which, ema),
        _ if Path::new(what).is_file() => {
            if ema {
                return Err(TrainedError::AverageOfFile { path: what.into() });
            }
            file::find(Path::new(what), cache)
        }
        _ => Err(TrainedError::not_found(home, what)),
    }
}

#[cfg(test)]
mod tests;
