//! Bugs planted on purpose, one at a time, between the pool and the world: it is told something else than what happened, or
//! something else is done than what it asked for.

use lockstep_core::{DeviceKind, PoolEffect, PoolEvent, Requirements};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// A run begins with one worker less than it was given.
    HalfAGang,
    /// A worker is asked back again and again.
    AskedBackTwice,
    /// A free worker that is to end is not told so.
    NotDismissed,
    PriorityIgnored,
    MemoryIgnored,
    KindsMixed,
    /// A run counts as one that can go on with one worker less.
    MinimumTooLow,
    /// A run counts as one that needs one more.
    MinimumTooHigh,
    /// A run counts as one that has use for one more.
    MaximumTooHigh,
    DrainForgotten,
    /// Some workers that were let go are forgotten.
    FreedForgotten,
    /// A run that has ended is forgotten.
    EndForgotten,
    /// Runs at a halt are given up ten times too early.
    Impatient,
    /// No deadline is ever kept.
    Patient,
    /// People are told why a run waited before the newest thing happened.
    OldReasons,
}

impl Planted {
    pub(super) const ALL: [Self; 15] = [
        Self::HalfAGang,
        Self::AskedBackTwice,
        Self::NotDismissed,
        Self::PriorityIgnored,
        Self::MemoryIgnored,
        Self::KindsMixed,
        Self::MinimumTooLow,
        Self::MinimumTooHigh,
        Self::MaximumTooHigh,
        Self::DrainForgotten,
        Self::FreedForgotten,
        Self::EndForgotten,
        Self::Impatient,
        Self::Patient,
        Self::OldReasons,
    ];

    pub(super) fn now_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Impatient => now_ms * 10,
            Self::Patient => 0,
            _ => now_ms,
        }
    }

    pub(super) fn told(self, event: PoolEvent) -> Option<PoolEvent> {
        match (self, event) {
            (Self::DrainForgotten, PoolEvent::Draining { .. })
            | (Self::EndForgotten, PoolEvent::Ended { .. }) => None,
            (Self::FreedForgotten, PoolEvent::Freed { worker }) if worker.0.ends_with('3') => None,
            (Self::KindsMixed, PoolEvent::WorkerCame { worker, mut resources, at }) => {
                resources.device = DeviceKind::Cpu;
                Some(PoolEvent::WorkerCame { worker, resources, at })
            }
            (_, PoolEvent::Submitted { run, priority, requirements }) => {
                let priority = if self == Self::PriorityIgnored { 0 } else { priority };
                Some(PoolEvent::Submitted { run, priority, requirements: self.requirements(requirements) })
            }
            (_, event) => Some(event),
        }
    }

    fn requirements(self, mut requirements: Requirements) -> Requirements {
        match self {
            Self::MemoryIgnored => requirements.memory_bytes = 0,
            Self::MinimumTooLow => requirements.min_workers = requirements.min_workers.saturating_sub(1),
            Self::MinimumTooHigh => requirements.min_workers = requirements.min_workers.max(1) + 1,
            Self::MaximumTooHigh => requirements.max_workers += 1,
            _ => {}
        }
        requirements
    }

    pub(super) fn done(self, effects: Vec<PoolEffect>) -> Vec<PoolEffect> {
        let done = |effect: PoolEffect| match (self, effect) {
            (Self::HalfAGang, PoolEffect::Start { run, mut workers }) => {
                workers.pop();
                vec![PoolEffect::Start { run, workers }]
            }
            (Self::AskedBackTwice, effect @ PoolEffect::Reclaim { .. }) => vec![effect.clone(), effect],
            (Self::NotDismissed, PoolEffect::Dismiss { .. }) => Vec::new(),
            (_, effect) => vec![effect],
        };
        effects.into_iter().flat_map(done).collect()
    }
}
