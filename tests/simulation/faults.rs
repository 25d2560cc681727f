//! What goes wrong in a life, and when. Some instants are counted in events, so that they fall between any two things
//! that happen; others are told by the clock, so that they fall into what takes long.

use crate::random::Random;

/// Bits of the count of events before a fault: a life has some tens to some thousands of events, and the first few
/// are all of one kind.
const INSTANT_BITS: (u32, u32) = (4, 11);

/// Bits of the virtual milliseconds before a fault: workers take half a second to come, and a life some seconds.
const CLOCK_BITS: (u32, u32) = (8, 12);

/// Faults in one life.
const FAULTS_MAX: u32 = 3;

/// What may go wrong in a scenario. The last life is always spared, so that all ends well.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) crashes: bool,
    pub(crate) stops: bool,
    /// Workers die, or come too late.
    pub(crate) deaths: bool,
    pub(crate) damage: bool,
}

/// A fault other than a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Somebody asks the run to stop.
    Stop,
    /// A worker is killed.
    Death,
    /// A stored checkpoint is damaged.
    Damage,
}

/// One life of a run: from a start of the coordinator to its end or death.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) workers: u32,
    /// So many of the smallest things happen before everything is killed. Counts the parts of a decision too.
    pub(crate) crash_after: Option<u64>,
    /// By the number of events before them, in order.
    pub(crate) faults: Vec<(u64, Fault)>,
    /// By the virtual milliseconds before them.
    pub(crate) timed_faults: Vec<(u64, Fault)>,
    /// One worker comes after the time to join is over.
    pub(crate) latecomer: bool,
}

impl Weather {
    pub(crate) const ALL: Self = Self { crashes: true, stops: true, deaths: true, damage: true };

    /// A life with some of what may go wrong.
    pub(crate) fn life(self, random: &mut Random) -> Life {
        let kinds = [(self.stops, Fault::Stop), (self.deaths, Fault::Death), (self.damage, Fault::Damage)];
        let possible: Vec<Fault> =
            kinds.into_iter().filter(|(may, _)| *may).map(|(_, fault)| fault).collect();
        let count = random.between(u32::from(!self.crashes), FAULTS_MAX);
        let (mut faults, mut timed_faults) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let Some(fault) = random.pick(&possible).copied() else { break };
            if random.percent(50) {
                faults.push((random.magnitude(INSTANT_BITS.0, INSTANT_BITS.1), fault));
            } else {
                timed_faults.push((random.magnitude(CLOCK_BITS.0, CLOCK_BITS.1), fault));
            }
        }
        faults.sort_by_key(|(after, _)| *after);
        Life {
            workers: random.between(1, 8),
            crash_after: (self.crashes && random.percent(70))
                .then(|| random.magnitude(INSTANT_BITS.0, INSTANT_BITS.1)),
            faults,
            timed_faults,
            latecomer: self.deaths && random.percent(5),
        }
    }

    pub(crate) fn is_calm(self) -> bool {
        !(self.crashes || self.stops || self.deaths || self.damage)
    }

    /// A life in which nothing goes wrong.
    pub(crate) fn calm(random: &mut Random) -> Life {
        let workers = random.between(1, 8);
        Life { workers, crash_after: None, faults: Vec::new(), timed_faults: Vec::new(), latecomer: false }
    }
}
