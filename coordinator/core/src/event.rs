//! What goes into a run and what comes out of it: two closed enums.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::{
    Entry, Epoch, FailureKind, Generation, LedgerRow, Metrics, Outcome, Position, Split, Step, Term,
    WorkerName,
};

/// What the outside tells the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session begins: of a new worker, or of one that comes back after its connection broke.
    Joined {
        worker: WorkerName,
        info: WorkerInfo,
        attached: Option<Attached>,
    },
    /// A worker's whole state. It comes again and again, and at once when something in it has changed that somebody may
    /// wait for: whatever is lost on the way is made good by the next one.
    Heartbeat {
        worker: WorkerName,
        heartbeat: Heartbeat,
    },
    Progressed {
        worker: WorkerName,
        generation: Generation,
        progress: Progress,
    },
    /// A member has made its first step in a generation, or has got ready where there is nothing to step.
    Started {
        worker: WorkerName,
        generation: Generation,
        timings: StartTimings,
    },
    /// What becomes of the frozen prefix, in words.
    PrefixTold {
        worker: WorkerName,
        generation: Generation,
        line: String,
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
    /// A checkpoint is durable under its final name.
    CheckpointStored {
        position: Position,
        size_bytes: u64,
    },
    CheckpointFailed {
        position: Position,
        reason: String,
    },
    /// The answer to [`Effect::VerifyCheckpoints`]: which of those that the history knows are whole.
    CheckpointsVerified {
        verified: BTreeSet<Step>,
    },
    /// A worker says why it ends.
    WorkerFailed {
        worker: WorkerName,
        reason: String,
        kind: FailureKind,
    },
    /// A worker's session broke. Its process may live and come back.
    Detached {
        worker: WorkerName,
    },
    /// A worker is gone for certain: its process ended.
    WorkerLost {
        worker: WorkerName,
        reason: String,
    },
    /// The outside cannot go on, e.g. because local workers die over and over: the run fails.
    Abandoned {
        reason: String,
        kind: FailureKind,
    },
    /// Somebody else needs this worker: it is let go at the next boundary, as if it had asked to leave itself.
    LeaveRequested {
        worker: WorkerName,
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
    /// Drawn by each process anew: tells one that comes back from another of the same name.
    pub incarnation: u64,
}

/// What a worker that comes back was told by a coordinator before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attached {
    /// The newest that it has heard of.
    pub term: Term,
}

/// A worker's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heartbeat {
    /// Rises with every one that a process sends; what has been overtaken is passed over.
    pub sequence: u64,
    /// host:port of its data plane; empty until data and weights are at hand.
    pub address: String,
    /// The newest generation that it has begun; 0: none.
    pub generation: Generation,
    /// The newest generation that it was asked to prepare and for which it has paused; 0: none.
    pub prepared: Generation,
    /// Where its replica stands, at a step's boundary; none when it has no replica.
    pub position: Option<Position>,
    pub activity: Activity,
    /// What it has been at, or waited for, so long.
    pub since_ms: u64,
    /// It wants to leave at the next boundary.
    pub leaving: bool,
    /// Why its generation broke, while it has begun no other.
    pub broken: Option<Broken>,
}

/// What a worker is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Activity {
    /// No generation is under way for it.
    #[default]
    Idle,
    /// Connecting with the other members, receiving or sending a replica's state, loading one.
    Forming,
    Computing,
    /// Waits for this member's part of an exchange.
    Exchanging {
        waiting_on: WorkerName,
    },
    Evaluating,
    /// Has reported an epoch's end and waits for the verdict.
    AwaitingVerdict,
    /// Has nothing left to train and waits for what comes.
    Holding,
    /// Computes what the frozen prefix makes of the samples, or reads it.
    Caching,
}

/// Why a generation broke for a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    /// Who the connection was lost to, or who did not come; the first ones noticed here, not always the culprits.
    pub blames: Vec<WorkerName>,
    pub reason: String,
}

/// What the start of a generation took a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartTimings {
    /// To connect with all others.
    pub connect_ms: u64,
    /// To send or receive a replica's state, or to load it.
    pub state_ms: u64,
    /// From there to the end of the first step.
    pub first_step_ms: u64,
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
    /// Look which of the known checkpoints are whole, set the others aside, and say so with
    /// [`Event::CheckpointsVerified`].
    VerifyCheckpoints,
    /// Close a worker's session. It may come back.
    Disconnect {
        worker: WorkerName,
    },
    /// The run is over.
    Conclude(Outcome),
}

/// What a worker is told. Told again as long as its state does not show that it has followed.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Welcome {
        term: Term,
        lease_ms: u64,
    },
    /// Pause at the next boundary that all members share, or `now` at the last one passed: the generation under way
    /// cannot go on. Answered by a heartbeat.
    Prepare {
        generation: Generation,
        now: bool,
    },
    Begin(Begin),
    Verdict(Verdict),
    Evaluate {
        generation: Generation,
        split: Split,
        weights_step: Step,
    },
    /// The checkpoint of this step is stored, so nobody need keep it in memory any more.
    Stored {
        step: Step,
    },
    Finish {
        reason: String,
    },
}

/// A member's place in a generation and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub generation: Generation,
    pub rank: u32,
    /// By rank, shared by all messages of a generation.
    pub peers: Arc<[Peer]>,
    pub position: Position,
    pub start: Start,
    /// The epoch that ended at `position` has been decided on: do not evaluate it again, await the verdict.
    pub judged: bool,
    /// Rank 0 uploads a checkpoint of `position` before anything else.
    pub save: bool,
    /// Nothing is left to train: get ready, then wait for what comes.
    pub hold: bool,
}

/// Where the members' replicas come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By the seed, and the initial weights where there are some.
    Initial,
    /// From a stored checkpoint.
    Checkpoint(Step),
    /// From this member, which stands at the position; those of the peers that do not receive its state.
    Peer { rank: u32 },
}

/// A member as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub worker: WorkerName,
    pub address: String,
    /// First shard and the one after the last.
    pub shards: (u32, u32),
    /// Its replica stands at the position already.
    pub has_state: bool,
}

/// The word on an epoch: restore, save, then go on or hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub generation: Generation,
    pub epoch: Epoch,
    pub restore: Option<Step>,
    pub save: bool,
    /// It is the best so far: every member keeps its checkpoint in memory until it is stored.
    pub keep: bool,
    pub hold: bool,
}

/// What is to be done with a checkpoint that somebody offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Wanted,
    /// It is stored already: nothing need be sent.
    Stored,
    /// Newer ones are stored: this one would be deleted at once.
    Superseded,
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
    /// Another coordinator has taken over; this one must not act any more.
    #[error("another coordinator has taken over the run: it is in term {newest}, this one in term {own}")]
    Fenced { own: Term, newest: Term },
    #[error("the run is over")]
    RunOver,
    #[error("step {} of epoch {} is beyond what the run knows of", position.step, position.epoch)]
    Beyond { position: Position },
    #[error("{worker} sent {message} while the run was {phase}")]
    OutOfPlace { worker: WorkerName, message: &'static str, phase: &'static str },
}
