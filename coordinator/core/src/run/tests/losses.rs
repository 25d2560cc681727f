//! Promises about workers that are lost: whatever the run was at, it goes on with those that are left, from the most
//! advanced replica.

use super::*;

#[test]
fn a_loss_asks_all_others_to_pause_at_once_whatever_the_run_was_at() {
    for mut bench in phases() {
        let phase = bench.phase();
        let forming = bench.run.numbered;
        bench.die("w0");
        assert_eq!(bench.losses(), [("w0", "killed by SIGKILL")], "{phase}");
        assert!(bench.effects.contains(&Effect::Disconnect { worker: "w0".into() }), "{phase}");
        assert!(bench.told("w0").is_empty(), "{phase}");
        assert_eq!(bench.outcome(), None, "{phase}");
        match phase {
            "gathering workers" => assert_eq!(bench.asked_to_pause(), []),
            "forming a generation" => {
                assert_eq!(bench.run.numbered, forming, "the one that forms is for those that are left");
                assert_eq!(bench.phase(), "forming a generation");
            }
            _ => assert_eq!(bench.asked_to_pause(), [("w1", bench.generation(), true)], "{phase}"),
        }
    }
}

#[test]
fn a_loss_while_stepping_goes_on_from_where_the_others_paused() {
    let mut bench = Bench::training(spec());
    bench.all_step(4);
    bench.die("w0");
    bench.paused("w1", 2, bench.at(4));
    let begin = bench.begin("w1");
    assert_eq!((begin.position, begin.start), (bench.at(4), Start::Peer { rank: 0 }));
    assert_eq!((begin.peers.len(), begin.peers[0].shards), (1, (0, 4)));
    assert_eq!((begin.judged, begin.save, begin.hold), (false, false, false));
}

#[test]
fn a_loss_while_an_epoch_is_collected_has_the_rest_evaluate_it_again() {
    let mut bench = Bench::training(spec());
    let report = bench.reports(5).remove(0);
    bench.report(vec![report]);
    bench.die("w1");
    bench.paused("w0", 2, bench.unjudged(10));
    let begin = bench.begin("w0");
    assert_eq!((begin.position, begin.judged, begin.hold), (bench.unjudged(10), false, false));
    bench.follow("w0");
    let verdict = bench.end_epoch(5).unwrap();
    assert_eq!((verdict.generation, verdict.epoch, bench.epoch()), (Generation(2), Epoch(0), 1));
}

#[test]
fn a_verdict_that_nobody_followed_is_given_again_without_another_evaluation() {
    let mut bench = Bench::training(spec());
    let verdict = bench.end_epoch(5).unwrap();
    bench.die("w1");
    bench.paused("w0", 2, bench.unjudged(10));
    assert_eq!((bench.begin("w0").judged, bench.begin("w0").save), (true, false));
    let again = bench.verdict().unwrap();
    assert_eq!(again, Verdict { generation: Generation(2), ..verdict });
    assert_eq!(bench.epoch(), 1);
}

#[test]
fn a_verdict_that_one_followed_reaches_the_others_as_its_state() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.end_epoch(5);
    bench.die("w0");
    bench.paused("w1", 2, bench.unjudged(10));
    bench.paused("w2", 2, bench.at(10));
    let begin = bench.begin("w1");
    assert_eq!((begin.position, begin.start), (bench.at(10), Start::Peer { rank: 1 }));
    let has_state: Vec<bool> = begin.peers.iter().map(|peer| peer.has_state).collect();
    assert_eq!((has_state, begin.judged, begin.save), (vec![false, true], false, true));
    assert_eq!(bench.verdict(), None);
}

#[test]
fn a_loss_while_a_verdict_waits_for_the_best_model_leaves_it_waiting() {
    let mut bench = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    bench.end_epoch(5);
    bench.follow_verdict();
    assert_eq!(bench.end_epoch(4), None);
    bench.die("w1");
    bench.paused("w0", 2, bench.unjudged(20));
    assert!(bench.begin("w0").judged);
    assert_eq!(bench.verdict(), None);
    assert_eq!(bench.run.status().reason, "the best model's checkpoint is being stored");
    bench.store(10);
    assert_eq!(bench.verdict().unwrap().restore, Some(Step(10)));
}

#[test]
fn a_loss_while_holding_has_another_store_the_last_checkpoint() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.end_epoch(5);
    bench.follow_verdict();
    bench.die("w0");
    bench.paused("w1", 2, bench.at(10));
    let begin = bench.begin("w1");
    assert_eq!((begin.rank, begin.save, begin.hold), (0, true, true));
    bench.store(10);
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn a_loss_while_testing_has_the_rest_test_again() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 1));
    bench.finish_epoch(5);
    bench.ok(Event::EvalReported {
        worker: "w0".into(),
        generation: Generation(1),
        split: Split::Test,
        blocks: dealt(10, 3, 0, 2),
    });
    bench.die("w1");
    bench.paused("w0", 2, bench.at(10));
    assert_eq!((bench.begin("w0").hold, bench.begin("w0").save), (true, false));
    let order = Message::Evaluate { generation: Generation(2), split: Split::Test, weights_step: Step(10) };
    assert_eq!(bench.told("w0").last(), Some(&&order));
    bench.test(3);
    assert_eq!(bench.outcome(), Some(&Outcome::Done { early: false }));
}

#[test]
fn a_member_lost_while_all_are_to_pause_at_a_boundary_lets_them_pause_at_once() {
    let mut bench = Bench::training(workers(1, 3, 4));
    bench.all_step(4);
    bench.come("w3");
    assert!(bench.asked_to_pause().iter().all(|(_, _, now)| !now));
    bench.pause("w3");
    bench.die("w1");
    assert_eq!(bench.asked_to_pause(), [("w0", 2, true), ("w2", 2, true)]);
    bench.paused("w0", 2, bench.at(4));
    bench.paused("w2", 2, bench.at(4));
    assert_eq!((bench.member_names(), bench.generation()), (vec!["w0", "w2", "w3"], 2));
}

#[test]
fn a_newcomer_lost_while_all_are_to_pause_costs_no_step() {
    let mut bench = Bench::training(spec());
    bench.come("w2");
    bench.die("w2");
    assert_eq!(bench.asked_to_pause(), [], "the others still pause at the boundary");
    bench.all_pause();
    assert_eq!(bench.member_names(), ["w0", "w1"]);
}

#[test]
fn the_last_one_waited_for_to_pause_may_be_lost() {
    let mut bench = Bench::training(spec());
    bench.come("w2");
    bench.paused("w0", 2, bench.at(1));
    bench.pause("w2");
    bench.die("w1");
    assert_eq!(bench.member_names(), ["w0", "w2"]);
}

#[test]
fn a_member_that_lags_by_one_step_receives_the_state_of_one_that_does_not() {
    let mut bench = Bench::training(workers(1, 4, 4));
    bench.all_step(4);
    bench.die("w0");
    bench.paused("w1", 2, bench.at(4));
    bench.paused("w2", 2, bench.at(5));
    bench.paused("w3", 2, bench.at(4));
    let begin = bench.begin("w3");
    assert_eq!((begin.position, begin.start), (bench.at(5), Start::Peer { rank: 1 }));
    let has_state: Vec<bool> = begin.peers.iter().map(|peer| peer.has_state).collect();
    assert_eq!(has_state, [false, true, false]);
}

#[test]
fn with_fewer_than_the_least_a_run_waits_with_its_state_for_as_long_as_it_takes() {
    let mut bench = Bench::training(workers(2, 2, 4));
    bench.all_step(4);
    bench.die("w1");
    bench.paused("w0", 2, bench.at(4));
    assert_eq!((bench.phase(), bench.outcome()), ("gathering workers", None));
    assert_eq!(bench.run.status().reason, "1 of 2 workers are ready");
    bench.pass(200_000, &["w0"]);
    assert_eq!(bench.phase(), "gathering workers");
    bench.come("w5");
    bench.all_pause();
    let begin = bench.begin("w5");
    assert_eq!((begin.position, begin.start), (bench.at(4), Start::Peer { rank: 0 }));
}

#[test]
fn when_nobody_has_the_state_any_more_the_run_goes_back_to_its_newest_whole_checkpoint() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.finish_epoch(6);
    bench.all_step(23);
    bench.die("w0");
    bench.die("w1");
    assert_eq!(bench.phase(), "gathering workers");
    bench.come("w2");
    bench.pause("w2");
    assert!(bench.effects.contains(&Effect::VerifyCheckpoints));
    assert_eq!(bench.run.status().reason, "looks for a checkpoint that is whole");
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10)]) });
    let resumed = Entry::Resumed { position: bench.at(10), damaged: vec![Step(20)] };
    assert_eq!(bench.effects[0], Effect::Record(resumed));
    let begin = bench.begin("w2");
    assert_eq!((begin.position, begin.start), (bench.at(10), Start::Checkpoint(Step(10))));
    assert_eq!((bench.epoch(), bench.stored()), (1, vec![10]));
}

#[test]
fn a_run_without_any_whole_checkpoint_begins_again() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.die("w0");
    bench.die("w1");
    bench.come("w2");
    bench.pause("w2");
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::new() });
    assert_eq!((bench.begin("w2").position, bench.begin("w2").start), (Position::default(), Start::Initial));
    assert_eq!((bench.epoch(), bench.stored()), (0, vec![]));
}

#[test]
fn a_state_of_a_run_that_went_back_counts_only_as_far_as_its_epochs_are_known() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    bench.finish_epoch(6);
    bench.die("w0");
    bench.die("w1");
    bench.come("w2");
    bench.pause("w2");
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(10)]) });
    bench.all_begin();
    bench.come("w0");
    bench.all_step(11);
    bench.paused("w0", 2, bench.at(25));
    bench.pass(100, &["w0", "w2"]);
    bench.all_pause();
    let begin = bench.begin("w0");
    assert!(begin.position.step <= Step(11), "{begin:?}");
}

#[test]
fn the_first_workers_lost_before_they_could_begin_are_waited_for_again() {
    let mut bench = Bench::forming(spec());
    bench.die("w0");
    bench.die("w1");
    assert_eq!(bench.phase(), "gathering workers");
    bench.come("w0");
    bench.come("w1");
    bench.all_pause();
    assert_eq!(bench.begin("w0").start, Start::Initial);
}

#[test]
fn a_loss_that_nobody_is_left_to_hear_of_changes_nothing() {
    let mut bench = Bench::training(spec());
    let before = bench.run.clone();
    bench.die("w9");
    assert_eq!((bench.effects.len(), &bench.run), (0, &before));
}
