//! Promises about workers that leave: drained, or on their own account.

use super::*;

#[test]
fn a_free_worker_that_is_drained_goes_at_once() {
    let mut bench = Bench::with(1);
    assert_eq!(bench.drain("w0"), ["dismiss w0"]);
    assert_eq!(bench.submit("a", 1, 1), NOTHING);
    assert_eq!(bench.waits("a"), "can never be placed: it needs 1 worker, and the pool has 0");
    assert_eq!(bench.free("w0"), NOTHING, "it was told already");
    assert_eq!(bench.gone("w0"), NOTHING);
    assert!(bench.pool.worker(&"w0".into()).is_none());
}

#[test]
fn a_worker_that_is_drained_in_a_run_is_asked_back_and_goes_then() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 2);
    bench.submit("b", 3, 3);
    assert_eq!(bench.drain("w0"), ["reclaim a: w0"]);
    assert_eq!(bench.free("w0"), ["dismiss w0"]);
    assert_eq!(bench.workers_of("a"), ["w1"]);
}

#[test]
fn a_drained_worker_is_replaced() {
    let mut bench = Bench::with(3);
    bench.submit("a", 2, 3);
    bench.submit("b", 1, 1);
    bench.free("w2");
    assert_eq!(bench.workers_of("b"), ["w2"]);
    assert_eq!(bench.drain("w1"), ["reclaim a: w1"]);
    assert_eq!(bench.come("w3"), ["assign a: w3"], "there is room for it before the other has left");
}

#[test]
fn one_that_is_asked_back_already_is_not_asked_again_when_it_is_drained() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 2);
    assert_eq!(bench.submit("b", 1, 1), ["reclaim a: w1"]);
    assert_eq!(bench.drain("w1"), NOTHING);
    assert_eq!(bench.waits("b"), "waits for 1 more worker (0 of 1 are free)");
    assert_eq!(bench.free("w1"), ["dismiss w1"]);
}

#[test]
fn a_drained_worker_of_a_run_that_ends_goes_when_it_is_back() {
    let mut bench = Bench::with(1);
    bench.submit("a", 1, 1);
    bench.drain("w0");
    assert_eq!(bench.end("a"), NOTHING);
    assert_eq!(bench.free("w0"), ["dismiss w0"]);
}

#[test]
fn a_worker_that_left_for_good_is_as_good_as_new_when_it_comes_again() {
    let mut bench = Bench::with(1);
    bench.drain("w0");
    bench.gone("w0");
    bench.submit("a", 1, 1);
    assert_eq!(bench.come("w0"), ["start a: w0"]);
}

#[test]
fn a_run_that_ends_frees_its_workers_one_by_one() {
    let mut bench = Bench::with(2);
    bench.submit("a", 2, 2);
    bench.submit("b", 1, 1);
    bench.submit("c", 1, 1);
    assert_eq!(bench.end("a"), NOTHING, "they have yet to come back");
    assert_eq!(bench.free("w1"), ["start b: w1"]);
    assert_eq!(bench.gone("w0"), NOTHING);
    assert_eq!(bench.waits("c"), "waits for 1 more worker (0 of 1 are free)");
}

#[test]
fn a_worker_that_leaves_by_itself_is_not_counted_on() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 2);
    assert_eq!(bench.gone("w1"), NOTHING);
    assert_eq!(bench.submit("b", 1, 1), NOTHING);
    assert_eq!(bench.workers_of("a"), ["w0"]);
}
