//! Promises about generations that break: whom the members blame, and what failures mean that workers tell themselves.

use super::*;

#[test]
fn a_generation_that_broke_forms_anew_with_all_that_live() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.broken("w0", &["w1"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w1", 2, true)]);
    bench.paused("w0", 2, bench.at(4));
    bench.broken("w1", &["w0"]);
    bench.paused("w1", 2, bench.at(4));
    assert_eq!((bench.member_names(), bench.losses().len()), (vec!["w0", "w1"], 0));
}

#[test]
fn a_broken_connection_may_come_back_for_a_while() {
    let mut bench = Bench::training(spec());
    bench.detach("w1");
    bench.pass(900, &["w0"]);
    assert_eq!(bench.losses(), []);
    bench.pass(100, &["w0"]);
    assert_eq!(bench.losses(), [("w1", "its connection broke and it did not come back")]);
}

#[test]
fn one_whose_session_broke_and_whom_another_blames_is_lost_at_once_in_either_order() {
    let mut detached_first = Bench::training(spec());
    detached_first.detach("w1");
    assert_eq!(detached_first.losses(), []);
    detached_first.broken("w0", &["w1"]);
    assert_eq!(detached_first.losses(), [("w1", "w0 lost it: connection reset")]);
    let mut blamed_first = Bench::training(spec());
    blamed_first.broken("w0", &["w1"]);
    blamed_first.detach("w1");
    assert_eq!(blamed_first.losses(), [("w1", "its connections ended")]);
}

/// The first that notices blames a neighbour that only passed the end on.
#[test]
fn whom_any_member_blames_counts_not_only_whom_the_first_blames() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.broken("w0", &["w1"]);
    bench.broken("w1", &["w2"]);
    bench.detach("w2");
    assert_eq!(bench.losses(), [("w2", "its connections ended")]);
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.broken("w0", &["w1"]);
    bench.detach("w2");
    bench.broken("w1", &["w2"]);
    assert_eq!(bench.losses(), [("w2", "w1 lost it: connection reset")]);
}

#[test]
fn one_that_others_cannot_reach_three_times_in_a_row_has_to_go() {
    let mut bench = Bench::forming(workers(1, 3, 4));
    bench.all_pause();
    for attempt in 1..=3 {
        assert_eq!(bench.losses(), [], "attempt {attempt}");
        for worker in ["w0", "w1", "w2"] {
            bench.follow(worker);
        }
        bench.broken("w0", &["w2"]);
        bench.all_pause();
    }
    assert_eq!(bench.losses(), [("w2", "others cannot reach it: connection reset")]);
    assert_eq!(bench.member_names(), ["w0", "w1"]);
}

#[test]
fn a_step_made_together_ends_the_blame() {
    let mut bench = Bench::training(workers(1, 3, 4));
    for _ in 0..9 {
        bench.broken("w0", &["w2"]);
        bench.all_pause();
        bench.all_begin();
    }
    assert_eq!((bench.losses(), bench.generation()), (vec![], 10));
}

#[test]
fn the_end_of_a_generation_that_is_over_changes_nothing() {
    let mut bench = Bench::forming(spec());
    bench.all_pause();
    let generation = bench.generation();
    bench.broken("w0", &["w1"]);
    assert_eq!((bench.phase(), bench.generation()), ("training", generation), "it has yet to begin");
}

#[test]
fn a_failure_that_is_the_runs_ends_it_and_one_workers_own_does_not() {
    for kind in [FailureKind::Run, FailureKind::Worker, FailureKind::Cluster, FailureKind::Data] {
        let mut bench = Bench::training(spec());
        bench.ok(Event::WorkerFailed { worker: "w1".into(), reason: "no such file".into(), kind });
        if kind == FailureKind::Run {
            assert_eq!(bench.failure(), "w1: no such file");
            // Then its session ends, and others follow: the first reason stands.
            bench.die("w1");
            bench.die("w0");
            assert!(bench.effects.is_empty());
        } else {
            assert_eq!((bench.losses(), bench.outcome()), (vec![("w1", "no such file")], None));
        }
    }
}

#[test]
fn data_that_nobody_has_ends_the_run() {
    let mut bench = Bench::new(spec());
    bench.join("w0");
    bench.join("w1");
    let (reason, kind) = ("no such file".to_owned(), FailureKind::Data);
    bench.ok(Event::WorkerFailed { worker: "w1".into(), reason, kind });
    assert_eq!(bench.failure(), "w1: no such file");
}

#[test]
fn a_run_whose_workers_die_over_and_over_fails_with_the_reason() {
    for mut bench in phases() {
        bench.ok(Event::Abandoned { reason: "w1 died 4 times".into(), kind: FailureKind::Cluster });
        assert_eq!(bench.failure(), "w1 died 4 times");
        let finish = Message::Finish { reason: "failed: w1 died 4 times".into() };
        assert_eq!((bench.told("w0"), bench.told("w1")), (vec![&finish], vec![&finish]));
    }
}

/// What is loaded comes from the coordinator, so all would fail alike, in every generation.
#[test]
fn a_checkpoint_that_turns_out_to_be_damaged_ends_the_run() {
    let failed = || {
        let (reason, kind) = ("digest differs".to_owned(), FailureKind::Data);
        Event::WorkerFailed { worker: "w1".into(), reason, kind }
    };
    let mut restoring = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    restoring.finish_epoch(5);
    restoring.end_epoch(4);
    restoring.ok(failed());
    assert_eq!(restoring.failure(), "w1: digest differs");
    let mut testing = Bench::training(with(|spec| spec.epochs = 1));
    testing.finish_epoch(5);
    testing.ok(failed());
    assert_eq!(testing.failure(), "w1: digest differs");
}
