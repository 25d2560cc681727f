//! How a generation comes about: the members connect, and whoever has no replica at the position gets one.
//!
//! Connecting comes first: a member that is still reading its data then does not run into a timeout of the others, and
//! those that have their replica already learn at once who is not there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::Device;
use tracing::{info, warn};

use super::Setup;
use super::error::{TrainerError, named};
use super::exchange::Peers;
use super::held::Held;
use super::message::{Begin, Kept, Snapshot, Start};
use super::samples::Samples;
use super::transfer::State;
use crate::collective::{Collective, Group, Membership, Solo, TcpMesh};
use crate::plan::Position;

/// All members are told to begin at about the same time; a dead one is noticed by the coordinator long before, and this is
/// for those that live and cannot reach each other: the run stands while they try. A lost packet costs a second, and some of
/// them are lost in a row.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects with the other members.
pub(super) fn connect(setup: &Setup, begin: &Begin) -> Result<Peers, TrainerError> {
    let plan = &setup.plan;
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
    let controls = (begin.cancel.clone(), begin.pause.clone());
    let mut peers = Peers::new(group, collective, names, controls, &setup.pulse);
    let obstacles = peers.link_devices(setup.opener.as_ref())?;
    tell_once(&obstacles);
    Ok(peers)
}

/// The host's way is right, but not what GPUs were bought for. What was told before is told again only when it changes.
fn tell_once(obstacles: &[String]) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !obstacles.is_empty() && *told != obstacles {
        warn!("gradients go through the host's memory, not from GPU to GPU: {}", obstacles.join("; "));
        *told = obstacles.to_vec();
    }
}

/// Makes sure that this member holds a replica at the position, and that the others get theirs from it if it is the one
/// to send. Until a new one is whole, the former one stays.
pub(super) fn obtain(
    setup: &Setup,
    device: Device,
    samples: &Samples,
    begin: &Begin,
    peers: &mut Peers,
    held: &mut Option<Held>,
) -> Result<(), TrainerError> {
    let Setup { plan, weights, .. } = setup;
    let position = begin.position;
    let stands = held.as_ref().is_some_and(|held| held.position == position);
    match &begin.start {
        Start::Peer(source) => share(setup, device, (begin, *source), peers, held)?,
        Start::Initial | Start::Checkpoint(_) if stands => {}
        Start::Initial => *held = Some(Held::initial(plan, weights.as_deref(), samples, position, device)?),
        Start::Checkpoint(files) => *held = Some(Held::load(plan, position, files, device)?),
    }
    Ok(())
}

/// The state of rank `source` goes to all members that have none.
fn share(
    setup: &Setup,
    device: Device,
    (begin, source): (&Begin, usize),
    peers: &mut Peers,
    held: &mut Option<Held>,
) -> Result<(), TrainerError> {
    let lacking = begin.peers.iter().enumerate().filter(|(rank, peer)| !peer.has_state && *rank != source);
    let receivers: Vec<usize> = lacking.map(|(rank, _)| rank).collect();
    if receivers.contains(&begin.rank) {
        let started = Instant::now();
        let parts = peers.send_state(source, &receivers, &[])?.unwrap_or_default();
        let bytes: usize = parts.iter().map(Vec::len).sum();
        let astray = |reason| TrainerError::PeerAstray { worker: peers.name(source), reason };
        let State { position, files, kept } =
            State::from_parts(parts).map_err(|error| astray(error.to_string()))?;
        if position != begin.position {
            return Err(astray(format!("sent the state of step {}", position.step)));
        }
        let loaded = Held::load(&setup.plan, position, &files, device);
        *held = Some(loaded.map_err(|error| astray(format!("sent a state that does not fit: {error}")))?);
        keep_newer(&setup.kept, kept);
        info!(step = position.step, bytes, ms = started.elapsed().as_millis(), "state received");
        return Ok(());
    }
    let standing = held.as_ref().filter(|held| held.position == begin.position);
    let Some(standing) = standing else {
        let found = held.as_ref().map_or_else(|| "nowhere".to_owned(), |held| told(held.position));
        return Err(TrainerError::Elsewhere { expected: told(begin.position), found });
    };
    if begin.rank == source && !receivers.is_empty() {
        let (position, kept) = (standing.position, setup.kept.get());
        let state = State { position, files: standing.save()?, kept };
        peers.send_state(source, &receivers, &state.parts(&state.head()))?;
    } else if !receivers.is_empty() {
        peers.send_state(source, &receivers, &[])?;
    }
    Ok(())
}

/// A later one is of a better model.
fn keep_newer(own: &Kept, kept: Option<Snapshot>) {
    let step = |snapshot: &Snapshot| snapshot.position.step;
    if kept.as_ref().map(step) > own.get().as_ref().map(step) {
        own.keep(kept);
    }
}

fn told(position: Position) -> String {
    format!("step {} of epoch {}", position.step, position.epoch)
}
