//! The trainer between generations, and what becomes of one that ends.
//!
//! A generation that breaks is no error: the trainer keeps what it holds, shows why it broke, and waits for the next one.
//! It ends with the session, or when it cannot go on in any company.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use tch::Device;
use tracing::{debug, info, info_span, warn};

use super::Setup;
use super::error::{Ends, TrainerError};
use super::forming;
use super::generation::{Ending, Generation, Outside};
use super::held::Held;
use super::message::{Begin, Command, Peer, Reporter, Started};
use super::prefix::Prefix;
use super::pulse::{Activity, Broken};
use super::samples::Samples;

/// What a trainer has for its whole life.
#[derive(Debug)]
pub(super) struct Trainer<'a> {
    setup: &'a Setup,
    device: Device,
    commands: &'a Receiver<Command>,
    reporter: &'a Reporter,
    /// Opened with the first generation: the data are fetched before it begins.
    samples: Option<Samples>,
    held: Option<Held>,
    prefix: Prefix,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        device: Device,
        commands: &'a Receiver<Command>,
        reporter: &'a Reporter,
    ) -> Self {
        let prefix = Prefix::new(setup.activations.clone());
        Self { setup, device, commands, reporter, samples: None, held: None, prefix }
    }

    /// Follows orders until the session ends.
    pub(super) fn run(mut self) -> Result<(), TrainerError> {
        let mut superseding = None;
        loop {
            let Some(command) = superseding.take().or_else(|| self.commands.recv().ok()) else {
                return Ok(());
            };
            match command {
                Command::Prepare { generation } => {
                    self.setup.pulse.change(|state| state.prepared = state.prepared.max(generation));
                }
                Command::Begin(begin) if self.is_new(&begin) => match self.take_part(*begin) {
                    Ok(Ending::SessionOver) => return Ok(()),
                    Ok(Ending::Paused) => self.rest(None),
                    Ok(Ending::Superseded(command)) => {
                        self.rest(None);
                        superseding = Some(command);
                    }
                    Err(error) => match error.ends() {
                        Ends::Quietly => self.rest(None),
                        Ends::Generation(broken) => self.rest(Some(broken)),
                        Ends::Session => return Ok(()),
                        Ends::Trainer => return Err(error),
                    },
                },
                // Late or repeated: whoever sent it has not seen yet where this member is.
                command => {
                    debug!(generation = command.generation(), "ignored an order that is not due");
                    self.setup.pulse.change(|_| {});
                }
            }
        }
    }

    /// Neither begun already nor from before what this member has paused for.
    fn is_new(&self, begin: &Begin) -> bool {
        let state = self.setup.pulse.state();
        begin.generation > state.generation && begin.generation >= state.prepared
    }

    /// No generation is under way any more.
    fn rest(&self, broken: Option<Broken>) {
        if let Some(Broken { blames, reason }) = &broken {
            warn!(?blames, reason, "the generation broke");
        }
        self.setup.pulse.change(|state| (state.activity, state.broken) = (Activity::Idle, broken));
    }

    fn take_part(&mut self, begin: Begin) -> Result<Ending, TrainerError> {
        let (setup, number) = (self.setup, begin.generation);
        let span = info_span!("generation", run = setup.plan.run, worker = setup.worker, generation = number);
        let _entered = span.enter();
        setup.pulse.change(|state| {
            (state.generation, state.activity, state.broken) = (number, Activity::Forming, None);
        });
        let began = Instant::now();
        let mut peers = forming::connect(setup, &begin)?;
        let connected = Instant::now();
        let samples = match &mut self.samples {
            Some(samples) => samples,
            none => none.insert(Samples::open(&setup.plan, &setup.dataset, self.device)?),
        };
        forming::obtain(setup, self.device, samples, &begin, &mut peers, &mut self.held)?;
        let Some(held) = &mut self.held else { return Err(TrainerError::Cancelled) };
        setup.pulse.change(|state| state.position = Some(held.position));
        let formed = Instant::now();
        let ms = |from: Instant, to: Instant| u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX);
        let (connect_ms, state_ms) = (ms(began, connected), ms(connected, formed));
        info!(
            rank = peers.group.rank(),
            world_size = peers.group.world_size(),
            shards = ?peers.group.block(),
            epoch = held.position.epoch,
            step = held.position.step,
            device = %setup.device,
            connect_ms,
            state_ms,
            "generation formed"
        );
        let generation = Generation {
            outside: Outside {
                plan: &setup.plan,
                samples,
                commands: self.commands,
                reporter: self.reporter,
                pulse: &setup.pulse,
                kept: &setup.kept,
                prefix: &mut self.prefix,
                neighbours: neighbours(&begin.peers, begin.rank),
            },
            filled: None,
            number,
            held,
            peers,
            save: begin.save,
            judged: begin.judged,
            hold: begin.hold,
            started: Some((Started { generation: number, connect_ms, state_ms, first_step_ms: 0 }, formed)),
            evaluated: None,
        };
        generation.run()
    }
}

/// Members on the machine of rank `rank`, by their addresses; it is one of them.
fn neighbours(peers: &[Peer], rank: usize) -> usize {
    let host = |peer: &Peer| peer.address.rsplit_once(':').map(|(host, _)| host.to_owned());
    let own = peers.get(rank).and_then(host);
    peers.iter().filter(|peer| host(peer) == own).count()
}
