//! From a recipe and its data to what the core decides by and what the workers do.

use lockstep_core::{Restore, RunSpec, SelectSpec, Split, WorkerBounds};
use lockstep_proto::v1 as pb;
use thiserror::Error;

use super::settings;
use crate::recipe::{self, Recipe, SelectSplit};

/// Samples of one evaluation block. Part of a run's arithmetic (losses are summed block by block), so it is in the
/// plan and never changes under a run; small enough that a few hundred samples still spread over workers.
pub(crate) const EVAL_BLOCK: u32 = 250;

/// Workers load libtorch and may first fetch the data set; a crowded machine takes its time.
const JOIN_TIMEOUT_MS: u64 = 120_000;

/// How many samples a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleCounts {
    /// Validation included.
    pub train: u32,
    pub test: u32,
    pub validation: u32,
}

/// A recipe that its data set does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("data.validation takes {validation} of {train} training samples and leaves none")]
    Validation { validation: u32, train: u32 },
    #[error("a step of batch = {batch} in shards = {shards} needs more than the {samples} training samples")]
    NoStep { batch: u32, shards: u32, samples: u32 },
    #[error("the {} split has no samples, and select.split = \"{}\" needs some", .0.as_str(), .0.as_str())]
    NothingToSelectOn(Split),
}

impl SampleCounts {
    /// Of `recipe` on a data set with `train` and `test` samples to use.
    pub fn new(recipe: &Recipe, train: u32, test: u32) -> Result<Self, PlanError> {
        let validation = recipe.data.validation.samples(train);
        if validation >= train {
            return Err(PlanError::Validation { validation, train });
        }
        Ok(Self { train, test, validation })
    }

    /// Steps of an epoch. A last short batch counts when every shard gets at least two samples of it.
    fn steps_per_epoch(self, batch: u32, shards: u32) -> u64 {
        let samples = self.train - self.validation;
        u64::from(samples / batch + u32::from(samples % batch >= 2 * shards))
    }
}

/// What the core decides by.
pub fn run_spec(recipe: &Recipe, samples: SampleCounts, workers: WorkerBounds) -> Result<RunSpec, PlanError> {
    let Recipe { batch, shards, .. } = *recipe;
    let steps_per_epoch = samples.steps_per_epoch(batch, shards);
    if steps_per_epoch == 0 {
        return Err(PlanError::NoStep { batch, shards, samples: samples.train - samples.validation });
    }
    let split = split(recipe);
    let eval_samples = if split == Split::Test { samples.test } else { samples.validation };
    if eval_samples == 0 {
        return Err(PlanError::NothingToSelectOn(split));
    }
    Ok(RunSpec {
        workers,
        shards,
        epochs: recipe.epochs,
        steps_per_epoch,
        eval_samples: u64::from(eval_samples),
        test_samples: u64::from(samples.test),
        eval_block: EVAL_BLOCK,
        select: SelectSpec {
            split,
            restore: match recipe.select.restore {
                recipe::Restore::Never => Restore::Never,
                recipe::Restore::End => Restore::End,
                recipe::Restore::Epoch => Restore::Epoch,
            },
            patience: recipe.select.patience,
        },
        ema: recipe.train.ema_decay > 0.0,
        keep: recipe.checkpoint.keep,
        join_timeout_ms: JOIN_TIMEOUT_MS,
        lease_ms: u64::from(recipe.lease_ms),
    })
}

/// What the workers do.
pub(crate) fn plan(
    run: &str,
    recipe: &Recipe,
    samples: SampleCounts,
    spec: &RunSpec,
    origin: &lockstep_core::Origin,
) -> pb::Plan {
    let (mean, std) = recipe.data.normalize.mean_std();
    pb::Plan {
        run: run.to_owned(),
        seed: recipe.seed,
        batch: recipe.batch,
        shards: recipe.shards,
        epochs: spec.epochs,
        steps_per_epoch: spec.steps_per_epoch,
        threads: recipe.threads,
        precision: settings::precision(recipe.precision).into(),
        prefix_cache: settings::prefix_cache(&recipe.cache).into(),
        exact: recipe.exact,
        checkpoint_every_steps: recipe.checkpoint.every_steps,
        data: Some(pb::DataPlan {
            digest: origin.data_digest.clone(),
            train_samples: samples.train,
            test_samples: samples.test,
            validation_samples: samples.validation,
            classes: origin.classes.len() as u32,
            image_size: recipe.data.image_size,
            mean: mean.to_vec(),
            std: std.to_vec(),
        }),
        augment: Some(settings::augment(&recipe.augment)),
        model: Some(pb::ModelPlan {
            name: recipe.model.name.to_string(),
            weights_digest: origin.weights_digest.clone().unwrap_or_default(),
        }),
        train: Some(settings::train(recipe)),
        optimizer: Some(settings::optimizer(&recipe.optimizer)),
        schedule: Some(settings::schedule(&recipe.schedule)),
        eval_split: super::split_pb(spec.select.split).into(),
        eval_block: spec.eval_block,
    }
}

fn split(recipe: &Recipe) -> Split {
    match recipe.select.split {
        SelectSplit::Val => Split::Val,
        SelectSplit::Test => Split::Test,
    }
}
