//! What a run leaves behind, in torchvision's hands.

use serde_json::json;

use crate::job::Job;
use crate::reference::reference;
use crate::lockstep::Run;

/// The row of `results.csv` that was the last to be the best so far, by column.
fn best_row(results: &str) -> impl Fn(&str) -> f64 + '_ {
    let mut lines = results.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().expect("a line of names");
    let row = lines.rfind(|row| row.last() == Some(&"1")).expect("the first epoch is the best so far");
    move |name| {
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| panic!("no column {name}"));
        row[at].parse().expect("a number")
    }
}

#[test]
fn torchvision_loads_the_best_model_and_finds_the_same_accuracy() {
    let Some(reference) = reference() else { return };
    let job = Job {
        weights: None,
        train: 260,
        validation: 100,
        batch: 32,
        epochs: 3,
        lr: 0.002,
        ..Job::full("resnet18")
    };
    let run = Run::of(&job, reference);
    let results = run.read("results.csv");
    let best = best_row(&results);
    let answer = reference.ask(
        "evaluate",
        &json!({
            "pictures": reference.fixtures.join("pictures"),
            "weights": run.path("best.safetensors"),
            "model": job.model,
            "normalize": job.normalize,
            "image_size": job.image_size,
            "ids": job.validation_ids(),
        }),
    );
    println!("{results}\nPyTorch on best.safetensors: {answer}\n");
    let theirs = |name: &str| answer[name].as_f64().expect("the reference answers with numbers");
    assert_eq!((best("val/correct"), best("val/count")), (theirs("correct"), theirs("count")));
    assert!((best("val/acc_top1") - theirs("correct") / theirs("count")).abs() < 1e-12);
    let (ours, theirs) = (best("val/loss"), theirs("loss"));
    assert!((ours - theirs).abs() <= 1e-5 * theirs, "the validation loss is {ours}, PyTorch's {theirs}");
}
