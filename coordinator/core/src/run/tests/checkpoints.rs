//! Promises about checkpoints: which are kept, what `last` and `best` point to, and what a failed one does.

use super::*;

fn deleted(bench: &Bench) -> Vec<u64> {
    let deletions = |effect: &Effect| match effect {
        Effect::DeleteCheckpoint(step) => Some(step.0),
        _ => None,
    };
    bench.effects.iter().filter_map(deletions).collect()
}

fn published(bench: &Bench) -> Option<(u64, Option<u64>)> {
    bench.effects.iter().find_map(|effect| match effect {
        Effect::Publish { last, best } => Some((last.0, best.map(|step| step.0))),
        _ => None,
    })
}

#[test]
fn the_newest_and_the_best_are_kept_and_published() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 9));
    /// How many are right, what is published, what is deleted, and what is there then.
    type Case = (u64, (u64, Option<u64>), &'static [u64], &'static [u64]);
    let steps: [Case; 6] = [
        (5, (10, Some(10)), &[], &[10]),
        (7, (20, Some(20)), &[], &[10, 20]),
        (1, (30, Some(20)), &[10], &[20, 30]),
        (1, (40, Some(20)), &[], &[20, 30, 40]),
        (1, (50, Some(20)), &[30], &[20, 40, 50]),
        (8, (60, Some(60)), &[40], &[20, 50, 60]),
    ];
    for (correct, links, gone, kept) in steps {
        bench.finish_epoch(correct);
        assert_eq!(published(&bench), Some(links));
        assert_eq!((&*deleted(&bench), &*bench.stored()), (gone, kept));
    }
    bench.finish_epoch(1);
    assert_eq!(bench.stored(), [60, 70], "nothing that is kept needs the former best one any more");
}

#[test]
fn deletions_are_recorded_before_they_are_asked_for() {
    let mut bench = Bench::training(with(|spec| spec.keep = 1));
    bench.finish_epoch(5);
    bench.finish_epoch(6);
    assert_eq!(
        bench.effects[3..],
        [
            Effect::Publish { last: Step(20), best: Some(Step(20)) },
            Effect::Record(Entry::CheckpointDeleted { step: Step(10) }),
            Effect::DeleteCheckpoint(Step(10)),
        ]
    );
}

/// An epoch improves while an earlier checkpoint is still on its way: a crash in between must find a way back.
#[test]
fn the_former_best_one_stays_until_the_checkpoint_of_the_better_one_is_stored() {
    let mut bench = Bench::training(with(|spec| spec.keep = 1));
    bench.finish_epoch(5);
    bench.finish_epoch(1);
    bench.end_epoch(9);
    bench.store(25);
    assert_eq!((published(&bench), bench.stored()), (Some((25, None)), vec![10, 25]));
    let history = bench.run.history();
    let verified = history.checkpoints.keys().copied().collect();
    assert_eq!(history.resume_point(&verified), Some(bench.at(25)));
    bench.store(30);
    assert_eq!(bench.stored(), [30]);
}

#[test]
fn a_checkpoint_that_cannot_be_stored_fails_the_run() {
    let mut bench = Bench::training(spec());
    let (position, reason) = (bench.at(4), "disk full".to_owned());
    bench.ok(Event::CheckpointFailed { position, reason });
    assert_eq!(bench.failure(), "the checkpoint of step 4 could not be stored: disk full");
}

#[test]
fn a_second_copy_of_a_checkpoint_may_fail() {
    let mut bench = Bench::training(spec());
    bench.store(4);
    let (position, reason) = (bench.at(4), "exists".to_owned());
    bench.ok(Event::CheckpointFailed { position, reason });
    assert_eq!((bench.outcome(), bench.phase()), (None, "training"));
}

#[test]
fn uploads_are_admitted_in_every_phase_since_a_positions_state_is_the_same_whoever_has_it() {
    for bench in phases() {
        let phase = bench.phase();
        assert_eq!(bench.run.admit_upload(bench.at(4)), Ok(Admission::Wanted), "{phase}");
    }
    let mut ended = Bench::training(spec());
    ended.ok(Event::Abandoned { reason: "gone".into(), kind: FailureKind::Cluster });
    assert_eq!(ended.run.admit_upload(ended.at(4)), Err(Reject::RunOver));
}

#[test]
fn a_checkpoint_is_stored_once_and_all_are_told_each_time() {
    let mut bench = Bench::training(spec());
    let stored = Message::Stored { step: Step(4) };
    bench.store(4);
    assert_eq!((bench.told("w0"), bench.told("w1")), (vec![&stored], vec![&stored]));
    assert_eq!(bench.run.admit_upload(bench.at(4)), Ok(Admission::Stored));
    let entries = bench.entries.len();
    bench.store(4);
    assert_eq!((bench.told("w0"), bench.told("w1")), (vec![&stored], vec![&stored]));
    assert_eq!((bench.entries.len(), bench.effects.len()), (entries, 2));
}

#[test]
fn a_checkpoint_that_retention_would_delete_at_once_is_not_stored() {
    let mut bench = Bench::training(with(|spec| spec.keep = 1));
    bench.finish_epoch(5);
    bench.store(14);
    bench.store(15);
    assert_eq!(bench.stored(), [10, 15]);
    let entries = bench.entries.len();
    assert_eq!(bench.run.admit_upload(bench.at(14)), Ok(Admission::Superseded));
    // As after a crash between the record of its deletion and the deletion.
    bench.store(14);
    assert_eq!((bench.entries.len(), deleted(&bench), bench.stored()), (entries, vec![14], vec![10, 15]));
    let (position, reason) = (bench.at(13), "disk full".to_owned());
    bench.ok(Event::CheckpointFailed { position, reason });
    assert_eq!((bench.outcome(), bench.phase()), (None, "training"));
    assert_eq!(bench.run.admit_upload(bench.at(16)), Ok(Admission::Wanted));
}

#[test]
fn a_checkpoint_beyond_what_the_run_knows_is_refused() {
    let mut bench = Bench::training(spec());
    bench.finish_epoch(5);
    let outside = Position { epoch: Epoch(1), step: Step(9) };
    for position in [bench.unjudged(10), bench.unjudged(20), bench.at(20), bench.at(31), outside] {
        let beyond = Err(Reject::Beyond { position });
        assert_eq!(bench.run.admit_upload(position).map(|_| ()), beyond.clone());
        assert_eq!(bench.apply(Event::CheckpointStored { position, size_bytes: 1 }), beyond.clone());
        assert_eq!(bench.apply(Event::CheckpointFailed { position, reason: "no".into() }), beyond);
    }
    for position in [bench.at(10), bench.at(19)] {
        assert!(bench.run.admit_upload(position).is_ok());
    }
}

#[test]
fn a_state_is_stored_at_an_epochs_start_when_its_checkpoint_was_lost_on_the_way() {
    let mut bench = Bench::training(spec());
    bench.end_epoch(5);
    bench.follow_verdict();
    bench.die("w0");
    bench.pause("w1");
    assert_eq!((bench.begin("w1").position, bench.begin("w1").save), (bench.at(10), true));
}

#[test]
fn going_back_to_an_earlier_checkpoint_deletes_what_lies_beyond() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 9));
    [5, 1, 7, 1].into_iter().for_each(|correct| bench.finish_epoch(correct));
    assert_eq!(bench.stored(), [30, 40]);
    bench.store(45);
    assert_eq!(bench.stored(), [30, 40, 45]);
    bench.die("w0");
    bench.die("w1");
    bench.come("w2");
    bench.pause("w2");
    // The best one is damaged, so the ones after it are of no use.
    bench.ok(Event::CheckpointsVerified { verified: BTreeSet::from([Step(40), Step(45)]) });
    assert_eq!(deleted(&bench), [40, 45]);
    assert_eq!(bench.stored(), Vec::<u64>::new());
}
