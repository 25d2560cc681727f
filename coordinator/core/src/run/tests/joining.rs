//! Promises about workers that come while a run trains.

use super::*;

#[test]
fn a_newcomer_that_is_ready_changes_the_generation_at_the_next_boundary() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.join("w2");
    assert_eq!((bench.told("w2").len(), bench.phase()), (1, "training"), "nothing before it is ready");
    bench.ready("w2");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false), ("w2", 2, false)]);
    bench.pause("w2");
    bench.paused("w0", 2, bench.at(5));
    bench.paused("w1", 2, bench.at(5));
    let begin = bench.begin("w2").clone();
    assert_eq!((begin.generation, begin.rank, begin.position), (Generation(2), 2, bench.at(5)));
    assert_eq!(begin.start, Start::Peer { rank: 0 });
    let has_state: Vec<bool> = begin.peers.iter().map(|peer| peer.has_state).collect();
    assert_eq!(has_state, [true, true, false]);
}

#[test]
fn several_that_come_together_cost_one_change() {
    let mut bench = Bench::training(spec());
    bench.join("w2");
    bench.join("w3");
    bench.pass(500, &["w0", "w1", "w2", "w3"]);
    bench.ready("w2");
    assert_eq!(bench.phase(), "training", "w3 is about to get ready");
    bench.ready("w3");
    bench.all_pause();
    assert_eq!((bench.member_names().len(), bench.generation()), (4, 2));
}

#[test]
fn a_newcomer_does_not_wait_long_for_another_that_is_not_ready() {
    let mut bench = Bench::training(spec());
    bench.join("w3");
    bench.come("w2");
    bench.pass(900, &["w0", "w1", "w2", "w3"]);
    assert_eq!(bench.phase(), "training");
    bench.pass(100, &["w0", "w1", "w2", "w3"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false), ("w2", 2, false)]);
}

#[test]
fn a_newcomer_waits_until_all_have_stepped_in_the_generation_under_way() {
    let mut bench = Bench::forming(spec());
    bench.all_pause();
    bench.come("w2");
    bench.pass(2000, &["w0", "w1", "w2"]);
    assert_eq!(bench.phase(), "training");
    bench.all_begin();
    bench.pass(100, &["w0", "w1", "w2"]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false), ("w2", 2, false)]);
}

#[test]
fn a_newcomer_waits_while_an_epoch_is_evaluated() {
    let mut bench = Bench::training(spec());
    let end = bench.unjudged(10);
    bench.beat("w0", |heartbeat| {
        (heartbeat.position, heartbeat.activity) = (Some(end), Activity::Evaluating);
    });
    bench.come("w2");
    bench.pass(1000, &["w0", "w1", "w2"]);
    assert_eq!(bench.phase(), "training");
    bench.end_epoch(5);
    bench.follow_verdict();
    bench.pass(100, &["w2"]);
    assert_eq!(bench.phase(), "forming a generation");
    bench.all_pause();
    assert_eq!((bench.begin("w2").position, bench.begin("w2").judged), (bench.at(10), false));
    assert!(bench.begin("w2").save, "the epoch's checkpoint is not stored yet");
}

#[test]
fn a_newcomer_beyond_the_shards_stands_by_without_any() {
    let mut bench = Bench::training(with(|spec| spec.shards = 2));
    bench.come("w2");
    bench.all_pause();
    assert_eq!(bench.begin("w2").peers[2].shards, (2, 2));
}

#[test]
fn a_connection_that_comes_back_is_no_newcomer() {
    let mut bench = Bench::training(spec());
    let before = bench.run.workers[&"w1".into()].info.incarnation as u32;
    bench.detach("w1");
    bench.pass(400, &["w0"]);
    assert_eq!(bench.come_back("w1", before, 1), Ok(()));
    assert_eq!(bench.told("w1"), [&Message::Welcome { term: Term(1), lease_ms: 3000 }]);
    bench.pass(1000, &["w0", "w1"]);
    assert_eq!((bench.phase(), bench.generation(), bench.losses().len()), ("training", 1, 0));
}

#[test]
fn another_process_takes_the_name_of_one_whose_connection_broke() {
    let mut bench = Bench::training(spec());
    bench.all_step(3);
    bench.detach("w1");
    bench.join("w1");
    assert_eq!(bench.losses(), [("w1", "another process took its name")]);
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true)]);
    bench.ready("w1");
    bench.pass(100, &["w0", "w1"]);
    assert_eq!(bench.asked_to_pause(), [("w1", 2, true)]);
    bench.all_pause();
    let begin = bench.begin("w1");
    assert_eq!((begin.position, begin.start), (bench.at(3), Start::Peer { rank: 0 }));
    assert!(!begin.peers[1].has_state);
}

/// One that was cut off at an epoch's end shows what it was at then, until it is told to begin again.
#[test]
fn one_that_comes_back_from_an_epochs_end_of_old_is_taken_in() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.join("w2");
    bench.beat("w2", |heartbeat| {
        heartbeat.address = "w2:1".to_owned();
        heartbeat.activity = Activity::AwaitingVerdict;
    });
    assert_eq!(bench.asked_to_pause(), [("w0", 2, false), ("w1", 2, false), ("w2", 2, false)]);
}
