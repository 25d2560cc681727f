//! What a run leaves behind: files that other programs read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::home::{Home, set};
use crate::process::Running;
use crate::recipes::{HEAD, HEAD_STEPS, PARTIAL};
use crate::run_files::sha256;

/// The `state_dict` of torchvision's ResNet18, from its structure: names and shapes.
fn resnet18() -> BTreeSet<(String, Vec<usize>)> {
    let mut state = BTreeSet::new();
    let mut convolution = |name: &str, norm: &str, shape: [usize; 4]| {
        state.insert((format!("{name}.weight"), shape.to_vec()));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            state.insert((format!("{norm}.{part}"), vec![shape[0]]));
        }
        state.insert((format!("{norm}.num_batches_tracked"), vec![]));
    };
    convolution("conv1", "bn1", [64, 3, 7, 7]);
    let mut channels = 64;
    for (stage, width) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            convolution(&name("conv1"), &name("bn1"), [width, channels, 3, 3]);
            convolution(&name("conv2"), &name("bn2"), [width, width, 3, 3]);
            if channels != width {
                convolution(&name("downsample.0"), &name("downsample.1"), [width, channels, 1, 1]);
            }
            channels = width;
        }
    }
    state.insert(("fc.weight".into(), vec![10, 512]));
    state.insert(("fc.bias".into(), vec![10]));
    state
}

#[test]
fn a_run_leaves_all_its_files_and_its_recipe_runs_again_with_the_same_bits() {
    let home = Home::new();
    let settings = HEAD.with(&["checkpoint.keep=1"]);
    Running::start(&mut home.train(2, &settings)).wait().expect(0);
    let run = home.run();
    the_best_model_is_torchvisions(&run.path.join("best.safetensors"));
    status_tells_how_it_went(&run.status());
    events_tell_the_whole_story(&run.events());
    pictures_are_pictures(&run.path.join("plots"));
    for log in ["coordinator", "worker-0", "worker-1"] {
        assert!(run.path.join(format!("logs/{log}.log")).is_file(), "{log}");
    }
    assert!(run.text("logs/worker-0.log").contains("generation formed"));

    assert_eq!(run.points_at("last"), 3 * HEAD_STEPS);
    assert_eq!(run.points_at("best"), HEAD_STEPS);
    let kept: Vec<u64> = run.checkpoints().into_iter().collect();
    assert_eq!(kept, [HEAD_STEPS, 3 * HEAD_STEPS], "the last one, as asked, and the best");
    run.verify_checkpoints();
    no_half_file_is_left(&run.path);

    let recipe = run.path.join("recipe.toml");
    let table: toml::Table = run.text("recipe.toml").parse().unwrap();
    assert_eq!(table["shards"].as_integer(), Some(2));
    assert_eq!(table["optimizer"]["momentum"].as_float(), Some(0.9), "defaults are written out");
    let again = ["train", recipe.to_str().unwrap(), "--name", "again", "--workers", "1"];
    Running::start(&mut home.lockstep(&again)).wait().expect(0);
    assert_eq!(home.run_named("again").outcome(), run.outcome());
    assert_eq!(home.run_named("again").text("recipe.toml"), run.text("recipe.toml"));
}

fn the_best_model_is_torchvisions(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeSet<_> =
        file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect();
    assert_eq!(found, resnet18());
    assert_eq!(found.len(), 122);
    for (name, tensor) in file.iter() {
        let counter = name.ends_with("num_batches_tracked");
        assert_eq!(tensor.dtype(), if counter { Dtype::I64 } else { Dtype::F32 }, "{name}");
    }
}

fn status_tells_how_it_went(status: &Value) {
    assert_eq!(status["status"], "done");
    assert_eq!(status["reason"], "all epochs are done");
    assert_eq!((&status["epochs"], &status["epochs_done"]), (&3.into(), &3.into()));
    assert_eq!((&status["best"]["epoch"], &status["best"]["split"]), (&0.into(), &"val".into()));
    for split in ["best", "test"] {
        let accuracy = status[split]["acc_top1"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy), "accuracies in files are 0 to 1");
    }
    let run = &status["run"];
    assert_eq!((&run["shards"], &run["workers"], &run["data"]), (&2.into(), &2.into(), &"shapes".into()));
    for key in ["lockstep_version", "libtorch_version", "data_digest"] {
        assert!(run[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

fn events_tell_the_whole_story(events: &[Value]) {
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1], kinds[kinds.len() - 1]), ("created", "generation_began", "ended"));
    let count = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!(["epoch_ended", "checkpoint_stored", "checkpoint_deleted", "tested"].map(count), [3, 3, 1, 1]);
    let times: Vec<u64> = events.iter().map(|event| event["at_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
}

fn pictures_are_pictures(plots: &Path) {
    for name in ["loss.png", "accuracy.png", "lr.png", "samples.png"] {
        let bytes = fs::read(plots.join(name)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), "{name}");
        assert_eq!(bytes[bytes.len() - 8..bytes.len() - 4], *b"IEND", "{name}");
        let size = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert!(size(16) >= 100 && size(20) >= 40, "{name} has {} by {} pixels", size(16), size(20));
    }
}

/// Nothing in a finished run's folder bears a name of something under way.
fn no_half_file_is_left(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.ends_with(".tmp") && !name.starts_with(".unfinished"), "{}", entry.path().display());
        if entry.file_type().unwrap().is_dir() {
            no_half_file_is_left(&entry.path());
        }
    }
}

#[test]
fn as_many_checkpoints_as_asked_for_are_kept_beside_the_best() {
    let home = Home::new();
    let settings = PARTIAL.with(&["epochs=1", "checkpoint.every_steps=1", "checkpoint.keep=2"]);
    Running::start(&mut home.train(1, &settings)).wait().expect(0);
    let kept: Vec<u64> = home.run().checkpoints().into_iter().collect();
    // The best one is the epoch's end, which is the last one too.
    assert_eq!(kept, [4, 5]);
    assert_eq!(home.run().events_of("checkpoint_stored").len(), 5);
    home.run().verify_checkpoints();
    assert_eq!(home.run().models()[&5], home.run().outcome().best);
}

#[test]
fn weights_that_go_in_come_out_again_when_nothing_is_learnt() {
    let home = Home::new();
    Running::start(&mut home.train(1, &HEAD.with(&["epochs=1"]))).wait().expect(0);
    let weights = home.run().path.join("best.safetensors");
    // Another seed would begin with other weights, and the learning rate is too small to move any.
    let setting = format!("model.weights={}", weights.display());
    let settings = [HEAD.settings, &["epochs=1", "seed=8", "optimizer.lr=1e-30", &setting]].concat();
    let mut command = home.lockstep(&["train", "--name", "again", "--workers", "2"]);
    set(&mut command, &settings);
    Running::start(&mut command).wait().expect(0);
    let (first, again) = (home.run(), home.run_named("again"));
    assert_eq!(again.outcome().best, first.outcome().best);
    let digest = again.status()["run"]["weights_digest"].as_str().unwrap().to_owned();
    assert_eq!(
        sha256(&home.path().join("cache/blobs").join(&digest)),
        digest,
        "what they began with is kept"
    );
}

#[test]
fn doctor_says_ready_and_the_recipe_that_init_writes_is_right() {
    let home = Home::new();
    let doctor = Running::start(&mut home.lockstep(&["doctor", "--json"])).wait().expect(0);
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(report["ready"], true, "{report:#}");
    let path = home.beside("new.toml");
    let path = path.to_str().unwrap();
    Running::start(&mut home.lockstep(&["recipe", "init", path])).wait().expect(0);
    let check = Running::start(&mut home.lockstep(&["recipe", "check", path])).wait().expect(0);
    assert!(check.stdout.starts_with("ok: "), "{}", check.stdout);
    Running::start(&mut home.lockstep(&["recipe", "init", path])).wait().expect(2).says(&["not overwritten"]);
}
