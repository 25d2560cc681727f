//! One training, told to both sides: as a recipe to Lockstep, as JSON to the reference.

use std::path::{Path, PathBuf};

use lockstep_worker::data::order;
use serde_json::{Value, json};

use crate::reference::Reference;

/// Of the sample order and the validation split.
const SEED: u64 = 7;

/// The settings in which trainings differ.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) model: &'static str,
    /// From the fixtures' weights, else from the seed.
    pub(crate) has_weights: bool,
    /// The first so many training samples, validation included.
    pub(crate) train: u32,
    pub(crate) validation: u32,
    pub(crate) batch: u32,
    pub(crate) epochs: u32,
    pub(crate) normalize: &'static str,
    pub(crate) trainable: &'static [&'static str],
    pub(crate) frozen_batch_norm: &'static str,
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
    pub(crate) nesterov: bool,
}

const MOMENTUM: f64 = 0.9;
const T_MAX: u32 = 4;

impl Job {
    /// Full fine-tuning of `model` for one epoch of five steps.
    pub(crate) fn full(model: &'static str) -> Self {
        Self {
            model,
            has_weights: true,
            train: 200,
            validation: 40,
            batch: 32,
            epochs: 1,
            normalize: "half",
            trainable: &["*"],
            frozen_batch_norm: "eval",
            lr: 0.01,
            weight_decay: 0.0,
            nesterov: false,
        }
    }

    /// As `--set` arguments.
    pub(crate) fn recipe(&self, reference: &Reference) -> Vec<String> {
        let fixtures = reference.fixtures.display();
        let Self { model, train, validation, batch, epochs, normalize, .. } = self;
        let Self { trainable, frozen_batch_norm, lr, weight_decay, nesterov, .. } = self;
        let weights = if self.has_weights { self.weights(reference) } else { "none".into() };
        vec![
            format!("seed={SEED}"),
            format!("batch={batch}"),
            "shards=1".to_owned(),
            format!("epochs={epochs}"),
            "precision=\"fp32\"".to_owned(),
            "threads=1".to_owned(),
            "data.name=\"cifar10\"".to_owned(),
            format!("data.path=\"{fixtures}/pictures\""),
            format!("data.train={train}"),
            format!("data.validation={validation}"),
            format!("data.normalize=\"{normalize}\""),
            format!("model.name=\"{model}\""),
            format!("model.weights=\"{}\"", weights.display()),
            format!("train.trainable={trainable:?}"),
            format!("train.frozen_batch_norm=\"{frozen_batch_norm}\""),
            format!("optimizer.lr={lr}"),
            format!("optimizer.momentum={MOMENTUM}"),
            format!("optimizer.weight_decay={weight_decay}"),
            format!("optimizer.nesterov={nesterov}"),
            format!("schedule.t_max={T_MAX}"),
            "select.split=\"val\"".to_owned(),
        ]
    }

    /// As `reference.py train` takes it, with the samples of every step spelled out. The values that Lockstep came to
    /// lie in `found`.
    pub(crate) fn reference(&self, reference: &Reference, found: &Path) -> Value {
        json!({
            "pictures": reference.fixtures.join("pictures"),
            "weights": self.weights(reference),
            "found": found,
            "model": self.model,
            "normalize": self.normalize,
            "trainable": self.trainable,
            "frozen_batch_norm": self.frozen_batch_norm,
            "lr": self.lr,
            "momentum": MOMENTUM,
            "weight_decay": self.weight_decay,
            "nesterov": self.nesterov,
            "t_max": T_MAX,
            "epochs": (0..self.epochs).map(|epoch| self.steps(epoch)).collect::<Vec<_>>(),
        })
    }

    /// The ids of the validation samples.
    pub(crate) fn validation_ids(&self) -> Vec<u32> {
        order::split(SEED, self.train, self.validation).1
    }

    fn weights(&self, reference: &Reference) -> PathBuf {
        reference.fixtures.join(format!("{}.safetensors", self.model))
    }

    /// The ids that each step of `epoch` visits.
    fn steps(&self, epoch: u32) -> Vec<Vec<u32>> {
        let (train, _) = order::split(SEED, self.train, self.validation);
        let order = order::permutation(SEED, epoch, &train);
        let cut = order::step_slices(self.batch, 1, self.train - self.validation);
        (0..cut.steps()).filter_map(|step| cut.step(step)).map(|range| order[range].to_vec()).collect()
    }
}
