//! The coordinator dies while its workers go on, and another one takes over: nothing is stored twice or lost, and the bits
//! are those of a run that nothing happened to.

use serde_json::Value;

use crate::cluster::{Cluster, Finished, has_made};
use crate::process::{send, until};
use crate::recipes::{ELASTIC, ELASTIC_STEPS};
use crate::run_files::RunFiles;

/// Waits until `worker` has made `step` while nobody coordinates.
fn until_made_alone(run: &RunFiles, worker: &str, step: u64) {
    until(&format!("step {step} of {worker} without a coordinator"), || has_made(run, worker, step));
}

/// Waits until `worker` has trained `epoch` to its end.
fn until_trained(run: &RunFiles, worker: &str, epoch: u64) {
    let words = format!("epoch trained epoch={epoch} ");
    let log = format!("logs/{worker}.log");
    until(&format!("{worker} to have trained epoch {epoch}"), || {
        run.text(&log).contains(&words).then_some(())
    });
}

/// The workers that the coordinator started are those that the run ended with, and one generation served.
#[track_caller]
fn nobody_had_to_start_again(finished: &Finished, members: &[(String, u32)]) {
    let run = finished.run();
    let began = run.events_of("generation_began");
    assert_eq!(began.len(), 1, "{began:#?}");
    assert_eq!(run.events_of("taken_over").len(), 1);
    assert_eq!(run.events_of("resumed"), Vec::<Value>::new());
    assert_eq!(run.events_of("worker_lost"), Vec::<Value>::new());
    for (name, pid) in members {
        let log = run.text(&format!("logs/{name}.log"));
        assert_eq!(log.matches("generation formed").count(), 1, "{name}, process {pid}");
    }
}

#[test]
fn workers_step_on_without_their_coordinator_and_the_next_one_finds_them_in_the_same_generation() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2");
    cluster.until_step("worker-0", 3);
    let members = cluster.members();
    cluster.kill_coordinator();
    until_made_alone(&cluster.run(), "worker-0", 8);
    let cluster = cluster.resumed(&[]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    nobody_had_to_start_again(&finished, &members);
}

#[test]
fn a_coordinator_that_comes_back_after_an_epochs_end_decides_on_it() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2");
    cluster.until_step("worker-0", ELASTIC_STEPS - 3);
    let members = cluster.members();
    cluster.kill_coordinator();
    for (worker, _) in &members {
        until_trained(&cluster.run(), worker, 0);
    }
    let cluster = cluster.resumed(&[]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    nobody_had_to_start_again(&finished, &members);
}

#[test]
fn a_coordinator_killed_over_and_over_changes_nothing() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2");
    // Around the end of an epoch, its verdict and the upload of its checkpoint.
    let steps = [ELASTIC_STEPS, ELASTIC_STEPS + 2, 2 * ELASTIC_STEPS, 3 * ELASTIC_STEPS - 6];
    for (before, step) in steps.into_iter().enumerate() {
        cluster.until_step("worker-0", step);
        cluster.kill_coordinator();
        cluster = cluster.resumed(&[]);
        // Workers go on meanwhile: the next step to strike at may have been made already.
        cluster.until("the takeover", |run| (run.events_of("taken_over").len() > before).then_some(()));
    }
    let finished = cluster.ends_like(&undisturbed.outcome);
    assert_eq!(finished.run().events_of("taken_over").len(), 4);
}

#[test]
fn a_worker_that_dies_while_the_coordinator_is_away_is_missed_and_another_process_takes_its_place() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2..2");
    cluster.until_step("worker-0", ELASTIC_STEPS + 3);
    let members = cluster.members();
    cluster.kill_coordinator();
    until_made_alone(&cluster.run(), "worker-0", ELASTIC_STEPS + 5);
    send("KILL", &[members[1].1]);
    let mut cluster = cluster.resumed(&[]);
    cluster.until_members(1, &["worker-0", "worker-1"]);
    assert_eq!(cluster.pid("worker-0"), members[0].1, "who lives stays");
    assert_ne!(cluster.pid("worker-1"), members[1].1);
    let finished = cluster.ends_like(&undisturbed.outcome);
    assert_eq!(finished.run().events_of("resumed"), Vec::<Value>::new(), "the survivor has the state");
}

#[test]
fn after_everything_was_killed_at_once_another_number_of_workers_goes_on() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train_with(&ELASTIC, "2", &["checkpoint.every_steps=4"], |_, _| {});
    cluster.until_step("worker-0", ELASTIC_STEPS + 6);
    cluster.until("a checkpoint within the epoch", |run| run.stored(ELASTIC_STEPS + 1));
    cluster.kill_everything();
    let cluster = cluster.resumed(&["--workers", "3"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    let run = finished.run();
    let from = run.event("resumed").unwrap()["position"]["step"].as_u64().unwrap();
    assert!(from >= ELASTIC_STEPS, "{from}");
    assert_eq!(run.newest_generation().unwrap()["members"].as_array().unwrap().len(), 3);
}
