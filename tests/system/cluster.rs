//! A run that things are done to while it trains: its coordinator, its workers, and conditions to wait for.
//!
//! Workers log every step, so a test can act when a certain worker has made a certain step and not at some moment.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::home::{Home, RUN, WORKER, set, write_script};
use crate::process::{Running, send};
use crate::recipes::Recipe;
use crate::run_files::{Outcome, RunFiles};

/// Workers tell of each step, and no library of its messages.
const LOG: &str = "info,lockstep_worker=debug";

/// A coordinator, its workers and their home.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) coordinator: Running,
    pub(crate) home: Home,
}

impl Cluster {
    /// Trains `recipe` on `workers`, `N` or `A..B`.
    pub(crate) fn train(recipe: &Recipe, workers: &str) -> Self {
        Self::train_with(recipe, workers, &[], |_, _| {})
    }

    /// The same with more settings, and whatever else `arrange` does to the command.
    pub(crate) fn train_with(
        recipe: &Recipe,
        workers: &str,
        more: &[&'static str],
        arrange: impl FnOnce(&Home, &mut Command),
    ) -> Self {
        let home = Home::new();
        let mut command = home.lockstep(&["train", "--name", RUN, "--workers", workers, "--log", LOG]);
        set(&mut command, &recipe.with(more));
        arrange(&home, &mut command);
        Self { coordinator: Running::start(&mut command), home }
    }

    pub(crate) fn run(&self) -> RunFiles {
        self.home.run()
    }

    /// `lockstep-worker join` of a worker of the test's own.
    pub(crate) fn joining(&mut self, name: &str) -> Command {
        let cache = self.home.path().join("cache");
        self.joining_with(name, &cache)
    }

    /// The same with a cache folder of its own, as on another machine.
    pub(crate) fn joining_with(&mut self, name: &str, cache: &Path) -> Command {
        let mut command = Command::new(WORKER);
        let url = format!("http://{}", self.until("the coordinator's address", address));
        command.args(["join", &url, "--name", name, "--log", LOG, "--cache"]).arg(cache);
        self.home.surround(&mut command);
        command
    }

    /// Starts a worker of the test's own.
    pub(crate) fn join(&mut self, name: &str) -> Running {
        let mut command = self.joining(name);
        self.coordinator.companion(&mut command)
    }

    /// Waits until `condition` finds something in the run's folder, while the coordinator lives.
    pub(crate) fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&RunFiles) -> Option<T>) -> T {
        let run = self.home.run();
        self.coordinator.until(what, || condition(&run))
    }

    /// Waits until the worker of a local run has made `step`.
    pub(crate) fn until_step(&mut self, worker: &str, step: u64) {
        self.until(&format!("step {step} of {worker}"), |run| has_made(run, worker, step));
    }

    /// Waits until a generation that began after `generation` has just these members, and returns its number.
    pub(crate) fn until_members(&mut self, after: u64, members: &[&str]) -> u64 {
        let found = |run: &RunFiles| {
            let began = run.events_of("generation_began");
            let mut later = began.iter().filter(|event| generation(event) > after);
            later.find(|event| names(event) == members).map(generation)
        };
        self.until(&format!("a generation of {members:?}"), found)
    }

    /// Waits until all members have made their first step in the newest generation after `generation`.
    pub(crate) fn until_receipt(&mut self, after: u64) -> Value {
        self.until(&format!("the receipt of a generation after {after}"), |run| {
            run.receipts().into_iter().find(|receipt| generation(receipt) > after)
        })
    }

    /// A member's process in the newest generation that it was in.
    pub(crate) fn pid(&self, worker: &str) -> u32 {
        let began = self.run().events_of("generation_began");
        let pid =
            began.iter().rev().find_map(|event| pids(event).into_iter().find(|(name, _)| name == worker));
        pid.unwrap_or_else(|| panic!("{worker} was never a member")).1
    }

    /// The newest generation's members, by rank, with their processes.
    pub(crate) fn members(&self) -> Vec<(String, u32)> {
        self.run().newest_generation().as_ref().map(pids).unwrap_or_default()
    }

    /// Sends a member a signal.
    pub(crate) fn signal(&self, signal: &str, worker: &str) {
        send(signal, &[self.pid(worker)]);
    }

    /// Kills the coordinator alone.
    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator.kill();
    }

    /// Kills every process at once.
    pub(crate) fn kill_everything(&mut self) {
        self.home.kill_everything(&mut self.coordinator);
    }

    /// Another coordinator goes on where the one that has ended was.
    pub(crate) fn resumed(self, arguments: &[&str]) -> Self {
        let Self { coordinator, home } = self;
        let mut command = home.resume(&["--log", LOG]);
        command.args(arguments);
        if script(&home).exists() {
            command.env("LOCKSTEP_WORKER", script(&home));
        }
        Self { coordinator: coordinator.succeeded_by(&mut command), home }
    }

    /// Waits for a good end with the outcome of a run that nothing happened to, and returns the run's folder.
    #[track_caller]
    pub(crate) fn ends_like(self, undisturbed: &Outcome) -> Finished {
        let Self { coordinator, home } = self;
        coordinator.wait().expect(0);
        assert_eq!(&home.run().outcome(), undisturbed);
        assert_eq!(home.run().status()["status"], "done");
        home.run().verify_checkpoints();
        home.run().stored_nothing_twice();
        Finished { home }
    }
}

/// A run that ended well.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) home: Home,
}

impl Finished {
    pub(crate) fn run(&self) -> RunFiles {
        self.home.run()
    }

    /// What `lockstep status --json` says.
    pub(crate) fn status(&self) -> Value {
        self.home.status().unwrap()
    }

    /// The only receipt with this cause.
    #[track_caller]
    pub(crate) fn receipt(&self, cause: &str) -> Value {
        let receipts = self.run().receipts();
        let mut found: Vec<_> = receipts.iter().filter(|receipt| receipt["cause"] == cause).collect();
        assert_eq!(found.len(), 1, "{receipts:#?}");
        found.remove(0).clone()
    }
}

/// Has the local worker `worker` started by the shell's `words`, in which `"$@"` are its arguments; without `exec` they come
/// before its start. A coordinator that takes over has it so too.
pub(crate) fn start_by(home: &Home, command: &mut Command, worker: &str, words: &str) {
    let body =
        format!("case \"$*\" in \"join \"*\" --name {worker} \"*) {words};; esac\nexec '{WORKER}' \"$@\"");
    write_script(&script(home), &body);
    command.env("LOCKSTEP_WORKER", script(home));
}

fn script(home: &Home) -> PathBuf {
    home.beside("worker")
}

pub(crate) fn generation(event: &Value) -> u64 {
    event["generation"].as_u64().unwrap()
}

/// A generation's members by rank.
pub(crate) fn names(began: &Value) -> Vec<String> {
    pids(began).into_iter().map(|(name, _)| name).collect()
}

/// The members' shards by rank, as first and one after the last.
pub(crate) fn shards(began: &Value) -> Vec<Value> {
    began["members"].as_array().unwrap().iter().map(|member| member["shards"].clone()).collect()
}

fn pids(began: &Value) -> Vec<(String, u32)> {
    let members = began["members"].as_array().unwrap().iter();
    members
        .map(|member| {
            let pid = member["pid"].as_u64().unwrap().try_into().unwrap();
            (member["worker"].as_str().unwrap().to_owned(), pid)
        })
        .collect()
}

/// Once the worker's log tells of `step` or a later one.
pub(crate) fn has_made(run: &RunFiles, worker: &str, step: u64) -> Option<()> {
    steps(&run.log(worker)).any(|made| made >= step).then_some(())
}

/// The steps that a worker's log tells of.
pub(crate) fn steps(log: &str) -> impl Iterator<Item = u64> {
    let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete.filter_map(|line| line.split_once(": step step=")?.1.split_whitespace().next()?.parse().ok())
}

/// Where the coordinator listens.
pub(crate) fn address(run: &RunFiles) -> Option<SocketAddr> {
    let text = fs::read(run.path.join("coordinator.json")).ok()?;
    let coordinator: Value = serde_json::from_slice(&text).ok()?;
    coordinator["address"].as_str()?.parse().ok()
}
