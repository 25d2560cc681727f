//! The real `lockstep`, in a home of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::job::Job;
use crate::process;
use crate::reference::Reference;

const LIMIT: Duration = Duration::from_secs(300);

/// The name of the run that a job makes.
pub(crate) const RUN: &str = "parity";

/// What `lockstep ARGUMENTS` writes to stdout.
///
/// # Errors
/// What it wrote to stderr, when it fails.
pub(crate) fn lockstep(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parity-lockstep"));
    // What the caller's environment says about recipes is not part of a test.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKSTEP_")) {
        command.env_remove(name);
    }
    command.env("LOCKSTEP_WORKER", env!("CARGO_BIN_EXE_parity-lockstep-worker"));
    process::run(command.args(arguments), "", LIMIT)
}

/// A finished run with one worker. Its home goes with it.
#[derive(Debug)]
pub(crate) struct Run {
    home: TempDir,
    /// Mean over the samples, of each step in turn.
    pub(crate) losses: Vec<f64>,
}

impl Run {
    pub(crate) fn of(job: &Job, reference: &Reference) -> Self {
        let home = tempfile::tempdir().expect("a folder for temporary files");
        let run = home.path().join("runs").join(RUN);
        let mut arguments: Vec<String> =
            ["train", "--workers", "1", "--name", RUN, "--log", "info,lockstep_worker=debug", "--home"]
                .map(str::to_owned)
                .into();
        arguments.push(home.path().display().to_string());
        for setting in job.recipe(reference) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        if let Err(error) = lockstep(arguments) {
            let log = fs::read_to_string(run.join("logs/worker-0.log")).unwrap_or_default();
            panic!("{error}\n{log}");
        }
        let run = Self { home, losses: Vec::new() };
        Self { losses: losses(&run.read("logs/worker-0.log")), ..run }
    }

    /// What `lockstep VERB …` says of the run; with this home.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let home = self.home.path().display().to_string();
        let arguments = [arguments, &["--home", &home]].concat();
        lockstep(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// One of the run's models as a file, of the format that its name ends in.
    pub(crate) fn export(&self, which: &[&str], name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        let format = path.extension().and_then(OsStr::to_str).expect("a name with an ending");
        let out = path.display().to_string();
        self.ask(&[&["export", RUN, "--format", format, "--out", &out], which].concat());
        path
    }

    /// An empty folder of this name.
    pub(crate) fn new_folder(&self, name: &str) -> PathBuf {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder).expect("a folder in a new home");
        folder
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.home.path().join("runs").join(RUN).join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

/// What the worker tells at level debug after each step: `… step step=1 loss=2.3`.
fn losses(log: &str) -> Vec<f64> {
    let mut losses = Vec::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(": step step=") else { continue };
        let (step, loss) = rest.split_once(" loss=").expect("a step is logged with its loss");
        losses.push(loss.trim().parse().expect("a loss is a number"));
        assert_eq!(step.parse(), Ok(losses.len()), "steps are logged in order, each once");
    }
    losses
}
