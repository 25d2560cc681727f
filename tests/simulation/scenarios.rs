//! The scenarios: many seeds each, one world per seed.
//!
//! A seed that fails prints the command that replays it and what happened last.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lockstep_core::{Outcome, Restore};

use crate::case::Case;
use crate::checks;
use crate::faults::{Life, Weather};
use crate::planted::Planted;
use crate::random::Random;
use crate::world::World;

/// Runs one seed, or all of them.
const SEED_VARIABLE: &str = "SIMULATION_SEED";

/// Disturbed lives before the calm one.
const LIVES_MAX: u32 = 4;

/// Lines of a failed world's story that are worth reading.
const STORY_LINES: usize = 60;

type Play = fn(&mut World, &mut Random, Weather) -> Result<(), String>;

struct Scenario {
    name: &'static str,
    seeds: u64,
    weather: Weather,
    draw: fn(&mut Random) -> Case,
    play: Play,
}

impl Scenario {
    fn new(name: &'static str, seeds: u64, weather: Weather) -> Self {
        Self { name, seeds, weather, draw: Case::draw, play: until_done }
    }

    fn run(&self) {
        let seeds = match std::env::var(SEED_VARIABLE) {
            Ok(seed) => vec![seed.parse().expect("SIMULATION_SEED is a number")],
            Err(_) => (0..self.seeds).collect(),
        };
        for seed in seeds {
            if let Err(what) = self.attempt(seed, None, &mut None) {
                let mut story = Some(Vec::new());
                drop(self.attempt(seed, None, &mut story));
                let story = story.unwrap_or_default();
                let last = &story[story.len().saturating_sub(STORY_LINES)..];
                let (name, replay) = (self.name, format!("{SEED_VARIABLE}={seed} cargo test -p simulation"));
                panic!("{}\n\n{name}: {what}\nreplay with: {replay} {name}", last.join("\n"));
            }
        }
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

/// Lives under the weather, then one without, and the results.
fn until_done(world: &mut World, random: &mut Random, weather: Weather) -> Result<(), String> {
    let disturbed = if weather.is_calm() { 0 } else { random.between(1, LIVES_MAX) };
    let lives: Vec<Life> = (0..disturbed).map(|_| weather.life(random)).collect();
    for life in lives.iter().chain([&Weather::calm(random)]) {
        if let Some(Outcome::Done { early }) = world.live(life)? {
            return checks::done(world, early);
        }
    }
    Err("the last life did not end the run".to_owned())
}

/// A run that is done, and then done again with more epochs.
fn until_done_twice(world: &mut World, random: &mut Random, weather: Weather) -> Result<(), String> {
    let epochs = world.case.spec.epochs;
    world.set_epochs(random.between(1, epochs));
    until_done(world, random, weather)?;
    world.set_epochs(epochs);
    until_done(world, random, weather)
}

#[test]
fn a_run_on_any_number_of_workers_gives_the_reference_results() {
    Scenario::new("a_run_on_any_number_of_workers", 400, Weather::default()).run();
}

#[test]
fn a_run_killed_at_any_instant_gives_the_same_results() {
    let weather = Weather { crashes: true, ..Weather::default() };
    Scenario::new("a_run_killed_at_any_instant", 1000, weather).run();
}

#[test]
fn a_run_stopped_at_any_instant_gives_the_same_results() {
    let weather = Weather { stops: true, ..Weather::default() };
    Scenario::new("a_run_stopped_at_any_instant", 500, weather).run();
}

#[test]
fn a_run_that_loses_workers_gives_the_same_results() {
    let weather = Weather { deaths: true, ..Weather::default() };
    Scenario::new("a_run_that_loses_workers", 500, weather).run();
}

#[test]
fn a_run_whose_checkpoints_are_damaged_gives_the_same_results() {
    let weather = Weather { crashes: true, damage: true, ..Weather::default() };
    Scenario::new("a_run_whose_checkpoints_are_damaged", 800, weather).run();
}

#[test]
fn a_run_in_any_weather_gives_the_same_results() {
    Scenario::new("a_run_in_any_weather", 1000, Weather::ALL).run();
}

/// Restoring at the end is not for runs that go on: it makes the end of the shorter run part of the longer.
#[test]
fn a_run_that_goes_on_after_its_end_gives_the_results_of_the_longer_run() {
    let draw = |random: &mut Random| {
        let mut case = Case::draw(random);
        if case.spec.select.restore == Restore::End {
            case.spec.select.restore = Restore::Epoch;
        }
        case
    };
    let name = "a_run_that_goes_on_after_its_end";
    Scenario { draw, play: until_done_twice, ..Scenario::new(name, 400, Weather::ALL) }.run();
}

#[test]
fn planted_bugs_are_found() {
    let planted = [
        Planted::ForgetfulJournal,
        Planted::HastyStore,
        Planted::HastyDeletion,
        Planted::SaveBeforeRestore,
        Planted::StepWithoutTheLast,
        Planted::SumFromOneself,
    ];
    let scenario = Scenario::new("planted_bugs", 500, Weather { crashes: true, ..Weather::default() });
    for bug in planted {
        let found = (0..scenario.seeds).find(|seed| scenario.attempt(*seed, Some(bug), &mut None).is_err());
        assert!(found.is_some(), "{bug:?} was not found in {} seeds", scenario.seeds);
    }
}
