//! The recipes of these tests, and what an undisturbed run of each leaves.
//!
//! Small pictures and a small ResNet: an epoch is a few steps of a few tenths of a second.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::home::Home;
use crate::process::{Ended, Running};
use crate::run_files::Outcome;

/// Settings, and the undisturbed run of them once somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) settings: &'static [&'static str],
    undisturbed: OnceLock<Finished>,
}

/// What a run left when it was done.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) status: Value,
    pub(crate) events: Vec<Value>,
    /// sha256 of each kept checkpoint's model, by step.
    pub(crate) models: BTreeMap<u64, String>,
    pub(crate) ended: Ended,
}

impl Recipe {
    pub(crate) const fn new(settings: &'static [&'static str]) -> Self {
        Self { settings, undisturbed: OnceLock::new() }
    }

    /// A run by one worker that nothing happened to.
    #[track_caller]
    pub(crate) fn undisturbed(&self) -> &Finished {
        self.undisturbed.get_or_init(|| self.run(1))
    }

    /// The settings with `more`, which win.
    pub(crate) fn with(&self, more: &[&'static str]) -> Vec<&'static str> {
        [self.settings, more].concat()
    }

    /// Starts a run with checkpoints every other step, and returns when one of `step` or later is there.
    pub(crate) fn until_stored(&self, home: &Home, workers: u32, step: u64) -> Running {
        let settings = self.with(&["checkpoint.every_steps=2", "checkpoint.keep=9"]);
        let mut running = Running::start(&mut home.train(workers, &settings));
        running.until(&format!("a checkpoint of step {step} or later"), || home.run().stored(step));
        running
    }

    /// Another run that nothing happens to.
    #[track_caller]
    pub(crate) fn run(&self, workers: u32) -> Finished {
        finished(workers, self.settings)
    }
}

/// Trains `settings` to the end.
#[track_caller]
pub(crate) fn finished(workers: u32, settings: &[&str]) -> Finished {
    let home = Home::new();
    let ended = Running::start(&mut home.train(workers, settings)).wait().expect(0);
    let run = home.run();
    Finished {
        outcome: run.outcome(),
        status: run.status(),
        events: run.events(),
        models: run.models(),
        ended,
    }
}

/// Steps of an epoch of [`FULL`] and [`PARTIAL`]: four of 24 samples and a last one of 6.
pub(crate) const STEPS: u64 = 5;

/// Everything trains, with all that SGD has, over two epochs.
pub(crate) static FULL: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=118",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=24",
    "shards=2",
    "epochs=2",
    "schedule.t_max=4",
    "optimizer.lr=0.01",
    "optimizer.momentum=0.9",
    "optimizer.weight_decay=0.0005",
    "optimizer.nesterov=true",
]);

/// [`FULL`] with activations and convolutions in bfloat16.
pub(crate) static HALF: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=118",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=24",
    "shards=2",
    "epochs=2",
    "schedule.t_max=4",
    "optimizer.lr=0.01",
    "optimizer.momentum=0.9",
    "precision=bf16",
]);

/// Two epochs with everything below the last stage frozen.
pub(crate) static PARTIAL: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=118",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=24",
    "shards=2",
    "epochs=2",
    "schedule.t_max=4",
    "optimizer.lr=0.01",
    "train.trainable=[\"layer4.*\", \"fc.*\"]",
]);

/// One epoch of plain SGD in three shards; the last 5 samples are too few for a step.
pub(crate) static THREE_SHARDS: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=117",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=24",
    "shards=3",
    "epochs=1",
    "optimizer.lr=0.01",
    "optimizer.momentum=0",
]);

/// Steps of an epoch of [`HEAD`].
pub(crate) const HEAD_STEPS: u64 = 4;

/// Three epochs of which the first stays the best: only the head trains, too slowly to change any prediction, yet
/// every epoch's weights are others. Nothing is cached: steps take their time.
pub(crate) static HEAD: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=80",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=16",
    "shards=2",
    "epochs=3",
    "optimizer.lr=1e-8",
    "train.trainable=[\"fc.*\"]",
    "checkpoint.keep=9",
    "cache.prefix=off",
]);

/// Steps of an epoch of [`ELASTIC`].
pub(crate) const ELASTIC_STEPS: u64 = 15;

/// For runs that things happen to: three epochs of four shards whose steps take long enough to be in the middle of one.
/// All layers take part in the backward pass and all running statistics move, yet the gradient is small.
pub(crate) static ELASTIC: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=136",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=8",
    "shards=4",
    "epochs=3",
    "optimizer.lr=0.001",
    "optimizer.momentum=0.9",
    "train.trainable=[\"*bn*\", \"fc.*\"]",
]);

/// [`ELASTIC`] behind a frozen prefix, whose outputs are computed once for pictures seen both ways round. Steps are faster,
/// so there are more of them.
pub(crate) static CACHED: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=136",
    "data.validation=16",
    "data.test=20",
    "augment.flip=0.5",
    "model.name=resnet18",
    "batch=8",
    "shards=4",
    "epochs=6",
    "optimizer.lr=0.001",
    "optimizer.momentum=0.9",
    "train.trainable=[\"layer2.*bn*\", \"layer3.*bn*\", \"layer4.*bn*\", \"fc.*\"]",
]);
