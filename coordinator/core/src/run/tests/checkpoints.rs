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
        bench.effects[1..],
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
    let position = bench.at(4);
    let reason = "disk full".to_owned();
    bench.ok(Event::CheckpointFailed { generation: Generation(1), position, reason });
    assert_eq!(bench.failure(), "the checkpoint of step 4 could not be stored: disk full");
}

#[test]
fn uploads_are_admitted_only_while_their_generation_trains() {
    let stale = |given: u64, current: u64| {
        Err(Reject::StaleGeneration { given: Generation(given), current: Generation(current) })
    };
    assert_eq!(Bench::new(spec()).run.admit_upload(Generation(0)), stale(0, 0));
    assert_eq!(Bench::forming(spec()).run.admit_upload(Generation(1)), stale(1, 1));
    let mut bench = Bench::training(spec());
    assert_eq!(bench.run.admit_upload(Generation(1)), Ok(()));
    bench.ok(Event::WorkerLost { worker: "w0".into(), reason: "gone".into() });
    assert_eq!(bench.run.admit_upload(Generation(1)), Err(Reject::RunOver));
}

#[test]
fn a_resume_from_an_earlier_checkpoint_deletes_what_lies_beyond() {
    let mut bench = Bench::training(with(|spec| spec.epochs = 9));
    [5, 1, 7, 1].into_iter().for_each(|correct| bench.finish_epoch(correct));
    assert_eq!(bench.stored(), [30, 40]);
    bench.store(45);
    assert_eq!(bench.stored(), [30, 40, 45]);
    // The best one is damaged, so the ones after it are of no use.
    let bench = Bench::resumed(bench.entries, &[40, 45], 2);
    assert_eq!(deleted(&bench), [40, 45]);
    assert_eq!(bench.stored(), Vec::<u64>::new());
}
