//! What goes wrong in a life, and when. Some instants are counted in events, so that they fall between any two things
//! that happen; others are told by the clock, so that they fall into what takes long.

use lockstep_core::WorkerBounds;

use crate::case::{Case, WORKERS_MAX};
use crate::network::Roughness;
use crate::random::Random;

/// Bits of the count of events before a fault: a life has some tens to some thousands of events, and the first few
/// are all of one kind.
const INSTANT_BITS: (u32, u32) = (4, 13);

/// Bits of the virtual milliseconds before a fault: workers take half a second to come, and a life some seconds.
const CLOCK_BITS: (u32, u32) = (8, 13);

/// Bits of the virtual milliseconds that something lasts: some are over before anybody can notice, some outlast leases.
const SPAN_BITS: (u32, u32) = (6, 13);

/// Faults in one life.
const FAULTS_MAX: u32 = 10;

/// From then on nothing goes wrong in a life any more.
const CALM_MS: u64 = 10_000;

/// What may go wrong in a scenario. The last life is always spared, so that all ends well.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Everything is killed at once.
    pub(crate) crashes: bool,
    pub(crate) stops: bool,
    /// Workers die, freeze, hang, leave and come.
    pub(crate) members: bool,
    /// Connections break, stall or lose what is sent.
    pub(crate) links: bool,
    /// Coordinators die between any two effects, come back, and are taken over from while they live.
    pub(crate) coordinators: bool,
    pub(crate) damage: bool,
}

/// A fault other than a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Somebody asks the run to stop.
    Stop,
    /// A worker is killed: its connections end.
    Kill,
    /// A worker's machine is gone, and says nothing any more.
    Vanish,
    /// All workers are killed at once.
    KillAll,
    /// A worker is stopped, and goes on later.
    Freeze,
    /// A worker's device hangs for a while; its session does not.
    Hang,
    /// A worker is asked to leave.
    Terminate,
    /// Somebody else needs a worker of the run.
    AskBack,
    /// Another worker comes.
    Newcomer,
    /// A worker and the coordinators are cut off from each other.
    CutControl,
    /// A worker's session breaks.
    BreakSession,
    /// Two workers are cut off from each other: what they send waits.
    StallData,
    /// Two workers are cut off from each other: their connection breaks, and there is no new one for a while.
    BreakData,
    /// The coordinator is killed and started again.
    Restart,
    /// Another coordinator takes over from one that lives.
    Usurp,
    /// A stored checkpoint is damaged.
    Damage,
}

/// What a crash takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    Coordinator,
}

/// One life of a run: from a start on what is on the disk to the run's end or everything's death.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) bounds: WorkerBounds,
    /// That come at the start.
    pub(crate) workers: u32,
    /// Crashes after so many of the smallest things that happen, counted one after another. The parts of a decision
    /// count too.
    pub(crate) fuses: Vec<(u64, Scope)>,
    /// By the number of events before them, in order.
    pub(crate) faults: Vec<(u64, Fault)>,
    /// By the virtual milliseconds before them.
    pub(crate) timed_faults: Vec<(u64, Fault)>,
    pub(crate) roughness: Roughness,
    pub(crate) calm_ms: u64,
}

impl Weather {
    pub(crate) const ALL: Self =
        Self { crashes: true, stops: true, members: true, links: true, coordinators: true, damage: true };

    /// A life with some of what may go wrong.
    pub(crate) fn life(self, case: &Case, random: &mut Random) -> Life {
        let possible = self.possible();
        let mut life = Self::calm(case, random);
        life.calm_ms = CALM_MS;
        let count = random.between(u32::from(!self.crashes), FAULTS_MAX);
        for _ in 0..count {
            let Some(fault) = random.pick(&possible).copied() else { break };
            if random.percent(50) {
                life.faults.push((random.magnitude(INSTANT_BITS.0, INSTANT_BITS.1), fault));
            } else {
                life.timed_faults.push((random.magnitude(CLOCK_BITS.0, CLOCK_BITS.1), fault));
            }
        }
        life.faults.sort_by_key(|(after, _)| *after);
        if self.links && random.percent(40) {
            life.roughness = Roughness {
                lost: random.below(15),
                doubled: random.below(15),
                late_ms: random.magnitude(0, 7),
            };
        }
        let crashes = [(self.coordinators, Scope::Coordinator), (self.crashes, Scope::Everything)];
        for (may, scope) in crashes {
            if may && random.percent(50) {
                life.fuses.push((random.magnitude(INSTANT_BITS.0, INSTANT_BITS.1), scope));
            }
        }
        life
    }

    fn possible(self) -> Vec<Fault> {
        let mut possible = Vec::new();
        let mut may = |may: bool, faults: &[Fault]| {
            if may {
                possible.extend_from_slice(faults);
            }
        };
        may(self.stops, &[Fault::Stop]);
        may(
            self.members,
            &[
                Fault::Kill,
                Fault::Kill,
                Fault::Vanish,
                Fault::KillAll,
                Fault::Freeze,
                Fault::Hang,
                Fault::Terminate,
                Fault::AskBack,
                Fault::Newcomer,
            ],
        );
        may(self.links, &[Fault::CutControl, Fault::BreakSession, Fault::StallData, Fault::BreakData]);
        may(self.coordinators, &[Fault::Restart, Fault::Usurp, Fault::Usurp]);
        may(self.damage, &[Fault::Damage]);
        possible
    }

    pub(crate) fn is_calm(self) -> bool {
        self.possible().is_empty() && !self.crashes
    }

    /// A life in which nothing goes wrong.
    pub(crate) fn calm(case: &Case, random: &mut Random) -> Life {
        let start = random.between(1, case.spec.workers.start);
        let min = random.between(1, case.spec.workers.min.min(start));
        let workers = if random.percent(95) { start } else { random.between(min, start) };
        Life {
            bounds: WorkerBounds { min, start, max: random.between(start, WORKERS_MAX) },
            workers,
            fuses: Vec::new(),
            faults: Vec::new(),
            timed_faults: Vec::new(),
            roughness: Roughness::default(),
            calm_ms: 0,
        }
    }
}

/// How long something lasts.
pub(crate) fn span_ms(random: &mut Random) -> u64 {
    random.magnitude(SPAN_BITS.0, SPAN_BITS.1)
}
