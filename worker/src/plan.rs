//! A run's settings, as far as a worker needs them: checked once when they arrive, plain values from then on.
//!
//! Own types, so that the wire's stop at the client and the trainer can be driven by tests without a wire.

use std::num::{NonZeroU32, NonZeroU64};

use crate::data::Augment;
use crate::model::Precision;

/// Everything that decides a run's weights, besides the files it names by digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub run: String,
    pub seed: u64,
    /// Samples per step over all shards.
    pub batch: NonZeroU32,
    pub shards: NonZeroU32,
    pub epochs: u32,
    pub steps_per_epoch: u64,
    /// libtorch's intra-op threads: its CPU kernels give other bits with another number.
    pub threads: NonZeroU32,
    pub precision: Precision,
    /// What the layers before the first trained one make of a picture is computed once, where that is the same every time.
    pub caches_prefix: bool,
    /// The same bits on any number of workers, also on GPUs, where another way would be faster.
    pub exact: bool,
    /// Steps between checkpoints within an epoch; none: at epochs' ends only.
    pub checkpoint_every_steps: Option<NonZeroU64>,
    pub data: DataPlan,
    pub augment: Augment,
    pub model: ModelPlan,
    pub train: TrainPlan,
    pub optimizer: OptimizerPlan,
    pub schedule: SchedulePlan,
    /// Evaluated at each epoch's end.
    pub eval_split: Split,
    /// Samples of one evaluation block, whatever the world size.
    pub eval_block: NonZeroU32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DataPlan {
    /// sha256, hex, of the canonical data set file.
    pub digest: String,
    /// The first so many of the file's, validation included.
    pub train_samples: u32,
    pub test_samples: u32,
    /// Carved from the training samples by the seed.
    pub validation_samples: u32,
    pub classes: u32,
    /// Pixels per side that the network sees; stored pictures of another size are resized on the device.
    pub image_size: NonZeroU32,
    /// Per channel, of pixels in 0 to 1.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPlan {
    /// Torchvision's name.
    pub name: String,
    /// sha256, hex, of a safetensors file; none: initialise from the seed.
    pub weights_digest: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrainPlan {
    /// By first epoch, rising; the first one's is 0.
    pub phases: Vec<PhasePlan>,
    /// Whether BatchNorm layers that are not trained normalise by the batch and move their running statistics.
    pub frozen_batch_norm_trains: bool,
    /// Share of the target that is spread over all classes, 0 to below 1.
    pub label_smoothing: f64,
    /// Parts of a shard's slice that are computed one after another.
    pub accumulate: NonZeroU32,
    /// Largest global norm of a step's gradient.
    pub clip_norm: Option<f64>,
    /// Of the running average of the weights.
    pub ema_decay: Option<f64>,
}

/// What is trained from an epoch on.
#[derive(Debug, Clone, PartialEq)]
pub struct PhasePlan {
    pub epoch: u32,
    /// Every trained parameter is in one of them; all others are frozen.
    pub groups: Vec<GroupPlan>,
}

/// Parameters with settings in common.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPlan {
    /// Exact names.
    pub parameters: Vec<String>,
    /// Before the schedule's factor.
    pub lr: f64,
    pub weight_decay: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerPlan {
    /// The recipe's learning rate, which reports tell after the schedule's factor. Groups have their own.
    pub lr: f64,
    pub kind: OptimizerKind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerKind {
    Sgd {
        momentum: f64,
        nesterov: bool,
    },
    /// PyTorch's, with decoupled weight decay.
    AdamW {
        beta1: f64,
        beta2: f64,
        eps: f64,
    },
}

/// A factor on every learning rate, a function of the position alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SchedulePlan {
    pub curve: Curve,
    /// Moves with every step instead of every epoch; lengths count epochs either way.
    pub per_step: bool,
    /// Epochs in which the factor rises linearly to where the curve starts (1; a cycle's 1 / `div_factor`), before it begins.
    pub warmup_epochs: u32,
    /// The factor at the start of the warm-up.
    pub warmup_start: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Curve {
    Constant,
    /// PyTorch's `CosineAnnealingLR(T_max)`, `eta_min` 0, in epochs after the warm-up.
    Cosine {
        t_max: NonZeroU32,
    },
    /// Half a cosine from 1 to 0 over what the run has left after the warm-up.
    CosineToZero,
    /// PyTorch's `StepLR`.
    Step {
        size: NonZeroU32,
        gamma: f64,
    },
    /// PyTorch's `OneCycleLR` with cosine annealing, over what the run has left after the warm-up; the group's rate is its
    /// `max_lr`.
    OneCycle {
        pct_start: f64,
        div_factor: f64,
        final_div_factor: f64,
    },
}

/// Part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    Train,
    Validation,
    Test,
}

/// Where a run stands: `step` optimizer updates are done, the next one belongs to `epoch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// 0-based.
    pub epoch: u32,
    /// Counts over the whole run.
    pub step: u64,
}

impl Plan {
    /// Where `epoch` starts.
    #[must_use]
    pub fn start_of(&self, epoch: u32) -> Position {
        Position { epoch, step: u64::from(epoch) * self.steps_per_epoch }
    }

    /// Whether a checkpoint is due after so many steps. The same on every member, as only rank 0 makes it but all of
    /// them must agree on where checkpoints are.
    #[must_use]
    pub fn is_checkpoint_due(&self, step: u64) -> bool {
        let at_epoch_end = step.is_multiple_of(self.steps_per_epoch);
        self.checkpoint_every_steps.is_some_and(|every| step.is_multiple_of(every.get())) && !at_epoch_end
    }

    /// The files that the run needs besides checkpoints, by digest.
    pub fn blobs(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.data.digest.as_str()).chain(self.model.weights_digest.as_deref())
    }
}

/// A small plan for tests.
#[cfg(test)]
pub(crate) fn sample() -> Plan {
    let positive = |value| NonZeroU32::new(value).unwrap();
    let names = crate::model::ModelSpec::new(crate::model::ModelName::Resnet18, 3);
    let group = GroupPlan { parameters: names.parameter_names(), lr: 0.05, weight_decay: 0.0 };
    Plan {
        run: "run".to_owned(),
        seed: 7,
        batch: positive(8),
        shards: positive(2),
        epochs: 1,
        steps_per_epoch: 2,
        threads: positive(1),
        precision: Precision::Fp32,
        caches_prefix: true,
        exact: true,
        checkpoint_every_steps: None,
        data: DataPlan {
            digest: "0".repeat(64),
            train_samples: 16,
            test_samples: 6,
            validation_samples: 0,
            classes: 3,
            image_size: positive(8),
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
        },
        augment: Augment::default(),
        model: ModelPlan { name: "resnet18".to_owned(), weights_digest: None },
        train: TrainPlan {
            phases: vec![PhasePlan { epoch: 0, groups: vec![group] }],
            frozen_batch_norm_trains: false,
            label_smoothing: 0.0,
            accumulate: positive(1),
            clip_norm: None,
            ema_decay: None,
        },
        optimizer: OptimizerPlan { lr: 0.05, kind: OptimizerKind::Sgd { momentum: 0.9, nesterov: false } },
        schedule: SchedulePlan {
            curve: Curve::Cosine { t_max: positive(4) },
            per_step: false,
            warmup_epochs: 0,
            warmup_start: 0.01,
        },
        eval_split: Split::Test,
        eval_block: positive(4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_within_an_epoch_leave_its_last_step_to_the_verdict() {
        let every =
            |steps| Plan { steps_per_epoch: 6, checkpoint_every_steps: NonZeroU64::new(steps), ..sample() };
        let due = |plan: Plan| (1..=12).filter(|step| plan.is_checkpoint_due(*step)).collect::<Vec<_>>();
        assert_eq!(due(every(2)), [2, 4, 8, 10]);
        assert_eq!(due(every(5)), [5, 10]);
        assert_eq!(due(every(0)), Vec::<u64>::new());
    }
}
