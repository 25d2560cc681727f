//! A run's settings, as far as a worker needs them: checked once when they arrive, plain values from then on.
//!
//! Own types, so that the wire's stop at the client and the trainer can be driven by tests without a wire.

use std::num::{NonZeroU32, NonZeroU64};

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
    /// Steps between checkpoints within an epoch; none: at epochs' ends only.
    pub checkpoint_every_steps: Option<NonZeroU64>,
    pub data: DataPlan,
    pub model: ModelPlan,
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
    /// Globs on parameter names.
    pub trainable: Vec<String>,
    /// Whether BatchNorm layers that are not trained normalise by the batch and move their running statistics.
    pub frozen_batch_norm_trains: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerPlan {
    Sgd { lr: f64, momentum: f64, weight_decay: f64, nesterov: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulePlan {
    Cosine { t_max: NonZeroU32 },
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
    Plan {
        run: "run".to_owned(),
        seed: 7,
        batch: positive(8),
        shards: positive(2),
        epochs: 1,
        steps_per_epoch: 2,
        threads: positive(1),
        checkpoint_every_steps: None,
        data: DataPlan {
            digest: "0".repeat(64),
            train_samples: 16,
            test_samples: 6,
            validation_samples: 0,
            classes: 3,
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
        },
        model: ModelPlan {
            name: "resnet18".to_owned(),
            weights_digest: None,
            trainable: vec!["*".to_owned()],
            frozen_batch_norm_trains: false,
        },
        optimizer: OptimizerPlan::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0, nesterov: false },
        schedule: SchedulePlan::Cosine { t_max: positive(4) },
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
