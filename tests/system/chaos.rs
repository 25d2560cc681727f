//! `lockstep chaos`, as a person uses it who tries a machine: equal bytes under real faults, nothing left running, and clear
//! words where it cannot be.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::home::{Home, set};
use crate::process::{Ended, Running, await_gone};
use crate::recipes::{ELASTIC, HEAD};

const CALM: &str = "try-calm";
const CHAOS: &str = "try-chaos";

/// Epochs that leave time for every kind of fault. A fault's consequences take seconds on any machine, steps do not: where
/// the first number is too small, chaos says so, and the second one is not.
const EPOCHS: [(usize, &str); 2] = [(10, "epochs=10"), (60, "epochs=60")];

fn chaos(home: &Home, arguments: &[&str], settings: &[&str]) -> std::process::Command {
    let mut command = home.lockstep(&["chaos", "--name", "try"]);
    command.args(arguments);
    set(&mut command, settings);
    command
}

#[test]
fn every_kind_of_fault_leaves_the_same_bytes() {
    let tries = EPOCHS.map(|(epochs, setting)| move || under_every_kind_of_fault(epochs, setting));
    let (home, ended) = tries
        .iter()
        .map(|under_faults| under_faults())
        .find(|(_, ended)| ended.code != Some(4))
        .expect("all faults fit into one of the runs");
    let ended = ended.expect(0);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["equal"], true, "{report:#}");
    let faults = report["faults"].as_array().unwrap();
    let kinds: BTreeSet<&str> = faults.iter().map(|fault| fault["kind"].as_str().unwrap()).collect();
    assert_eq!((faults.len(), kinds.len()), (8, 8), "{report:#}");
    for fault in faults {
        assert!(fault["healed_ms"].is_u64(), "{fault:#}\n{}", ended.stderr);
    }
    // Not by its own word alone.
    let (calm, chaos) = (home.run_named(CALM), home.run_named(CHAOS));
    assert_eq!(calm.outcome(), chaos.outcome());
    assert_eq!(chaos.status()["status"], "done");
    assert_eq!(chaos.events_of("taken_over").len(), 2, "the coordinator was killed twice");
    chaos.verify_checkpoints();
    await_gone(&home.processes());
}

fn under_every_kind_of_fault(epochs: usize, setting: &'static str) -> (Home, Ended) {
    let home = Home::new();
    let arguments = ["--workers", "3", "--faults", "8", "--seed", "1", "--json"];
    let mut running = Running::start(&mut chaos(&home, &arguments, &ELASTIC.with(&[setting])));
    // One wait for each, because the deadline is for one.
    for run in [CALM, CHAOS] {
        for done in 1..=epochs {
            running.until(&format!("epoch {done} of {run}"), || {
                (home.run_named(run).events_of("epoch_ended").len() >= done).then_some(())
            });
        }
    }
    (home, running.wait())
}

#[test]
fn an_interrupt_ends_all_that_was_started() {
    let home = Home::new();
    let mut running = Running::start(&mut chaos(&home, &["--workers", "2", "--faults", "8"], HEAD.settings));
    running.until("the undisturbed run", || home.run_named(CALM).event("generation_began"));
    let processes = home.processes();
    assert!(processes.len() >= 4, "chaos, a coordinator and two workers: {processes:?}");
    running.signal("INT");
    running.wait().expect(130).says(&["all that was started has been ended"]);
    await_gone(&processes);
    await_gone(&home.processes());
}

#[test]
fn a_run_too_short_for_its_faults_says_so() {
    let home = Home::new();
    let settings = HEAD.with(&["epochs=1"]);
    let mut running = Running::start(&mut chaos(&home, &["--workers", "2", "--faults", "200"], &settings));
    running.until("the undisturbed run's end", || home.run_named(CALM).event("ended"));
    let ended = running.wait().expect(4);
    ended.says(&["only ", " of 200 faults fitted into the run", "hint: use more epochs"]);
    assert!(ended.stdout.contains("equal    best.safetensors"), "{}", ended.stdout);
    assert_eq!(home.run_named(CALM).outcome(), home.run_named(CHAOS).outcome());
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let home = Home::new();
    for (arguments, said) in [
        (&["missing.toml"][..], "missing.toml"),
        (&["--workers", "1"], "nobody is left to go on"),
        (&["--faults", "0"], "--faults 0"),
        (&["--workers", "many"], "invalid value"),
        (&["--workers", "4", "--set", "shards=2"], "4 workers for 2 shards"),
        (&["--set", "nonsense=1"], "nonsense"),
    ] {
        let ended = Running::start(&mut chaos(&home, arguments, &["data.name=shapes"])).wait().expect(2);
        ended.says(&[said]);
        assert!(home.runs().is_empty());
    }
    std::fs::create_dir_all(home.path().join("runs").join(CHAOS)).unwrap();
    let ended = Running::start(&mut chaos(&home, &[], &["data.name=shapes"])).wait().expect(2);
    ended.says(&["try-chaos exists already", "choose another --name"]);
}
