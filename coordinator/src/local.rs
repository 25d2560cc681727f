//! Workers of a run on this machine: found, started, watched, started again, ended.
//!
//! `slots` decides, `supervisor` does, `process` is one worker, `survivors` are those that an earlier coordinator of the
//! run had started.

mod binary;
mod exit;
mod process;
mod slots;
mod supervisor;
mod survivors;

use std::time::Duration;

use lockstep_core::WorkerName;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::supervisor::Supervisor;
use crate::driver::{DriverHandle, Notice};

pub use self::binary::{BinaryError, WorkerBinary};
pub use self::exit::WorkerExit;
pub use self::process::{WorkerOrders, WorkerPlace};
pub use self::slots::Needs;
pub use self::survivors::Survivor;

/// How long workers may take to end once they were told to.
const GRACE: Duration = Duration::from_secs(10);

/// News that the console may fall behind before it misses some. Each stands for a process that died.
const NEWS_MAX: usize = 64;

/// What is to run on this machine.
#[derive(Debug)]
pub struct Local {
    pub orders: WorkerOrders,
    pub places: Vec<WorkerPlace>,
    /// Run in their places already.
    pub survivors: Vec<Survivor>,
    /// Of each slot.
    pub max_restarts: u32,
    pub needs: Needs,
}

/// What the slots tell people.
#[derive(Debug, Clone)]
pub enum LocalNews {
    /// `how` says what became of its process.
    Restarting {
        worker: WorkerName,
        how: String,
        after: Duration,
        restart: u32,
        of: u32,
    },
    GivenUp {
        worker: WorkerName,
        how: String,
        restarts: u32,
    },
}

/// What became of the slots.
#[derive(Debug, Default)]
pub struct LocalEnd {
    /// The last end in each slot.
    pub exits: Vec<WorkerExit>,
    /// All workers had left on purpose, so the run was stopped.
    pub all_left: bool,
}

/// The running workers.
#[derive(Debug)]
pub struct LocalWorkers {
    supervising: JoinHandle<LocalEnd>,
    ending: CancellationToken,
    kill: CancellationToken,
}

impl LocalWorkers {
    /// Starts a worker in each place that no survivor holds. The run hears of each one's end, the receiver of what follows.
    pub fn start(
        local: Local,
        driver: DriverHandle,
        notices: broadcast::Receiver<Notice>,
    ) -> Result<(Self, mpsc::Receiver<LocalNews>), BinaryError> {
        let (ending, kill) = (CancellationToken::new(), CancellationToken::new());
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let supervisor = Supervisor::start(local, driver, notices, sender, (ending.clone(), kill.clone()))?;
        let supervising = tokio::spawn(supervisor.supervise());
        Ok((Self { supervising, ending, kill }, news))
    }

    /// The run is over: waits until all have ended, and kills those that take too long.
    pub async fn end(self) -> LocalEnd {
        self.ending.cancel();
        let kill = self.kill.clone();
        let reaper = tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            kill.cancel();
        });
        let ended = self.supervising.await.unwrap_or_default();
        reaper.abort();
        ended
    }

    /// Kills all at once.
    pub async fn abort(self) {
        self.kill.cancel();
        self.ending.cancel();
        drop(self.supervising.await);
    }
}
