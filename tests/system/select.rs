//! The best model: how it is chosen, and what becomes of the weights when an epoch did not improve on it.

use std::sync::LazyLock;

use crate::home::Home;
use crate::process::Running;
use crate::recipes::{Finished, HEAD, HEAD_STEPS, finished};
use crate::run_files::table;

/// The ends of the epochs of [`HEAD`].
const ENDS: [u64; 3] = [HEAD_STEPS, 2 * HEAD_STEPS, 3 * HEAD_STEPS];

/// [`HEAD`] with another `select.restore`.
fn restoring(when: &'static str) -> Finished {
    let finished = finished(2, &HEAD.with(&[when]));
    assert_eq!(column(&finished, "best"), ["1", "0", "0"], "of HEAD the first epoch is the best");
    finished
}

fn column<'a>(finished: &'a Finished, name: &str) -> Vec<&'a str> {
    table(&finished.outcome.results).into_iter().map(|row| row[name]).collect()
}

/// By epoch, the step whose weights were loaded back.
fn restored(finished: &Finished) -> Vec<Option<u64>> {
    let epochs = finished.events.iter().filter(|event| event["event"] == "epoch_ended");
    epochs.map(|event| event["restored"].as_u64()).collect()
}

#[test]
fn restore_never_leaves_the_weights_alone() {
    let run = HEAD.undisturbed();
    assert_eq!(column(run, "best"), ["1", "0", "0"], "of HEAD the first epoch is the best");
    assert_eq!(restored(run), [None; 3]);
    let [first, second, third] = ENDS.map(|step| &run.models[&step]);
    assert!(first != second && second != third && first != third, "every epoch changes the weights");
    assert_eq!(&run.outcome.best, first);
    assert_eq!(&run.outcome.model, third);
}

#[test]
fn restore_at_the_end_loads_the_best_weights_back_once() {
    let run = restoring("select.restore=end");
    let never = HEAD.undisturbed();
    assert_eq!(restored(&run), [None, None, Some(HEAD_STEPS)]);
    assert_eq!(run.models[&ENDS[1]], never.models[&ENDS[1]]);
    assert_eq!(run.models[&ENDS[2]], never.models[&ENDS[0]], "the last checkpoint is the best model");
    assert_eq!(run.outcome.best, never.outcome.best);
    assert_eq!(run.outcome.results, never.outcome.results, "the rows tell of the weights before that");
}

#[test]
fn restore_after_each_epoch_goes_back_whenever_one_did_not_improve() {
    let run = restoring("select.restore=epoch");
    assert_eq!(restored(&run), [None, Some(HEAD_STEPS), Some(HEAD_STEPS)]);
    for step in ENDS {
        assert_eq!(run.models[&step], run.outcome.best, "step {step}");
    }
    assert_eq!(run.outcome.best, HEAD.undisturbed().outcome.best);
}

#[test]
fn the_test_split_is_used_once_at_the_end_with_the_best_model() {
    let run = HEAD.undisturbed();
    let tested: Vec<_> = run.events.iter().filter(|event| event["event"] == "tested").collect();
    assert_eq!(tested.len(), 1);
    assert_eq!(tested[0]["step"], HEAD_STEPS);
    assert_eq!(run.status["test"]["step"], run.status["best"]["step"]);
    let kinds: Vec<&str> = run.events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["tested", "ended"]);
    assert!(!run.outcome.results.contains("test/"));
    let line = run.ended.stdout.lines().find(|line| line.starts_with("test ")).unwrap();
    assert!(line.contains("/20)") && line.ends_with("with the best model, of epoch 1"), "{line}");
}

/// Selected on the test split, as some published recipes do.
static ON_TEST: LazyLock<Finished> =
    LazyLock::new(|| finished(1, &HEAD.with(&["data.validation=0", "select.split=test", "epochs=2"])));

#[test]
fn selecting_on_the_test_split_works_and_is_warned_of() {
    let run = &*ON_TEST;
    run.ended.says(&["warning: select.split = \"test\"", "its test accuracy will be too good"]);
    assert!(!HEAD.undisturbed().ended.stderr.contains("select.split"));
    assert_eq!(column(run, "test/count"), ["20", "20"]);
    assert_eq!(column(run, "train/count"), ["80", "80"], "nothing is held back from training");
    assert_eq!(run.status["best"]["split"], "test");
    assert!(run.status["test"].is_null(), "no second test, whose number would look independent");
}

#[test]
fn patience_stops_early() {
    let home = Home::new();
    let ended = Running::start(&mut home.train(2, &HEAD.with(&["select.patience=1"]))).wait().expect(0);
    assert!(ended.stdout.contains("stopped early: no improvement within the patience"), "{}", ended.stdout);
    let status = home.run().status();
    assert_eq!((&status["epochs_done"], &status["status"]), (&2.into(), &"done".into()));
    assert_eq!(status["reason"], "no improvement within the patience");
    assert_eq!(status["test"]["count"], 20);
    let undisturbed = HEAD.undisturbed();
    assert_eq!(home.run().models()[&ENDS[1]], undisturbed.models[&ENDS[1]]);
    assert!(undisturbed.outcome.results.starts_with(&home.run().text("results.csv")));
}
