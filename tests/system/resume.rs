//! A run that was killed at any instant goes on to the bits of one that was not.

use crate::home::{Home, RUN};
use crate::process::Running;
use crate::recipes::{FULL, HEAD, HEAD_STEPS, STEPS};

/// A run of [`FULL`] within its second epoch. It is far from its end: it has to store two more checkpoints.
fn in_the_second_epoch(home: &Home, workers: u32) -> Running {
    FULL.until_stored(home, workers, STEPS + 1)
}

#[test]
fn after_all_were_killed_in_mid_epoch_another_number_of_workers_finishes_with_the_same_bits() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    assert_eq!(home.kill_everything(&mut in_the_second_epoch(&home, 2)), 3);
    assert!(home.run().event("ended").is_none());
    assert!(!home.run().checkpoints().contains(&(2 * STEPS)));

    let resumed = home.finish(&["--workers", "1"]);
    resumed.says(&[&format!("run {RUN} goes on from epoch 2, step ")]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    assert_eq!(home.run().status()["test"], undisturbed.status["test"]);
    let from = home.run().event("resumed").unwrap()["position"]["step"].as_u64().unwrap();
    assert!((STEPS + 1..2 * STEPS).contains(&from), "step {from} is within the second epoch");
    home.run().verify_checkpoints();
}

#[test]
fn after_all_were_killed_before_the_first_checkpoint_the_run_starts_again_with_the_same_bits() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    let mut running = Running::start(&mut home.train(1, FULL.settings));
    running.until("training", || home.run().event("generation_began"));
    home.kill_everything(&mut running);
    assert!(home.run().checkpoints().is_empty());

    // More workers than before.
    home.finish(&["--workers", "2"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    assert_eq!(home.run().events_of("tested").len(), 1);
}

#[test]
fn a_run_killed_twice_is_still_the_same() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    home.kill_everything(&mut in_the_second_epoch(&home, 1));
    // The second life, by name of nothing: the one worked on last.
    let mut running = Running::start(&mut home.lockstep(&["resume"]));
    running.until("training again", || home.run().events_of("generation_began").get(1).cloned());
    home.kill_everything(&mut running);
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    let generations: Vec<u64> = home
        .run()
        .events_of("generation_began")
        .iter()
        .map(|event| event["generation"].as_u64().unwrap())
        .collect();
    assert_eq!(generations, [1, 2, 3], "a generation's number is never used again");
}

#[test]
fn the_best_epoch_before_a_kill_stays_the_best() {
    let undisturbed = HEAD.undisturbed();
    assert_eq!(undisturbed.status["best"]["epoch"], 0, "of HEAD the first epoch is the best");
    let home = Home::new();
    let settings = HEAD.with(&["epochs=2", "checkpoint.keep=1"]);
    Running::start(&mut home.train(1, &settings)).wait().expect(0);
    // Cut down in its third epoch.
    let mut running = Running::start(&mut home.resume(&["--epochs", "3"]));
    running.until("the third epoch", || home.run().events_of("generation_began").get(1).cloned());
    home.kill_everything(&mut running);

    home.finish(&["--epochs", "3"]);
    let run = home.run();
    assert_eq!(run.points_at("best"), HEAD_STEPS);
    assert_eq!(run.points_at("last"), 3 * HEAD_STEPS);
    assert_eq!(run.status()["best"], undisturbed.status["best"]);
    assert_eq!(run.outcome(), undisturbed.outcome);
    assert_eq!(run.checkpoints().into_iter().collect::<Vec<_>>(), [HEAD_STEPS, 3 * HEAD_STEPS]);
}

#[test]
fn a_run_that_is_done_is_extended_to_what_a_longer_one_gives() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    Running::start(&mut home.train(2, &FULL.with(&["epochs=1"]))).wait().expect(0);
    assert_eq!(home.run().text("results.csv").lines().count(), 2);

    let done = Running::start(&mut home.resume(&[])).wait().expect(2);
    done.says(&["run is done, with 1 epoch", "hint: ", "--epochs"]);
    Running::start(&mut home.resume(&["--epochs", "0"])).wait().expect(2).says(&["--epochs"]);

    home.finish(&["--epochs", "2", "--workers", "2"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    assert_eq!(home.run().text("results.csv").lines().count(), 3);
    let recipe: toml::Table = home.run().text("recipe.toml").parse().unwrap();
    assert_eq!(recipe["epochs"].as_integer(), Some(2));

    let fewer = Running::start(&mut home.resume(&["--epochs", "1"])).wait().expect(2);
    fewer.says(&["run has 2 epochs done already"]);
}

#[test]
fn an_unknown_run_cannot_be_resumed() {
    let home = Home::new();
    let ended = Running::start(&mut home.lockstep(&["resume", "nobody"])).wait().expect(2);
    ended.says(&["there is no run named nobody in", "home"]);
    let ended = Running::start(&mut home.lockstep(&["resume"])).wait().expect(2);
    ended.says(&["there is no run in", "hint: ", "lockstep train"]);
    assert!(home.runs().is_empty());
}
