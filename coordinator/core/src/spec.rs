//! What a run is asked to do, as far as the coordinator's decisions depend on it.

use serde::{Deserialize, Serialize};

use crate::{Epoch, Position, Step};

/// Part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    /// The prefix of its metrics in files: `val/loss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Whether the best weights are loaded back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restore {
    Never,
    /// Once, when training ends.
    End,
    /// After every epoch that did not improve.
    Epoch,
}

/// How the best model is chosen, by top-1 accuracy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectSpec {
    /// The split evaluated after each epoch.
    pub split: Split,
    pub restore: Restore,
    /// Stop after so many epochs without improvement; 0: never.
    pub patience: u32,
}

/// How many workers a run goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerBounds {
    /// With fewer it waits.
    pub min: u32,
    /// So many are waited for at the start, for a while.
    pub start: u32,
    /// More are refused.
    pub max: u32,
}

impl WorkerBounds {
    /// Starts with `workers`, and goes on with whoever is left of them.
    pub fn fixed(workers: u32) -> Self {
        Self { min: 1, start: workers, max: workers }
    }
}

/// A run's settings. All but `workers` and `epochs` stay as they are for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    pub workers: WorkerBounds,
    pub shards: u32,
    pub epochs: u32,
    pub steps_per_epoch: u64,
    /// Samples of the split evaluated after each epoch.
    pub eval_samples: u64,
    /// Samples of the test split, reported once at the end; 0: no test.
    pub test_samples: u64,
    /// Samples of one evaluation block.
    pub eval_block: u32,
    pub select: SelectSpec,
    /// Whether a running average of the weights is kept, and evaluated beside them.
    #[serde(default)]
    pub ema: bool,
    /// Newest checkpoints kept besides the best one as of each, at least 1.
    pub keep: u32,
    /// How long the first workers may take to join and to get ready.
    pub join_timeout_ms: u64,
    /// A worker that is not heard of for so long is lost.
    pub lease_ms: u64,
}

impl RunSpec {
    /// The position at the start of `epoch`.
    pub fn start_of(&self, epoch: Epoch) -> Position {
        Position { epoch, step: Step(u64::from(epoch.0) * self.steps_per_epoch) }
    }
}
