//! What goes into a run and what comes out of it: two closed enums.

use thiserror::Error;

use crate::{
    Entry, Epoch, FailureKind, Generation, LedgerRow, Metrics, Outcome, Position, Split, Step, WorkerName,
};

/// What the outside tells the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Joined {
        worker: WorkerName,
        info: WorkerInfo,
    },
    Prepared {
        worker: WorkerName,
        generation: Generation,
        address: String,
    },
    Progressed {
        worker: WorkerName,
        generation: Generation,
        progress: Progress,
    },
    EpochReported {
        worker: WorkerName,
        generation: Generation,
        report: EpochReport,
    },
    EvalReported {
        worker: WorkerName,
        generation: Generation,
        split: Split,
        blocks: Vec<BlockMetrics>,
    },
    Halted {
        worker: WorkerName,
        generation: Generation,
        position: Position,
    },
    /// A checkpoint is durable under its final name.
    CheckpointStored {
        generation: Generation,
        position: Position,
        size_bytes: u64,
    },
    CheckpointFailed {
        generation: Generation,
        position: Position,
        reason: String,
    },
    /// A worker says why it ends.
    WorkerFailed {
        worker: WorkerName,
        reason: String,
        kind: FailureKind,
    },
    /// A worker's session or process ended without a word.
    WorkerLost {
        worker: WorkerName,
        reason: String,
    },
    StopRequested,
    /// A deadline passed. Spurious ones change nothing.
    Tick,
}

/// What a worker says of itself when it joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerInfo {
    /// `cpu` or `cuda:N`.
    pub device: String,
    pub host: String,
    pub pid: u32,
    pub libtorch_version: String,
}

/// How far a member is, told beside the stepping.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    pub position: Position,
    /// Of the epoch so far.
    pub train: Metrics,
    pub step_ms: f64,
    pub exchange_ms: f64,
}

/// A member's account of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    pub epoch: Epoch,
    pub position: Position,
    pub learning_rate: f64,
    pub train: Metrics,
    pub ledger: LedgerRow,
    pub split: Split,
    /// This member's blocks of `split`.
    pub blocks: Vec<BlockMetrics>,
    /// The same blocks with the weights' running average; empty where none is kept.
    pub ema_blocks: Vec<BlockMetrics>,
    /// sha256, hex, of the replica.
    pub weights_digest: String,
    pub train_ms: u64,
    pub eval_ms: u64,
    pub peak_memory_bytes: u64,
}

/// One evaluation block's sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockMetrics {
    pub block: u32,
    pub metrics: Metrics,
}

/// What the run asks of the outside. Records come before what depends on them; they are made durable before
/// any later effect is carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Record(Entry),
    Send {
        to: WorkerName,
        message: Message,
    },
    /// Point `last` and `best` at these checkpoints.
    Publish {
        last: Step,
        best: Option<Step>,
    },
    DeleteCheckpoint(Step),
    /// The run is over.
    Conclude(Outcome),
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Welcome,
    Prepare { generation: Generation },
    Begin(Begin),
    Verdict(Verdict),
    Evaluate { generation: Generation, split: Split, weights_step: Step },
    Halt { generation: Generation },
    Finish { reason: String },
}

/// A member's place in a generation and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub generation: Generation,
    pub rank: u32,
    /// By rank.
    pub peers: Vec<Peer>,
    pub position: Position,
    /// The stored checkpoint to start from; none: initialise by seed.
    pub checkpoint: Option<Step>,
    /// Nothing is left to train: wait for what comes.
    pub hold: bool,
}

/// A member as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub worker: WorkerName,
    pub address: String,
    /// First shard and the one after the last.
    pub shards: (u32, u32),
}

/// The word on an epoch: restore, save, then go on or hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub generation: Generation,
    pub epoch: Epoch,
    pub restore: Option<Step>,
    pub save: bool,
    pub hold: bool,
}

/// Why a message was not accepted. The run's state is as before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reject {
    #[error("generation {given} is over, the current one is {current}")]
    StaleGeneration { given: Generation, current: Generation },
    #[error("{worker} is not a member of this run")]
    UnknownWorker { worker: WorkerName },
    #[error("a worker named {worker} is in the run already")]
    NameTaken { worker: WorkerName },
    #[error("the run has all of its {workers} workers")]
    Full { workers: u32 },
    #[error("the run is over")]
    RunOver,
    #[error("{worker} sent {message} while the run was {phase}")]
    OutOfPlace { worker: WorkerName, message: &'static str, phase: &'static str },
}
