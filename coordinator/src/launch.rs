//! One life of a run on this machine: a cluster of this run alone, a server, local workers, and the signals that stop it.

mod signals;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use lockstep_core::{Outcome, Run, WorkerBounds, WorkerName};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::signals::Signals;
use crate::cluster::{Alone, Cluster, Driven};
use crate::driver::{DriverHandle, Notice};
use crate::grpc;
use crate::grpc::transport::Entrance;
use crate::home::Home;
use crate::local::{
    Local, LocalNews, LocalWorkers, Needs, Survivor, WorkerBinary, WorkerExit, WorkerOrders, WorkerPlace,
};
use crate::prepare::Begun;
use crate::run_folder::RunFolder;

pub use self::signals::StopSignal;

/// Everything that a run needs to start.
#[derive(Debug)]
pub struct Launch {
    pub begun: Begun,
    pub home: Home,
    /// Members that may come back from before this coordinator's life.
    pub expected: BTreeSet<WorkerName>,
    pub listener: std::net::TcpListener,
    pub workers: LocalPlan,
}

/// The workers on this machine.
#[derive(Debug)]
pub struct LocalPlan {
    pub bounds: WorkerBounds,
    pub needs: Needs,
    /// How often each may be started again.
    pub max_restarts: u32,
    pub binary: WorkerBinary,
    /// Where they find the coordinator.
    pub url: String,
    pub cache: PathBuf,
    /// For their logs.
    pub log_level: String,
    pub arguments: Vec<String>,
    /// Those that an earlier coordinator has started and that live on.
    pub survivors: Vec<Survivor>,
}

/// How it went.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub folder: RunFolder,
    pub run: Run,
    pub exits: Vec<WorkerExit>,
    /// The signal that asked for the stop, of this process or of all its workers.
    pub signal: Option<StopSignal>,
}

/// What there is to follow a run by.
#[derive(Debug)]
pub struct Views {
    pub notices: broadcast::Receiver<Notice>,
    pub local: mpsc::Receiver<LocalNews>,
    pub driver: DriverHandle,
}

/// The user wanted out at once: nothing was saved beyond the last checkpoint.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("aborted")]
pub struct Aborted(pub StopSignal);

/// Runs it to its end. `listen` is called with what there is to tell as it happens.
///
/// # Errors
/// [`Aborted`] on a second signal; anything else when the run's folder or journal cannot be written.
pub async fn launch(launch: Launch, listen: impl FnOnce(Views) -> JoinHandle<()>) -> anyhow::Result<Ended> {
    let Launch { begun, home, expected, listener, workers } = launch;
    let mut signals = Signals::new().context("listening for signals")?;
    let (address, blobs, worker_url) = (listener.local_addr()?, home.blobs.clone(), workers.url.clone());
    listener.set_nonblocking(true)?;
    let entrance = Entrance::new(TcpListener::from_std(listener)?, None)?;
    let local = local(workers, &begun.folder, begun.plan.threads);
    let alone = Alone { begun, expected, worker_url };
    let (cluster, handle, driven) = tokio::task::block_in_place(|| Cluster::alone(home, address, alone))?;
    let Driven { driver, notices, concluded } = driven;
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(grpc::serve(entrance, handle, blobs, shutdown.clone()));
    let mut serving = tokio::spawn(cluster.serve(shutdown.clone()));
    let (local, news) = LocalWorkers::start(local, driver.clone(), notices.resubscribe())?;
    let listening = listen(Views { notices, local: news, driver: driver.clone() });

    let concluded = tokio::select! {
        // Why it came to an end is said before that it did.
        biased;
        concluded = concluded => concluded.context("the driver")?,
        served = &mut serving => Err(served.context("the cluster")?.err().unwrap_or_else(cut_off)),
        signal = signals.abort(&driver) => Err(Aborted(signal).into()),
    };
    let (outcome, folder, run) = match concluded {
        Ok(concluded) => concluded,
        Err(error) => {
            local.abort().await;
            return Err(error);
        }
    };
    // Workers have been told to finish; the server stays until they have gone, so that they can.
    let local = local.end().await;
    shutdown.cancel();
    server.await?.context("serving")?;
    serving.await.context("the cluster")??;
    drop(driver);
    // It ends with the driver's notices.
    drop(listening.await);
    let signal = signals.first.or_else(|| local.all_left.then_some(StopSignal::Terminate));
    Ok(Ended { outcome, folder, run, exits: local.exits, signal })
}

fn cut_off() -> anyhow::Error {
    anyhow::anyhow!("the run's coordinator ended before the run")
}

/// Slots for as many workers as the run starts with. Survivors keep their names; the lowest free ones go to the others.
fn local(plan: LocalPlan, folder: &RunFolder, threads: u32) -> Local {
    let LocalPlan { bounds, needs, max_restarts, binary, url, cache, log_level, arguments, survivors } = plan;
    let names = names(survivors.iter().map(|survivor| &survivor.name), bounds.start);
    let devices = binary.preferred_devices();
    let places = names.into_iter().map(|(index, name)| WorkerPlace {
        log: folder.log(&name.0),
        // Workers are dealt to the devices in turn.
        device: devices[index as usize % devices.len()].clone(),
        name,
    });
    let places = places.collect();
    let orders = WorkerOrders { binary, url, cache, threads, log_level, arguments };
    Local { orders, places, survivors, max_restarts, needs }
}

fn names<'a>(taken: impl Iterator<Item = &'a WorkerName>, count: u32) -> Vec<(u32, WorkerName)> {
    let index = |name: &WorkerName| name.0.strip_prefix("worker-")?.parse().ok();
    let mut indices: Vec<u32> = taken.filter_map(index).collect();
    let missing = (count as usize).saturating_sub(indices.len());
    let free: Vec<u32> = (0..).filter(|index| !indices.contains(index)).take(missing).collect();
    indices.extend(free);
    indices.sort_unstable();
    indices.into_iter().map(|index| (index, WorkerName(format!("worker-{index}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_keep_their_names_and_the_missing_slots_are_filled() {
        let of = |taken: &[&str], count| {
            let taken: Vec<WorkerName> = taken.iter().map(|name| WorkerName::from(*name)).collect();
            names(taken.iter(), count).into_iter().map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(of(&[], 3), [0, 1, 2]);
        assert_eq!(of(&["worker-2"], 3), [0, 1, 2]);
        assert_eq!(of(&["worker-4", "worker-1"], 3), [0, 1, 4]);
        assert_eq!(of(&["worker-0", "worker-1"], 1), [0, 1]);
    }
}
