//! Workers come and go on purpose, and everything is stopped at once: no step is lost, and the bits are those of a run
//! that nothing happened to.

use std::fs;

use serde_json::Value;

use crate::cluster::{Cluster, address, shards, start_by, steps};
use crate::process::{await_gone, send, until};
use crate::recipes::{ELASTIC, ELASTIC_STEPS};

#[test]
fn a_worker_that_is_told_to_go_leaves_at_a_boundary_and_the_others_go_on() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "3");
    cluster.until_step("worker-1", 5);
    cluster.signal("TERM", "worker-1");
    let smaller = cluster.until_members(1, &["worker-0", "worker-2"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    let run = finished.run();
    let receipt = finished.receipt("leave");
    assert_eq!(receipt["culprit"], "worker-1");
    assert_eq!(receipt["steps_lost"], 0);
    assert_eq!(run.event("worker_left").unwrap()["worker"], "worker-1");
    assert_eq!(run.events_of("worker_lost"), Vec::<Value>::new());
    assert!(run.text("logs/coordinator.log").contains("exit code 143"));
    let newest = run.newest_generation().unwrap();
    assert_eq!(newest["generation"], smaller, "nobody took its place");
}

#[test]
fn a_worker_that_comes_later_takes_its_shards_and_no_step_is_lost() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "2");
    // Makes room for it.
    cluster.until_step("worker-1", 2);
    cluster.signal("TERM", "worker-1");
    let smaller = cluster.until_members(1, &["worker-0"]);
    let guest = cluster.join("guest");
    let larger = cluster.until_members(smaller, &["guest", "worker-0"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    guest.wait().expect(0);
    let receipt = finished.receipt("join");
    assert_eq!((&receipt["generation"], &receipt["culprit"]), (&larger.into(), &"guest".into()));
    assert_eq!(receipt["steps_lost"], 0);
    let newest = finished.run().newest_generation().unwrap();
    assert_eq!(shards(&newest), [serde_json::json!([0, 2]), serde_json::json!([2, 4])]);
    changes_are_told_by_the_status(&finished.status(), &["start", "leave", "join"]);
}

/// With a receipt each.
#[track_caller]
fn changes_are_told_by_the_status(status: &Value, causes: &[&str]) {
    let receipts = status["generations"].as_array().unwrap().iter().map(|generation| &generation["receipt"]);
    let told: Vec<&str> = receipts.clone().map(|receipt| receipt["cause"].as_str().unwrap()).collect();
    assert_eq!(told, causes);
    for receipt in receipts {
        let of = |part: &str| receipt[part].as_u64().unwrap();
        let parts = ["detect_ms", "halt_ms", "agree_ms", "connect_ms", "state_ms", "first_step_ms"].map(of);
        // Some are the slowest member's, and on the way from and to the members time passes too.
        assert!(parts.iter().all(|part| *part <= of("total_ms")), "{receipt:#}");
        assert!(parts[1..].iter().sum::<u64>() > 0, "{receipt:#}");
    }
}

#[test]
fn with_fewer_workers_than_the_least_a_run_waits_and_says_for_what() {
    let undisturbed = ELASTIC.undisturbed();
    let cluster = Cluster::train_with(&ELASTIC, "2..2", &[], |home, command| {
        let come = home.beside("come");
        let words = format!("until [ -e '{}' ]; do sleep 0.02; done", come.display());
        start_by(home, command, "worker-1", &words);
    });
    until("a word on what is waited for", || {
        let status = cluster.home.status()?;
        let waits = status["phase"] == "gathering workers" && status["reason"] == "1 of 2 workers are ready";
        waits.then_some(())
    });
    assert!(cluster.run().event("generation_began").is_none());
    fs::write(cluster.home.beside("come"), "").unwrap();
    cluster.ends_like(&undisturbed.outcome);
}

#[test]
fn a_termination_of_every_process_stores_the_step_and_a_resume_gives_the_same_bits() {
    let undisturbed = ELASTIC.undisturbed();
    let mut cluster = Cluster::train(&ELASTIC, "3");
    cluster.until_step("worker-1", ELASTIC_STEPS + 3);
    let processes = cluster.home.processes();
    assert_eq!(processes.len(), 4);
    send("TERM", &processes);
    let Cluster { coordinator, home } = cluster;
    let ended = coordinator.wait().expect(143);
    await_gone(&processes);

    let run = home.run();
    assert_eq!(run.status()["status"], "stopped");
    let step = run.status()["position"]["step"].as_u64().unwrap();
    ended.says(&[&format!("stopped at step {step}")]);
    assert_eq!(run.points_at("last"), step);
    run.verify_checkpoints();
    let log = run.text("logs/coordinator.log");
    assert_eq!(log.matches("exit code 143").count(), 3, "each worker was stopped by the signal\n{log}");
    for worker in ["worker-0", "worker-1", "worker-2"] {
        let made = steps(&run.text(&format!("logs/{worker}.log"))).max();
        assert_eq!(made, Some(step), "the step that {worker} was at");
    }
    home.finish(&["--workers", "2"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    home.run().stored_nothing_twice();
}

#[test]
fn workers_without_a_coordinator_give_up_after_their_patience() {
    let mut cluster = Cluster::train_with(&ELASTIC, "1", &[], |_, command| {
        command.args(["--worker-arg=--patience", "--worker-arg=1"]);
    });
    cluster.until_step("worker-0", 2);
    let url = cluster.until("the coordinator's address", address);
    cluster.kill_coordinator();
    until("the worker to give up", || cluster.home.processes().is_empty().then_some(()));
    let log = cluster.run().log("worker-0");
    let last = log.lines().last().unwrap();
    assert!(last.contains(&url.to_string()), "{last}");
}
