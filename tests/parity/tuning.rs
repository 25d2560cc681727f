//! Trainings again, with all that may change between a gradient and its update: optimizers, schedules, clipping, groups,
//! smoothed labels, unfreezing.

use crate::job::Job;
use crate::losses::{LAST_STAGE, compare};
use crate::settings::{Group, Optimizer, Schedule};

#[test]
fn nesterov_and_weight_decay_are_pytorchs() {
    let optimizer = Optimizer::Sgd { nesterov: true };
    let job = Job { optimizer, weight_decay: 0.01, ..Job::full("resnet18") };
    compare("resnet18, Nesterov, weight decay", &job);
}

#[test]
fn weight_decay_that_skips_batch_norm_and_biases_is_pytorchs() {
    // Enough to show within 20 steps.
    let job = Job { weight_decay: 0.5, decay_norm_and_bias: false, ..Job::full("resnet18") };
    compare("resnet18, weight decay of weights alone", &job);
}

#[test]
fn adamw_is_pytorchs() {
    let job = Job { optimizer: Optimizer::AdamW, lr: 1e-4, weight_decay: 0.5, ..Job::full("resnet50") };
    compare("resnet50, AdamW", &job);
}

#[test]
fn adamw_of_some_layers_is_pytorchs() {
    let job = Job {
        optimizer: Optimizer::AdamW,
        lr: 1e-3,
        weight_decay: 0.5,
        decay_norm_and_bias: false,
        trainable: LAST_STAGE,
        ..Job::full("resnet18")
    };
    compare("resnet18, last stage and head, AdamW", &job);
}

#[test]
fn clipping_is_pytorchs() {
    let job = Job { clip_norm: 0.5, ..Job::full("resnet18") };
    compare("resnet18, gradients clipped", &job);
}

#[test]
fn accumulated_gradients_of_smoothed_labels_are_pytorchs() {
    // On running statistics: batch statistics are of the parts, and so are PyTorch's, but it moves the running ones once
    // for each part.
    let job = Job { trainable: &["fc.*"], accumulate: 3, label_smoothing: 0.2, ..Job::full("resnet18") };
    compare("resnet18, head, smoothed labels, accumulated gradients", &job);
}

#[test]
fn the_running_average_of_the_weights_is_pytorchs() {
    let job = Job { ema_decay: 0.8, ..Job::full("resnet18") };
    compare("resnet18, running average of the weights", &job);
}

#[test]
fn groups_have_rates_and_decays_of_their_own_and_one_schedule() {
    let groups = &[
        Group { pattern: "layer1.*", lr: 0.0004, weight_decay: None },
        Group { pattern: "layer*", lr: 0.003, weight_decay: Some(0.2) },
    ];
    let schedule = Schedule::Step { size: 1, gamma: 0.3 };
    let job = Job { groups, weight_decay: 0.05, schedule, ..Job::full("resnet18") };
    compare("resnet18, groups, steps of the rate", &job);
}

#[test]
fn a_one_cycle_is_pytorchs() {
    let schedule = Schedule::OneCycle { pct_start: 0.4, div_factor: 10.0, final_div_factor: 100.0 };
    let job = Job { schedule, per_step: true, lr: 0.03, ..Job::full("resnet18") };
    compare("resnet18, one cycle per step", &job);
}

#[test]
fn a_warm_up_before_a_one_cycle_is_pytorchs() {
    let schedule = Schedule::OneCycle { pct_start: 0.3, div_factor: 5.0, final_div_factor: 100.0 };
    let job = Job { schedule, per_step: true, warmup: (1, 0.1), lr: 0.03, ..Job::full("resnet18") };
    compare("resnet18, warm-up, then one cycle, per step", &job);
}

#[test]
fn a_warm_up_before_a_cosine_is_pytorchs() {
    let job = Job {
        epochs: 4,
        batch: 16,
        schedule: Schedule::Cosine { t_max: 2 },
        warmup: (2, 0.25),
        ..Job::full("resnet18")
    };
    compare("resnet18, warm-up, then a cosine, per epoch", &job);
}

#[test]
fn unfreezing_is_pytorchs() {
    let unfrozen = Some((1, &["*"][..]));
    let job = Job {
        trainable: &["fc.*"],
        unfrozen,
        schedule: Schedule::Constant,
        weight_decay: 0.05,
        ..Job::full("resnet18")
    };
    compare("resnet18, the head, then all layers", &job);
}

#[test]
fn unfreezing_is_pytorchs_with_adamw() {
    let unfrozen = Some((1, &["layer3.*", "layer4.*"][..]));
    let job = Job {
        trainable: &["fc.*"],
        unfrozen,
        optimizer: Optimizer::AdamW,
        lr: 1e-3,
        weight_decay: 0.5,
        ..Job::full("resnet18")
    };
    compare("resnet18, the head, then two stages, AdamW", &job);
}

#[test]
fn all_at_once_is_pytorchs() {
    let job = Job {
        trainable: LAST_STAGE,
        unfrozen: Some((1, &["*"][..])),
        frozen_batch_norm: "train",
        groups: &[Group { pattern: "fc.*", lr: 0.05, weight_decay: Some(0.0) }],
        optimizer: Optimizer::Sgd { nesterov: true },
        weight_decay: 0.1,
        decay_norm_and_bias: false,
        schedule: Schedule::CosineToZero,
        per_step: true,
        warmup: (1, 0.1),
        label_smoothing: 0.1,
        clip_norm: 1.0,
        ..Job::full("resnet50")
    };
    compare("resnet50, all of it at once", &job);
}
