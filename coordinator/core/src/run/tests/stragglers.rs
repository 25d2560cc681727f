//! Promises about members that compute slower than the others, and about what progress shows.

use super::*;

/// Each member's report: how long a step took it, and for how much of that it waited for others.
fn progress(bench: &mut Bench, worker: &str, step_ms: f64, exchange_ms: f64) {
    let progress = Progress { position: bench.at(4), step_ms, exchange_ms, ..Progress::default() };
    let generation = bench.run.generation();
    bench.ok(Event::Progressed { worker: worker.into(), generation, progress });
}

fn stragglers(bench: &Bench) -> Vec<(&str, f64, f64)> {
    let stragglers = bench.entries.iter().filter_map(|entry| match entry {
        Entry::Straggler { worker, shard_ms, others_ms, .. } => Some((&*worker.0, *shard_ms, *others_ms)),
        _ => None,
    });
    stragglers.collect()
}

#[test]
fn a_member_that_is_slower_in_ten_reports_in_a_row_is_told_of_once_and_stays() {
    let mut bench = Bench::training(spec());
    progress(&mut bench, "w0", 100.0, 60.0);
    for report in 1..=40 {
        assert_eq!(stragglers(&bench).len(), usize::from(report > 10), "{report}");
        progress(&mut bench, "w1", 100.0, 0.0);
        progress(&mut bench, "w0", 100.0, 60.0);
    }
    // Two shards each.
    assert_eq!(stragglers(&bench), [("w1", 50.0, 20.0)]);
    assert_eq!((bench.losses(), bench.phase()), (vec![], "training"));
}

#[test]
fn one_good_report_starts_the_count_again() {
    let mut bench = Bench::training(spec());
    progress(&mut bench, "w0", 100.0, 60.0);
    for report in 0..40 {
        progress(&mut bench, "w1", 100.0, if report % 9 == 0 { 60.0 } else { 0.0 });
    }
    assert_eq!(stragglers(&bench), []);
}

#[test]
fn a_member_with_more_shards_is_not_slow_for_that() {
    let mut bench = Bench::training(with(|spec| spec.shards = 3));
    for _ in 0..40 {
        progress(&mut bench, "w0", 100.0, 0.0);
        progress(&mut bench, "w1", 100.0, 50.0);
    }
    assert_eq!(stragglers(&bench), []);
}

#[test]
fn progress_shows_in_the_status_and_changes_nothing_else() {
    let mut bench = Bench::training(spec());
    progress(&mut bench, "w1", 2.5, 0.5);
    assert!(bench.effects.is_empty());
    let status = bench.run.status();
    assert_eq!((status.phase, status.position), ("training", bench.at(4)));
    assert_eq!((status.workers[1].step_ms, status.workers[1].exchange_ms), (2.5, 0.5));
}
