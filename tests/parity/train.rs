//! A run of the real `lockstep train`, with one worker, and what it left behind.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::job::Job;
use crate::process;
use crate::reference::Reference;

const LIMIT: Duration = Duration::from_secs(300);

/// A finished run. Its home goes with it.
#[derive(Debug)]
pub(crate) struct Run {
    home: TempDir,
    /// Mean over the samples, of each step in turn.
    pub(crate) losses: Vec<f64>,
}

impl Run {
    pub(crate) fn of(job: &Job, reference: &Reference) -> Self {
        let home = tempfile::tempdir().expect("a folder for temporary files");
        let mut command = Command::new(env!("CARGO_BIN_EXE_parity-lockstep"));
        // What the caller's environment says about recipes is not part of the job.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKSTEP_"))
        {
            command.env_remove(name);
        }
        command.env("LOCKSTEP_WORKER", env!("CARGO_BIN_EXE_parity-lockstep-worker"));
        command.args(["train", "--workers", "1", "--name", "parity", "--log", "info,lockstep_worker=debug"]);
        command.arg("--home").arg(home.path());
        for setting in job.recipe(reference) {
            command.args(["--set", &setting]);
        }
        if let Err(error) = process::run(&mut command, "", LIMIT) {
            let log =
                fs::read_to_string(home.path().join("runs/parity/logs/worker-0.log")).unwrap_or_default();
            panic!("{error}\n{log}");
        }
        let run = Self { home, losses: Vec::new() };
        Self { losses: losses(&run.read("logs/worker-0.log")), ..run }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.home.path().join("runs/parity").join(file)
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
