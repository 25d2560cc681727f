//! What a run takes in: its data set and its initial weights, found and checked before anything is made.

use lockstep_core::Origin;

use super::{PrepareError, Tell};
use crate::convert::{PlanError, SampleCounts};
use crate::data::{self, DataRequest, ResolvedData};
use crate::home::Home;
use crate::recipe::Recipe;
use crate::weights;

/// Finds the recipe's data set, or makes it.
pub fn resolve_data(recipe: &Recipe, home: &Home, tell: &dyn Tell) -> Result<ResolvedData, PrepareError> {
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
    let data = data::resolve(&request, &home.blobs, tell.progress())?;
    for note in &data.notes {
        tell.note(&format!("data: {note}"));
    }
    Ok(data)
}

/// Sees to it that the bytes of the data set that a run began with lie in the cache: if they do not, they are made again.
///
/// # Errors
///
/// What is made now is something else; `instead` says what can be done besides bringing the old files back.
pub fn bring_back_data(
    origin: &Origin,
    recipe: &Recipe,
    home: &Home,
    instead: &str,
    tell: &dyn Tell,
) -> Result<(), PrepareError> {
    if home.blobs.verify(&origin.data_digest)? {
        return Ok(());
    }
    tell.note("note: the run's data set is not in the cache any more, and is made again");
    if resolve_data(recipe, home, tell)?.digest == origin.data_digest {
        return Ok(());
    }
    Err(PrepareError::Changed { what: "the data set", instead: instead.to_owned() })
}

/// The data set and weights that the run began with must lie whole in the cache, or be made again with the same digest.
pub(super) fn bring_back(
    origin: &Origin,
    recipe: &Recipe,
    home: &Home,
    tell: &dyn Tell,
) -> Result<(), PrepareError> {
    const INSTEAD: &str = "start a new run";
    bring_back_data(origin, recipe, home, INSTEAD, tell)?;
    if let Some(digest) = &origin.weights_digest
        && !home.blobs.verify(digest)?
        && resolve_weights(recipe, origin.classes.len(), home, tell)?.as_ref() != Some(digest)
    {
        return Err(PrepareError::Changed { what: "the weights file", instead: INSTEAD.to_owned() });
    }
    Ok(())
}

/// Takes the initial weights into the cache and tells what there is to know about them.
pub(super) fn resolve_weights(
    recipe: &Recipe,
    classes: usize,
    home: &Home,
    tell: &dyn Tell,
) -> Result<Option<String>, PrepareError> {
    let model = &recipe.model;
    let resolved =
        weights::resolve(&model.weights, model.name, classes as u32, &home.blobs, tell.progress())?;
    Ok(resolved.map(|resolved| {
        resolved.notes.iter().for_each(|note| tell.note(&format!("weights: {note}")));
        resolved.digest
    }))
}

/// How many samples the recipe takes of `data`.
pub fn sample_counts(recipe: &Recipe, data: &ResolvedData) -> Result<SampleCounts, PlanError> {
    SampleCounts::new(recipe, data.train as u32, data.test as u32)
}
