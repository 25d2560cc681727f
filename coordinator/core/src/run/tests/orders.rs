//! Promises about orders: given again about every half second until a worker's heartbeats show that it has followed.

use super::*;

const ALL: [&str; 2] = ["w0", "w1"];

fn count(bench: &Bench, worker: &str, wanted: fn(&Message) -> bool) -> usize {
    bench.told(worker).into_iter().filter(|message| wanted(message)).count()
}

#[test]
fn a_worker_that_has_not_paused_is_asked_again_every_half_second() {
    let mut bench = Bench::forming(spec());
    bench.pause("w0");
    bench.pass(400, &ALL);
    assert_eq!(bench.asked_to_pause(), []);
    bench.pass(100, &ALL);
    assert_eq!(bench.asked_to_pause(), [("w1", 1, false)]);
    bench.pass(1000, &ALL);
    assert_eq!(bench.asked_to_pause().len(), 2);
}

#[test]
fn a_member_that_has_not_begun_is_told_again_every_half_second() {
    let mut bench = Bench::forming(spec());
    bench.all_pause();
    bench.follow("w0");
    bench.pass(1000, &ALL);
    let begins = |message: &Message| matches!(message, Message::Begin(_));
    assert_eq!((count(&bench, "w0", begins), count(&bench, "w1", begins)), (0, 2));
    assert_eq!((bench.begin("w1").rank, bench.begin("w1").generation), (1, Generation(1)));
    bench.follow("w1");
    bench.pass(1000, &ALL);
    assert_eq!(count(&bench, "w1", begins), 0);
}

#[test]
fn a_member_that_has_not_followed_a_verdict_is_told_again_every_half_second() {
    let mut bench = Bench::training(spec());
    let verdict = bench.end_epoch(5).unwrap();
    bench.stepping("w0", 10);
    bench.pass(1000, &ALL);
    assert_eq!(bench.told("w1"), [&Message::Verdict(verdict); 2]);
    assert!(bench.told("w0").is_empty());
}

#[test]
fn a_member_that_reports_an_epoch_again_hears_the_verdict_again() {
    let mut bench = Bench::training(spec());
    let report = bench.reports(5).remove(1).1;
    let verdict = bench.end_epoch(5).unwrap();
    bench.ok(Event::EpochReported { worker: "w1".into(), generation: Generation(1), report });
    assert_eq!((bench.told("w1"), bench.epoch()), (vec![&Message::Verdict(verdict)], 1));
    assert!(bench.told("w0").is_empty());
}

#[test]
fn a_verdict_that_waits_for_the_best_model_is_not_given_early_to_one_that_asks() {
    let mut bench = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    bench.end_epoch(5);
    bench.follow_verdict();
    let report = bench.reports(4).remove(1).1;
    bench.end_epoch(4);
    bench.ok(Event::EpochReported { worker: "w1".into(), generation: Generation(1), report });
    assert!(bench.effects.is_empty());
    bench.pass(2000, &ALL);
    assert_eq!((bench.told("w0").len(), bench.told("w1").len()), (0, 0));
}

#[test]
fn a_member_that_has_not_tested_is_told_again_every_half_second() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.finish_epoch(5);
    let blocks = dealt(10, 3, 0, 2);
    let (generation, split) = (Generation(1), Split::Test);
    bench.ok(Event::EvalReported { worker: "w0".into(), generation, split, blocks });
    bench.pass(1000, &ALL);
    let evaluate = |message: &Message| matches!(message, Message::Evaluate { .. });
    assert_eq!((count(&bench, "w0", evaluate), count(&bench, "w1", evaluate)), (0, 2));
    bench.beat("w1", |heartbeat| heartbeat.activity = Activity::Evaluating);
    bench.pass(1000, &ALL);
    assert_eq!(count(&bench, "w1", evaluate), 0, "it is at it");
}

#[test]
fn nothing_is_told_while_a_session_is_broken_and_all_at_once_when_it_is_back() {
    let mut bench = Bench::forming(with(|spec| spec.lease_ms = 300_000));
    bench.all_pause();
    bench.follow("w0");
    bench.detach("w1");
    bench.pass(400, &["w0"]);
    assert!(bench.told("w1").is_empty());
    assert_eq!(bench.come_back("w1", 2, 1), Ok(()));
    bench.pass(100, &["w0"]);
    assert_eq!(bench.begin("w1").generation, Generation(1));
}

#[test]
fn a_run_looks_at_its_workers_ten_times_a_second() {
    let mut bench = Bench::training(spec());
    assert_eq!(bench.run.next_deadline(), Some(Time(1100)));
    let before = bench.run.clone();
    bench.now = Time(1099);
    bench.ok(Event::Tick);
    assert_eq!(bench.run, before, "one that comes early changes nothing");
    bench.now = Time(1100);
    bench.ok(Event::Tick);
    assert_eq!(bench.run.next_deadline(), Some(Time(1200)));
}
