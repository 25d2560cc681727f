//! Training: the same losses, step by step, from the same weights over the same samples.

use serde_json::Value;

use crate::job::Job;
use crate::reference::reference;
use crate::train::Run;

/// Of what training changed, per tensor. Losses hardly show an error in a single layer's gradient; this does. Rounding
/// takes up to 5e-4, in running means that hardly moved.
const STATE_TOLERANCE: f64 = 1e-2;

/// Both sides' losses of each step of `job`, compared, within the relative `tolerance`.
///
/// Rounding alone makes them part, and every step carries that on: the first loss shows whether model and data agree,
/// those after it whether gradients and optimizer do.
fn compare(what: &str, job: &Job, steps: usize, tolerance: f64) {
    let Some(reference) = reference() else { return };
    let run = Run::of(job, reference);
    let found = run.path(&format!("checkpoints/step-{steps:08}/model.safetensors"));
    let answer = reference.ask("train", &job.reference(reference, &found));
    let expected: Vec<f64> =
        answer["losses"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    assert_eq!((run.losses.len(), expected.len()), (steps, steps), "steps of Lockstep and PyTorch");
    let mut table = format!("{what}\nstep            Lockstep             PyTorch  relative difference\n");
    let mut worst = 0.0_f64;
    for (step, (ours, theirs)) in run.losses.iter().zip(&expected).enumerate() {
        let difference = (ours - theirs).abs() / theirs.abs();
        // A NaN is the worst of all, and stays.
        worst = if worst.is_nan() || difference <= worst { worst } else { difference };
        table += &format!("{:4}  {ours:18.12}  {theirs:18.12}  {difference:19.2e}\n", step + 1);
    }
    let (tensor, state) = (&answer["worst"][0], answer["worst"][1].as_f64().unwrap_or(f64::NAN));
    println!(
        "{table}worst {worst:.2e}, allowed {tolerance:.0e}; of the changed values {state:.2e} in {tensor}\n"
    );
    assert!(worst <= tolerance, "losses differ by {worst:.2e}, more than {tolerance:.0e}");
    assert!(state <= STATE_TOLERANCE, "{tensor} differs by {state:.2e} of its change");
    assert!(expected.last() != expected.first(), "nothing was trained");
}

#[test]
fn the_first_ten_steps_of_a_resnet50_have_pytorchs_losses() {
    let job = Job { train: 360, normalize: "imagenet", ..Job::full("resnet50") };
    compare("resnet50, all layers", &job, 10, 1e-4);
}

#[test]
fn a_head_trains_like_pytorchs_on_running_statistics() {
    let job = Job { trainable: &["fc.*"], ..Job::full("resnet50") };
    compare("resnet50, head, frozen batch norm in eval mode", &job, 5, 1e-3);
}

#[test]
fn a_head_trains_like_pytorchs_on_batch_statistics() {
    let job = Job { trainable: &["fc.*"], frozen_batch_norm: "train", ..Job::full("resnet18") };
    compare("resnet18, head, frozen batch norm in train mode", &job, 5, 1e-3);
}

#[test]
fn the_last_stage_trains_like_pytorchs_on_running_statistics() {
    let job = Job { trainable: &["layer4.*", "fc.*"], ..Job::full("resnet18") };
    compare("resnet18, last stage and head, frozen batch norm in eval mode", &job, 5, 1e-3);
}

#[test]
fn the_last_stage_trains_like_pytorchs_on_batch_statistics() {
    let job = Job { trainable: &["layer4.*", "fc.*"], frozen_batch_norm: "train", ..Job::full("resnet50") };
    compare("resnet50, last stage and head, frozen batch norm in train mode", &job, 5, 1e-3);
}

#[test]
fn nesterov_weight_decay_and_schedule_are_pytorchs() {
    // Five full batches and a short one, twice, the second time at a lower learning rate.
    let job = Job {
        train: 210,
        epochs: 2,
        weight_decay: 0.01,
        nesterov: true,
        normalize: "cifar10",
        ..Job::full("resnet18")
    };
    compare("resnet18, Nesterov, weight decay, two epochs", &job, 12, 1e-3);
}
