//! What the session tells the trainer, and what the trainer tells the session: plain values over a channel, so that
//! neither knows how the other works.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use crate::collective::{Cancel, Listener};
use crate::plan::{Position, Split};

use super::metrics::{BlockMetrics, Metrics};

/// What the session asks for.
#[derive(Debug)]
pub enum Command {
    /// Have no generation under way, and show in the [`Pulse`] that this one is prepared. The session has raised the
    /// flag of the one under way, or cancelled it.
    Prepare {
        generation: u64,
    },
    Begin(Box<Begin>),
    Verdict(Verdict),
    Evaluate(Evaluate),
}

impl Command {
    /// The generation that it is about.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Prepare { generation } => *generation,
            Self::Begin(begin) => begin.generation,
            Self::Verdict(verdict) => verdict.generation,
            Self::Evaluate(order) => order.generation,
        }
    }
}

/// Take part in a generation.
#[derive(Debug)]
pub struct Begin {
    pub generation: u64,
    pub rank: usize,
    /// By rank, this member included.
    pub peers: Vec<Peer>,
    /// Known to the members only.
    pub token: Vec<u8>,
    pub position: Position,
    pub start: Start,
    /// The epoch that ended at `position` is decided on: the verdict comes without another evaluation.
    pub judged: bool,
    /// Rank 0 uploads a checkpoint of `position` first.
    pub save: bool,
    /// Nothing is left to train: get ready, then wait for what comes.
    pub hold: bool,
    pub listener: Arc<Listener>,
    /// Raised when all are to pause after a step.
    pub pause: Arc<AtomicBool>,
    /// Cancelled when the generation is over at once.
    pub cancel: Cancel,
}

/// Where the replica comes from. A member that stands at the position already keeps its own.
#[derive(Debug)]
pub enum Start {
    /// By the seed, and the initial weights where there are some.
    Initial,
    Checkpoint(CheckpointFiles),
    /// This rank sends its state to the peers that have none.
    Peer(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// host:port of its data plane.
    pub address: String,
    pub shards: Range<u32>,
    /// Its replica stands at the position already.
    pub has_state: bool,
}

/// A stored checkpoint's files, verified by who fetched them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFiles {
    pub model: Vec<u8>,
    pub optimizer: Vec<u8>,
}

/// The word on an epoch. In this order: restore, save, then go on or hold.
#[derive(Debug)]
pub struct Verdict {
    pub generation: u64,
    pub epoch: u32,
    /// The model file of the checkpoint to go back to; the optimizer keeps its state.
    pub restore: Option<Vec<u8>>,
    pub save: bool,
    /// Every member keeps this checkpoint until it is stored, see [`Kept`].
    pub keep: bool,
    pub hold: bool,
}

/// Evaluate a split with these weights.
#[derive(Debug)]
pub struct Evaluate {
    pub generation: u64,
    pub split: Split,
    /// A model file.
    pub weights: Vec<u8>,
}

/// What the trainer has to say.
#[derive(Debug)]
pub enum Report {
    /// Nothing waits for it; it may be dropped.
    Progress(Progress),
    Epoch(EpochReport),
    Eval(EvalReport),
    /// The generation's first step is made, or all is ready where there is nothing to step.
    Started(Started),
    /// By rank 0, when it becomes another.
    Prefix(PrefixTold),
    Snapshot(Snapshot),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    pub generation: u64,
    /// After the last finished step.
    pub position: Position,
    /// Of the epoch so far, over all shards.
    pub train: Metrics,
    /// Mean of the steps since the last report.
    pub step_ms: f64,
    /// Of which waiting for and moving gradients.
    pub exchange_ms: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    pub generation: u64,
    /// The one that ended.
    pub epoch: u32,
    /// The next one's start.
    pub position: Position,
    pub learning_rate: f64,
    pub train: Metrics,
    pub ledger: Ledger,
    pub split: Split,
    /// This member's.
    pub blocks: Vec<BlockMetrics>,
    /// The same blocks with the weights' running average; empty where there is none.
    pub ema_blocks: Vec<BlockMetrics>,
    pub weights_digest: [u8; 32],
    pub train_ms: u64,
    pub eval_ms: u64,
    pub peak_memory_bytes: u64,
}

/// What became of an epoch's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    pub expected: u64,
    /// Distinct samples.
    pub seen: u64,
    pub lost: u64,
    pub repeated: u64,
    /// Of a last short batch that was too small for the shards.
    pub dropped: u64,
    pub digest: [u8; 32],
}

#[derive(Debug, Clone, PartialEq)]
pub struct EvalReport {
    pub generation: u64,
    pub split: Split,
    pub blocks: Vec<BlockMetrics>,
    pub eval_ms: u64,
}

/// What the start of a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    pub generation: u64,
    pub connect_ms: u64,
    /// To send, receive or load the replica's state.
    pub state_ms: u64,
    /// From there to the end of the first step; 0 where there is nothing to step.
    pub first_step_ms: u64,
}

/// What becomes of the frozen prefix from here on, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixTold {
    pub generation: u64,
    pub line: String,
}

/// A checkpoint on its way to the coordinator. Its bytes follow from its position alone, whoever saves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub position: Position,
    pub files: Arc<CheckpointFiles>,
}

/// The best model's checkpoint, which every member keeps until it is stored: whoever dies, it is not lost as long as one
/// of them lives. The trainer puts it there, the session takes it away.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<Option<Snapshot>>>);

impl Kept {
    pub fn keep(&self, snapshot: Option<Snapshot>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    #[must_use]
    pub fn get(&self) -> Option<Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is stored.
    pub fn release(&self, step: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|kept| kept.position.step == step) {
            *kept = None;
        }
    }
}

impl fmt::Debug for Snapshot {
    /// Without the bytes: there may be hundreds of millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position).finish_non_exhaustive()
    }
}

/// The session has ended; there is nobody to report to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct SessionGone;

/// How reports leave. It may block on a snapshot while several that must be stored wait, on the rest hardly ever.
pub struct Reporter(Box<dyn Fn(Report) -> Result<(), SessionGone> + Send>);

impl Reporter {
    pub fn new(report: impl Fn(Report) -> Result<(), SessionGone> + Send + 'static) -> Self {
        Self(Box::new(report))
    }

    /// # Errors
    /// [`SessionGone`]; the trainer then ends.
    pub fn report(&self, report: Report) -> Result<(), SessionGone> {
        (self.0)(report)
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}
