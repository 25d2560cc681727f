//! Promises about runs that give workers back because others wait.

use super::*;

#[test]
fn a_run_gives_back_above_its_minimum_when_another_waits() {
    let mut bench = Bench::with(4);
    bench.submit("a", 2, 4);
    assert_eq!(bench.submit("b", 2, 4), ["reclaim a: w3", "reclaim a: w2"]);
    assert_eq!(bench.waits("b"), "waits for w2 of run a, w3 of run a, which come back at their next steps");
    assert_eq!(bench.free("w2"), NOTHING, "nothing is asked for twice");
    assert_eq!(bench.waits("b"), "waits for w3, which run a gives back at its next step");
    assert_eq!(bench.free("w3"), ["start b: w2 w3"]);
    assert_eq!(bench.workers_of("a"), ["w0", "w1"]);
}

#[test]
fn no_more_is_given_back_than_is_needed() {
    let mut bench = Bench::with(6);
    bench.submit("a", 1, 5);
    assert_eq!(bench.submit("b", 2, 6), ["reclaim a: w4"], "one is free");
    assert_eq!(bench.submit("c", 1, 1), ["reclaim a: w3"]);
    assert_eq!(bench.free("w3"), ["start b: w3 w5"], "whoever comes first is for the first");
    assert_eq!(bench.free("w4"), ["start c: w4"]);
}

#[test]
fn no_run_gives_back_below_its_minimum() {
    let mut bench = Bench::with(4);
    bench.submit("a", 3, 4);
    assert_eq!(bench.submit("b", 2, 2), NOTHING, "what it could give would not be enough");
    assert_eq!(bench.waits("b"), "waits for 2 more workers of one kind (0 of 2 are free)");
    assert_eq!(bench.submit("c", 1, 1), NOTHING, "that would be a way around b");
    assert_eq!(bench.waits("c"), "1 run is before it");
}

#[test]
fn the_lowest_priority_and_the_youngest_gives_back_first_whatever_that_of_the_waiting_run() {
    let mut bench = Bench::with(8);
    bench.submit_with("high", 3, needs(1, 2));
    bench.submit_with("old", 0, needs(1, 2));
    bench.submit_with("young", 0, needs(1, 2));
    bench.submit_with("least", -3, needs(1, 2));
    let reclaims = ["reclaim least: w7", "reclaim young: w5", "reclaim old: w3", "reclaim high: w1"];
    assert_eq!(bench.submit_with("new", -9, needs(4, 4)), reclaims);
}

#[test]
fn workers_that_come_back_from_a_run_that_ended_count_as_on_their_way() {
    let mut bench = Bench::with(4);
    bench.submit("a", 1, 2);
    bench.submit("b", 1, 2);
    bench.end("b");
    assert_eq!(bench.submit("c", 2, 2), NOTHING);
    assert_eq!(bench.waits("c"), "waits for w2 of run b, w3 of run b, which come back at their next steps");
    bench.free("w2");
    assert_eq!(bench.waits("c"), "waits for w3, which comes back from run b");
    assert_eq!(bench.free("w3"), ["start c: w2 w3"]);
}

#[test]
fn another_is_asked_for_when_one_that_was_to_be_given_back_is_lost() {
    let mut bench = Bench::with(3);
    bench.submit("a", 1, 3);
    assert_eq!(bench.submit("b", 1, 1), ["reclaim a: w2"]);
    assert_eq!(bench.gone("w2"), ["reclaim a: w1"]);
    assert_eq!(bench.free("w1"), ["start b: w1"]);
}

#[test]
fn a_higher_priority_takes_over_what_was_asked_back_for_another() {
    let mut bench = Bench::with(4);
    bench.submit("a", 1, 4);
    assert_eq!(bench.submit("b", 1, 1), ["reclaim a: w3"]);
    assert_eq!(bench.submit_with("urgent", 1, needs(2, 2)), ["reclaim a: w2", "reclaim a: w1"]);
    bench.free("w3");
    assert_eq!(bench.free("w2"), ["start urgent: w2 w3"]);
    assert_eq!(bench.free("w1"), ["start b: w1"]);
}

#[test]
fn only_workers_that_the_waiting_run_can_use_are_asked_back() {
    let mut bench = Bench::with(0);
    for (worker, gib) in [("w0", 8), ("w1", 32), ("w2", 16)] {
        bench.come_with(worker, DeviceKind::Cpu, gib);
    }
    bench.submit("a", 1, 3);
    let requirements = Requirements { memory_bytes: 12 * GIB, ..needs(1, 1) };
    assert_eq!(bench.submit_with("b", 0, requirements), ["reclaim a: w2"], "the smallest that is enough");
}

#[test]
fn what_came_back_for_a_run_that_was_cancelled_is_dealt_out_again() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 2);
    bench.submit("b", 1, 1);
    assert_eq!(bench.cancel("b"), NOTHING);
    assert_eq!(bench.free("w1"), ["assign a: w1"]);
}

/// A run of any kind that waits for GPUs keeps the free cpu worker only until it has begun, so nobody gives one back for
/// the run behind it.
#[test]
fn what_an_earlier_run_keeps_and_will_not_need_is_not_asked_for_elsewhere() {
    let mut bench = Bench::with(3);
    let cpu = Requirements { device: Some(DeviceKind::Cpu), ..needs(1, 2) };
    bench.submit_with("c", 0, cpu);
    for worker in ["g0", "g1", "g2"] {
        bench.come_with(worker, DeviceKind::Cuda, 80);
    }
    let cuda = Requirements { device: Some(DeviceKind::Cuda), ..needs(1, 3) };
    bench.submit_with("g", 0, cuda);
    assert_eq!(bench.submit("any", 2, 2), ["reclaim g: g2", "reclaim g: g1"]);
    assert_eq!(bench.submit_with("c2", 0, Requirements { max_workers: 1, ..cpu }), NOTHING);
    assert_eq!(bench.waits("c2"), "1 run is before it");
    bench.free("g1");
    assert_eq!(bench.free("g2"), ["start any: g1 g2", "start c2: w2"]);
}
