//! Promises about workers that nobody waits for.

use super::*;

#[test]
fn a_run_grows_up_to_its_maximum_when_nobody_waits() {
    let mut bench = Bench::with(1);
    bench.submit("a", 1, 2);
    assert_eq!(bench.come("w1"), ["assign a: w1"]);
    assert_eq!(bench.come("w2"), NOTHING);
}

#[test]
fn runs_grow_in_order() {
    let mut bench = Bench::with(3);
    bench.submit("a", 1, 1);
    bench.submit("b", 1, 4);
    bench.submit_with("c", 1, needs(1, 2));
    assert_eq!(bench.workers_of("b"), ["w1", "w2"]);
    assert_eq!(bench.free("w2"), ["start c: w2"]);
    assert_eq!(bench.come("w3"), ["assign c: w3"]);
    assert_eq!(bench.come("w4"), ["assign b: w4"]);
}

#[test]
fn no_run_grows_with_workers_that_somebody_waits_for() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 4);
    bench.submit("b", 3, 3);
    bench.come("w2");
    assert_eq!(bench.come("w3"), ["reclaim a: w1"], "a keeps one, and the others are enough");
    assert_eq!((bench.workers_of("a"), bench.queue()), (vec!["w0", "w1"], vec!["b"]));
    assert_eq!(bench.free("w1"), ["start b: w1 w2 w3"]);
}

#[test]
fn a_run_grows_with_workers_that_those_that_wait_cannot_use() {
    let mut bench = Bench::with(1);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    let of = |device| Requirements { device: Some(device), ..needs(1, 2) };
    bench.submit_with("a", 0, of(DeviceKind::Cpu));
    bench.submit_with("b", 0, of(DeviceKind::Cuda));
    bench.submit_with("c", 0, of(DeviceKind::Cuda));
    assert_eq!(bench.waits("c"), "waits for 1 more cuda worker (0 of 1 are free)");
    assert_eq!(bench.come("w1"), ["assign a: w1"]);
}

/// The run itself would refuse more.
#[test]
fn a_worker_that_is_about_to_leave_takes_its_place_up_until_it_has_left() {
    let mut bench = Bench::with(3);
    bench.submit("a", 2, 2);
    assert_eq!(bench.drain("w1"), ["reclaim a: w1"]);
    assert_eq!(bench.workers_of("a"), ["w0", "w1"]);
    assert_eq!(bench.waits("a"), "waits for w1, which run a gives back at its next step");
    assert_eq!(bench.free("w1"), ["dismiss w1", "assign a: w2"]);
}
