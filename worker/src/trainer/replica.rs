//! The replica: model, optimizer and schedule as the plan wants them at an epoch, and how they get their values.

use std::fs;
use std::path::Path;

use tch::{Device, Tensor};
use tracing::info;

use super::ema::Ema;
use super::error::TrainerError;
use super::optimizer::{Optimizer, Rates};
use super::phase;
use super::schedule::Schedule;
use super::unmoved::Unmoved;
use crate::model::{
    Freezing, FrozenBatchNorm, HeadPolicy, LoadReport, ModelError, ModelSpec, ResNet, Trainable,
};
use crate::plan::{Plan, Position};

/// PyTorch's default, which torchvision's ResNets keep.
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// What training changes.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) model: ResNet,
    pub(super) optimizer: Optimizer,
    pub(super) ema: Option<Ema>,
    schedule: Schedule,
    /// What reports tell is this times the schedule's factor.
    base_lr: f64,
    /// Index of the plan's phase.
    phase: usize,
    unmoved: Unmoved,
}

impl Replica {
    /// As built for training in `epoch`, without values of use yet.
    pub(super) fn new(plan: &Plan, epoch: u32, device: Device) -> Result<Self, TrainerError> {
        let name = plan.model.name.parse().map_err(TrainerError::Model)?;
        let spec = ModelSpec { name, classes: i64::from(plan.data.classes), precision: plan.precision };
        phase::check(plan, spec)?;
        let index = phase::at(plan, epoch)?;
        let phase = &plan.train.phases[index];
        let frozen_batch_norm = match plan.train.frozen_batch_norm_trains {
            true => FrozenBatchNorm::Train,
            false => FrozenBatchNorm::Eval,
        };
        let trainable = Trainable::Named(phase::names(phase).map(str::to_owned).collect());
        let model = ResNet::new(spec, &Freezing { trainable, frozen_batch_norm }, device)
            .map_err(TrainerError::Model)?;
        let rates = Rates::new(&phase.groups, &model)?;
        let births = phase::births(plan, index, &model);
        let optimizer = Optimizer::new(plan.optimizer.kind, &rates, births, model.trainable());
        let ema = plan.train.ema_decay.map(|decay| Ema::new(decay, &model));
        let (schedule, base_lr) = (Schedule::new(plan), plan.optimizer.lr);
        Ok(Self { model, optimizer, ema, schedule, base_lr, phase: index, unmoved: Unmoved::default() })
    }

    /// The values of a run's first step: by the seed, over which `weights` are laid where they are given.
    pub(super) fn initialise(&mut self, seed: u64, weights: Option<&Path>) -> Result<(), TrainerError> {
        self.model.init(seed);
        self.unmoved = Unmoved::default();
        if let Some(path) = weights {
            self.lay_weights(path)?;
        }
        if let Some(ema) = &mut self.ema {
            ema.restart(&self.model);
        }
        Ok(())
    }

    fn lay_weights(&mut self, path: &Path) -> Result<(), TrainerError> {
        let read = |source| TrainerError::Read { path: path.display().to_string(), source };
        let bytes = fs::read(path).map_err(read)?;
        let report = self.load_model(&bytes, HeadPolicy::ReplaceIfClassesDiffer, "the initial weights")?;
        let classes = self.model.spec().classes;
        if report.replaced_head {
            info!(
                classes,
                "loaded the initial weights; their head has other classes, so a new one starts from the seed"
            );
        } else {
            info!("loaded the initial weights, head included");
        }
        Ok(())
    }

    /// Gets ready for `epoch`. Where a phase of the plan begins with it, the replica is made anew for what that trains;
    /// every value, and the state of what was trained before, comes along to the bit. Tells whether it was.
    pub(super) fn enter(&mut self, plan: &Plan, epoch: u32) -> Result<bool, TrainerError> {
        if phase::at(plan, epoch)? == self.phase {
            return Ok(false);
        }
        let mut next = Self::new(plan, epoch, self.model.device())?;
        next.put_back(&self.model.state())?;
        next.optimizer.load_named_state(&next.model, &self.optimizer.named_state(&self.model))?;
        if let (Some(ema), Some(former)) = (&mut next.ema, &self.ema) {
            ema.load(&next.model, &former.named(&self.model)).map_err(TrainerError::Model)?;
        }
        let parameters = next.model.trainable().numel();
        info!(epoch, parameters, "other parameters are trained from here on");
        *self = next;
        Ok(true)
    }

    /// Parameters and statistics of a checkpoint; the optimizer and the running average keep their state.
    pub(super) fn restore(&mut self, model_file: &[u8]) -> Result<(), TrainerError> {
        self.load_model(model_file, HeadPolicy::Strict, "the checkpoint's model").map(|_| ())
    }

    /// Takes a model's own state.
    pub(super) fn put_back(&mut self, state: &[(String, Tensor)]) -> Result<(), TrainerError> {
        self.unmoved = Unmoved::default();
        self.model.load_state(state, HeadPolicy::Strict).map(|_| ()).map_err(TrainerError::Model)
    }

    /// See [`Unmoved::digest`].
    pub(super) fn frozen_digest(&self) -> [u8; 32] {
        self.unmoved.digest(&self.model)
    }

    /// See [`Unmoved::weights_digest`].
    pub(super) fn weights_digest(&self) -> [u8; 32] {
        self.unmoved.weights_digest(&self.model)
    }

    /// See [`Unmoved::file`].
    pub(super) fn model_file(&self) -> Result<Vec<u8>, ModelError> {
        self.unmoved.file(&self.model)
    }

    fn load_model(
        &mut self,
        bytes: &[u8],
        head: HeadPolicy,
        what: &'static str,
    ) -> Result<LoadReport, TrainerError> {
        self.unmoved = Unmoved::default();
        self.model
            .load_safetensors(bytes, head)
            .map_err(|source: ModelError| TrainerError::Weights { what, source })
    }

    /// The recipe's learning rate at `position`; groups have their own times the same factor.
    pub(super) fn learning_rate(&self, position: Position) -> f64 {
        self.base_lr * self.schedule.factor(position)
    }

    /// The update at `position`: `gradient` is the step's, `statistics` the mean over its shards.
    pub(super) fn update(&mut self, gradient: &Tensor, statistics: &Tensor, position: Position) {
        self.model.move_statistics(statistics, BATCH_NORM_MOMENTUM);
        let factor = self.schedule.factor(position);
        self.optimizer.step(self.model.trainable_mut(), gradient, factor, position.step);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
    }

    /// Shows the model with the running average for weights, where there is one.
    pub(super) fn show_average<R>(&mut self, look: impl FnOnce(&ResNet) -> R) -> Option<R> {
        let ema = self.ema.as_ref()?;
        Some(ema.show(&mut self.model, look))
    }
}
