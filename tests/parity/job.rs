//! One training, told to both sides: as a recipe to Lockstep, as JSON to the reference.

use std::path::{Path, PathBuf};

use lockstep_worker::data::order;
use serde_json::{Value, json};

use crate::reference::Reference;
use crate::settings::{Group, Optimizer, Schedule, Units};

/// Of the sample order and the validation split.
const SEED: u64 = 7;

/// The settings in which trainings differ.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) model: &'static str,
    /// The end of the name of a file of the fixtures, `.safetensors`; none: from the seed.
    pub(crate) weights: Option<&'static str>,
    /// The first so many training samples, validation included.
    pub(crate) train: u32,
    pub(crate) validation: u32,
    pub(crate) batch: u32,
    pub(crate) epochs: u32,
    pub(crate) image_size: u32,
    pub(crate) normalize: &'static str,
    pub(crate) trainable: &'static [&'static str],
    /// From an epoch on these too.
    pub(crate) unfrozen: Option<(u32, &'static [&'static str])>,
    pub(crate) frozen_batch_norm: &'static str,
    pub(crate) groups: &'static [Group],
    pub(crate) optimizer: Optimizer,
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
    pub(crate) decay_norm_and_bias: bool,
    pub(crate) schedule: Schedule,
    pub(crate) per_step: bool,
    /// Epochs, and the share of the rate that they begin with.
    pub(crate) warmup: (u32, f64),
    pub(crate) label_smoothing: f64,
    /// 0: none.
    pub(crate) clip_norm: f64,
    /// Parts of a step that are computed one after another.
    pub(crate) accumulate: u32,
    /// 0: no running average is kept.
    pub(crate) ema_decay: f64,
}

impl Job {
    /// Full fine-tuning of `model`: two epochs of ten steps.
    pub(crate) fn full(model: &'static str) -> Self {
        Self {
            model,
            weights: Some(".safetensors"),
            train: 120,
            validation: 40,
            batch: 8,
            epochs: 2,
            image_size: 32,
            normalize: "half",
            trainable: &["*"],
            unfrozen: None,
            frozen_batch_norm: "eval",
            groups: &[],
            optimizer: Optimizer::Sgd { nesterov: false },
            lr: 0.01,
            weight_decay: 0.0,
            decay_norm_and_bias: true,
            schedule: Schedule::Cosine { t_max: 4 },
            per_step: false,
            warmup: (0, 0.01),
            label_smoothing: 0.0,
            clip_norm: 0.0,
            accumulate: 1,
            ema_decay: 0.0,
        }
    }

    /// As `--set` arguments.
    pub(crate) fn recipe(&self, reference: &Reference) -> Vec<String> {
        let weights = self.weights.map_or("none".into(), |end| self.fixture(reference, end));
        let mut settings = vec![
            format!("seed={SEED}"),
            format!("batch={}", self.batch),
            "shards=1".to_owned(),
            format!("epochs={}", self.epochs),
            "precision=\"fp32\"".to_owned(),
            "threads=1".to_owned(),
            "data.name=\"cifar10\"".to_owned(),
            format!("data.path=\"{}\"", reference.fixtures.join("pictures").display()),
            format!("data.train={}", self.train),
            format!("data.validation={}", self.validation),
            format!("data.image_size={}", self.image_size),
            format!("data.normalize=\"{}\"", self.normalize),
            format!("model.name=\"{}\"", self.model),
            format!("model.weights=\"{}\"", weights.display()),
            format!("train.trainable={:?}", self.trainable),
            format!("train.frozen_batch_norm=\"{}\"", self.frozen_batch_norm),
            format!("train.label_smoothing={:?}", self.label_smoothing),
            format!("train.clip_norm={:?}", self.clip_norm),
            format!("train.accumulate={}", self.accumulate),
            format!("train.ema_decay={:?}", self.ema_decay),
            format!("optimizer.lr={:?}", self.lr),
            format!("optimizer.weight_decay={:?}", self.weight_decay),
            format!("optimizer.decay_norm_and_bias={}", self.decay_norm_and_bias),
            format!("schedule.per=\"{}\"", if self.per_step { "step" } else { "epoch" }),
            format!("schedule.warmup_epochs={}", self.warmup.0),
            format!("schedule.warmup_start={:?}", self.warmup.1),
            "select.split=\"val\"".to_owned(),
        ];
        if let Some((epoch, patterns)) = self.unfrozen {
            settings.push(format!("train.unfreeze_at={{ epoch = {epoch}, patterns = {patterns:?} }}"));
        }
        if !self.groups.is_empty() {
            let groups: Vec<String> = self.groups.iter().map(Group::recipe).collect();
            settings.push(format!("train.group=[{}]", groups.join(", ")));
        }
        settings.extend(self.optimizer.recipe());
        settings.extend(self.schedule.recipe());
        settings
    }

    /// As `reference train` takes it, with the samples of every step spelled out. The values that Lockstep came to lie in
    /// `found`, their running average, if it kept one, in `found_average`.
    pub(crate) fn reference(
        &self,
        reference: &Reference,
        found: &Path,
        found_average: Option<&Path>,
    ) -> Value {
        let epochs: Vec<_> = (0..self.epochs).map(|epoch| self.steps(epoch)).collect();
        let unit = if self.per_step { epochs[0].len() } else { 1 };
        let units =
            Units { per_epoch: unit, total: unit * epochs.len(), warmup: unit * self.warmup.0 as usize };
        let (optimizer, optimizer_settings) = self.optimizer.reference();
        let (schedule, schedule_settings) = self.schedule.reference(&units);
        let mut phases = vec![json!([0, self.trainable])];
        phases.extend(self.unfrozen.map(|(epoch, patterns)| json!([epoch, patterns])));
        json!({
            "pictures": reference.fixtures.join("pictures"),
            "weights": self.fixture(reference, ".safetensors"),
            "found": found,
            "found_average": found_average,
            "model": self.model,
            "image_size": self.image_size,
            "normalize": self.normalize,
            "phases": phases,
            "frozen_batch_norm": self.frozen_batch_norm,
            "groups": self.groups.iter().map(Group::reference).collect::<Vec<_>>(),
            "optimizer": optimizer,
            "optimizer_settings": optimizer_settings,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "decay_norm_and_bias": self.decay_norm_and_bias,
            "schedule": schedule,
            "schedule_settings": schedule_settings,
            "per_step": self.per_step,
            "units": units.total,
            "warmup": units.warmup,
            "warmup_start": self.warmup.1,
            "label_smoothing": self.label_smoothing,
            "clip_norm": self.clip_norm,
            "accumulate": self.accumulate,
            "ema_decay": self.ema_decay,
            "epochs": epochs,
        })
    }

    /// Steps of the whole run.
    pub(crate) fn step_count(&self) -> usize {
        (0..self.epochs).map(|epoch| self.steps(epoch).len()).sum()
    }

    /// The ids of the validation samples.
    pub(crate) fn validation_ids(&self) -> Vec<u32> {
        order::split(SEED, self.train, self.validation).1
    }

    fn fixture(&self, reference: &Reference, end: &str) -> PathBuf {
        reference.fixtures.join(format!("{}{end}", self.model))
    }

    /// The ids that each step of `epoch` visits.
    fn steps(&self, epoch: u32) -> Vec<Vec<u32>> {
        let (train, _) = order::split(SEED, self.train, self.validation);
        let order = order::permutation(SEED, epoch, &train);
        let cut = order::step_slices(self.batch, 1, self.train - self.validation);
        (0..cut.steps()).filter_map(|step| cut.step(step)).map(|range| order[range].to_vec()).collect()
    }
}
