//! A worker as a state machine that obeys the protocol: what a session, its courier and its trainer do together.
//!
//! ```text
//!  Idle ──Begin──► Forming ──► Computing ⇄ Exchanging ──epoch's last step──► Evaluating ──► AwaitingVerdict
//!   ▲                              ▲                                                             │
//!   │                              ├──────────────── go on ──────── (Restoring) ◄────────────────┤
//!   └── broken, cancelled, paused ─┴─ from any ─────────────────── Holding ⇄ Testing ◄── hold ───┘
//! ```
//!
//! The replica outlives generations, and the trainer outlives sessions. It knows nothing of the world around it: inputs
//! come in, actions go out.

mod courier;
mod epoch;
mod generation;
mod session;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lockstep_core::{
    Activity, Attached, Begin, Broken, Event, Generation, Message, Position, Step, Term, Verdict, WorkerName,
};

use self::courier::Courier;
use self::session::Session;
use crate::case::Case;
use crate::network::{ProcessId, SessionId};
use crate::planted::Planted;
use crate::random::Random;
use crate::replica::{ShardAccount, State};

/// What a worker is told.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The process is up.
    Start,
    Order(SessionId, Message),
    Refused(SessionId, Refusal),
    /// The session is broken, or nobody is there to open one with.
    Closed(SessionId),
    Timer(Timer),
    /// A checkpoint that was asked for; none when it no longer verifies.
    Fetched {
        ticket: u64,
        state: Option<State>,
    },
    /// An upload was answered: it is stored, or not wanted.
    Uploaded {
        session: SessionId,
        step: Step,
        stored: bool,
    },
    Peer(ProcessId, PeerWord),
    /// The operator or the machine wants it to go.
    Terminate,
    /// The trainer does nothing for a while, as one whose device hangs.
    Hang {
        for_ms: u64,
    },
}

/// Why a session was not opened, or was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    RunOver,
    /// Another one may be opened later.
    Passing,
}

/// What a worker wakes up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Reconnect(SessionId),
    Heartbeat(SessionId),
    /// Data and weights are at hand.
    Ready,
    /// Whether the trainer is still at what it was at.
    Trainer(u64),
    Owed(u64),
    Dial(Generation),
    FormingOver(Generation),
    FetchAgain(u64),
    GraceOver,
}

/// What members say to each other.
#[derive(Debug, Clone)]
pub(crate) enum PeerWord {
    Hello {
        generation: Generation,
    },
    State {
        generation: Generation,
        state: State,
        kept: Option<State>,
    },
    Part(Part),
    /// The other one has left the generation.
    Left {
        generation: Generation,
    },
    /// The connection broke, or the other process ended.
    Gone,
}

/// A member's part of an exchange.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    generation: Generation,
    step: Step,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Gradient(Rc<Vec<ShardAccount>>),
    /// All is exchanged; the flag says that somebody wants to pause here.
    Trailer {
        pause: bool,
    },
}

/// What a worker does.
#[derive(Debug)]
pub(crate) enum Action {
    Connect(SessionId, Option<Attached>),
    Disconnect(SessionId),
    Say(SessionId, Event),
    /// It follows an order of a coordinator of this term.
    Obeys(Term),
    Timer {
        after_ms: u64,
        timer: Timer,
    },
    Fetch(SessionId, Step, u64),
    Upload(SessionId, State),
    Tell(ProcessId, PeerWord),
    /// These shards of the step after `step` were computed.
    Computed {
        generation: Generation,
        step: Step,
        shards: (u32, u32),
    },
    /// The step after `step` was made.
    Updated {
        generation: Generation,
        step: Step,
    },
    Exit,
    /// It was told what cannot be.
    Complain(String),
}

/// One process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: ProcessId,
    pub(crate) name: WorkerName,
    case: Rc<Case>,
    planted: Option<Planted>,
    random: Random,
    now_ms: u64,
    session: Session,
    courier: Courier,
    /// A report that was not answered yet.
    owed: Option<Event>,
    /// Outlives generations, whatever ends them.
    pub(crate) held: Option<State>,
    /// The replica has changed since the last look.
    pub(crate) changed: bool,
    /// The best model's checkpoint, until it is stored.
    pub(crate) kept: Option<State>,
    pub(crate) begun: Generation,
    pub(crate) prepared: Generation,
    /// It is to pause for this one.
    asked: Generation,
    member: Option<Member>,
    stage: Stage,
    since_ms: u64,
    /// Changes with the stage, so that timers of former ones are known.
    ticket: u64,
    broken: Option<Broken>,
    hung_until_ms: u64,
    inbox: Inbox,
    /// Of steps since the last report.
    stepped: (u64, u64),
    actions: Vec<Action>,
}

/// A member's part in the generation under way.
#[derive(Debug)]
struct Member {
    begin: Begin,
    /// By rank.
    peers: Vec<ProcessId>,
    /// At the next boundary.
    pause: bool,
    /// The trainer is to stop as soon as it can.
    cancelled: bool,
    connected: bool,
    started: bool,
    begun_ms: u64,
    formed_ms: u64,
}

/// What peers have said, perhaps before this member has begun the generation.
#[derive(Debug, Default)]
struct Inbox {
    hellos: BTreeSet<(Generation, ProcessId)>,
    left: BTreeSet<(Generation, ProcessId)>,
    states: BTreeMap<Generation, (State, Option<State>)>,
    /// By generation, step and sender, as the trailers.
    gradients: BTreeMap<(Generation, Step, ProcessId), Rc<Vec<ShardAccount>>>,
    trailers: BTreeMap<(Generation, Step, ProcessId), bool>,
}

#[derive(Debug)]
enum Stage {
    /// No generation is under way.
    Idle,
    Forming {
        fetched: Option<State>,
    },
    Computing,
    /// Gradients, then trailers.
    Exchanging {
        trailer: bool,
    },
    Evaluating,
    AwaitingVerdict,
    Restoring(Verdict),
    Holding,
    /// Loading the weights to test, then testing.
    Testing {
        weights: Option<State>,
    },
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
            now_ms: 0,
            session: Session::default(),
            courier: Courier::default(),
            owed: None,
            held: None,
            changed: false,
            kept: None,
            begun: Generation::default(),
            prepared: Generation::default(),
            asked: Generation::default(),
            member: None,
            stage: Stage::Idle,
            since_ms: 0,
            ticket: 0,
            broken: None,
            hung_until_ms: 0,
            inbox: Inbox::default(),
            stepped: (0, 0),
            actions: Vec::new(),
        }
    }

    pub(crate) fn on(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        self.now_ms = now_ms;
        match input {
            Input::Start => self.connect(),
            Input::Order(session, order) => self.on_order(session, order),
            Input::Refused(session, refusal) => self.on_refused(session, refusal),
            Input::Closed(session) => self.on_closed(session),
            Input::Timer(timer) => self.on_timer(timer),
            Input::Fetched { ticket, state } => self.on_fetched(ticket, state),
            Input::Uploaded { session, step, stored } => self.on_uploaded(session, step, stored),
            Input::Peer(from, word) => self.on_peer(from, word),
            Input::Terminate => self.on_terminate(),
            Input::Hang { for_ms } => self.hung_until_ms = self.hung_until_ms.max(now_ms + for_ms),
        }
        std::mem::take(&mut self.actions)
    }

    /// Where its replica stands.
    pub(crate) fn position(&self) -> Option<Position> {
        self.held.as_ref().map(|held| held.position)
    }

    /// Between generations, with nothing half done.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// In a generation that it was not asked to leave, with something to do in it.
    pub(crate) fn is_at_work(&self) -> bool {
        let asked = self.member.as_ref().is_none_or(|member| member.pause);
        !asked && !matches!(self.stage, Stage::Idle | Stage::Holding | Stage::Testing { .. })
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.session.leaving
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Reconnect(session) => self.on_reconnect(session),
            Timer::Heartbeat(session) => self.on_heartbeat(session),
            Timer::Ready => {
                self.session.ready = true;
                self.heartbeat();
            }
            Timer::Trainer(ticket) => self.on_trainer(ticket),
            Timer::Owed(ticket) => self.on_owed(ticket),
            Timer::Dial(generation) => self.dial(generation),
            Timer::FormingOver(generation) => self.on_forming_over(generation),
            Timer::FetchAgain(ticket) => self.fetch_again(ticket),
            Timer::GraceOver => self.act(Action::Exit),
        }
    }

    /// What the trainer was computing is done.
    fn on_trainer(&mut self, ticket: u64) {
        if ticket != self.ticket {
            return;
        }
        if self.now_ms < self.hung_until_ms {
            let after_ms = self.hung_until_ms - self.now_ms;
            return self.timer(after_ms, Timer::Trainer(ticket));
        }
        if self.member.as_ref().is_some_and(|member| member.cancelled) {
            return self.pause();
        }
        match self.stage {
            Stage::Computing => self.contribute(),
            Stage::Evaluating => self.report_epoch(),
            Stage::Testing { .. } => self.report_test(),
            _ => {}
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.since_ms = self.now_ms;
        self.ticket += 1;
    }

    /// Computes for a while.
    fn compute(&mut self, stage: Stage) {
        self.enter(stage);
        let after_ms = 1 + self.random.below(self.case.step_max_ms);
        self.timer(after_ms, Timer::Trainer(self.ticket));
    }

    fn activity(&self) -> Activity {
        match &self.stage {
            Stage::Idle => Activity::Idle,
            Stage::Forming { .. } => Activity::Forming,
            Stage::Computing => Activity::Computing,
            Stage::Exchanging { .. } => match self.waits_for() {
                Some(waiting_on) => Activity::Exchanging { waiting_on },
                None => Activity::Computing,
            },
            Stage::Evaluating => Activity::Evaluating,
            Stage::AwaitingVerdict | Stage::Restoring(_) => Activity::AwaitingVerdict,
            Stage::Holding | Stage::Testing { .. } => Activity::Holding,
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn timer(&mut self, after_ms: u64, timer: Timer) {
        self.act(Action::Timer { after_ms, timer });
    }

    fn complain(&mut self, what: &str) {
        self.act(Action::Complain(format!("{} {what}", self.name)));
    }

    fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }
}
