//! A standing coordinator with real workers, over TLS: whatever happens to its workers and to itself, each of its runs has the
//! bits that it has alone.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{has_made, names};
use crate::home::{Home, WORKER, set};
use crate::process::{Ended, Running};
use crate::recipes::Recipe;

/// Long enough for all that happens to it.
pub(crate) static LONG: Recipe = Recipe::new(&[
    "data.name=shapes",
    "data.train=136",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=8",
    "shards=4",
    "epochs=8",
    "optimizer.lr=0.001",
    "optimizer.momentum=0.9",
    "train.trainable=[\"*bn*\", \"fc.*\"]",
]);

/// Workers tell of each step, and no library of its messages.
const LOG: &str = "info,lockstep_worker=debug";

/// What the C library reads at a process's start: how many pools of memory it keeps.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// A coordinator, and credentials for everybody.
struct Served {
    coordinator: Running,
    home: Home,
    address: String,
    workers: Vec<Running>,
}

impl Served {
    fn start() -> Self {
        let home = Home::new();
        let tls = tls(&home);
        let tls = tls.to_str().unwrap();
        for command in [
            &["certs", "init", "--dir", tls, "--host", "127.0.0.1"][..],
            &["certs", "issue", "user", "ada", "--role", "submitter", "--dir", tls],
            &["certs", "token", "--role", "worker", "--name", "w*", "--dir", tls, "--out", &token(&home)],
        ] {
            let made = home.lockstep(command).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let mut coordinator = Running::start(&mut serve(&home, "127.0.0.1:0"));
        let address = listening(&mut coordinator);
        Self { coordinator, home, address, workers: Vec::new() }
    }

    /// The same after a crash, at the same place.
    fn restarted(mut self) -> Self {
        self.coordinator.kill();
        let mut coordinator = self.coordinator.succeeded_by(&mut serve(&self.home, &self.address));
        assert_eq!(listening(&mut coordinator), self.address);
        Self { coordinator, ..self }
    }

    fn join(&mut self, name: &str) {
        let mut command = Command::new(WORKER);
        command.args(["join", &format!("https://{}", self.address), "--name", name, "--log", LOG]);
        command.arg("--ca").arg(tls(&self.home).join("ca.pem")).args(["--token-file", &token(&self.home)]);
        self.home.surround(&mut command);
        let worker = self.coordinator.companion(&mut command);
        self.workers.push(worker);
    }

    /// `lockstep …` as the submitter.
    fn ask(&self, arguments: &[&str]) -> Ended {
        self.coordinator.beside(&mut self.asking(arguments))
    }

    fn asking(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.lockstep(arguments);
        command.args(["--coordinator", &format!("https://{}", self.address)]);
        for (flag, file) in [("--ca", "ca.pem"), ("--cert", "user-ada.pem"), ("--key", "user-ada.key")] {
            command.arg(flag).arg(tls(&self.home).join(file));
        }
        command
    }

    fn submit(&self, name: &str, workers: &str) {
        let recipe = self.home.beside("recipe.toml");
        std::fs::write(&recipe, "").unwrap();
        let mut command =
            self.asking(&["submit", recipe.to_str().unwrap(), "-d", "--name", name, "--workers", workers]);
        set(&mut command, LONG.settings);
        self.coordinator.beside(&mut command).expect(0);
    }

    /// Waits for a generation of `run` that `fits` its members.
    fn until_members(&mut self, run: &str, fits: impl Fn(&[String]) -> bool) -> Vec<String> {
        let files = self.home.run_named(run);
        self.coordinator.until(&format!("the members of {run}"), || {
            let members = names(&files.events_of("generation_began").pop()?);
            fits(&members).then_some(members)
        })
    }

    fn until_step(&mut self, run: &str, worker: &str, step: u64) {
        let files = self.home.run_named(run);
        self.coordinator.until(&format!("step {step} of {run}"), || has_made(&files, worker, step));
    }

    fn until_done(&mut self, run: &str) {
        let (mut command, what) = (self.asking(&["watch", run]), format!("the end of {run}"));
        let watch = self.coordinator.companion(&mut command);
        let ended = watch.wait();
        assert_eq!(ended.code, Some(0), "{what}: {}{}", ended.stdout, ended.stderr);
    }
}

/// Where the coordinator says that it listens.
fn listening(coordinator: &mut Running) -> String {
    let output = coordinator.output();
    coordinator.until("its address", || {
        output.read().lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    })
}

fn tls(home: &Home) -> PathBuf {
    home.beside("tls")
}

fn token(home: &Home) -> String {
    home.beside("token").to_str().unwrap().to_owned()
}

fn serve(home: &Home, address: &str) -> Command {
    let mut command = home.lockstep(&["serve", "--listen", address]);
    command.arg("--tls-dir").arg(tls(home));
    command
}

#[test]
fn two_runs_share_workers_that_die_and_come_and_a_coordinator_that_is_killed_and_each_has_its_own_bits() {
    let undisturbed = LONG.undisturbed();
    let mut served = Served::start();
    served.submit("first", "2..4");
    (0..4).for_each(|number| served.join(&format!("w{number}")));
    served.until_members("first", |members| members.len() == 4);

    // It gives back what it can do without.
    served.submit("second", "2");
    let second = served.until_members("second", |members| members.len() == 2);
    let first = served.until_members("first", |members| members.len() == 2);
    assert!(first.iter().all(|worker| !second.contains(worker)), "{first:?} and {second:?}");

    // Somebody new takes the place of one that dies.
    let victim = &second[0];
    served.until_step("second", victim, 3);
    let index = victim.strip_prefix('w').unwrap().parse::<usize>().unwrap();
    served.workers[index].kill();
    served.join("w4");
    served.until_members("second", |members| members.contains(&"w4".to_owned()));

    let mut served = served.restarted();
    served.until_done("first");
    served.until_done("second");
    for run in ["first", "second"] {
        let files = served.home.run_named(run);
        assert_eq!(files.outcome(), undisturbed.outcome, "{run}");
        files.verify_checkpoints();
    }
    let listed = served.ask(&["ps", "--all", "--json"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let runs = listed["runs"].as_array().unwrap();
    assert!(runs.iter().all(|run| run["state"] == "done" && run["submitter"] == "ada"), "{listed:#}");
}

#[test]
fn a_run_that_is_stopped_frees_its_workers_for_the_next_and_is_resumed_to_the_same_bits() {
    let undisturbed = LONG.undisturbed();
    let mut served = Served::start();
    (0..2).for_each(|number| served.join(&format!("w{number}")));
    served.submit("first", "2");
    served.until_members("first", |members| members.len() == 2);
    served.submit("second", "2");
    served.until_step("first", "w0", 3);
    served.ask(&["stop", "first"]).expect(0);
    served.until_members("second", |members| members.len() == 2);
    let stopped = served.home.run_named("first").status();
    assert_eq!(stopped["status"], "stopped");
    served.ask(&["resume", "first", "--detach"]).expect(0);
    let mut here = served.home.lockstep(&["resume", "first"]);
    served.coordinator.beside(&mut here).expect(4).says(&["in the hands of a coordinator", "hint: "]);
    served.until_done("second");
    served.until_done("first");
    for run in ["first", "second"] {
        assert_eq!(served.home.run_named(run).outcome(), undisturbed.outcome, "{run}");
    }
}

#[test]
fn whoever_has_no_credential_or_the_wrong_one_is_refused_with_a_hint() {
    let mut served = Served::start();
    let url = format!("https://{}", served.address);
    let ca = tls(&served.home).join("ca.pem");
    let with = |arguments: &[&str]| {
        let mut command = served.home.lockstep(&["ps", "--coordinator", &url, "--ca"]);
        command.arg(&ca).args(arguments);
        served.coordinator.beside(&mut command)
    };
    with(&[]).expect(2).says(&["hint: "]);
    // A worker's token is no person's.
    with(&["--token-file", &token(&served.home)]).expect(4).says(&["role worker", "hint: "]);
    // A worker by another name than its token's.
    let mut command = Command::new(WORKER);
    command.args(["join", &url, "--name", "stranger", "--token-file", &token(&served.home), "--ca"]);
    command.arg(&ca);
    served.home.surround(&mut command);
    let refused = served.coordinator.beside(&mut command);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused.says(&["is of w*, not of stranger"]);
    // The coordinator goes on.
    served.coordinator.until("nothing", || Some(()));
    served.ask(&["workers"]).expect(0);
}

#[test]
fn a_coordinator_keeps_its_memory_together_unless_it_is_told_how() {
    for told in [None, Some("5")] {
        let home = Home::new();
        let mut command = home.lockstep(&["serve", "--listen", "127.0.0.1:0"]);
        command.env_remove(ARENAS);
        command.envs(told.map(|arenas| (ARENAS, arenas)));
        let mut coordinator = Running::start(&mut command);
        listening(&mut coordinator);
        let environment = std::fs::read(format!("/proc/{}/environ", coordinator.pid())).unwrap();
        let set = format!("{ARENAS}={}", told.unwrap_or("2"));
        let found =
            environment.split(|byte| *byte == 0).filter(|variable| variable.starts_with(ARENAS.as_bytes()));
        assert_eq!(found.collect::<Vec<_>>(), [set.as_bytes()]);
    }
}
