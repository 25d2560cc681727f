//! What the coordinator says, in this crate's own words. Every order may come more than once.

use std::time::Duration;

use crate::plan::{Plan, Position, Split};
use crate::trainer::Peer;

/// What becomes of a worker that has joined.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A run wants it.
    Welcome(Box<Welcome>),
    /// No run needs it now. Another answer follows on the same session.
    Pooled(Pooled),
    /// Nothing ever will.
    Finish(FinishOrder),
}

/// Admitted to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    pub plan: Plan,
    /// The coordinator's.
    pub term: u64,
    /// A worker that is not heard of for so long is lost.
    pub lease: Duration,
    /// The coordinator wants to have what this worker logs.
    pub keep_logs: bool,
}

/// One of those that wait for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooled {
    /// As in [`Welcome`].
    pub keep_logs: bool,
    /// There may always be another run: it waits, however long the coordinator is away.
    pub stand_by: bool,
}

/// A word on an open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Pause: at the next boundary that all members share, or `now`.
    Prepare {
        generation: u64,
        now: bool,
    },
    Begin(BeginOrder),
    Verdict(VerdictOrder),
    Evaluate(EvaluateOrder),
    /// The checkpoint of this step is durable.
    Stored {
        step: u64,
    },
    Finish(FinishOrder),
}

/// The session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishOrder {
    pub reason: String,
    /// Begin again as a new process, for the run that comes next.
    pub stand_by: bool,
}

/// Take part in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginOrder {
    pub generation: u64,
    pub rank: usize,
    /// By rank.
    pub peers: Vec<Peer>,
    pub token: Vec<u8>,
    pub position: Position,
    pub from: StartFrom,
    pub judged: bool,
    pub save: bool,
    pub hold: bool,
}

/// Where the replicas come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    Initial,
    /// The stored checkpoint of this step.
    Checkpoint(u64),
    /// The member of this rank.
    Peer(usize),
}

/// On an epoch: restore, save, then go on or hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictOrder {
    pub generation: u64,
    pub epoch: u32,
    pub restore_step: Option<u64>,
    pub save: bool,
    pub keep: bool,
    pub hold: bool,
}

/// Evaluate with the weights of a stored checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluateOrder {
    pub generation: u64,
    pub split: Split,
    pub weights_step: u64,
}
