//! Promises about runs that have lost so many workers that they have come to a halt.

use super::*;

#[test]
fn a_run_below_its_minimum_comes_before_all_that_wait() {
    let mut bench = Bench::with(3);
    bench.submit("a", 3, 3);
    bench.submit_with("b", 9, needs(1, 1));
    assert_eq!(bench.gone("w0"), NOTHING);
    assert_eq!(bench.come("w3"), ["assign a: w3"]);
    assert_eq!(bench.queue(), ["b"]);
}

#[test]
fn a_run_below_its_minimum_gets_back_what_others_have_above_theirs() {
    let mut bench = Bench::with(4);
    bench.submit("a", 2, 2);
    bench.submit("b", 1, 2);
    assert_eq!(bench.gone("w0"), ["reclaim b: w3"]);
    assert_eq!(bench.waits("a"), "waits for w3, which run b gives back at its next step");
    assert_eq!(bench.free("w3"), ["assign a: w3"]);
    assert_eq!(bench.waits("a"), "");
}

#[test]
fn a_run_that_cannot_get_on_keeps_what_is_free_for_itself() {
    let mut bench = Bench::with(5);
    bench.submit("a", 3, 3);
    bench.submit("b", 2, 2);
    bench.gone("w0");
    bench.gone("w1");
    assert_eq!(bench.come("w5"), NOTHING, "two are needed");
    assert_eq!(bench.submit("c", 1, 1), NOTHING);
    assert_eq!(bench.waits("a"), "waits for 1 more cpu worker (1 of 2 is free)");
    assert_eq!(bench.come("w6"), ["assign a: w5", "assign a: w6"]);
}

/// With what each of them has neither would ever go on.
#[test]
fn of_two_that_have_come_to_a_halt_the_later_one_gives_way() {
    let mut bench = Bench::with(4);
    bench.submit("a", 2, 2);
    bench.submit("b", 2, 2);
    assert_eq!(bench.gone("w0"), NOTHING, "b goes on");
    assert_eq!(bench.gone("w3"), ["reclaim b: w2"]);
    assert_eq!(bench.free("w2"), ["assign a: w2"]);
    assert_eq!(bench.come("w0"), NOTHING);
    assert_eq!(bench.come("w3"), ["assign b: w0", "assign b: w3"]);
}

#[test]
fn a_run_that_nobody_can_bring_back_gives_way_in_the_end_and_blocks_nobody() {
    let mut bench = Bench::with(3);
    bench.submit("a", 3, 3);
    bench.submit("b", 1, 1);
    assert_eq!(bench.gone("w0"), NOTHING, "it may come back");
    assert_eq!(bench.waits("a"), "can never be placed: it needs 3 cpu workers, and the pool has 2");
    assert_eq!(bench.pass(), ["reclaim a: w2"]);
    assert_eq!(bench.pool.next_deadline(), None);
    assert_eq!(bench.free("w2"), ["start b: w2"]);
    assert_eq!(bench.submit("c", 1, 1), ["reclaim a: w1"]);
}

#[test]
fn a_run_whose_worker_comes_back_in_time_keeps_the_others() {
    let mut bench = Bench::with(3);
    bench.submit("a", 3, 3);
    bench.submit("b", 1, 1);
    bench.gone("w0");
    bench.now = Time(bench.now.0 + STUCK_MS / 2);
    assert_eq!(bench.come("w0"), ["assign a: w0"]);
    assert_eq!(bench.pool.next_deadline(), None);
    bench.gone("w0");
    assert_eq!(bench.pool.next_deadline(), Some(Time(bench.now.0 + STUCK_MS)), "each time anew");
}

#[test]
fn a_run_that_was_given_up_goes_on_first_once_there_are_enough_again() {
    let mut bench = Bench::with(2);
    bench.submit("a", 2, 2);
    bench.submit("b", 1, 1);
    bench.gone("w0");
    assert_eq!(bench.pass(), ["reclaim a: w1"]);
    assert_eq!(bench.free("w1"), ["start b: w1"]);
    bench.submit("c", 1, 1);
    assert_eq!(bench.come("w2"), NOTHING, "a waits for both");
    bench.end("b");
    assert_eq!(bench.free("w1"), ["assign a: w1", "assign a: w2"]);
}

#[test]
fn a_run_at_a_halt_does_not_grow_bit_by_bit() {
    let mut bench = Bench::with(3);
    bench.submit("a", 3, 3);
    bench.gone("w0");
    bench.gone("w1");
    assert_eq!(bench.come("w3"), NOTHING);
    assert_eq!(bench.submit("b", 1, 1), ["start b: w3"], "it would be of no use to a");
}
