//! What goes wrong, and when: drawn from a seed, so that a schedule that found something can be had again.
//!
//! Steps, not seconds: a schedule means the same on a slow machine. What a fault hits is drawn as a number too and
//! becomes a worker only when its time comes, because nobody knows before who will be there.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use serde::Serialize;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL of a worker.
    Kill,
    /// SIGSTOP of a worker, and SIGCONT when the fault's time is over, if it still lives.
    Freeze,
    /// SIGTERM of a worker: it leaves on purpose.
    Drain,
    /// SIGKILL of the coordinator, and a resume while the workers go on.
    Coordinator,
    /// A worker's connections to the coordinator break, and new ones are refused for a while.
    Cut,
    /// A worker's connections to the coordinator stay, and nothing passes for a while.
    Mute,
    /// A worker that the coordinator did not start joins; where the run has all that it may have, it relieves one.
    Join,
    /// SIGKILL of the coordinator and of all workers, and a resume.
    Everything,
}

/// How long a fault lasts, for the kinds that last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// So short that nobody need act on it.
    Briefly { ms: u32 },
    /// Until the coordinator has given the worker up.
    TooLong,
}

/// One planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub kind: Kind,
    /// When: so many thousandths of the run's steps are done.
    pub at_permille: u32,
    /// Whom: counted around those who are there.
    pub pick: u32,
    pub lasting: Lasting,
}

/// Faults in the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    pub seed: u64,
    pub faults: Vec<Fault>,
}

/// Each comes once before any comes again; the order is drawn.
const KINDS: [Kind; 8] = [
    Kind::Kill,
    Kind::Freeze,
    Kind::Drain,
    Kind::Coordinator,
    Kind::Cut,
    Kind::Mute,
    Kind::Join,
    Kind::Everything,
];

/// Where the first fault may come and the last one must: a fault needs a run that is under way, and time to heal in.
const SPAN_PERMILLE: (u32, u32) = (40, 800);

/// A worker has 500 ms to come back after its connection broke; these leave it room to.
const BRIEFLY_MS: (u32, u32) = (50, 250);

impl Schedule {
    /// Draws `faults` faults.
    pub fn draw(seed: u64, faults: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut deck = Vec::new();
        let (first, last) = SPAN_PERMILLE;
        let drawn = (0..faults).map(|index| {
            if deck.is_empty() {
                deck = KINDS.to_vec();
            }
            let kind = deck.swap_remove(below(&mut random, deck.len() as u32) as usize);
            // One in each slot of equal length, so that the faults are spread over the run.
            let slot = |number: u32| {
                first
                    + u32::try_from(u64::from(last - first) * u64::from(number) / u64::from(faults))
                        .unwrap_or(last)
            };
            let (begin, end) = (slot(index), slot(index + 1));
            let at_permille = begin + below(&mut random, (end - begin).max(1));
            let pick = random.next_u32();
            let ms = BRIEFLY_MS.0 + below(&mut random, BRIEFLY_MS.1 - BRIEFLY_MS.0);
            let lasting = if below(&mut random, 2) == 0 { Lasting::Briefly { ms } } else { Lasting::TooLong };
            Fault { kind, at_permille, pick, lasting }
        });
        Self { seed, faults: drawn.collect() }
    }
}

impl Fault {
    /// After how many of `steps` it comes.
    pub fn step(&self, steps: u64) -> u64 {
        steps * u64::from(self.at_permille) / 1000
    }
}

impl Kind {
    /// Whether its length makes a difference.
    pub fn lasts(self) -> bool {
        matches!(self, Self::Freeze | Self::Cut | Self::Mute)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "SIGKILL",
            Self::Freeze => "SIGSTOP",
            Self::Drain => "SIGTERM",
            Self::Coordinator => "coordinator killed",
            Self::Cut => "connection cut",
            Self::Mute => "connection mute",
            Self::Join => "join",
            Self::Everything => "all killed",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lasting {
            Lasting::Briefly { ms } if self.kind.lasts() => write!(f, "{} for {ms} ms", self.kind),
            Lasting::TooLong if self.kind.lasts() => write!(f, "{} for too long", self.kind),
            _ => self.kind.fmt(f),
        }
    }
}

/// A number below `bound`. The bias of so small a bound among 32 bits is of no consequence here.
fn below(random: &mut ChaCha8Rng, bound: u32) -> u32 {
    random.next_u32() % bound
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_schedule_is_a_function_of_seed_and_number() {
        assert_eq!(Schedule::draw(7, 20), Schedule::draw(7, 20));
        let others: BTreeSet<String> =
            (0..50).map(|seed| format!("{:?}", Schedule::draw(seed, 20).faults)).collect();
        assert_eq!(others.len(), 50);
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        for seed in 0..50 {
            let schedule = Schedule::draw(seed, 16);
            for deck in schedule.faults.chunks(8) {
                let kinds: BTreeSet<Kind> = deck.iter().map(|fault| fault.kind).collect();
                assert_eq!(kinds, KINDS.into());
            }
        }
    }

    #[test]
    fn faults_come_in_order_and_leave_the_end_of_the_run_alone() {
        for (seed, faults) in [(0, 1), (1, 8), (2, 100), (3, 5000)] {
            let schedule = Schedule::draw(seed, faults);
            assert_eq!(schedule.faults.len(), faults as usize);
            assert!(schedule.faults.is_sorted_by_key(|fault| fault.at_permille));
            let steps: Vec<u64> = schedule.faults.iter().map(|fault| fault.step(60)).collect();
            assert!(steps.iter().all(|step| (2..=48).contains(step)), "{steps:?}");
        }
    }

    #[test]
    fn short_ones_and_long_ones_both_come() {
        let faults = Schedule::draw(1, 200).faults;
        let long = faults.iter().filter(|fault| fault.lasting == Lasting::TooLong).count();
        assert!((60..140).contains(&long), "{long}");
        for fault in faults {
            if let Lasting::Briefly { ms } = fault.lasting {
                assert!((BRIEFLY_MS.0..BRIEFLY_MS.1).contains(&ms));
            }
        }
    }
}
