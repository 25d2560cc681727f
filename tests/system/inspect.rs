//! A trained model is looked at, used, and taken elsewhere: `eval`, `predict`, `export`, `summary`, `data show`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::home::{Home, RUN, set};
use crate::process::{Ended, Running};

/// Learns little, yet its head knows three of its names by then.
const SETTINGS: [&str; 8] = [
    "data.name=shapes",
    "data.train=90",
    "data.validation=20",
    "data.test=30",
    "model.name=resnet18",
    "batch=20",
    "shards=1",
    "epochs=1",
];

/// One finished run that all tests here look at.
fn trained() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = Home::new();
        Running::start(&mut home.train(1, &SETTINGS)).wait().expect(0);
        home
    })
}

#[track_caller]
fn lockstep(arguments: &[&str], code: i32) -> Ended {
    Running::start(&mut trained().lockstep(arguments)).wait().expect(code)
}

#[track_caller]
fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

fn is_png(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))
}

/// Where this test may write, in the shared home's neighbourhood.
fn beside(name: &str) -> (PathBuf, String) {
    let path = trained().beside(name);
    let text = path.to_str().unwrap().to_owned();
    (path, text)
}

#[test]
fn eval_finds_what_the_run_found_and_writes_what_it_saw() {
    let found = json(&lockstep(&["eval", RUN, "--json"], 0));
    let run = trained().run();
    let test = &run.status()["test"];
    assert_eq!(found["loss"], test["loss"], "to the bit");
    assert_eq!(found["acc_top1"], test["acc_top1"]);
    assert!(found["acc_top5"].as_f64().unwrap() >= found["acc_top1"].as_f64().unwrap());
    let eval = run.path.join("eval");
    assert!(is_png(&eval.join("confusion.png")) && is_png(&eval.join("wrong.png")));
    let confusion = fs::read_to_string(eval.join("confusion.csv")).unwrap();
    let cells = confusion.lines().skip(1).flat_map(|line| line.split(',').skip(1));
    assert_eq!(cells.map(|cell| cell.parse::<u64>().unwrap()).sum::<u64>(), 30, "each sample once");
    let classes = fs::read_to_string(eval.join("per_class.csv")).unwrap();
    assert!(classes.contains("circle,"), "{classes}");

    let validation = json(&lockstep(&["eval", RUN, "--split", "val", "--last", "--json"], 0));
    let results = run.text("results.csv");
    let row = &crate::run_files::table(&results)[0];
    assert_eq!(validation["loss"].as_f64().unwrap().to_string(), row["val/loss"]);
}

#[test]
fn an_exported_model_predicts_what_the_run_predicts() {
    let (picture, picture_text) = beside("picture.png");
    let pixels = image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([(x * 5) as u8, (y * 6) as u8, 90]));
    pixels.save(&picture).unwrap();
    let from_run = json(&lockstep(&["predict", RUN, &picture_text, "--json"], 0));
    for format in ["safetensors", "pth"] {
        let (file, text) = beside(&format!("exported.{format}"));
        lockstep(&["export", RUN, "--best", "--format", format, "--out", &text], 0);
        let from_file = json(&lockstep(&["predict", &text, &picture_text, "--json"], 0));
        assert_eq!(from_file, from_run, "{format}");
        let refused = lockstep(&["export", RUN, "--best", "--format", format, "--out", &text], 2);
        refused.says(&["--force"]);
        assert!(file.is_file());
    }
    let top = from_run[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 5);
    assert!(top.iter().all(|guess| guess["class"].as_str().is_some_and(|name| !name.is_empty())));
}

#[test]
fn a_broken_picture_is_named_and_the_others_are_predicted() {
    let (folder, text) = beside("mixed");
    fs::create_dir_all(&folder).unwrap();
    image::GrayImage::new(9, 70).save(folder.join("grey.png")).unwrap();
    fs::write(folder.join("empty.jpg"), b"").unwrap();
    fs::write(folder.join("text.jpg"), b"not a picture at all").unwrap();
    let ended = lockstep(&["predict", RUN, &text, "--csv"], 3);
    ended.says(&["empty.jpg", "text.jpg"]);
    assert!(ended.stdout.contains("grey.png") && !ended.stdout.contains("empty.jpg"), "{}", ended.stdout);
    lockstep(&["predict", RUN, &trained().beside("nowhere").display().to_string()], 3).says(&["nowhere"]);
    lockstep(&["predict", "nobody", &text], 2).says(&["nobody"]);
}

#[test]
fn weights_in_pytorchs_format_start_a_run_as_their_safetensors_twin_does() {
    let losses = ["pth", "safetensors"].map(|format| {
        let (_, file) = beside(&format!("start.{format}"));
        lockstep(&["export", RUN, "--last", "--format", format, "--out", &file], 0);
        let home = Home::new();
        let mut command = home.train(1, &SETTINGS);
        // Neither weights nor running statistics move.
        set(&mut command, &["train.trainable=head", "optimizer.lr=1e-30", &format!("model.weights={file}")]);
        Running::start(&mut command).wait().expect(0);
        home.run().outcome()
    });
    assert_eq!(losses[0], losses[1]);
    assert_eq!(losses[0].model, trained().run().outcome().model, "nothing was learnt");
}

#[test]
fn a_summary_counts_what_trains() {
    let arguments =
        ["summary", "--model", "resnet50", "--classes", "10", "--image-size", "32", "--trainable", "fc"];
    let text = lockstep(&arguments, 0).stdout;
    for line in ["Total params: 23,528,522", "Trainable params: 20,490", "Estimated Total Size (MB): 95.63"] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    lockstep(&["summary", "--model", "resnet5", "--classes", "10"], 2).says(&["resnet5", "hint: "]);
}

#[test]
fn samples_are_shown_before_and_after_augmentation() {
    let (picture, text) = beside("samples.png");
    let mut command = trained().lockstep(&["data", "show", "--out", &text, "--count", "6"]);
    set(&mut command, &["data.name=shapes", "data.train=60", "data.test=10", "augment.flip=1.0"]);
    Running::start(&mut command).wait().expect(0);
    assert!(is_png(&picture));
}
