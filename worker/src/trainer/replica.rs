//! The replica: model, optimizer and schedule as the plan wants them, and how they get their values.

use std::fs;
use std::path::Path;

use tch::{Device, Tensor};
use tracing::info;

use crate::model::{Freezing, FrozenBatchNorm, HeadPolicy, ModelError, ModelSpec, ResNet};
use crate::plan::{OptimizerPlan, Plan, SchedulePlan};

use super::error::TrainerError;
use super::optimizer::{Optimizer, Sgd};
use super::schedule::Schedule;

/// PyTorch's default, which torchvision's ResNets keep.
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// What training changes.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) model: ResNet,
    pub(super) optimizer: Optimizer,
    schedule: Schedule,
}

impl Replica {
    /// As built, without values of use yet.
    pub(super) fn new(plan: &Plan, device: Device) -> Result<Self, TrainerError> {
        let name = plan.model.name.parse().map_err(TrainerError::Model)?;
        let spec = ModelSpec { name, classes: i64::from(plan.data.classes) };
        let frozen_batch_norm = match plan.model.frozen_batch_norm_trains {
            true => FrozenBatchNorm::Train,
            false => FrozenBatchNorm::Eval,
        };
        let freezing = Freezing { trainable: plan.model.trainable.clone(), frozen_batch_norm };
        let model = ResNet::new(spec, &freezing, device).map_err(TrainerError::Model)?;
        let optimizer = match plan.optimizer {
            OptimizerPlan::Sgd { lr, momentum, weight_decay, nesterov } => {
                Optimizer::sgd(Sgd { lr, momentum, weight_decay, nesterov }, model.trainable())
            }
        };
        let schedule = match plan.schedule {
            SchedulePlan::Cosine { t_max } => Schedule::Cosine { t_max },
        };
        Ok(Self { model, optimizer, schedule })
    }

    /// The values of a run's first step: by the seed, over which `weights` are laid where they are given.
    pub(super) fn initialise(&mut self, seed: u64, weights: Option<&Path>) -> Result<(), TrainerError> {
        self.model.init(seed);
        let Some(path) = weights else { return Ok(()) };
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

    /// Parameters and statistics of a checkpoint; the optimizer keeps its state.
    pub(super) fn restore(&mut self, model_file: &[u8]) -> Result<(), TrainerError> {
        self.load_model(model_file, HeadPolicy::Strict, "the checkpoint's model").map(|_| ())
    }

    fn load_model(
        &mut self,
        bytes: &[u8],
        head: HeadPolicy,
        what: &'static str,
    ) -> Result<crate::model::LoadReport, TrainerError> {
        self.model
            .load_safetensors(bytes, head)
            .map_err(|source: ModelError| TrainerError::Weights { what, source })
    }

    pub(super) fn learning_rate(&self, epoch: u32) -> f64 {
        self.schedule.lr(self.optimizer.base_lr(), epoch)
    }

    /// One update: `gradient` is the step's, `statistics` the mean over its shards.
    pub(super) fn update(&mut self, gradient: &Tensor, statistics: &Tensor, learning_rate: f64) {
        self.model.move_statistics(statistics, BATCH_NORM_MOMENTUM);
        self.optimizer.step(self.model.trainable_mut(), gradient, learning_rate);
    }
}
