//! A home folder of a test's own, and the command line that works in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, Running};
use crate::run_files::RunFiles;

pub(crate) const LOCKSTEP: &str = env!("CARGO_BIN_EXE_test-lockstep");
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_test-lockstep-worker");

/// The name of the run in a home that holds one.
pub(crate) const RUN: &str = "run";

/// Gone with the test.
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

    /// Resumes the run named `run` to its end.
    #[track_caller]
    pub(crate) fn finish(&self, arguments: &[&str]) -> Ended {
        Running::start(&mut self.resume(arguments)).wait().expect(0)
    }

    /// A developer's own settings are none of the test's.
    fn surround(&self, command: &mut Command) {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LOCKSTEP_"))
        {
            command.env_remove(name);
        }
        command
            .env("LOCKSTEP_WORKER", WORKER)
            .env("LOCKSTEP_HOME", self.path())
            .current_dir(self.folder.path());
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
