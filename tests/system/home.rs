//! A home folder of a test's own, and the command line that works in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Running, await_gone, send};
use crate::processes::with_variable;
use crate::run_files::RunFiles;

pub(crate) const LOCKSTEP: &str = env!("CARGO_BIN_EXE_test-lockstep");
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_test-lockstep-worker");

/// The name of the run in a home that holds one.
pub(crate) const RUN: &str = "run";

/// Also what tells the processes of one test from those of another.
pub(crate) const HOME: &str = "LOCKSTEP_HOME";

/// Gone with the test, and with it every process that works in it: workers outlive their coordinator for a while.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A place beside the home, for the test's own files.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.beside("home")
    }

    /// The run named `run`.
    pub(crate) fn run(&self) -> RunFiles {
        self.run_named(RUN)
    }

    pub(crate) fn run_named(&self, name: &str) -> RunFiles {
        RunFiles::new(self.path().join("runs").join(name))
    }

    /// The names of all runs.
    pub(crate) fn runs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join("runs"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// `lockstep …` in this home, with the worker of this build.
    pub(crate) fn lockstep(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LOCKSTEP);
        command.args(arguments);
        self.surround(&mut command);
        command
    }

    /// `lockstep …` under a shell's `set_up`, such as `ulimit`; the shell becomes it.
    pub(crate) fn lockstep_after(&self, set_up: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{set_up}; exec \"$0\" \"$@\""), LOCKSTEP]).args(arguments);
        self.surround(&mut command);
        command
    }

    /// `lockstep train` of the run named `run`.
    pub(crate) fn train(&self, workers: u32, settings: &[&str]) -> Command {
        let mut command = self.lockstep(&["train", "--name", RUN, "--workers", &workers.to_string()]);
        set(&mut command, settings);
        command
    }

    /// `lockstep resume` of the run named `run`.
    pub(crate) fn resume(&self, arguments: &[&str]) -> Command {
        let mut command = self.lockstep(&["resume", RUN]);
        command.args(arguments);
        command
    }

    /// The processes that work in this home, whoever started them.
    pub(crate) fn processes(&self) -> Vec<u32> {
        with_variable(HOME, &self.path())
    }

    /// Kills a run's coordinator and all its workers at once, and returns how many processes that were.
    pub(crate) fn kill_everything(&self, coordinator: &mut Running) -> usize {
        let processes = self.processes();
        send("KILL", &processes);
        coordinator.kill();
        await_gone(&processes);
        processes.len()
    }

    /// Resumes the run named `run` to its end.
    #[track_caller]
    pub(crate) fn finish(&self, arguments: &[&str]) -> Ended {
        Running::start(&mut self.resume(arguments)).wait().expect(0)
    }

    /// What `lockstep status --json` says of the run named `run`, once there is one.
    pub(crate) fn status(&self) -> Option<Value> {
        let said = self.lockstep(&["status", RUN, "--json"]).output().unwrap();
        serde_json::from_slice(&said.stdout).ok()
    }

    /// A developer's own settings are none of the test's.
    pub(crate) fn surround(&self, command: &mut Command) {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LOCKSTEP_"))
        {
            command.env_remove(name);
        }
        command.env("LOCKSTEP_WORKER", WORKER).env(HOME, self.path()).current_dir(self.folder.path());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let processes = self.processes();
        send("KILL", &processes);
        await_gone(&processes);
    }
}

/// Adds `--set` for each of `settings`.
pub(crate) fn set(command: &mut Command, settings: &[&str]) {
    settings.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
}

/// Writes an executable shell script.
pub(crate) fn write_script(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
