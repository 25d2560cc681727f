//! What a trainer is at, for whoever wants to know: the session tells the coordinator of it again and again, so that a
//! member that is stuck can be told from those that wait for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::plan::Position;

/// A trainer's state, written by its thread and read by the session.
#[derive(Clone)]
pub struct Pulse {
    state: Arc<Mutex<State>>,
    /// Called after a change that somebody may wait for.
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The state at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The newest generation that was begun; 0: none.
    pub generation: u64,
    /// The newest generation that was prepared; 0: none.
    pub prepared: u64,
    /// Where the replica stands; none when there is none.
    pub position: Option<Position>,
    pub activity: Activity,
    pub since: Instant,
    /// Why the newest generation broke, while no other has begun.
    pub broken: Option<Broken>,
}

/// What the trainer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// No generation is under way.
    Idle,
    /// Connecting, receiving or sending a replica's state, loading one.
    Forming,
    Computing,
    /// Waits for this rank.
    Exchanging {
        rank: usize,
    },
    Evaluating,
    AwaitingVerdict,
    Holding,
    /// Computing what the frozen prefix makes of the samples, or reading it.
    Caching,
}

/// Why a generation broke for this member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    /// Names of the members that the connection was lost to, or that did not come.
    pub blames: Vec<String>,
    pub reason: String,
}

impl Pulse {
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (position, activity, since, broken) = (None, Activity::Idle, Instant::now(), None);
        let state = State { generation: 0, prepared: 0, position, activity, since, broken };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(wake) }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long it has been at it.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.state().since.elapsed()
    }

    /// A change that may be told in its own time.
    pub(crate) fn at(&self, activity: Activity) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.activity != activity {
            (state.activity, state.since) = (activity, Instant::now());
        }
    }

    /// A step is made.
    pub(crate) fn stands_at(&self, position: Position) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).position = Some(position);
    }

    /// A change that the coordinator may wait for.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let activity = state.activity;
            change(&mut state);
            if state.activity != activity {
                state.since = Instant::now();
            }
        }
        (self.wake)();
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}
