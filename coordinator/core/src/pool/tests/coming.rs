//! Promises about a coordinator that comes back: runs that go on, and workers that are in them already.

use std::collections::BTreeMap;

use super::*;

fn taken_over(bench: &mut Bench, run: &str, requirements: Requirements, workers: &[&str]) -> Vec<String> {
    let resources = Resources { device: DeviceKind::Cpu, memory_bytes: 0 };
    let workers: BTreeMap<WorkerName, Resources> =
        workers.iter().map(|worker| ((*worker).into(), resources)).collect();
    bench.apply(PoolEvent::TakenOver { run: run.into(), priority: 0, requirements, workers })
}

#[test]
fn a_run_that_was_taken_over_keeps_its_workers_until_they_are_told_to_be_gone() {
    let mut bench = Bench::default();
    assert_eq!(taken_over(&mut bench, "a", needs(2, 2), &["w0", "w1"]), NOTHING);
    bench.submit("b", 1, 1);
    assert_eq!(bench.come("w2"), ["start b: w2"]);
    assert_eq!(bench.come_back_to("a", "w0"), NOTHING);
    assert_eq!(bench.come("w3"), NOTHING, "w1 may come yet");
    assert_eq!(bench.gone("w1"), ["assign a: w3"]);
}

#[test]
fn a_worker_that_comes_back_free_is_no_longer_its_runs() {
    let mut bench = Bench::default();
    taken_over(&mut bench, "a", needs(1, 2), &["w0", "w1"]);
    bench.submit("b", 1, 1);
    assert_eq!(bench.come("w1"), ["start b: w1"]);
    assert_eq!(bench.workers_of("a"), ["w0"]);
}

#[test]
fn a_worker_tells_of_its_run_and_of_what_it_has() {
    let mut bench = Bench::default();
    taken_over(&mut bench, "a", needs(1, 2), &["w0", "w1"]);
    bench.come_back_to("a", "w0");
    bench.come_back_to("a", "w1");
    let requirements = Requirements { memory_bytes: GIB, ..needs(1, 1) };
    assert_eq!(bench.submit_with("b", 0, requirements), ["reclaim a: w1"]);
}

#[test]
fn a_run_that_waits_goes_on_where_a_worker_is_in_it_already() {
    let mut bench = Bench::default();
    bench.submit("a", 1, 1);
    assert_eq!(bench.come_back_to("a", "w0"), NOTHING);
    assert!(bench.pool.is_running(&"a".into()));
    assert_eq!(bench.workers_of("a"), ["w0"]);
    assert_eq!(bench.waits("a"), "");
}

#[test]
fn a_worker_of_a_run_that_nobody_knows_is_free() {
    let mut bench = Bench::default();
    bench.submit("a", 1, 1);
    assert_eq!(bench.come_back_to("long-over", "w0"), ["start a: w0"]);
}

#[test]
fn a_worker_that_comes_back_to_its_run_stays_asked_back() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 2);
    assert_eq!(bench.submit("b", 1, 1), ["reclaim a: w1"]);
    assert_eq!(bench.come_back_to("a", "w1"), NOTHING);
    assert_eq!(bench.free("w1"), ["start b: w1"]);
}

/// Its kind is known by those that it had.
#[test]
fn a_run_that_was_taken_over_stays_on_its_kind_of_device() {
    let mut bench = Bench::default();
    taken_over(&mut bench, "a", needs(1, 2), &["w0"]);
    bench.gone("w0");
    assert_eq!(bench.come_with("g0", DeviceKind::Cuda, 80), NOTHING);
    assert_eq!(bench.come("w1"), ["assign a: w1"]);
}

#[test]
fn a_run_that_was_taken_over_without_workers_takes_what_there_is() {
    let mut bench = Bench::with(1);
    assert_eq!(taken_over(&mut bench, "a", needs(1, 2), &[]), ["assign a: w0"]);
    assert_eq!(bench.come_with("g0", DeviceKind::Cuda, 80), NOTHING);
    assert_eq!(bench.come("w1"), ["assign a: w1"]);
}
