//! What a run leaves behind, in torchvision's hands: its best model, what is exported of it, and what Lockstep says of
//! pictures with it.

use serde_json::{Value, json};

use crate::job::Job;
use crate::lockstep::{RUN, Run};
use crate::reference::reference;

/// Of logits, relative to the largest.
const LOGITS_TOLERANCE: f64 = 1e-5;

/// Where the file is a JPEG: no two decoders round alike, and a pixel is one of 255 off here and there.
const JPEG_TOLERANCE: f64 = 2e-3;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).iter().map(number).collect()
}

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
fn torchvision_finds_the_best_models_accuracy() {
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
    let mut asked = json!({
        "pictures": reference.fixtures.join("pictures"),
        "weights": run.path("best.safetensors"),
        "model": job.model,
        "normalize": job.normalize,
        "image_size": job.image_size,
    });
    // On the test pictures, as `lockstep eval` counts.
    let theirs = reference.ask("evaluate", &asked);
    let ours = run.ask(&["eval", RUN, "--json"]);
    let ours: Value = serde_json::from_str(&ours).expect("JSON");
    println!("{results}\nPyTorch on the test pictures: {theirs}");
    assert_eq!(ours["samples"], theirs["count"]);
    assert_eq!((&ours["correct"], &ours["correct_top5"]), (&theirs["correct"], &theirs["correct_top5"]));
    let (our_loss, their_loss) = (number(&ours["loss"]), number(&theirs["loss"]));
    assert!(
        (our_loss - their_loss).abs() <= 1e-5 * their_loss,
        "test loss {our_loss}, PyTorch's {their_loss}"
    );
    // On the validation pictures, as the run itself counted.
    asked["ids"] = json!(job.validation_ids());
    let theirs = reference.ask("evaluate", &asked);
    println!("PyTorch on the validation pictures: {theirs}\n");
    let theirs = |name: &str| number(&theirs[name]);
    assert_eq!((best("val/correct"), best("val/count")), (theirs("correct"), theirs("count")));
    assert!((best("val/acc_top1") - theirs("correct") / theirs("count")).abs() < 1e-12);
    let (ours, theirs) = (best("val/loss"), theirs("loss"));
    assert!((ours - theirs).abs() <= 1e-5 * theirs, "the validation loss is {ours}, PyTorch's {theirs}");
}

/// What `lockstep predict` and torchvision say of the same files, from one exported file.
fn compare_predictions(predictions: &str, theirs: &Value, what: &str) {
    let predictions: Value = serde_json::from_str(predictions).expect("JSON");
    let predictions = predictions.as_array().expect("a list of pictures");
    assert!(predictions.iter().any(|picture| picture["top"][0] != predictions[0]["top"][0]), "all are alike");
    assert_eq!(Some(predictions.len()), theirs["logits"].as_object().map(serde_json::Map::len));
    for picture in predictions {
        let file = picture["file"].as_str().expect("a file's name");
        let allowed = if file.ends_with(".jpg") { JPEG_TOLERANCE } else { LOGITS_TOLERANCE };
        let (ours, expected) = (numbers(&picture["logits"]), numbers(&theirs["logits"][file]));
        assert_eq!(ours.len(), expected.len());
        let largest = expected.iter().map(|logit| logit.abs()).fold(0.0, f64::max);
        let difference = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max);
        let shares = numbers(&theirs["probabilities"][file]);
        let top = picture["top"].as_array().expect("a list of guesses");
        let mut worst_share = 0.0_f64;
        for guess in top {
            let class = guess["label"].as_u64().expect("a class's number") as usize;
            worst_share = worst_share.max((number(&guess["probability"]) - shares[class]).abs());
        }
        let name = file.rsplit('/').next().unwrap_or(file);
        println!("{what}, {name}: logits differ by {difference:.1e}, probabilities by {worst_share:.1e}");
        assert!(difference <= allowed, "{what}: logits of {name} differ by {difference:.1e}");
        assert!(worst_share <= allowed, "{what}: probabilities of {name} differ by {worst_share:.1e}");
        assert_eq!(top.len(), shares.len(), "--top 10 of 10 classes");
    }
}

#[test]
fn what_is_exported_is_torchvisions_and_predicts_alike() {
    let Some(reference) = reference() else { return };
    let job = Job {
        train: 104,
        epochs: 2,
        image_size: 40,
        normalize: "imagenet",
        lr: 0.02,
        ema_decay: 0.5,
        ..Job::full("resnet50")
    };
    let run = Run::of(&job, reference);
    let pictures = run.new_folder("pictures");
    let folder = pictures.display().to_string();
    let drawn = json!({ "pictures": reference.fixtures.join("pictures"), "folder": pictures });
    let files = reference.ask("files", &drawn);
    let mut seen = Vec::new();
    for (which, name) in [
        (&["--best"][..], "best.pth"),
        (&["--last"], "last.safetensors"),
        (&["--last", "--ema"], "average.pth"),
    ] {
        let path = run.export(which, name);
        let asked = json!({
            "weights": path,
            "model": job.model,
            "files": files,
            "normalize": job.normalize,
            "image_size": job.image_size,
        });
        let theirs = reference.ask("exported", &asked);
        assert_eq!(theirs["keys"], 320, "{name}");
        let predict = ["predict", RUN, &folder, "--top", "10", "--json"];
        compare_predictions(&run.ask(&[&predict[..], which].concat()), &theirs, name);
        // The file by itself, as whoever it is given to would use it.
        let path = path.display().to_string();
        let settings = ["--image-size", "40", "--normalize", "imagenet"];
        let predict = [&["predict", &path, &folder, "--top", "10", "--json"], &settings[..]].concat();
        compare_predictions(&run.ask(&predict), &theirs, &format!("{name} alone"));
        seen.push(theirs);
    }
    assert!(seen[1]["logits"] != seen[2]["logits"], "the average is the last model");
    println!();
}
