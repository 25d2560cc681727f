//! Workers of a run on this machine: found, started, watched, ended.
//!
//! Each is its own process group, so that a Ctrl-C at the terminal reaches the coordinator alone, which then ends
//! the run at a step boundary. Their output goes straight into their log file: nothing is lost with a pipe, and the
//! last lines are there to be shown when one dies.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lockstep_core::{Event, WorkerName};
use serde::Deserialize;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::driver::DriverHandle;

/// How long workers may take to end once they were told to.
const GRACE: Duration = Duration::from_secs(10);

/// Lines of a dead worker's log that are shown.
const LAST_LINES: usize = 15;

/// A usable worker binary and what its libtorch sees.
#[derive(Debug, Clone)]
pub struct WorkerBinary {
    pub path: PathBuf,
    pub libtorch_version: String,
    /// `cpu`, `cuda:0`, …
    pub devices: Vec<String>,
    /// Why there is no GPU among them.
    pub no_gpu: Option<String>,
}

/// The worker binary is of no use.
#[derive(Debug, Error)]
pub enum BinaryError {
    #[error("there is no worker binary at {}", path.display())]
    Missing { path: PathBuf },
    #[error("the worker binary {} cannot start: {reason}", path.display())]
    Start { path: PathBuf, reason: String },
}

/// Where and how to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerPlace {
    pub name: WorkerName,
    pub device: String,
    pub log: PathBuf,
}

/// What all workers of a run are told when they start.
#[derive(Debug, Clone)]
pub struct WorkerOrders {
    pub binary: WorkerBinary,
    /// Of the coordinator.
    pub url: String,
    /// Where data sets and weights may lie already.
    pub cache: PathBuf,
    pub threads: u32,
    pub log_level: String,
}

/// How a worker's process ended.
#[derive(Debug, Clone)]
pub struct WorkerExit {
    pub name: WorkerName,
    pub status: ExitStatus,
    pub log: PathBuf,
}

/// The running workers.
#[derive(Debug)]
pub struct LocalWorkers {
    watching: JoinSet<WorkerExit>,
    kill: CancellationToken,
}

impl WorkerBinary {
    /// Finds the worker: `LOCKSTEP_WORKER`, else beside this program. Asks it for its version and devices, which
    /// also shows that it can start.
    pub fn find() -> Result<Self, BinaryError> {
        let path = std::env::var_os("LOCKSTEP_WORKER").map_or_else(beside_this_program, PathBuf::from);
        if !path.is_file() {
            return Err(BinaryError::Missing { path });
        }
        #[derive(Deserialize)]
        struct Version {
            libtorch: String,
        }
        let version: Version = ask(&path, "version")?;
        #[derive(Deserialize)]
        struct Devices {
            devices: Vec<String>,
            no_gpu: Option<String>,
        }
        let Devices { devices, no_gpu } = ask(&path, "devices")?;
        Ok(Self { path, libtorch_version: version.libtorch, devices, no_gpu })
    }

    /// The GPUs, or the processor where there is none.
    pub fn preferred_devices(&self) -> Vec<String> {
        let gpus: Vec<String> = self.devices.iter().filter(|device| *device != "cpu").cloned().collect();
        if gpus.is_empty() { vec!["cpu".into()] } else { gpus }
    }
}

fn beside_this_program() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name("lockstep-worker")
}

/// Runs `worker VERB --json` and reads what it says.
fn ask<T: serde::de::DeserializeOwned>(path: &Path, verb: &str) -> Result<T, BinaryError> {
    let start = |reason: String| BinaryError::Start { path: path.to_owned(), reason };
    let output = std::process::Command::new(path).args([verb, "--json"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| start(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(start(format!("{}\n{}", describe(output.status), last_lines(&said))));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| start(format!("`{verb} --json` does not read: {error}")))
}

impl LocalWorkers {
    /// Starts one worker per place. The run hears of each one's end.
    pub fn start(
        orders: &WorkerOrders,
        places: Vec<WorkerPlace>,
        driver: &DriverHandle,
    ) -> anyhow::Result<Self> {
        let WorkerOrders { binary, url, cache, threads, log_level } = orders;
        let kill = CancellationToken::new();
        let mut watching = JoinSet::new();
        for place in places {
            let log = OpenOptions::new().create(true).append(true).open(&place.log)?;
            let child = Command::new(&binary.path)
                .args(["join", url, "--name", &place.name.0, "--device", &place.device, "--log", log_level])
                .arg("--cache")
                .arg(cache)
                // Before libtorch starts its thread pool; the recipe's own setting follows when the worker joins.
                .env("OMP_NUM_THREADS", threads.to_string())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|source| BinaryError::Start {
                    path: binary.path.clone(),
                    reason: source.to_string(),
                })?;
            watching.spawn(watch(child, place, driver.clone(), kill.clone()));
        }
        Ok(Self { watching, kill })
    }

    /// Waits until all have ended, and kills those that take too long.
    pub async fn end(mut self) -> Vec<WorkerExit> {
        let kill = self.kill.clone();
        let reaper = tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            kill.cancel();
        });
        let mut exits = Vec::new();
        while let Some(exit) = self.watching.join_next().await {
            exits.extend(exit.ok());
        }
        reaper.abort();
        exits
    }

    /// Kills all at once.
    pub async fn abort(self) {
        self.kill.cancel();
        self.watching.join_all().await;
    }
}

async fn watch(
    mut child: Child,
    place: WorkerPlace,
    driver: DriverHandle,
    kill: CancellationToken,
) -> WorkerExit {
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.cancelled() => {
            // It may have ended by itself in the meantime.
            drop(child.start_kill());
            child.wait().await
        }
    };
    let status = status.unwrap_or_else(|_| ExitStatus::from_raw(-1));
    let reason = format!("its process ended ({})", describe(status));
    drop(driver.event(Event::WorkerLost { worker: place.name.clone(), reason }).await);
    WorkerExit { name: place.name, status, log: place.log }
}

impl WorkerExit {
    /// How it ended, in words.
    pub fn describe(&self) -> String {
        describe(self.status)
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        last_lines(&String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()))
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by signal 9; the system may have run out of memory".into(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it vanished".into(),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
