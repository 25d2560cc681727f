//! Promises about workers that are there and do not get on: silent, hung, or waiting in a circle.

use super::*;

/// Three members whose steps take 100 ms.
fn paced() -> Bench {
    let mut bench = Bench::training(workers(1, 3, 4));
    for _ in 0..3 {
        let progress = Progress { position: bench.at(4), step_ms: 100.0, ..Progress::default() };
        bench.ok(Event::Progressed { worker: "w0".into(), generation: Generation(1), progress });
    }
    bench.all_step(4);
    bench
}

#[test]
fn one_that_is_not_heard_of_is_lost_when_its_lease_is_over() {
    let mut bench = Bench::training(spec());
    bench.pass(2900, &["w0"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0"]);
    assert_eq!(bench.losses(), [("w1", "nothing was heard of it for 3.0 s")]);
}

#[test]
fn one_that_is_silent_and_waited_for_is_stuck_before_its_lease_is_over() {
    let mut bench = paced();
    bench.waits("w0", "w1");
    bench.waits("w1", "w2");
    bench.pass(1200, &["w0", "w1"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.losses(), [("w2", "it is stuck: w0 waits for it since 1300 ms, silent for 1300 ms")]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w1", 2, true)]);
}

#[test]
fn slow_steps_are_granted_more_time_than_fast_ones() {
    let mut bench = Bench::training(spec());
    for _ in 0..3 {
        let progress = Progress { position: bench.at(4), step_ms: 1000.0, ..Progress::default() };
        bench.ok(Event::Progressed { worker: "w0".into(), generation: Generation(1), progress });
    }
    bench.waits("w0", "w1");
    bench.pass(2000, &["w0"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0"]);
    assert_eq!(bench.losses().len(), 1);
}

#[test]
fn one_that_is_silent_with_nobody_waiting_for_it_keeps_its_lease() {
    let mut bench = paced();
    bench.pass(2900, &["w0", "w1"]);
    assert_eq!(bench.losses(), []);
}

#[test]
fn one_that_is_heard_of_and_does_not_get_on_with_its_step_is_hung() {
    let mut bench = paced();
    bench.waits("w0", "w2");
    bench.waits("w1", "w2");
    bench.pass(10_000, &["w0", "w1", "w2"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0", "w1", "w2"]);
    let reason = "it is stuck: w0 waits for it, it has been at one step for 10100 ms";
    assert_eq!(bench.losses(), [("w2", reason)]);
}

#[test]
fn one_that_still_connects_loads_or_caches_is_granted_as_long_as_a_first_step() {
    for activity in [Activity::Forming, Activity::Caching] {
        let mut bench = paced();
        bench.waits("w0", "w2");
        bench.beat("w2", |heartbeat| heartbeat.activity = activity.clone());
        bench.pass(120_000, &["w0", "w1", "w2"]);
        assert_eq!(bench.losses(), []);
        bench.pass(100, &["w0", "w1", "w2"]);
        assert_eq!(bench.losses().len(), 1);
    }
}

#[test]
fn first_steps_may_take_long() {
    let mut bench = Bench::training(spec());
    bench.waits("w0", "w1");
    bench.pass(120_000, &["w0", "w1"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.losses().len(), 1);
}

#[test]
fn members_that_wait_for_each_other_form_anew_and_nobody_is_lost() {
    let mut bench = paced();
    bench.waits("w0", "w1");
    bench.waits("w1", "w2");
    bench.waits("w2", "w0");
    bench.pass(5400, &["w0", "w1", "w2"]);
    assert_eq!((bench.asked_to_pause(), bench.losses()), (vec![], vec![]));
    bench.pass(100, &["w0", "w1", "w2"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w1", 2, true), ("w2", 2, true)]);
    assert_eq!(bench.losses(), []);
}

#[test]
fn one_that_does_not_pause_at_once_is_stuck() {
    let mut bench = paced();
    bench.die("w0");
    bench.pause("w1");
    bench.pass(1200, &["w1"]);
    assert_eq!(bench.losses().len(), 1);
    bench.pass(100, &["w1"]);
    let reason = "it is stuck: all are to pause, and nothing was heard of it for 1300 ms";
    assert_eq!(bench.losses()[1..], [("w2", reason)]);
    assert_eq!(bench.member_names(), ["w1"]);
}

#[test]
fn one_that_is_heard_of_and_does_not_pause_is_hung() {
    let mut bench = paced();
    bench.die("w0");
    bench.pause("w1");
    bench.pass(10_000, &["w1", "w2"]);
    assert_eq!(bench.losses().len(), 1);
    bench.pass(100, &["w1", "w2"]);
    assert_eq!(bench.losses()[1..], [("w2", "it is stuck: it has not paused within 10100 ms")]);
}

#[test]
fn one_that_gets_stuck_on_the_way_to_a_boundary_is_found_too() {
    let mut bench = paced();
    bench.come("w3");
    bench.pause("w3");
    bench.waits("w0", "w2");
    bench.waits("w1", "w2");
    bench.pass(1300, &["w0", "w1", "w3"]);
    assert_eq!(bench.losses().len(), 1);
    assert_eq!(bench.asked_to_pause()[..2], [("w0", 2, false), ("w1", 2, false)]);
    assert_eq!(bench.asked_to_pause().last(), Some(&("w1", 2, true)), "now at once");
}

#[test]
fn silence_while_the_coordinator_itself_was_away_is_forgiven() {
    let mut bench = paced();
    bench.waits("w0", "w1");
    bench.now.0 += 60_000;
    bench.ok(Event::Tick);
    assert_eq!((bench.losses(), bench.phase()), (vec![], "training"));
    bench.pass(2900, &["w0"]);
    assert_eq!(bench.losses()[0].0, "w1", "from then on as ever");
}

#[test]
fn a_broken_session_has_its_whole_time_when_the_coordinator_itself_was_away() {
    let mut bench = Bench::training(spec());
    bench.detach("w1");
    bench.now.0 += 60_000;
    bench.ok(Event::Tick);
    assert_eq!(bench.losses(), []);
}

#[test]
fn one_that_cannot_reach_the_boundary_since_another_has_paused_is_let_pause_at_once() {
    let mut bench = paced();
    bench.come("w3");
    bench.pause("w3");
    bench.paused("w1", 2, bench.at(4));
    bench.paused("w2", 2, bench.at(4));
    bench.waits("w0", "w1");
    bench.pass(1500, &["w0", "w1", "w2", "w3"]);
    assert_eq!(bench.asked_to_pause().last(), Some(&("w0", 2, true)));
    assert_eq!(bench.losses(), []);
}
