//! Training: one device, one replica, on its own thread.
//!
//! [`run`] is the thread's body. It takes [`Command`]s from the session, forms generations with the other members and
//! steps through them ([`generation`]), and says what happened through a [`Reporter`]. It knows neither tokio nor
//! the wire, so that tests can drive it with plain channels.

mod checkpoint;
mod clip;
mod ema;
mod epoch;
mod error;
mod evaluate;
mod exchange;
mod generation;
mod host_view;
mod loss;
mod memory;
mod message;
mod metrics;
mod optimizer;
mod parts;
mod phase;
mod progress;
mod replica;
mod samples;
mod schedule;
mod step;
#[cfg(test)]
mod tests;
mod trailer;

use std::path::PathBuf;
use std::sync::Once;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tch::Device;
use tracing::{info, info_span};

use self::error::named;
pub(crate) use self::error::panic_line;
pub use self::error::{FailureKind, TrainerError};
use self::exchange::Peers;
use self::generation::{Ending, Generation, Outside};
pub use self::message::{
    Begin, CheckpointFiles, Command, EpochReport, EvalReport, Evaluate, Ledger, Peer, Progress, Report,
    Reporter, SessionGone, Snapshot, Verdict,
};
pub use self::metrics::{BlockMetrics, Metrics};
use self::replica::Replica;
use self::samples::Samples;
pub use self::trailer::MalformedTrailer;
use crate::collective::{Collective, Group, Membership, Solo, TcpMesh};
use crate::device::{self, DeviceName};
use crate::plan::Plan;

/// Members load their replicas before they connect, and not all at the same speed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a trainer works with for its whole life.
#[derive(Debug)]
pub struct Setup {
    pub plan: Plan,
    /// This worker's name.
    pub worker: String,
    pub device: DeviceName,
    /// The canonical data set file, there and verified when the first generation begins.
    pub dataset: PathBuf,
    /// The initial weights, likewise, where the plan names some.
    pub weights: Option<PathBuf>,
}

/// Trains until the session ends: until `commands` is closed.
///
/// # Errors
/// Why it cannot go on; [`TrainerError::Cancelled`] when it was told not to.
pub fn run(setup: &Setup, commands: &Receiver<Command>, reporter: &Reporter) -> Result<(), TrainerError> {
    set_threads(&setup.plan);
    let device = device::open(setup.device)?;
    let mut samples = None;
    let mut next = match commands.recv() {
        Err(_) => return Ok(()),
        Ok(Command::Begin(begin)) => begin,
        Ok(Command::Verdict(_)) => return Err(TrainerError::OutOfPlace { what: "verdict", step: 0 }),
        Ok(Command::Evaluate(_)) => return Err(TrainerError::OutOfPlace { what: "evaluate", step: 0 }),
    };
    loop {
        let number = next.generation;
        let span = info_span!("generation", run = setup.plan.run, worker = setup.worker, generation = number);
        let _entered = span.enter();
        let samples = match &mut samples {
            Some(samples) => samples,
            none => none.insert(Samples::open(&setup.plan, &setup.dataset, device)?),
        };
        let outside = Outside { plan: &setup.plan, samples, commands, reporter };
        match form(setup, device, outside, next)?.run()? {
            Ending::SessionOver => return Ok(()),
            Ending::Succeeded(begin) => next = *begin,
        }
    }
}

/// libtorch keeps the intra-op number per thread that starts parallel work, the inter-op one per process.
fn set_threads(plan: &Plan) {
    static INTEROP: Once = Once::new();
    // A second call, or one after parallel work, is an error there.
    INTEROP.call_once(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(i32::try_from(plan.threads.get()).unwrap_or(i32::MAX));
}

/// Sets the replica up and connects with the other members.
fn form<'a>(
    setup: &Setup,
    device: Device,
    outside: Outside<'a>,
    begin: Begin,
) -> Result<Generation<'a>, TrainerError> {
    let mut replica = Replica::new(&setup.plan, begin.position.epoch, device)?;
    let epoch = match &begin.checkpoint {
        Some(files) => checkpoint::load(&mut replica, begin.position, files)?,
        None => {
            replica.initialise(setup.plan.seed, setup.weights.as_deref())?;
            outside.samples.new_epoch(begin.position.epoch)
        }
    };
    let peers = connect(&setup.plan, &begin)?;
    let Begin { position, hold, halt, .. } = begin;
    info!(
        rank = peers.group.rank(),
        world_size = peers.group.world_size(),
        shards = ?peers.group.block(),
        epoch = position.epoch,
        step = position.step,
        device = %setup.device,
        "generation formed"
    );
    Ok(Generation { outside, number: begin.generation, halt, replica, peers, position, epoch, hold })
}

fn connect(plan: &Plan, begin: &Begin) -> Result<Peers, TrainerError> {
    let blocks = begin.peers.iter().map(|peer| peer.shards.clone()).collect();
    let group = Group::new(begin.rank, plan.shards.get(), blocks).map_err(TrainerError::Group)?;
    let names: Vec<String> = begin.peers.iter().map(|peer| peer.name.clone()).collect();
    let collective: Box<dyn Collective> = if group.world_size() == 1 {
        Box::new(Solo)
    } else {
        let membership = Membership {
            run: plan.run.clone(),
            generation: begin.generation,
            token: begin.token.clone(),
            rank: begin.rank,
            peers: begin.peers.iter().map(|peer| peer.address.clone()).collect(),
            group: group.clone(),
        };
        let mesh = TcpMesh::connect(&begin.listener, &membership, CONNECT_TIMEOUT, &begin.cancel);
        Box::new(mesh.map_err(|error| named(error, &names))?)
    };
    Ok(Peers::new(group, collective, names, begin.cancel.clone()))
}
