//! A worker as a state machine that obeys the protocol: what a session, its courier and its trainer do together.
//!
//! ```text
//!  Waiting ──Begin──► Computing ⇄ Exchanging ──epoch's last step──► Evaluating ──► AwaitingVerdict
//!                         ▲            └──── a raised flag ──► Holding ◄── hold ──────┤
//!                         └───────────────────── go on ───────────────────────────────┘
//! ```
//!
//! It knows nothing of the world around it: inputs come in, actions go out.

mod session;
mod trainer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use lockstep_core::{Epoch, Event, Generation, Message, Position, Step, WorkerName};

use crate::case::Case;
use crate::network::ProcessId;
use crate::planted::Planted;
use crate::random::Random;
use crate::replica::{EpochState, Replica, ShardAccount, Snapshot};

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Input {
    Order(Message),
    /// The coordinator did not admit it.
    Refused,
    /// What the trainer was at is done, or its patience is over.
    Alarm,
    /// A checkpoint that was asked for; none when it no longer verifies.
    Fetched(Option<Snapshot>),
    /// An upload was answered.
    Uploaded,
    Contribution(Contribution),
    /// The end of another member's process.
    PeerClosed(ProcessId),
}

/// What a worker does.
#[derive(Debug)]
pub(crate) enum Action {
    Tell(Event),
    Alarm {
        after_ms: u64,
    },
    Fetch(Step),
    Upload(Generation, Snapshot),
    Contribute {
        to: ProcessId,
        contribution: Contribution,
    },
    /// These shards of the step after `step` were computed.
    Computed {
        generation: Generation,
        step: Step,
        shards: (u32, u32),
    },
    Exit,
    /// The coordinator told it what cannot be.
    Complain(String),
}

/// A member's part of an exchange: its shards' gradients and accounts, and the flag.
#[derive(Debug, Clone)]
pub(crate) struct Contribution {
    generation: Generation,
    step: Step,
    rank: u32,
    accounts: Vec<ShardAccount>,
    halt: bool,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: ProcessId,
    pub(crate) name: WorkerName,
    case: Rc<Case>,
    planted: Option<Planted>,
    random: Random,
    stage: Stage,
    /// Orders that wait for the one whose checkpoint is being fetched, itself first.
    parcels: VecDeque<Message>,
    fetching: bool,
    /// A halt of a generation whose Begin still waits.
    early_halt: Option<Generation>,
    /// Orders that wait for the trainer.
    mailbox: VecDeque<(Message, Option<Snapshot>)>,
    /// Snapshots being uploaded (the first) or waiting for it.
    uploads: VecDeque<Snapshot>,
    membership: Option<Membership>,
    /// Of this generation or one that is about to begin.
    contributions: BTreeMap<(Generation, Step), BTreeMap<u32, Contribution>>,
    gone: BTreeSet<ProcessId>,
    actions: Vec<Action>,
}

/// A member's part in a generation.
#[derive(Debug)]
struct Membership {
    generation: Generation,
    rank: u32,
    /// By rank.
    peers: Vec<ProcessId>,
    shards: (u32, u32),
    halt: bool,
    position: Position,
    replica: Replica,
    epoch: EpochState,
}

#[derive(Debug)]
enum Stage {
    /// For a generation.
    Waiting,
    Computing,
    Exchanging,
    Evaluating,
    AwaitingVerdict(Epoch),
    /// For room to hand a snapshot over.
    Saving(Snapshot, Then),
    Holding,
    Testing(Message, Snapshot),
    /// It has failed, and lets the coordinator have the first word on why.
    Failing(Event),
}

/// What follows a snapshot.
#[derive(Debug, Clone, Copy)]
enum Then {
    Step,
    SayHalted,
    Hold,
}

impl Worker {
    pub(crate) fn new(
        id: ProcessId,
        name: WorkerName,
        case: Rc<Case>,
        planted: Option<Planted>,
        random: Random,
    ) -> Self {
        Self {
            id,
            name,
            case,
            planted,
            random,
            stage: Stage::Waiting,
            parcels: VecDeque::new(),
            fetching: false,
            early_halt: None,
            mailbox: VecDeque::new(),
            uploads: VecDeque::new(),
            membership: None,
            contributions: BTreeMap::new(),
            gone: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    pub(crate) fn on(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Order(order) => self.on_order(order),
            Input::Refused => self.act(Action::Exit),
            Input::Alarm => self.on_alarm(),
            Input::Fetched(snapshot) => self.on_fetched(snapshot),
            Input::Uploaded => self.on_uploaded(),
            Input::Contribution(contribution) => {
                let key = (contribution.generation, contribution.step);
                self.contributions.entry(key).or_default().insert(contribution.rank, contribution);
                self.try_finish_step();
            }
            Input::PeerClosed(peer) => {
                self.gone.insert(peer);
                self.try_finish_step();
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn alarm(&mut self, most_ms: u64) {
        let after_ms = self.random.below(most_ms) + 1;
        self.act(Action::Alarm { after_ms });
    }

    fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }
}
