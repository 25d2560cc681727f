//! What a run takes in: its data set and its initial weights, found and checked before anything is made.

use lockstep_core::Origin;

use super::console::DownloadBar;
use super::home::Home;
use super::{CliError, code};
use crate::convert::{self, SampleCounts};
use crate::data::{self, DataRequest, ResolvedData};
use crate::recipe::Recipe;
use crate::weights;

pub(super) fn resolve_data(recipe: &Recipe, home: &Home) -> Result<ResolvedData, CliError> {
    let request = DataRequest {
        name: recipe.data.name,
        path: recipe.data.path.clone(),
        train: recipe.data.train.map(|count| count as usize),
        test: recipe.data.test.map(|count| count as usize),
        image_size: recipe.data.image_size,
        test_fraction: recipe.data.test_fraction,
        skip_broken: recipe.data.skip_broken,
        seed: recipe.seed,
    };
    let data = data::resolve(&request, &home.blobs, &DownloadBar::default())?;
    for note in &data.notes {
        eprintln!("data: {note}");
    }
    Ok(data)
}

/// Sees to it that the bytes of the data set that a run began with lie in the cache: if they do not, they are made again.
///
/// # Errors
///
/// What is made now is something else; `instead` says what can be done besides bringing the old files back.
pub(super) fn bring_back_data(
    origin: &Origin,
    recipe: &Recipe,
    home: &Home,
    instead: &str,
) -> Result<(), CliError> {
    if is_whole(&origin.data_digest, home)? {
        return Ok(());
    }
    eprintln!("note: the run's data set is not in the cache any more, and is made again");
    if resolve_data(recipe, home)?.digest == origin.data_digest {
        return Ok(());
    }
    Err(CliError::new(code::DATA, "the data set is not what the run began with")
        .hint(format!("bring the old files back, or {instead}")))
}

/// Whether the file of that digest lies in the cache, with the bytes that it should have.
pub(super) fn is_whole(digest: &str, home: &Home) -> Result<bool, CliError> {
    home.blobs.verify(digest).map_err(|error| CliError::new(code::DATA, error.to_string()))
}

/// Takes the initial weights into the cache and tells what there is to know about them.
pub(super) fn resolve_weights(
    recipe: &Recipe,
    classes: usize,
    home: &Home,
) -> Result<Option<String>, CliError> {
    let (model, bar) = (&recipe.model, DownloadBar::default());
    let resolved = weights::resolve(&model.weights, model.name, classes as u32, &home.blobs, &bar)?;
    Ok(resolved.map(|resolved| {
        resolved.notes.iter().for_each(|note| eprintln!("weights: {note}"));
        resolved.digest
    }))
}

pub(super) fn sample_counts(recipe: &Recipe, data: &ResolvedData) -> Result<SampleCounts, CliError> {
    SampleCounts::new(recipe, data.train as u32, data.test as u32).map_err(|error| plan_error(&error))
}

pub(super) fn plan_error(error: &convert::PlanError) -> CliError {
    CliError::new(code::USAGE, error.to_string())
        .hint("change batch, shards, data.train, data.test or data.validation")
}
