//! Training: one device, one replica, on its own thread.
//!
//! [`run`] is the thread's body. It takes [`Command`]s from the session ([`idle`]), forms generations with the other
//! members ([`forming`]) and steps through them ([`generation`]); what it has trained outlives them all ([`held`]). It shows
//! what it is at in a [`Pulse`] and says what happened through a [`Reporter`]. It knows neither tokio nor the wire, so that
//! tests can drive it with plain channels.

mod checkpoint;
mod clip;
mod ema;
mod epoch;
mod error;
mod evaluate;
mod exchange;
mod forming;
mod generation;
mod held;
mod idle;
mod inputs;
mod loss;
mod memory;
mod message;
mod metrics;
mod optimizer;
mod parts;
mod phase;
mod prefix;
mod progress;
pub mod pulse;
mod replica;
mod samples;
mod schedule;
mod step;
mod sum;
#[cfg(test)]
mod tests;
mod trailer;
mod transfer;
mod unmoved;

use std::path::PathBuf;
use std::sync::Once;
use std::sync::mpsc::Receiver;

pub(crate) use self::error::panic_line;
pub use self::error::{FailureKind, TrainerError};
use self::idle::Trainer;
pub use self::message::{
    Begin, CheckpointFiles, Command, EpochReport, EvalReport, Evaluate, Kept, Ledger, Peer, PrefixTold,
    Progress, Report, Reporter, SessionGone, Snapshot, Start, Started, Verdict,
};
pub use self::metrics::{BlockMetrics, Metrics};
pub use self::pulse::Pulse;
pub use self::trailer::MalformedTrailer;
use crate::collective::device::Opener;
use crate::device::{self, DeviceName};
use crate::plan::Plan;

/// What a trainer works with for its whole life.
#[derive(Debug)]
pub struct Setup {
    pub plan: Plan,
    /// This worker's name.
    pub worker: String,
    pub device: DeviceName,
    /// What links the device to the other members' directly, or why there is nothing; none where it is a CPU.
    pub opener: Option<Result<Box<dyn Opener>, String>>,
    /// The canonical data set file, there and verified when the first generation begins.
    pub dataset: PathBuf,
    /// The initial weights, likewise, where the plan names some.
    pub weights: Option<PathBuf>,
    /// Where activations of frozen layers may be kept.
    pub activations: PathBuf,
    /// Where it says what it is at.
    pub pulse: Pulse,
    /// Where it leaves the best model's checkpoint.
    pub kept: Kept,
}

/// Trains until the session ends: until `commands` is closed. A generation that breaks or is called off does not end it.
///
/// # Errors
/// Why it cannot go on.
pub fn run(setup: &Setup, commands: &Receiver<Command>, reporter: &Reporter) -> Result<(), TrainerError> {
    set_threads(&setup.plan);
    let device = device::open(setup.device)?;
    device::choose_kernels(device, setup.plan.exact)?;
    Trainer::new(setup, device, commands, reporter).run()
}

/// libtorch keeps the intra-op number per thread that starts parallel work, the inter-op one per process.
fn set_threads(plan: &Plan) {
    static INTEROP: Once = Once::new();
    // A second call, or one after parallel work, is an error there.
    INTEROP.call_once(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(i32::try_from(plan.threads.get()).unwrap_or(i32::MAX));
}
