//! What the coordinator says, in this crate's own words.

use crate::plan::{Plan, Position, Split};
use crate::trainer::Peer;

/// The answer to a join.
#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    pub run: String,
    pub plan: Plan,
}

/// A word on an open session.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Halt at a step boundary, get data and weights ready, answer with an address.
    Prepare {
        generation: u64,
    },
    Begin(BeginOrder),
    /// On an epoch: restore, save, then go on or hold.
    Verdict {
        generation: u64,
        epoch: u32,
        restore_step: Option<u64>,
        save: bool,
        hold: bool,
    },
    /// Evaluate with the weights of a stored checkpoint.
    Evaluate {
        generation: u64,
        split: Split,
        weights_step: u64,
    },
    /// Raise the flag.
    Halt {
        generation: u64,
    },
    /// The session is over.
    Finish {
        reason: String,
    },
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
    pub checkpoint_step: Option<u64>,
    pub hold: bool,
}
