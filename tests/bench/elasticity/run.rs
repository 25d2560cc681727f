//! A run under measurement: its process, its folder, and waits with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::{Step, membership, steps};

const DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);

/// An old build knows no elasticity, but has the same verbs.
#[derive(Debug)]
pub(crate) struct Binaries {
    lockstep: PathBuf,
    worker: PathBuf,
}

impl Binaries {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { lockstep: folder.join("lockstep"), worker: folder.join("lockstep-worker") }
    }
}

/// Killed with everything that it started when it is let go of.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    binaries: &'a Binaries,
    home: TempDir,
    coordinator: Child,
}

impl<'a> Run<'a> {
    pub(crate) fn train(binaries: &'a Binaries, workers: &str, log: &str, settings: &[String]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut arguments: Vec<&str> = vec!["train", "--name", "run", "--workers", workers, "--log", log];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let coordinator = start(binaries, home.path(), &arguments);
        Self { binaries, home, coordinator }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("home/runs/run")
    }

    pub(crate) fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&Path) -> Option<T>) -> T {
        let (folder, deadline) = (self.folder(), Instant::now() + DEADLINE);
        loop {
            if let Some(found) = condition(&folder) {
                return found;
            }
            let said = || fs::read_to_string(self.home.path().join("said")).unwrap_or_default();
            assert!(
                self.coordinator.try_wait().unwrap().is_none(),
                "the run ended before {what}\n{}",
                said()
            );
            assert!(Instant::now() < deadline, "{what} did not come");
            thread::sleep(POLL);
        }
    }

    /// Waits until a generation after `after` has so many members, and each of them has made `count` steps in it; returns
    /// its number and them.
    pub(crate) fn until_steady(
        &mut self,
        after: u64,
        members: usize,
        count: usize,
    ) -> (u64, Vec<(String, u32)>) {
        self.until(&format!("a steady generation of {members} after {after}"), |run| {
            let (generation, found) = membership(run)?;
            let made = |worker: &str| in_generation(&steps(run, worker), generation).len();
            let steady = generation > after
                && found.len() == members
                && found.iter().all(|(worker, _)| made(worker) >= count);
            steady.then_some((generation, found))
        })
    }

    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator.kill().unwrap();
        self.coordinator.wait().unwrap();
    }

    pub(crate) fn resume(&mut self, log: &str) {
        self.coordinator = start(self.binaries, self.home.path(), &["resume", "run", "--log", log]);
    }

    /// Waits for a good end; nothing looks at the files meanwhile.
    pub(crate) fn end(&mut self) {
        let status = self.coordinator.wait().unwrap();
        let said = || fs::read_to_string(self.home.path().join("said")).unwrap_or_default();
        assert!(status.success(), "{status}\n{}", said());
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.coordinator.kill();
        let _ = self.coordinator.wait();
        // Workers outlive their coordinator for a while.
        for (_, pid) in membership(&self.folder()).map(|(_, members)| members).unwrap_or_default() {
            send("KILL", pid);
        }
    }
}

fn start(binaries: &Binaries, home: &Path, arguments: &[&str]) -> Child {
    let said = fs::File::create(home.join("said")).unwrap();
    let mut command = Command::new(&binaries.lockstep);
    command
        .args(arguments)
        .env("LOCKSTEP_WORKER", &binaries.worker)
        .env("LOCKSTEP_HOME", home.join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binaries.lockstep.display()))
}

pub(crate) fn in_generation(steps: &[Step], generation: u64) -> Vec<Step> {
    steps.iter().filter(|step| step.generation == generation).copied().collect()
}

pub(crate) fn send(signal: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", "kill -s $0 $1", signal, &pid.to_string()]).status();
    assert!(status.unwrap().success() || signal == "KILL");
}
