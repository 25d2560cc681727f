//! The coordinator's decisions, as a value.
//!
//! [`Run`] takes events in and gives effects out. It reads no clock, no file, no socket and draws no random
//! number: time is an argument, and whatever else it needs arrives in an [`Event`]. What must survive a crash
//! leaves it as [`Effect::Record`], and the durable part of its state, [`History`], is the fold of exactly
//! those entries, so that the journal and the state cannot drift apart.
//!
//! [`Pool`] is another such value, for a coordinator of many runs: which run gets which workers, and when it gives them
//! back. The two know nothing of each other.
//!
//! Reading order: `ids` (the words), `spec` (what a run is asked to do), `event` (in and out), `entry` and
//! `history` (what is durable), `placement`, `epoch` and `retention` (the rules), `run` (the machine), `status`; `pool` stands
//! by itself.

mod ids;
mod metrics;
mod spec;

mod entry;
mod event;
mod history;

mod epoch;
mod placement;
mod retention;

mod run;
mod status;

mod pool;

pub use entry::{
    Cause, CheckpointEntry, Entry, EpochRow, FailureKind, LedgerRow, MemberEntry, Origin, Outcome, Receipt,
};
pub use epoch::{Disagreement, combine_blocks};
pub use event::{
    Activity, Admission, Attached, Begin, BlockMetrics, Broken, Effect, EpochReport, Event, Heartbeat,
    Message, Peer, Progress, Reject, Start, StartTimings, Verdict, WorkerInfo,
};
pub use history::History;
pub use ids::{Epoch, Generation, Position, RunName, Step, Term, Time, WorkerName};
pub use metrics::Metrics;
pub use placement::shard_blocks;
pub use pool::{
    Awaited, DeviceKind, Pool, PoolEffect, PoolEvent, PooledWorker, Requirements, Resources, Waits,
    WorkerKind, WorkerPlace,
};
pub use run::Run;
pub use spec::{Restore, RunSpec, SelectSpec, Split, WorkerBounds};
pub use status::{Status, WorkerStatus};
