//! What a run takes in: its data set and its initial weights, found and checked before anything is made.

use super::console::DownloadBar;
use super::home::Home;
use super::{CliError, code};
use crate::convert::{self, SampleCounts};
use crate::data::{self, DataRequest, ResolvedData};
use crate::recipe::{ModelName, Recipe, parameter_names};

pub(super) fn resolve_data(recipe: &Recipe, home: &Home) -> Result<ResolvedData, CliError> {
    let request = DataRequest {
        name: recipe.data.name,
        path: recipe.data.path.clone(),
        train: recipe.data.train.map(|count| count as usize),
        test: recipe.data.test.map(|count| count as usize),
        seed: recipe.seed,
    };
    Ok(data::resolve(&request, &home.blobs, &DownloadBar::default())?)
}

/// Takes the initial weights into the cache.
pub(super) fn resolve_weights(recipe: &Recipe, home: &Home) -> Result<Option<String>, CliError> {
    let Some(path) = recipe.model.weights.file() else { return Ok(None) };
    let cannot = |reason: String| {
        CliError::new(code::DATA, format!("the weights {} cannot be used: {reason}", path.display()))
            .hint("model.weights is \"none\" or a torchvision state dict as a .safetensors file")
    };
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| cannot(error.to_string()))?;
    fits(&file, recipe.model.name).map_err(cannot)?;
    home.blobs.insert_bytes(&bytes).map(Some).map_err(|error| cannot(error.to_string()))
}

/// Whether a state dict has the names of `model`'s. Shapes are the workers' to check.
fn fits(file: &safetensors::SafeTensors<'_>, model: ModelName) -> Result<(), String> {
    let parameters = parameter_names(model);
    if let Some(missing) = parameters.iter().find(|name| file.tensor(name).is_err()) {
        return Err(format!("{model} has a tensor {missing}, and the file has none of that name"));
    }
    let buffer = |name: &str| {
        let kinds = ["running_mean", "running_var", "num_batches_tracked"];
        let layer = name.rsplit_once('.').filter(|(_, kind)| kinds.contains(kind)).map(|(layer, _)| layer);
        layer.is_some_and(|layer| parameters.contains(&format!("{layer}.weight")))
    };
    let names = file.names();
    match names
        .into_iter()
        .find(|name| !buffer(name) && !parameters.iter().any(|parameter| parameter == name))
    {
        Some(stranger) => Err(format!("the file has a tensor {stranger}, and {model} has none of that name")),
        None => Ok(()),
    }
}

pub(super) fn sample_counts(recipe: &Recipe, data: &ResolvedData) -> Result<SampleCounts, CliError> {
    SampleCounts::new(recipe, data.train as u32, data.test as u32).map_err(|error| plan_error(&error))
}

pub(super) fn plan_error(error: &convert::PlanError) -> CliError {
    CliError::new(code::USAGE, error.to_string())
        .hint("change batch, shards, data.train, data.test or data.validation")
}
