//! The weights are a function of the recipe, not of the cluster; no sample is lost or repeated.

use crate::recipes::{FULL, Finished, HALF, HEAD, PARTIAL, Recipe, STEPS, THREE_SHARDS};
use crate::run_files::table;

/// Compares everything that a recipe decides.
#[track_caller]
fn same_bits(recipe: &Recipe, workers: u32) {
    let one = recipe.undisturbed();
    let many = recipe.run(workers);
    assert_eq!(many.outcome, one.outcome);
    assert_eq!(many.status["test"], one.status["test"]);
    assert_eq!(many.models, one.models);
    let members = many.events.iter().find(|event| event["event"] == "generation_began").unwrap();
    assert_eq!(members["members"].as_array().unwrap().len(), workers as usize);
}

#[test]
fn two_workers_and_one_give_the_same_bits() {
    same_bits(&FULL, 2);
}

#[test]
fn two_workers_and_one_give_the_same_bits_with_frozen_layers() {
    same_bits(&PARTIAL, 2);
}

#[test]
fn two_workers_and_one_give_the_same_bits_in_bfloat16() {
    same_bits(&HALF, 2);
}

#[test]
fn three_workers_and_one_give_the_same_bits() {
    same_bits(&THREE_SHARDS, 3);
}

#[test]
fn other_settings_give_other_weights() {
    // Or else the comparisons here would compare nothing.
    let models =
        [&FULL, &HALF, &PARTIAL, &THREE_SHARDS, &HEAD].map(|recipe| &recipe.undisturbed().outcome.model);
    for (index, model) in models.iter().enumerate() {
        assert!(!models[..index].contains(model));
    }
}

#[test]
fn every_training_sample_is_visited_once_per_epoch() {
    for (recipe, epochs, visited, dropped) in [
        (&FULL, 2, "102", "0"),
        (&PARTIAL, 2, "102", "0"),
        (&THREE_SHARDS, 1, "96", "5"),
        (&HEAD, 3, "64", "0"),
    ] {
        let Finished { outcome, .. } = recipe.undisturbed();
        let ledger = table(&outcome.ledger);
        assert_eq!(ledger.len(), epochs);
        for (epoch, row) in ledger.iter().enumerate() {
            assert_eq!(row["epoch"], epoch.to_string());
            let counts = ["expected", "seen", "lost", "repeated", "dropped"].map(|column| row[column]);
            assert_eq!(counts, [visited, visited, "0", "0", dropped]);
            assert_eq!(row["digest"].len(), 64);
        }
        let digests: std::collections::BTreeSet<_> = ledger.iter().map(|row| row["digest"]).collect();
        assert_eq!(digests.len(), epochs, "every epoch has an order of its own");
        for row in table(&outcome.results) {
            assert_eq!(row["train/count"], visited);
        }
    }
}

#[test]
fn evaluation_counts_every_sample_once() {
    for recipe in [&FULL, &HEAD] {
        let Finished { outcome, status, .. } = recipe.undisturbed();
        for row in table(&outcome.results) {
            assert_eq!(row["val/count"], "16");
        }
        assert_eq!(status["test"]["count"], 20);
    }
}

#[test]
fn results_tell_the_course_of_the_learning_rate_and_its_steps() {
    let results = &FULL.undisturbed().outcome.results;
    let rows = table(results);
    assert_eq!(rows.iter().map(|row| row["epoch"]).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(
        rows.iter().map(|row| row["step"]).collect::<Vec<_>>(),
        [STEPS.to_string(), (2 * STEPS).to_string()]
    );
    for (epoch, row) in rows.iter().enumerate() {
        // PyTorch's CosineAnnealingLR with T_max = 4.
        let cosine = 0.01 * (1.0 + (std::f64::consts::PI * epoch as f64 / 4.0).cos()) / 2.0;
        let lr: f64 = row["lr"].parse().unwrap();
        assert!((lr - cosine).abs() < 1e-15, "{lr} {cosine}");
        for column in ["train/loss", "train/acc_top1", "val/loss", "val/acc_top1"] {
            assert!(row[column].parse::<f64>().unwrap().is_finite(), "{column}");
        }
        let accuracy = row["val/correct"].parse::<f64>().unwrap() / 16.0;
        assert_eq!(row["val/acc_top1"].parse::<f64>().unwrap(), accuracy);
    }
    assert_eq!(rows[0]["best"], "1");
}
