//! Promises about the order in which runs begin, and with whom.

use super::*;

fn of_kind(device: DeviceKind, min_workers: u32, max_workers: u32) -> Requirements {
    Requirements { device: Some(device), ..needs(min_workers, max_workers) }
}

fn with_memory(gib: u64, min_workers: u32, max_workers: u32) -> Requirements {
    Requirements { memory_bytes: gib * GIB, ..needs(min_workers, max_workers) }
}

#[test]
fn a_run_starts_with_all_free_workers_up_to_its_maximum() {
    let mut bench = Bench::with(4);
    assert_eq!(bench.submit("a", 1, 3), ["start a: w0 w1 w2"]);
    assert_eq!(bench.waits("a"), "");
    assert_eq!(bench.submit("b", 1, 3), ["start b: w3"]);
}

#[test]
fn runs_start_in_the_order_in_which_they_were_submitted() {
    let mut bench = Bench::with(0);
    for run in ["z", "a", "m"] {
        assert_eq!(bench.submit(run, 1, 1), NOTHING);
    }
    assert_eq!(bench.queue(), ["z", "a", "m"]);
    assert_eq!(bench.come("w0"), ["start z: w0"]);
    assert_eq!(bench.come("w1"), ["start a: w1"]);
    assert_eq!(bench.queue(), ["m"]);
}

#[test]
fn higher_priorities_come_first_and_keep_their_own_order() {
    let mut bench = Bench::with(0);
    for (run, priority) in [("low", -1), ("usual", 0), ("high", 5), ("later", 5)] {
        bench.submit_with(run, priority, needs(1, 1));
    }
    assert_eq!(bench.queue(), ["high", "later", "usual", "low"]);
    assert_eq!(bench.come("w0"), ["start high: w0"]);
}

#[test]
fn a_run_starts_with_its_minimum_at_once_or_not_at_all() {
    let mut bench = Bench::with(2);
    assert_eq!(bench.submit("a", 3, 4), NOTHING);
    assert_eq!(bench.workers_of("a"), NOTHING);
    assert_eq!(bench.come("w2"), ["start a: w0 w1 w2"]);
}

/// Workers are dealt so that as many runs as can begin do; what is left goes on top, to the first.
#[test]
fn minimums_come_before_what_goes_beyond_them() {
    let mut bench = Bench::with(0);
    bench.submit("a", 2, 8);
    bench.submit("b", 2, 8);
    for index in 0..3 {
        bench.come(&format!("w{index}"));
    }
    assert_eq!((bench.workers_of("a"), bench.queue()), (vec!["w0", "w1"], vec!["b"]));
    assert_eq!(bench.come("w3"), ["start b: w2 w3"]);
    assert_eq!(bench.come("w4"), ["assign a: w4"]);
}

#[test]
fn a_later_run_does_not_overtake_with_workers_that_an_earlier_one_waits_for() {
    let mut bench = Bench::with(3);
    bench.submit("a", 2, 2);
    assert_eq!(bench.submit("b", 2, 2), NOTHING, "one is free");
    assert_eq!(bench.submit("c", 1, 1), NOTHING, "b could use it");
    assert_eq!(bench.submit_with("d", 1, needs(1, 1)), ["start d: w2"], "but not before those ahead of it");
    bench.end("a");
    assert_eq!(bench.free("w0"), NOTHING);
    assert_eq!(bench.free("w1"), ["start b: w0 w1"]);
}

#[test]
fn a_later_run_starts_with_workers_that_no_earlier_one_can_use() {
    let mut bench = Bench::with(1);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    bench.submit_with("a", 0, of_kind(DeviceKind::Cuda, 1, 1));
    bench.come_with("g1", DeviceKind::Cuda, 80);
    assert_eq!(bench.submit_with("b", 0, of_kind(DeviceKind::Cuda, 2, 2)), NOTHING);
    assert_eq!(bench.submit_with("c", 0, of_kind(DeviceKind::Cuda, 1, 1)), NOTHING);
    assert_eq!(bench.submit_with("d", 0, of_kind(DeviceKind::Cpu, 1, 1)), ["start d: w0"]);
}

#[test]
fn a_run_has_workers_of_one_kind_of_device() {
    let mut bench = Bench::with(2);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    assert_eq!(bench.submit("any", 2, 3), ["start any: w0 w1"]);
    assert_eq!(bench.come_with("g1", DeviceKind::Cuda, 80), NOTHING);
    assert_eq!(bench.come("w2"), ["assign any: w2"]);
    assert_eq!(bench.submit("other", 1, 3), ["start other: g0 g1"]);
    assert_eq!(bench.gone("w0"), NOTHING, "nor does it get another kind in the place of one");
}

#[test]
fn a_run_that_does_not_care_gets_gpus_where_there_are_enough() {
    let mut bench = Bench::with(3);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    assert_eq!(bench.submit("a", 1, 3), ["start a: g0"]);
}

/// Which kind it will be is not known before they come.
#[test]
fn a_run_that_does_not_care_keeps_what_it_could_use_of_every_kind() {
    let mut bench = Bench::with(1);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    bench.submit_with("x", 0, of_kind(DeviceKind::Cpu, 1, 1));
    bench.come("w1");
    bench.come_with("g1", DeviceKind::Cuda, 80);
    bench.submit_with("y", 0, of_kind(DeviceKind::Cuda, 1, 1));
    assert_eq!(bench.submit("any", 2, 2), NOTHING, "w1 and g1 are free");
    assert_eq!(bench.submit_with("c", 0, of_kind(DeviceKind::Cpu, 1, 1)), NOTHING);
    assert_eq!(bench.submit_with("g", 0, of_kind(DeviceKind::Cuda, 1, 1)), NOTHING);
    bench.end("x");
    assert_eq!(bench.free("w0"), ["start any: w0 w1", "start g: g1"]);
}

#[test]
fn a_run_gets_the_smallest_workers_that_have_enough_memory() {
    let mut bench = Bench::with(1);
    bench.come_with("large", DeviceKind::Cpu, 64);
    bench.come_with("middle", DeviceKind::Cpu, 16);
    assert_eq!(bench.submit_with("a", 0, with_memory(12, 1, 1)), ["start a: middle"]);
    assert_eq!(bench.submit_with("b", 0, with_memory(65, 1, 1)), NOTHING);
    assert_eq!(bench.submit_with("c", 0, with_memory(64, 1, 1)), ["start c: large"]);
}

#[test]
fn a_worker_whose_memory_is_not_known_is_for_runs_that_do_not_care() {
    let mut bench = Bench::default();
    bench.come_with("w0", DeviceKind::Cpu, 0);
    assert_eq!(bench.submit_with("a", 0, with_memory(1, 1, 1)), NOTHING);
    assert_eq!(bench.submit("b", 1, 1), ["start b: w0"]);
}

#[test]
fn a_run_that_can_never_be_placed_blocks_nobody() {
    let mut bench = Bench::with(2);
    assert_eq!(bench.submit_with("huge", 9, needs(3, 8)), NOTHING);
    assert_eq!(bench.submit("a", 2, 2), ["start a: w0 w1"]);
    assert_eq!(
        bench.waits("huge"),
        "can never be placed: it needs 3 workers of one kind, and the pool has 2"
    );
    assert_eq!(bench.come("w2"), NOTHING, "from now on it is only a question of time");
    assert_eq!(bench.submit("b", 1, 1), NOTHING);
    assert_eq!(bench.waits("huge"), "waits for 2 more workers of one kind (1 of 3 is free)");
}

#[test]
fn bounds_that_make_no_sense_count_as_the_nearest_that_do() {
    let mut bench = Bench::with(3);
    assert_eq!(bench.submit("a", 0, 0), ["start a: w0"]);
    assert_eq!(bench.submit("b", 2, 1), ["start b: w1 w2"]);
}

#[test]
fn a_cancelled_run_leaves_the_queue_and_what_it_kept_is_there_for_others() {
    let mut bench = Bench::with(2);
    bench.submit("a", 1, 1);
    bench.submit("b", 2, 2);
    bench.submit("c", 1, 1);
    assert_eq!(bench.cancel("b"), ["start c: w1"]);
    assert_eq!((bench.queue(), bench.waits("b")), (vec![], String::new()));
    assert_eq!(bench.cancel("a"), NOTHING, "one that runs does not leave so");
    assert_eq!(bench.workers_of("a"), ["w0"]);
}

#[test]
fn a_run_that_is_submitted_again_goes_to_the_end_of_the_queue() {
    let mut bench = Bench::with(1);
    bench.submit("a", 1, 1);
    bench.submit("b", 1, 1);
    bench.end("a");
    assert_eq!(bench.submit("a", 1, 1), NOTHING);
    assert_eq!(bench.workers_of("a"), NOTHING, "its worker of before is on its way to the pool");
    assert_eq!(bench.free("w0"), ["start b: w0"]);
}

#[test]
fn what_is_known_already_changes_nothing() {
    let mut bench = Bench::with(4);
    bench.submit("a", 1, 3);
    bench.submit("b", 2, 2);
    bench.drain("w0");
    bench.submit("c", 4, 4);
    let before = bench.pool.clone();
    assert_eq!(bench.submit_with("a", 7, needs(3, 3)), NOTHING);
    assert_eq!(bench.submit("b", 2, 2), NOTHING);
    assert_eq!(bench.come_back_to("a", "w0"), NOTHING);
    assert_eq!(bench.come_back_to("a", "w2"), NOTHING);
    assert_eq!(bench.drain("w0"), NOTHING);
    assert_eq!(bench.gone("nobody"), NOTHING);
    assert_eq!(bench.free("nobody"), NOTHING);
    assert_eq!(bench.drain("nobody"), NOTHING);
    assert_eq!(bench.end("nothing"), NOTHING);
    assert_eq!(bench.cancel("nothing"), NOTHING);
    assert_eq!(bench.pool, before);
    bench.end("b");
    let ended = bench.pool.clone();
    assert_eq!(bench.end("b"), NOTHING);
    assert_eq!(bench.pool, ended);
}
