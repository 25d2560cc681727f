//! Many runs and the workers that are dealt out among them, under virtual time: runs are submitted, cancelled and over,
//! workers come, die, leave and are drained, what is asked back comes back late or never, and coordinators come back.
//! Whatever happens, the pool keeps its promises, and in the end every run has had its turn that could have one.
//!
//! Reading order: `mirror` (what anybody can know from what was told), `promises` and `reasons` (what must hold), `world`
//! (how it comes about), `planted` (what the checks must find).

mod cost;
mod mirror;
mod planted;
mod promises;
mod reasons;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::planted::Planted;
use self::world::World;
use crate::campaign::{first_failure, schedules, tell, wanted_failure};

/// A planted bug is found within so many schedules.
const PLANTED_SCHEDULES: u64 = 2000;

/// One world. A panic in it is a failure like any other.
fn attempt(seed: u64, planted: Option<Planted>, story: &mut Option<Vec<String>>) -> Result<(), String> {
    let mut world = World::new(seed, planted, story.take());
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    *story = world.told;
    lived.unwrap_or_else(|_| Err("a panic".to_owned()))
}

#[test]
fn a_pool_keeps_its_promises_whatever_comes_and_goes() {
    let failure = wanted_failure(schedules(), |seed| attempt(seed, None, &mut None));
    if let Some((seed, what)) = failure {
        let mut story = Some(Vec::new());
        drop(attempt(seed, None, &mut story));
        tell("a_pool_keeps_its_promises", seed, &what, &story.unwrap_or_default());
    }
}

#[test]
fn bugs_planted_around_the_pool_are_found() {
    for bug in Planted::ALL {
        let found = first_failure(PLANTED_SCHEDULES, |seed| attempt(seed, Some(bug), &mut None));
        let Some((seed, what)) = found else {
            panic!("{bug:?} was not found in {PLANTED_SCHEDULES} schedules");
        };
        assert_eq!(attempt(seed, None, &mut None), Ok(()), "schedule {seed} fails without {bug:?} too");
        println!("{bug:?}: seed {seed}: {what:.160}");
    }
}
