//! The entries of the journal: what happened, for good.
//!
//! They are the journal's rows, the lines of `events.jsonl` and what the console tells. Fields may be added with
//! a default; what stands is never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Epoch, Generation, Metrics, Position, RunSpec, Split, Step, Term, WorkerBounds, WorkerName};

/// One durable fact about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    Created {
        spec: RunSpec,
        origin: Origin,
    },
    /// A coordinator takes the run over: after a crash while its workers went on, or to go on with a run that had
    /// ended or died.
    TakenOver {
        term: Term,
        workers: WorkerBounds,
        epochs: u32,
    },
    /// No worker has the run's newest state any more: it goes on from a checkpoint, from the start where there is none, or
    /// from where a worker that was away stands. Whatever lay beyond is undone.
    Resumed {
        position: Position,
        /// Checkpoints that did not verify.
        damaged: Vec<Step>,
    },
    GenerationBegan {
        generation: Generation,
        members: Vec<MemberEntry>,
        position: Position,
    },
    /// All members of a generation have made their first step in it: what the change cost.
    GenerationStarted(Receipt),
    EpochEnded(EpochRow),
    CheckpointStored(CheckpointEntry),
    CheckpointDeleted {
        step: Step,
    },
    WorkerLost {
        worker: WorkerName,
        generation: Generation,
        reason: String,
        /// The last lines of its log, where they can be read.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        log: Vec<String>,
    },
    /// A worker left on purpose, at a boundary.
    WorkerLeft {
        worker: WorkerName,
        generation: Generation,
    },
    /// A member computes slower than the others, who wait for it.
    Straggler {
        worker: WorkerName,
        generation: Generation,
        /// Its own time for a shard of a step, and the median of the others'.
        shard_ms: f64,
        others_ms: f64,
    },
    /// What becomes of the frozen prefix from here on: what is cached, or why it is not.
    PrefixTold {
        line: String,
    },
    StopRequested,
    /// The test split, once, with the best weights.
    Tested {
        step: Step,
        metrics: Metrics,
    },
    Ended {
        outcome: Outcome,
    },
}

/// What a run is made of, as a resume on another day must find it again. The core only keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The resolved recipe, as TOML.
    pub recipe: String,
    /// sha256, hex, of the canonical data set file.
    pub data_digest: String,
    /// Training samples used, those for validation included.
    pub train_samples: u32,
    pub test_samples: u32,
    /// sha256, hex, of the initial weights' file; none when they come from the seed.
    pub weights_digest: Option<String>,
    /// Class names by label.
    pub classes: Vec<String>,
}

impl Origin {
    /// Of the files that a run cannot go on without: its data set, and its weights where they are a file.
    pub fn digests(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.data_digest).chain(&self.weights_digest)
    }
}

/// Why a generation gave way to the next one, and what that cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub generation: Generation,
    pub cause: Cause,
    /// The worker that it was about, where there is one.
    pub culprit: Option<WorkerName>,
    pub reason: String,
    pub position: Position,
    /// From the last sign of life to the moment when the coordinator knew.
    pub detect_ms: u64,
    /// From there until the members had paused.
    pub halt_ms: u64,
    /// From there until they were told to begin.
    pub agree_ms: u64,
    /// The slowest member's time to connect with all others.
    pub connect_ms: u64,
    /// The slowest member's time to send, receive or load the replica's state.
    pub state_ms: u64,
    /// The slowest member's time from there to the end of the first step.
    pub first_step_ms: u64,
    /// From the last sign of life to the end of the first step.
    pub total_ms: u64,
    /// Steps that had to be computed again, the interrupted one included.
    pub steps_lost: u64,
}

/// Why a generation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The first one of this coordinator's life.
    Start,
    Join,
    Leave,
    /// A worker is dead, silent or stuck.
    Loss,
    /// Connections between members broke; all of them live.
    Link,
    Stop,
}

/// A member of a generation; its rank is its place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    pub worker: WorkerName,
    pub device: String,
    pub host: String,
    pub pid: u32,
    /// First shard and the one after the last.
    pub shards: (u32, u32),
}

/// An epoch's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: Epoch,
    /// Updates done when it ended.
    pub step: Step,
    pub learning_rate: f64,
    pub train: Metrics,
    pub split: Split,
    pub eval: Metrics,
    /// The same split with the weights' running average, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<Metrics>,
    /// Better than every epoch before.
    pub improved: bool,
    /// The checkpoint whose weights were loaded back afterwards.
    pub restored: Option<Step>,
    pub ledger: LedgerRow,
    /// sha256, hex, of every member's replica.
    pub weights_digest: String,
    /// The slowest member's.
    pub train_ms: u64,
    pub eval_ms: u64,
    pub peak_memory_bytes: BTreeMap<WorkerName, u64>,
}

/// What became of an epoch's samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    pub expected: u64,
    /// Distinct samples visited.
    pub seen: u64,
    pub lost: u64,
    pub repeated: u64,
    /// Samples of a last short batch, too small for the shards.
    pub dropped: u64,
    /// sha256, hex, chained over the steps' sample ids.
    pub digest: String,
}

impl LedgerRow {
    /// Every expected sample was visited once.
    pub fn is_exact(&self) -> bool {
        self.seen == self.expected && self.lost == 0 && self.repeated == 0
    }
}

/// A stored checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointEntry {
    pub position: Position,
    pub size_bytes: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    Done { early: bool },
    Stopped { position: Position },
    Failed { reason: String, kind: FailureKind },
}

/// Whose fault a failure is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The run itself: a loss that is not finite, replicas that differ, a checkpoint that cannot be written.
    Run,
    /// Data or weights missing or damaged.
    Data,
    /// A worker or the network.
    Cluster,
    /// This one worker's own: another process may do better.
    Worker,
}
