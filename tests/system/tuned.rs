//! A recipe with everything that training knows switched on keeps the same promises as a plain one.

use crate::home::Home;
use crate::recipes::Recipe;
use crate::run_files::table;

/// Steps of an epoch of [`TUNED`].
const STEPS: u64 = 5;

/// AdamW with groups, clipping, accumulation and a running average; every augmentation; the last stage first, then all
/// layers; a rate that moves with every step.
static TUNED: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=136",
    "data.validation=16",
    "data.test=20",
    "data.image_size=40",
    "augment.crop_padding=4",
    "augment.flip=0.5",
    "augment.brightness=0.3",
    "augment.contrast=0.3",
    "augment.saturation=0.3",
    "augment.hue=0.1",
    "augment.erasing=0.3",
    "augment.mixup=0.2",
    "augment.cutmix=1.0",
    "model.name=resnet18",
    "batch=24",
    "shards=2",
    "epochs=2",
    "train.trainable=[\"from:layer4\"]",
    "train.unfreeze_at={ epoch = 1, patterns = [\"full\"] }",
    "train.group=[{ match = \"layer4\", lr = 1e-4 }, { match = \"layer3.*\", lr = 2e-4, weight_decay = 0.0 }]",
    "train.label_smoothing=0.1",
    "train.accumulate=2",
    "train.clip_norm=1.0",
    "train.ema_decay=0.9",
    "optimizer.name=adamw",
    "optimizer.weight_decay=0.05",
    "optimizer.decay_norm_and_bias=false",
    "schedule.name=one-cycle",
    "schedule.per=step",
]);

#[test]
fn two_workers_and_one_give_the_same_bits_with_everything_switched_on() {
    let one = TUNED.undisturbed();
    let two = TUNED.run(2);
    assert_eq!(two.outcome, one.outcome);
    assert_eq!(two.models, one.models);
    assert_eq!(two.status["test"], one.status["test"]);
}

#[test]
fn a_run_killed_after_its_layers_were_unfrozen_goes_on_with_the_same_bits() {
    let undisturbed = TUNED.undisturbed();
    let home = Home::new();
    home.kill_everything(&mut TUNED.until_stored(&home, 2, STEPS + 1));
    home.finish(&["--workers", "1"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    assert_eq!(home.run().status()["test"], undisturbed.status["test"]);
}

#[test]
fn the_running_average_is_told_beside_the_weights() {
    let results = &TUNED.undisturbed().outcome.results;
    for row in table(results) {
        let loss: f64 = row["ema_val/loss"].parse().unwrap();
        assert!(loss.is_finite() && row["ema_val/loss"] != row["val/loss"]);
        let accuracy: f64 = row["ema_val/acc_top1"].parse().unwrap();
        assert_eq!(accuracy, row["ema_val/correct"].parse::<f64>().unwrap() / 16.0);
    }
}

#[test]
fn what_is_trained_is_shown_before_training_begins() {
    let said = &TUNED.undisturbed().ended;
    said.says(&["layer4", "layer3", "running statistics"]);
}
