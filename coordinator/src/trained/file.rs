//! A trained model from a file: one of ours, which tells all of itself, or any ResNet's weights.

use std::path::Path;

use serde_json::Value;

use super::{Description, Origin, TrainedError, TrainedModel};
use crate::data::BlobCache;
use crate::recipe::{Normalize, Recipe};
use crate::weights::{self, LoadedWeights};

/// What torchvision's own weights are used with.
const IMAGE_SIZE: u32 = 224;

pub(super) fn find(path: &Path, cache: &BlobCache) -> Result<TrainedModel, TrainedError> {
    let LoadedWeights { model, classes: outputs, state, description, notes } = weights::load(path, None)?;
    let weights = cache.path(&state.store(cache)?);
    let (mean, std) = Normalize::Imagenet.mean_std();
    let plain = TrainedModel {
        name: path.display().to_string(),
        model,
        classes: (0..outputs).map(|label| label.to_string()).collect(),
        image_size: IMAGE_SIZE,
        mean,
        std,
        weights,
        run: None,
        recipe: None,
        metrics: Value::Null,
        origin: Origin {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()),
            ..Origin::default()
        },
        notes,
    };
    match description {
        Some(text) => described(plain, Description::parse(&text, path, model, outputs)?),
        None => Ok(assumed(plain)),
    }
}

fn described(plain: TrainedModel, description: Description) -> Result<TrainedModel, TrainedError> {
    let mut notes = plain.notes;
    let recipe =
        description.recipe.and_then(|text| match Recipe::from_toml_str(&text, "the file's recipe") {
            Ok(recipe) => Some(recipe),
            // Another version's. Nothing of it is needed to use the model.
            Err(error) => {
                notes.push(format!("the recipe in the file does not read and is left out: {error}"));
                None
            }
        });
    Ok(TrainedModel {
        classes: description.classes,
        image_size: description.image_size,
        mean: description.normalisation.mean,
        std: description.normalisation.std,
        recipe,
        metrics: description.metrics,
        origin: description.source,
        notes,
        ..plain
    })
}

fn assumed(mut plain: TrainedModel) -> TrainedModel {
    plain.notes.push(format!(
        "the file says nothing of itself: a {} with {} classes, which are numbered; pictures of {IMAGE_SIZE} x \
         {IMAGE_SIZE} pixels and ImageNet's statistics are assumed",
        plain.model,
        plain.classes.len(),
    ));
    plain
}
