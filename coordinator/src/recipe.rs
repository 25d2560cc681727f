//! A run's recipe: its immutable settings, complete and checked, as the rest of the program sees them.
//!
//! The weights of a run are a function of its recipe, so nothing that shapes them may be implied: `load`
//! fills every default in, refuses what it does not know, and `to_toml` writes the result down so that it
//! runs again as it is. What may differ between two starts of the same run (workers, home, name) is not here.

mod choice;
mod error;
mod key;
mod layer;
mod read;
mod reader;
mod settings;
mod validate;
mod warn;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

pub use crate::model::parameter_names;
pub use choice::{
    DataName, FrozenBatchNorm, Metric, ModelName, Normalize, OptimizerName, Precision, PrefixCache, Restore,
    ScheduleName, SchedulePer, SelectSplit,
};
pub use error::RecipeError;
pub use layer::Origin;
pub use settings::{
    Augment, Cache, Checkpoint, Data, Group, IMAGE_SIZES, Model, Optimizer, Schedule, Select, Train,
    Unfreeze, Validation, Weights,
};

use crate::freezing::{self, Phase};
use layer::Layers;

/// The settings of one run. Field names are the keys of the TOML file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Of the sample order, the augmentation and the initial weights; at most `i64::MAX`, TOML's largest.
    pub seed: u64,
    /// Samples of one step over all shards.
    pub batch: u32,
    /// Fixed slices of every step's batch; the number of workers may differ.
    pub shards: u32,
    pub epochs: u32,
    pub precision: Precision,
    /// Intra-op threads of libtorch: another number gives other bits.
    pub threads: u32,
    /// Bit-identical on any number of workers.
    pub exact: bool,
    /// How often each local worker's process may be started again when it died.
    pub max_restarts: u32,
    /// A worker that is not heard of for so long is lost.
    pub lease_ms: u32,
    pub data: Data,
    pub augment: Augment,
    pub model: Model,
    pub train: Train,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub select: Select,
    pub checkpoint: Checkpoint,
    pub cache: Cache,
}

/// Where a recipe comes from; the later in this list, the weaker: sets, environment, file, defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// `--set` arguments: `a.b=c`.
    pub sets: Vec<String>,
    /// Variables that start with `LOCKSTEP_`, under their whole names.
    pub env: BTreeMap<String, String>,
    /// What `shards` is when nobody says: the number of workers of the run's creation.
    pub default_shards: u32,
}

impl Sources {
    /// The `LOCKSTEP_…` variables of this process, for [`Sources::env`]. Those that are not UTF-8 cannot
    /// be recipe values and are left out.
    #[must_use]
    pub fn process_env() -> BTreeMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(layer::ENV_PREFIX))
            .collect()
    }
}

/// A recipe, what to tell the user about it, and where each of its keys came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub recipe: Recipe,
    pub warnings: Vec<String>,
    /// By dotted key, for every key that has a value.
    pub origins: BTreeMap<String, Origin>,
}

impl Recipe {
    /// Reads, merges, completes and checks a recipe.
    ///
    /// Relative paths are taken from the current directory, as a shell's user expects, and come out
    /// absolute, so that the resolved recipe runs from anywhere.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, and whatever [`RecipeError`] tells about its content.
    pub fn load(sources: &Sources) -> Result<Loaded, RecipeError> {
        let mut loaded = Self::load_for_elsewhere(sources)?;
        loaded.recipe.make_paths_absolute();
        Ok(loaded)
    }

    /// As [`Recipe::load`], with paths as they are written: they are of another machine.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::load`].
    pub fn load_for_elsewhere(sources: &Sources) -> Result<Loaded, RecipeError> {
        let mut layers = Layers::default();
        if let Some(path) = &sources.file {
            let label = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| RecipeError::Read { path: label.clone(), source })?;
            layers.add_file(&text, &label)?;
        }
        layers.add_env(&sources.env)?;
        layers.add_sets(&sources.sets)?;
        let (recipe, origins) = read::recipe(&layers, sources.default_shards.max(1))?;
        let warnings = recipe.warnings();
        Ok(Loaded { recipe, warnings, origins })
    }

    /// Reads a recipe back from the text of a TOML file; `label` names it in errors.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::load`], but for the reading of a file.
    pub fn from_toml_str(text: &str, label: &str) -> Result<Self, RecipeError> {
        let mut layers = Layers::default();
        layers.add_file(text, label)?;
        Ok(read::recipe(&layers, 1)?.0)
    }

    /// Reads, completes and checks a recipe that came as text, without anything of this process in it; `label` names it in
    /// errors. Paths stay as they are written.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::load`], but for the reading of a file.
    pub fn load_text(text: &str, label: &str, default_shards: u32) -> Result<Loaded, RecipeError> {
        let mut layers = Layers::default();
        layers.add_file(text, label)?;
        let (recipe, origins) = read::recipe(&layers, default_shards.max(1))?;
        let warnings = recipe.warnings();
        Ok(Loaded { recipe, warnings, origins })
    }

    /// What is trained when. Loading has checked the patterns; of a recipe that was changed since, so that one of them
    /// cannot be carried out, there is no phase.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        freezing::resolve(&self.into()).unwrap_or_default()
    }

    /// Names of the parameters that are trained from the start, in forward order.
    #[must_use]
    pub fn trainable_parameters(&self) -> Vec<String> {
        let phases = self.phases();
        let Some(first) = phases.first() else { return Vec::new() };
        let mut names = parameter_names(self.model.name);
        names.retain(|name| first.group_of(name).is_some());
        names
    }

    fn make_paths_absolute(&mut self) {
        let absolute = |path: &mut PathBuf| {
            // A current directory that is gone or not UTF-8 cannot be written into a TOML file.
            if let Ok(whole) = std::path::absolute(&*path)
                && whole.to_str().is_some()
            {
                *path = whole;
            }
        };
        self.data.path.as_mut().map(absolute);
        if let Weights::File(path) = &mut self.model.weights {
            absolute(path);
        }
    }
}

#[cfg(test)]
mod tests;
