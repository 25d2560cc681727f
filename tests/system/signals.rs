//! The first signal stops a run at a step boundary with a checkpoint, the second at once.

use serde_json::Value;

use crate::home::{Home, RUN};
use crate::process::{Ended, Running, await_gone, send};
use crate::recipes::{FULL, Recipe, STEPS};

/// Starts `recipe` and sends `signal` once it trains.
fn stopped_by(signal: &str, home: &Home, recipe: &Recipe) -> Ended {
    let mut running = Running::start(&mut home.train(2, recipe.settings));
    running.until("training", || home.run().event("generation_began"));
    let workers = running.children();
    running.signal(signal);
    let ended = running.wait();
    await_gone(&workers);
    ended
}

/// The run stopped within its first epoch, and is in order.
#[track_caller]
fn is_stopped_with_a_checkpoint(home: &Home, ended: &Ended) {
    let run = home.run();
    let status = run.status();
    assert_eq!(status["status"], "stopped");
    let step = status["position"]["step"].as_u64().unwrap();
    assert!((1..STEPS).contains(&step), "step {step} is within the first epoch");
    ended.says(&[&format!("stopped at step {step}"), &format!("lockstep resume {RUN}")]);
    assert_eq!(run.points_at("last"), step);
    run.verify_checkpoints();
}

#[test]
fn an_interrupt_stops_after_the_step_with_a_checkpoint_and_resume_gives_the_same_bits() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    let ended = stopped_by("INT", &home, &FULL).expect(130);
    is_stopped_with_a_checkpoint(&home, &ended);
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
}

#[test]
fn a_termination_stops_the_same_way_with_its_own_exit_code() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    let ended = stopped_by("TERM", &home, &FULL).expect(143);
    is_stopped_with_a_checkpoint(&home, &ended);
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
}

#[test]
fn a_second_interrupt_aborts_at_once_and_leaves_no_process_behind() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    let mut running = Running::start(&mut home.train(2, FULL.settings));
    let workers = running.until("two workers", || running_workers(&home));

    // While somebody works on it, nobody else does.
    let other = running.beside(&mut home.resume(&[])).expect(2);
    other.says(&["is being worked on by another process", "hint: "]);

    // No step ends, and so the run does not stop, while one of the workers stands still.
    send("STOP", &workers[..1]);
    running.signal("INT");
    running.until("the request to stop", || home.run().event("stop_requested"));
    running.signal("INT");
    let ended = running.wait().expect(130);
    ended.says(&["aborted, without a checkpoint", &format!("lockstep resume {RUN}")]);
    await_gone(&workers);
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
}

/// The workers' process ids, by rank, once they train.
fn running_workers(home: &Home) -> Option<Vec<u32>> {
    let began = home.run().event("generation_began")?;
    let pid = |member: &Value| u32::try_from(member["pid"].as_u64().unwrap()).unwrap();
    Some(began["members"].as_array().unwrap().iter().map(pid).collect())
}
