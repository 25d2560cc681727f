//! Real photographs, where the CIFAR-10 that is kept beside the repository and the tools to unpack it are at hand.

use std::path::PathBuf;
use std::process::Command;

use crate::home::Home;
use crate::process::Running;
use crate::run_files::table;

/// Makes a small CIFAR-10 in `out`, or says why not.
fn make_cifar10(out: &str) -> Result<(), String> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("LOCKSTEP_SHARED").map_or_else(beside, PathBuf::from);
    let script = shared.join("data/make-cifar10");
    if !script.is_file() {
        return Err(format!("{} is not there", script.display()));
    }
    let python = Command::new("python3").args(["-c", "import numpy, PIL"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        return Err("python3 with numpy and pillow is not there".into());
    }
    let made =
        Command::new("python3").arg(script).args([out, "--train", "500", "--test", "200"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

#[test]
fn an_epoch_over_real_photographs_trains_and_evaluates_them_all() {
    let home = Home::new();
    let data = home.beside("data");
    if let Err(reason) = make_cifar10(data.to_str().unwrap()) {
        eprintln!("skipped: {reason}");
        return;
    }
    let path = format!("data.path={}", data.display());
    let settings = [
        "data.name=cifar10",
        &path,
        "data.validation=100",
        "model.name=resnet18",
        "batch=40",
        "epochs=1",
        "optimizer.lr=0.01",
    ];
    Running::start(&mut home.train(2, &settings)).wait().expect(0);
    let results = home.run().text("results.csv");
    let row = &table(&results)[0];
    assert_eq!((row["step"], row["train/count"], row["val/count"]), ("10", "400", "100"));
    let loss: f64 = row["train/loss"].parse().unwrap();
    assert!((1.0..5.0).contains(&loss), "{loss}");
    assert_eq!(home.run().status()["test"]["count"], 200);
}
