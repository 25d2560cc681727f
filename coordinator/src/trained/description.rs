//! What an exported file tells of itself, beside its numbers: enough to use the model without its run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TrainedError, TrainedModel};
use crate::model;
use crate::recipe::{IMAGE_SIZES, ModelName, Recipe};

/// Raised when a reader of the old files would misread the new ones.
const FORMAT_VERSION: u32 = 1;

/// Lies as JSON in a `.safetensors` file's metadata under the key `lockstep`, and in a `.pth` file's record
/// `lockstep.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub format: u32,
    pub lockstep_version: String,
    /// Torchvision's name of the network.
    pub model: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Pixels per side.
    pub image_size: u32,
    pub normalisation: Normalisation,
    /// The TOML text.
    #[serde(default)]
    pub recipe: Option<String>,
    #[serde(default)]
    pub metrics: Value,
    pub source: Origin,
}

/// Of pixels in 0..1, per channel (red, green, blue).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// Where a model's numbers come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// `best` or `last`, of the run's checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Whether it is the running average of the weights.
    #[serde(default)]
    pub ema: bool,
    /// The name of the file, of a model that came from one without a description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Description {
    #[must_use]
    pub fn of(trained: &TrainedModel) -> Self {
        Self {
            format: FORMAT_VERSION,
            lockstep_version: env!("CARGO_PKG_VERSION").to_owned(),
            model: trained.model.to_string(),
            classes: trained.classes.clone(),
            image_size: trained.image_size,
            normalisation: Normalisation { mean: trained.mean, std: trained.std },
            recipe: trained.recipe.as_ref().map(Recipe::to_toml),
            metrics: trained.metrics.clone(),
            source: trained.origin.clone(),
        }
    }

    /// Reads it back and compares it with the weights beside it: `model`'s, with `outputs` of the head.
    pub(super) fn parse(
        text: &str,
        path: &Path,
        model: ModelName,
        outputs: u32,
    ) -> Result<Self, TrainedError> {
        let wrong = |reason: String| TrainedError::Description { path: path.to_owned(), reason };
        let description: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let Self { format, classes, image_size, normalisation: Normalisation { mean, std }, .. } =
            &description;
        if *format != FORMAT_VERSION {
            return Err(wrong(format!("its format is {format}, and this version reads {FORMAT_VERSION}")));
        }
        if model::by_name(&description.model) != Some(model) {
            return Err(wrong(format!("it says {} and holds a {model}", description.model)));
        }
        if classes.len() != outputs as usize {
            return Err(wrong(format!("it names {} classes, and its head has {outputs}", classes.len())));
        }
        if !IMAGE_SIZES.contains(image_size) {
            let (least, most) = (IMAGE_SIZES.start(), IMAGE_SIZES.end());
            return Err(wrong(format!("its picture size is {image_size}, expected {least} to {most}")));
        }
        if !mean.iter().all(|value| value.is_finite())
            || !std.iter().all(|value| *value > 0.0 && value.is_finite())
        {
            return Err(wrong("its normalisation is none".to_owned()));
        }
        Ok(description)
    }
}
