//! One process of the worker's binary per job, ended by the signals that end the command.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use serde::Serialize;
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::InferError;
use super::answer::Answer;
use crate::launch::StopSignal;
use crate::local::WorkerBinary;

/// What the worker's own words begin with.
const SPEAKER: &str = "lockstep-worker: ";

/// Calls a worker's verbs. From its making on, SIGINT and SIGTERM end calls instead of the process, so that the caller can
/// leave nothing behind; a second one ends the process.
#[derive(Debug)]
pub struct Calls {
    binary: PathBuf,
    stop: watch::Receiver<Option<StopSignal>>,
    runtime: Runtime,
}

impl Calls {
    /// Begins to listen for signals.
    ///
    /// # Errors
    ///
    /// The system has no thread or no signals to give.
    pub fn new(binary: &WorkerBinary) -> std::io::Result<Self> {
        // A thread of its own hears signals while the caller is busy with something else.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (tell, stop) = watch::channel(None);
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        runtime.spawn(async move {
            loop {
                let (signal, code) = tokio::select! {
                    _ = interrupt.recv() => (StopSignal::Interrupt, 130),
                    _ = terminate.recv() => (StopSignal::Terminate, 143),
                };
                if tell.send_replace(Some(signal)).is_some() {
                    std::process::exit(code);
                }
            }
        });
        Ok(Self { binary: binary.path.clone(), stop, runtime })
    }

    /// Whether a signal came: for work between calls.
    ///
    /// # Errors
    ///
    /// [`InferError::Stopped`] if it did.
    pub fn check_stopped(&self) -> Result<(), InferError> {
        match *self.stop.borrow() {
            Some(signal) => Err(InferError::Stopped(signal)),
            None => Ok(()),
        }
    }

    /// Has the worker do `verb`.
    pub(super) fn call(&self, verb: &str, threads: u32, job: &impl Serialize) -> Result<Answer, InferError> {
        #[derive(Serialize)]
        struct Whole<'a, J> {
            #[serde(flatten)]
            job: &'a J,
            /// Where the answer is expected.
            out: &'a Path,
        }
        let folder = tempfile::Builder::new().prefix("lockstep-").tempdir();
        let folder = folder.map_err(InferError::io("make a folder in", &std::env::temp_dir()))?;
        let out = folder.path().join("out.safetensors");
        let path = folder.path().join("job.json");
        let text = serde_json::to_vec(&Whole { job, out: &out }).map_err(InferError::Job)?;
        fs::write(&path, text).map_err(InferError::io("write", &path))?;

        let mut command = Command::new(&self.binary);
        command.args([verb, "--log", "error", "--job"]).arg(&path);
        // Before libtorch starts its thread pool, as for workers that train.
        command.env("OMP_NUM_THREADS", threads.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A Ctrl-C at the terminal reaches this process alone, which then ends the other.
        command.process_group(0).kill_on_drop(true);
        let mut stop = self.stop.clone();
        let output = self.runtime.block_on(async {
            let child = command.spawn().map_err(InferError::io("start", &self.binary))?;
            tokio::select! {
                output = child.wait_with_output() => output.map_err(InferError::io("wait for", &self.binary)),
                // The sender lives as long as the runtime.
                _ = stop.wait_for(Option::is_some) => Err(InferError::Stopped(StopSignal::Interrupt)),
            }
        });
        self.check_stopped()?;
        let output = output?;
        if output.status.success() { Answer::read(&out) } else { Err(failure(&output)) }
    }
}

/// What to say of a process that failed.
fn failure(output: &Output) -> InferError {
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().rev().find_map(|line| line.strip_prefix(SPEAKER));
    match (reason, output.status.code()) {
        (Some(reason), Some(code)) => InferError::Refused { reason: reason.to_owned(), code },
        _ => InferError::Ended { how: how(output.status), said: last_lines(&said) },
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by signal 9; the system may have run out of memory".to_owned(),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    }
}

/// The end of what it said, each line after a line end.
fn last_lines(said: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  | {line}")).collect()
}
