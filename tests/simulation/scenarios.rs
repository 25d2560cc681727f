//! The scenarios: what may go wrong in each, and what must come out all the same.

use lockstep_core::{Outcome, Restore};

use crate::campaign::{Scenario, until_done, until_done_twice};
use crate::case::Case;
use crate::checks;
use crate::faults::{Fault, Weather};
use crate::planted::Planted;
use crate::random::Random;
use crate::world::World;

/// A planted bug is found within so many schedules, half of what the tests run anyway.
const PLANTED_SCHEDULES: u64 = 5000;

/// With few workers it is more likely that all depends on one of them.
fn on_few_workers(random: &mut Random) -> Case {
    let mut case = Case::draw(random);
    let workers = &mut case.spec.workers;
    (workers.min, workers.start) = (1, workers.start.min(3));
    case
}

/// Nothing goes wrong: one generation, formed once.
fn in_one_generation(world: &mut World, random: &mut Random, weather: Weather) -> Result<(), String> {
    until_done(world, random, weather)?;
    match world.lineage.generations() {
        1 => Ok(()),
        generations => Err(format!("{generations} generations began for no reason")),
    }
}

/// The coordinator dies once, while all members are at work: they notice nothing but that nobody answers for a while.
fn in_the_same_generation(world: &mut World, random: &mut Random, _: Weather) -> Result<(), String> {
    let mut life = Weather::calm(&world.case, random);
    let after_ms = 500 + random.below(2000);
    life.timed_faults.push((after_ms, Fault::Restart));
    life.calm_ms = 2 * after_ms;
    world.trusting = true;
    match world.live(&life)? {
        Some(Outcome::Done { early }) => checks::done(world, early)?,
        ended => return Err(format!("ended as {ended:?}")),
    }
    match world.at_work {
        Some(generations) if generations != world.lineage.generations() => {
            Err(format!("the members were at work, and {} generations began", world.lineage.generations()))
        }
        _ => Ok(()),
    }
}

#[test]
fn a_run_whose_coordinator_comes_back_goes_on_in_the_same_generation() {
    let draw = |random: &mut Random| {
        let mut case = Case::draw(random);
        case.spec.lease_ms = 3000;
        case
    };
    let name = "a_run_whose_coordinator_comes_back";
    let scenario = Scenario::new(name, 5, Weather::default());
    Scenario { draw, play: in_the_same_generation, ..scenario }.run();
}

#[test]
fn a_run_on_any_number_of_workers_gives_the_reference_results() {
    let name = "a_run_on_any_number_of_workers";
    Scenario { play: in_one_generation, ..Scenario::new(name, 5, Weather::default()) }.run();
}

#[test]
fn a_run_killed_at_any_instant_gives_the_same_results() {
    let weather = Weather { crashes: true, ..Weather::default() };
    Scenario::new("a_run_killed_at_any_instant", 8, weather).run();
}

#[test]
fn a_run_stopped_at_any_instant_gives_the_same_results() {
    let weather = Weather { stops: true, ..Weather::default() };
    Scenario::new("a_run_stopped_at_any_instant", 5, weather).run();
}

#[test]
fn a_run_whose_workers_come_and_go_gives_the_same_results() {
    let weather = Weather { members: true, ..Weather::default() };
    Scenario::new("a_run_whose_workers_come_and_go", 12, weather).run();
}

#[test]
fn a_run_whose_links_break_gives_the_same_results() {
    let weather = Weather { links: true, ..Weather::default() };
    Scenario::new("a_run_whose_links_break", 10, weather).run();
}

#[test]
fn a_run_whose_coordinators_die_gives_the_same_results() {
    let weather = Weather { coordinators: true, ..Weather::default() };
    Scenario::new("a_run_whose_coordinators_die", 10, weather).run();
}

#[test]
fn a_run_whose_checkpoints_are_damaged_gives_the_same_results() {
    let weather = Weather { crashes: true, damage: true, ..Weather::default() };
    Scenario::new("a_run_whose_checkpoints_are_damaged", 5, weather).run();
}

#[test]
fn a_run_in_any_weather_gives_the_same_results() {
    Scenario::new("a_run_in_any_weather", 25, Weather::ALL).run();
}

#[test]
fn a_run_on_few_workers_in_any_weather_gives_the_same_results() {
    let scenario =
        Scenario::new("a_run_on_few_workers", 10, Weather { stops: false, damage: false, ..Weather::ALL });
    Scenario { draw: on_few_workers, ..scenario }.run();
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
    Scenario { draw, play: until_done_twice, ..Scenario::new(name, 5, Weather::ALL) }.run();
}

#[test]
fn planted_bugs_are_found() {
    let weather = Weather { stops: false, damage: false, ..Weather::ALL };
    let scenario = Scenario { draw: on_few_workers, ..Scenario::new("planted_bugs", 0, weather) };
    for bug in Planted::ALL {
        let found = scenario.first_failure(PLANTED_SCHEDULES, Some(bug));
        let Some((seed, what)) = found else {
            panic!("{bug:?} was not found in {PLANTED_SCHEDULES} schedules");
        };
        assert!(scenario.is_sound(seed), "schedule {seed} fails without {bug:?} too");
        println!("{bug:?}: seed {seed}: {what:.160}");
    }
}
