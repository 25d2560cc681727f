//! Connections break under processes that are well: the run goes on, with the bits of one that nothing happened to.

use serde_json::Value;

use crate::cluster::{Cluster, Finished, start_by};
use crate::home::WORKER;
use crate::proxy::Proxy;
use crate::recipes::{ELASTIC, ELASTIC_STEPS};

#[track_caller]
fn nobody_was_lost(finished: &Finished) {
    assert_eq!(finished.run().events_of("worker_lost"), Vec::<Value>::new());
    assert_eq!(finished.run().events_of("resumed"), Vec::<Value>::new());
}

#[test]
fn workers_whose_connection_to_the_coordinator_is_cut_come_back_and_no_step_waits_for_it() {
    let undisturbed = ELASTIC.undisturbed();
    let mut proxy = None;
    let mut cluster = Cluster::train_with(&ELASTIC, "2", &[], |home, command| {
        let before = Proxy::before_the_coordinator(home);
        command.args(["--worker-url", &before.url()]);
        proxy = Some(before);
    });
    let proxy = proxy.unwrap();
    // In mid-epoch, and while an epoch's end is decided on and its checkpoint uploaded.
    for step in [4, ELASTIC_STEPS - 1, ELASTIC_STEPS, ELASTIC_STEPS + 2, 2 * ELASTIC_STEPS] {
        cluster.until_step("worker-0", step);
        let passed = proxy.passed();
        proxy.cut();
        cluster.until("the workers to come back", |_| (proxy.passed() >= passed + 2).then_some(()));
    }
    let finished = cluster.ends_like(&undisturbed.outcome);
    nobody_was_lost(&finished);
}

#[test]
fn a_worker_that_the_coordinator_no_longer_hears_of_is_replaced() {
    let undisturbed = ELASTIC.undisturbed();
    let mut proxy = None;
    let mut cluster = Cluster::train_with(&ELASTIC, "2..2", &["lease_ms=600"], |home, command| {
        let before = Proxy::before_the_coordinator(home);
        let words = format!("shift 2; exec '{WORKER}' join {} \"$@\"", before.url());
        start_by(home, command, "worker-1", &words);
        proxy = Some(before);
    });
    let proxy = proxy.unwrap();
    cluster.until_step("worker-0", 4);
    proxy.stall();
    let lost = cluster.until("word of the loss", |run| run.event("worker_lost"));
    assert_eq!(lost["worker"], "worker-1");
    proxy.open();
    cluster.until_members(1, &["worker-0", "worker-1"]);
    cluster.ends_like(&undisturbed.outcome);
}

#[test]
fn members_whose_connection_is_cut_connect_again() {
    let undisturbed = ELASTIC.undisturbed();
    let mut proxy = None;
    let mut cluster = Cluster::train_with(&ELASTIC, "3", &[], |home, command| {
        proxy = Some(Proxy::before_the_first_worker(home, command));
    });
    let proxy = proxy.unwrap();
    let mut before = 1;
    for step in [4, ELASTIC_STEPS, ELASTIC_STEPS + 5] {
        cluster.until_step("worker-2", step);
        proxy.cut();
        before = cluster.until_members(before, &["worker-0", "worker-1", "worker-2"]);
    }
    let finished = cluster.ends_like(&undisturbed.outcome);
    nobody_was_lost(&finished);
    for receipt in finished.run().receipts().iter().filter(|receipt| receipt["generation"] != 1) {
        assert_eq!(receipt["cause"], "link", "{receipt:#}");
        assert!(receipt["steps_lost"].as_u64().unwrap() <= 1, "{receipt:#}");
    }
}

#[test]
fn a_connection_between_members_that_carries_nothing_any_more_is_found() {
    let undisturbed = ELASTIC.undisturbed();
    let mut proxy = None;
    let mut cluster = Cluster::train_with(&ELASTIC, "2", &[], |home, command| {
        proxy = Some(Proxy::before_the_first_worker(home, command));
    });
    let proxy = proxy.unwrap();
    cluster.until_step("worker-1", 8);
    proxy.stall();
    cluster.until("a step to give up", |run| run.events_of("generation_began").get(1).cloned());
    proxy.open();
    cluster.ends_like(&undisturbed.outcome);
}
