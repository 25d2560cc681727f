//! Newtypes for the words that every other file speaks in.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a membership, the fencing token on every message. The first is 1; 0 means none yet.
    Generation(u64)
}
number! {
    /// Number of a coordinator's life over a run, the fencing token between coordinators. The first is 1.
    Term(u64)
}
number! {
    /// One pass over the training split, 0-based.
    Epoch(u32)
}
number! {
    /// Optimizer updates since the start of the run.
    Step(u64)
}
number! {
    /// Milliseconds since the Unix epoch, by the coordinator's clock.
    Time(u64)
}

impl Term {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A worker's name, unique within a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerName(pub String);

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for WorkerName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// A run's name, unique within a coordinator's home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunName(pub String);

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for RunName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// Where a run stands: `step` updates are done, and the next one belongs to `epoch`.
///
/// It does not depend on who computed what, so any membership can go on from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub epoch: Epoch,
    pub step: Step,
}
