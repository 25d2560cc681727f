//! One worker's process: a child, or one that an earlier coordinator of the run had started and that lives on.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lockstep_core::WorkerName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::process::{Child, Command};

use super::binary::{BinaryError, WorkerBinary};
use super::survivors::Survivor;

/// Between two looks at a survivor. Its broken session tells of its end sooner.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    /// Where they find the coordinator.
    pub url: String,
    /// Where data sets and weights may lie already.
    pub cache: PathBuf,
    pub threads: u32,
    pub log_level: String,
    /// Further arguments.
    pub arguments: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Process {
    Child(Box<Child>),
    Survivor(OwnedFd),
}

impl Process {
    /// Starts a worker.
    ///
    /// Each is its own process group, so that a Ctrl-C at the terminal reaches the coordinator alone, which then ends
    /// the run at a step boundary. Their output goes straight into their log file: nothing is lost with a pipe, and the
    /// last lines are there to be shown when one dies.
    pub(super) fn start(orders: &WorkerOrders, place: &WorkerPlace) -> Result<Self, BinaryError> {
        let WorkerOrders { binary, url, cache, threads, log_level, arguments } = orders;
        let cannot = |source: std::io::Error| BinaryError::Start {
            path: binary.path.clone(),
            reason: source.to_string(),
        };
        let log = OpenOptions::new().create(true).append(true).open(&place.log).map_err(cannot)?;
        let child = Command::new(&binary.path)
            .args(["join", url, "--name", &place.name.0, "--device", &place.device, "--log", log_level])
            .arg("--cache")
            .arg(cache)
            .args(arguments)
            // Before libtorch starts its thread pool; the recipe's own setting follows when the worker joins.
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        Ok(Self::Child(Box::new(child)))
    }

    pub(super) fn adopt(survivor: Survivor) -> Self {
        Self::Survivor(survivor.handle)
    }

    /// Waits for its end. How a process ended is told to its parent alone, so it is not known of a survivor.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await.ok(),
            Self::Survivor(handle) => {
                while is_alive(handle) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                None
            }
        }
    }

    /// Kills it; it may have ended by itself in the meantime.
    pub(super) fn kill(&mut self) {
        match self {
            Self::Child(child) => drop(child.start_kill()),
            Self::Survivor(handle) => {
                let _ = pidfd_send_signal(handle, Signal::KILL);
            }
        }
    }
}

/// A process's handle becomes readable when it ends. Where that cannot be told, it counts as ended.
fn is_alive(handle: &OwnedFd) -> bool {
    let at_once = Timespec::default();
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::survivors;

    #[tokio::test]
    async fn a_survivor_is_seen_to_end_and_can_be_killed() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let handle = survivors::handle_of(child.id()).unwrap();
        let mut process = Process::Survivor(handle);
        let waits = tokio::time::timeout(Duration::from_millis(20), process.ended()).await;
        assert!(waits.is_err(), "it lives");
        process.kill();
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), process.ended()).await, Ok(None));
        assert!(!child.wait().unwrap().success());
    }
}
