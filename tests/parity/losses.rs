//! Training: the same losses, step by step, from the same weights over the same samples, and the same weights at the end.

use serde_json::Value;

use crate::job::Job;
use crate::lockstep::Run;
use crate::reference::reference;

const LOSS_TOLERANCE: f64 = 1e-3;

/// Of what training changed, per tensor. Losses hardly show an error in a single layer's gradient; this does. Rounding
/// takes up to 4e-4, in running means that hardly moved.
const STATE_TOLERANCE: f64 = 3e-3;

pub(crate) const LAST_STAGE: &[&str] = &["layer4.*", "fc.*"];

/// Both sides' losses of each step of `job`, and what the steps made of the weights.
///
/// Rounding alone makes them part, and every step carries that on: the first loss shows whether model and data agree,
/// those after it whether gradients and optimizer do.
pub(crate) fn compare(what: &str, job: &Job) {
    let Some(reference) = reference() else { return };
    let run = Run::of(job, reference);
    let steps = job.step_count();
    let found = run.path(&format!("checkpoints/step-{steps:08}/model.safetensors"));
    let average = (job.ema_decay > 0.0).then(|| run.export(&["--last", "--ema"], "average.safetensors"));
    let answer = reference.ask("train", &job.reference(reference, &found, average.as_deref()));
    let numbers = |key: &str| -> Vec<f64> {
        answer[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let (expected, rates) = (numbers("losses"), numbers("rates"));
    assert_eq!((run.losses.len(), expected.len()), (steps, steps), "steps of Lockstep and PyTorch");
    let mut table =
        format!("{what}\nstep    head's rate            Lockstep             PyTorch  relative difference\n");
    let mut worst = 0.0_f64;
    for (step, ((ours, theirs), rate)) in run.losses.iter().zip(&expected).zip(rates).enumerate() {
        let difference = (ours - theirs).abs() / theirs.abs();
        // A NaN is the worst of all, and stays.
        worst = if worst.is_nan() || difference <= worst { worst } else { difference };
        table += &format!("{:4}  {rate:13.6e}  {ours:18.12}  {theirs:18.12}  {difference:19.2e}\n", step + 1);
    }
    println!("{table}worst of {what}: losses {worst:.2e}");
    let mut states = vec![("weights", &answer["worst"])];
    states.extend(average.map(|_| ("running average", &answer["worst_average"])));
    for (what, found) in &states {
        println!("of the changes to the {what}: {:.2e} in {}", difference_of(found), found[0]);
    }
    println!();
    assert!(worst <= LOSS_TOLERANCE, "losses differ by {worst:.2e}, more than {LOSS_TOLERANCE:.0e}");
    for (what, found) in states {
        let difference = difference_of(found);
        assert!(
            difference <= STATE_TOLERANCE,
            "{} in the {what} differs by {difference:.2e} of its change",
            found[0]
        );
    }
    assert!(expected.last() != expected.first(), "nothing was trained");
}

fn difference_of(worst: &Value) -> f64 {
    worst[1].as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_resnet50_trains_like_pytorchs() {
    let job = Job { normalize: "imagenet", ..Job::full("resnet50") };
    compare("resnet50, all layers", &job);
}

#[test]
fn a_head_trains_like_pytorchs_on_running_statistics() {
    let job = Job { trainable: &["fc.*"], ..Job::full("resnet50") };
    compare("resnet50, head, frozen batch norm in eval mode", &job);
}

#[test]
fn a_head_trains_like_pytorchs_on_batch_statistics() {
    let job = Job { trainable: &["fc.*"], frozen_batch_norm: "train", ..Job::full("resnet18") };
    compare("resnet18, head, frozen batch norm in train mode", &job);
}

#[test]
fn the_last_stage_trains_like_pytorchs_on_running_statistics() {
    let job = Job { trainable: LAST_STAGE, ..Job::full("resnet18") };
    compare("resnet18, last stage and head, frozen batch norm in eval mode", &job);
}

#[test]
fn the_last_stage_trains_like_pytorchs_on_batch_statistics() {
    let job = Job { trainable: LAST_STAGE, frozen_batch_norm: "train", ..Job::full("resnet50") };
    compare("resnet50, last stage and head, frozen batch norm in train mode", &job);
}

#[test]
fn a_short_last_batch_counts_as_pytorchs_does() {
    // Ten full batches and one of half the size, twice.
    let job = Job { train: 124, normalize: "cifar10", ..Job::full("resnet18") };
    assert_eq!(job.step_count(), 22);
    compare("resnet18, a short batch at the end of each epoch", &job);
}
