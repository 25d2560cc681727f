//! Many seeds of one scenario, on all processors. A seed that fails prints the command that replays it and what
//! happened last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use lockstep_core::Outcome;

use crate::case::Case;
use crate::checks;
use crate::faults::{Life, Weather};
use crate::planted::Planted;
use crate::random::Random;
use crate::world::World;

/// Runs one seed, or all of them.
const SEED_VARIABLE: &str = "SIMULATION_SEED";

/// How many schedules there are in all scenarios together.
const SCHEDULES_VARIABLE: &str = "SIMULATION_SCHEDULES";

/// In a normal run of the tests.
const SCHEDULES: u64 = 10_000;

/// Disturbed lives before the calm one.
const LIVES_MAX: u32 = 3;

/// Lines of a failed world's story that are worth reading, unless somebody wants more.
const STORY_LINES: usize = 80;

pub(crate) type Play = fn(&mut World, &mut Random, Weather) -> Result<(), String>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Its share of all schedules, in hundredths.
    pub(crate) share: u64,
    pub(crate) weather: Weather,
    pub(crate) draw: fn(&mut Random) -> Case,
    pub(crate) play: Play,
}

impl Scenario {
    pub(crate) fn new(name: &'static str, share: u64, weather: Weather) -> Self {
        Self { name, share, weather, draw: Case::draw, play: until_done }
    }

    /// Runs its share of the schedules, or the one that somebody wants to see again.
    pub(crate) fn run(&self) {
        let seeds = schedules() * self.share / 100;
        self.report(wanted_failure(seeds, |seed| self.attempt(seed, None, &mut None)));
    }

    /// The lowest seed that fails, with what was wrong.
    pub(crate) fn first_failure(&self, seeds: u64, planted: Option<Planted>) -> Option<(u64, String)> {
        first_failure(seeds, |seed| self.attempt(seed, planted, &mut None))
    }

    /// Whether a schedule is as it should be when no bug is planted.
    pub(crate) fn is_sound(&self, seed: u64) -> bool {
        self.attempt(seed, None, &mut None).is_ok()
    }

    fn report(&self, failure: Option<(u64, String)>) {
        let Some((seed, what)) = failure else { return };
        let mut story = Some(Vec::new());
        drop(self.attempt(seed, None, &mut story));
        tell(self.name, seed, &what, &story.unwrap_or_default());
    }

    /// One world. A panic in it is a failure like any other. Its story goes to `story`, if there is room for one.
    fn attempt(
        &self,
        seed: u64,
        planted: Option<Planted>,
        story: &mut Option<Vec<String>>,
    ) -> Result<(), String> {
        let mut random = Random::new(seed);
        let case = (self.draw)(&mut random);
        let mut world = World::new(case, planted, random.fork());
        world.told = story.take();
        let played = catch_unwind(AssertUnwindSafe(|| (self.play)(&mut world, &mut random, self.weather)));
        *story = world.told;
        played.unwrap_or_else(|_| Err("a panic".to_owned()))
    }
}

/// How many there are in all scenarios together.
pub(crate) fn schedules() -> u64 {
    number(SCHEDULES_VARIABLE).unwrap_or(SCHEDULES)
}

/// The first failure, or that of the seed that somebody wants to see again.
pub(crate) fn wanted_failure(
    seeds: u64,
    attempt: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    match number(SEED_VARIABLE) {
        Some(seed) => attempt(seed).err().map(|what| (seed, what)),
        None => first_failure(seeds, attempt),
    }
}

/// The lowest seed that fails, with what was wrong. Later ones are not tried once one has failed.
pub(crate) fn first_failure(
    seeds: u64,
    attempt: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let failure: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Err(what) = attempt(seed) {
                        next.fetch_max(seeds, Ordering::Relaxed);
                        let mut first = failure.lock().expect("no thread panics with it");
                        if first.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                            *first = Some((seed, what));
                        }
                    }
                }
            });
        }
    });
    failure.into_inner().expect("no thread panics with it")
}

/// Fails a test with what happened last, and how to see it again.
pub(crate) fn tell(name: &str, seed: u64, what: &str, story: &[String]) -> ! {
    let lines = number("SIMULATION_STORY").map_or(STORY_LINES, |lines| lines as usize);
    let last = &story[story.len().saturating_sub(lines)..];
    let replay = format!("{SEED_VARIABLE}={seed} cargo test -p simulation");
    panic!("{}\n\n{name}: {what}\nreplay with: {replay} {name}", last.join("\n"));
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value}")))
}

/// Lives under the weather, then one without, and the results.
pub(crate) fn until_done(world: &mut World, random: &mut Random, weather: Weather) -> Result<(), String> {
    let disturbed = if weather.is_calm() { 0 } else { random.between(1, LIVES_MAX) };
    let lives: Vec<Life> = (0..disturbed).map(|_| weather.life(&world.case, random)).collect();
    for life in lives.iter().chain([&Weather::calm(&world.case, random)]) {
        if let Some(Outcome::Done { early }) = world.live(life)? {
            return checks::done(world, early);
        }
    }
    Err("the last life did not end the run".to_owned())
}

/// A run that is done, and then done again with more epochs.
pub(crate) fn until_done_twice(
    world: &mut World,
    random: &mut Random,
    weather: Weather,
) -> Result<(), String> {
    let epochs = world.case.spec.epochs;
    world.set_epochs(random.between(1, epochs));
    until_done(world, random, weather)?;
    world.set_epochs(epochs);
    until_done(world, random, weather)
}
