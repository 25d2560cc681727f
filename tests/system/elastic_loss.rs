//! A worker dies, hangs or is held up in the middle of a run: the others go on, another one takes its place, and the
//! bits are those of a run that nothing happened to.

use crate::cluster::{Cluster, Finished, has_made, shards};
use crate::home::RUN;
use crate::process::{await_stopped, send};
use crate::recipes::{ELASTIC, ELASTIC_STEPS, Recipe};

/// The receipt and the account of a worker's death.
#[track_caller]
fn tells_of_the_death_of(worker: &str, finished: &Finished) {
    let run = finished.run();
    let lost = run.event("worker_lost").unwrap();
    assert_eq!(lost["worker"], worker);
    // Another member may miss it, or its session may end, before its parent process hears of its end.
    let reason = lost["reason"].as_str().unwrap();
    let told = ["killed by signal 9", " lost it: ", "its connections ended"];
    assert!(told.iter().any(|told| reason.contains(told)), "{lost:#}");
    assert!(!lost["log"].as_array().unwrap().is_empty(), "its last words are told too");
    let receipt = finished.receipt("loss");
    assert_eq!(receipt["culprit"], worker);
    assert!(receipt["steps_lost"].as_u64().unwrap() <= 1, "{receipt:#}");
}

/// Kills `victim` in the middle of an epoch. With one worker less than `workers` the run waits for its successor.
fn one_is_killed_and_started_again(workers: &str, victim: &str) {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, workers);
    cluster.until_step(victim, ELASTIC_STEPS + 5);
    let all: Vec<String> = cluster.members().into_iter().map(|(name, _)| name).collect();
    let killed = cluster.pid(victim);
    cluster.signal("KILL", victim);
    cluster.until_members(1, &all.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(cluster.pid(victim), killed);
    let finished = cluster.ends_like(&undisturbed.outcome);
    tells_of_the_death_of(victim, &finished);
}

#[test]
fn the_first_worker_is_killed_and_another_process_takes_its_place() {
    one_is_killed_and_started_again("2..2", "worker-0");
}

#[test]
fn the_last_worker_of_three_is_killed_and_another_process_takes_its_place() {
    one_is_killed_and_started_again("3..3", "worker-2");
}

#[test]
fn the_others_take_over_the_shards_of_a_killed_worker_and_go_on() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train_with(&ELASTIC, "3", &["max_restarts=9"], |_, _| {});
    cluster.until_step("worker-1", 4);
    cluster.signal("KILL", "worker-1");
    cluster.until_members(1, &["worker-0", "worker-2"]);
    let run = cluster.run();
    let began = run.events_of("generation_began").into_iter().find(|event| event["generation"] != 1).unwrap();
    assert_eq!(shards(&began), [serde_json::json!([0, 2]), serde_json::json!([2, 4])]);
    cluster.ends_like(&undisturbed.outcome);
}

#[test]
fn a_worker_that_stands_still_is_found_and_another_process_takes_its_place() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2..2");
    cluster.until_step("worker-1", 5);
    let stopped = cluster.pid("worker-1");
    cluster.signal("STOP", "worker-1");
    cluster.until_members(1, &["worker-0", "worker-1"]);
    assert_ne!(cluster.pid("worker-1"), stopped);
    let finished = cluster.ends_like(&undisturbed.outcome);
    let receipt = finished.receipt("loss");
    assert_eq!(receipt["culprit"], "worker-1", "not the one that waited for it");
}

#[test]
fn a_worker_that_was_held_up_for_a_moment_goes_on() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2..2");
    for step in [3, ELASTIC_STEPS + 3, 2 * ELASTIC_STEPS + 3] {
        cluster.until_step("worker-0", step);
        let pid = cluster.pid("worker-0");
        send("STOP", &[pid]);
        await_stopped(pid);
        send("CONT", &[pid]);
    }
    let finished = cluster.ends_like(&undisturbed.outcome);
    assert_eq!(finished.run().events_of("worker_lost"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_worker_is_killed_while_the_members_evaluate() {
    // Its evaluation takes a good part of a second.
    static EVALUATING: Recipe = Recipe::new(&[
        "data.name=shapes",
        "data.train=640",
        "data.validation=600",
        "data.test=20",
        "model.name=resnet18",
        "batch=8",
        "shards=4",
        "epochs=2",
        "optimizer.lr=0.001",
        "train.trainable=[\"*bn*\", \"fc.*\"]",
    ]);
    let undisturbed = EVALUATING.undisturbed();
    let mut cluster = Cluster::train(&EVALUATING, "2..2");
    cluster.until_step("worker-1", 5);
    cluster.signal("KILL", "worker-1");
    let again = cluster.until_members(1, &["worker-0", "worker-1"]);
    // The other one as well, when the last step of the second epoch is made.
    cluster.until_step("worker-0", 10);
    cluster.signal("KILL", "worker-0");
    cluster.until_members(again, &["worker-0", "worker-1"]);
    cluster.ends_like(&undisturbed.outcome);
}

#[test]
fn the_first_worker_is_killed_while_it_uploads_a_checkpoint() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2..2");
    let unfinished = |run: &crate::run_files::RunFiles| run.has_unfinished_checkpoint().then_some(());
    cluster.until("a checkpoint on its way", unfinished);
    cluster.signal("KILL", "worker-0");
    cluster.until_members(1, &["worker-0", "worker-1"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    tells_of_the_death_of("worker-0", &finished);
}

#[test]
fn the_best_weights_are_loaded_back_after_each_epoch_whoever_dies() {
    static RESTORING: Recipe = Recipe::new(&[
        "data.name=shapes",
        "data.train=96",
        "data.validation=16",
        "data.test=20",
        "model.name=resnet18",
        "batch=8",
        "shards=4",
        "epochs=4",
        "optimizer.lr=1e-8",
        "train.trainable=[\"fc.*\"]",
        "select.restore=epoch",
    ]);
    let undisturbed = RESTORING.undisturbed();
    let restored = |events: &[serde_json::Value]| {
        let ended = events.iter().filter(|event| event["event"] == "epoch_ended");
        ended.map(|event| event["restored"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(restored(&undisturbed.events), [None, Some(10), Some(10), Some(10)]);
    let mut cluster = Cluster::train(&RESTORING, "2..2");
    // At the end of the epoch whose weights are the best, while nothing but the members holds them.
    cluster.until_step("worker-0", 10);
    cluster.signal("KILL", "worker-0");
    let again = cluster.until_members(1, &["worker-0", "worker-1"]);
    // At the end of one that is undone.
    cluster.until_step("worker-1", 20);
    cluster.signal("KILL", "worker-1");
    cluster.until_members(again, &["worker-0", "worker-1"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    assert_eq!(restored(&finished.run().events()), restored(&undisturbed.events));
}

#[test]
fn a_worker_that_dies_over_and_over_fails_the_run_with_its_last_words() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train_with(&ELASTIC, "2..2", &["max_restarts=1"], |_, _| {});
    cluster.until_step("worker-1", 3);
    cluster.signal("KILL", "worker-1");
    let again = cluster.until_members(1, &["worker-0", "worker-1"]);
    cluster.until_receipt(again - 1);
    cluster.signal("KILL", "worker-1");
    let Cluster { coordinator, home } = cluster;
    let ended = coordinator.wait().expect(4);
    ended.says(&[
        &format!("error: run {RUN} failed: "),
        "(1 of 1): its process ended (killed by signal 9",
        "all that max_restarts allows",
        "step step=",
        &format!("lockstep resume {RUN}"),
    ]);
    assert_eq!(home.run().status()["status"], "failed");
    assert!(has_made(&home.run(), "worker-1", 3 * ELASTIC_STEPS).is_none());
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
}
