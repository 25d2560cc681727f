//! One life of a run on this machine: a server, its driver, its workers, and the signals that stop it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use lockstep_core::{Effect, Event, Outcome, Run, WorkerName};
use lockstep_proto::v1 as pb;
use rand_core::{OsRng, TryRngCore};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::data::BlobCache;
use crate::driver::{Driver, DriverHandle, Notice};
use crate::grpc::{self, Services};
use crate::journal::Journal;
use crate::local::{LocalWorkers, WorkerBinary, WorkerExit, WorkerOrders, WorkerPlace};
use crate::run_folder::{RunFacts, RunFolder};

/// Everything that a run needs to start.
#[derive(Debug)]
pub struct Launch {
    pub run: Run,
    /// From the run's creation or resume.
    pub effects: Vec<Effect>,
    pub folder: RunFolder,
    pub journal: Journal,
    pub plan: pb::Plan,
    pub facts: RunFacts,
    pub blobs: BlobCache,
    pub cache: PathBuf,
    pub binary: WorkerBinary,
    pub workers: u32,
    /// For the workers' logs.
    pub log_level: String,
    pub listener: std::net::TcpListener,
}

/// How it went.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub folder: RunFolder,
    pub run: Run,
    pub exits: Vec<WorkerExit>,
    /// The signal that asked for the stop.
    pub signal: Option<StopSignal>,
}

/// A signal that stops a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

/// The user wanted out at once: nothing was saved beyond the last checkpoint.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("aborted")]
pub struct Aborted(pub StopSignal);

/// Runs it to its end. `listen` is called with what there is to tell as it happens.
///
/// # Errors
/// [`Aborted`] on a second signal; anything else when the run's folder or journal cannot be written.
pub async fn launch(
    launch: Launch,
    listen: impl FnOnce(broadcast::Receiver<Notice>) -> tokio::task::JoinHandle<()>,
) -> anyhow::Result<Ended> {
    let Launch {
        run,
        effects,
        folder,
        journal,
        plan,
        facts,
        blobs,
        cache,
        binary,
        workers,
        log_level,
        listener,
    } = launch;
    let mut signals = Signals::new().context("listening for signals")?;
    let mut secret = [0; 32];
    OsRng.try_fill_bytes(&mut secret).context("drawing the run's secret")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;

    let places = places(&folder, &binary, workers);
    let threads = plan.threads;
    let checkpoints = folder.checkpoints().clone();
    let (driver, handle) = Driver::new(run, folder, journal, facts);
    let listening = listen(driver.subscribe());
    let services = Services { driver: handle.clone(), plan, checkpoints, blobs, secret };
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(grpc::serve(listener, Arc::new(services), shutdown.clone()));
    let driving = tokio::spawn(driver.drive(effects));
    let orders = WorkerOrders { binary, url: format!("http://{address}"), cache, threads, log_level };
    let local = LocalWorkers::start(&orders, places, &handle)?;

    let driven = tokio::select! {
        driven = driving => driven.context("the driver")?,
        signal = signals.abort(&handle) => {
            local.abort().await;
            return Err(Aborted(signal).into());
        }
    };
    // Workers have been told to finish; the server stays until they have gone, so that they can.
    let exits = local.end().await;
    shutdown.cancel();
    drop(handle);
    server.await?.context("serving")?;
    let (outcome, folder, run) = driven?;
    // It ends with the driver's notices.
    drop(listening.await);
    Ok(Ended { outcome, folder, run, exits, signal: signals.first })
}

/// Workers are dealt to the devices in turn.
fn places(folder: &RunFolder, binary: &WorkerBinary, workers: u32) -> Vec<WorkerPlace> {
    let devices = binary.preferred_devices();
    let place = |(index, device): (u32, &String)| {
        let name = format!("worker-{index}");
        WorkerPlace { log: folder.log(&name), name: WorkerName(name), device: device.clone() }
    };
    (0..workers).zip(devices.iter().cycle()).map(place).collect()
}

/// The first signal asks the run to stop at a step boundary, the second aborts.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    first: Option<StopSignal>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, first: None })
    }

    /// Returns at the second signal.
    async fn abort(&mut self, driver: &DriverHandle) -> StopSignal {
        loop {
            let signal = tokio::select! {
                _ = self.interrupt.recv() => StopSignal::Interrupt,
                _ = self.terminate.recv() => StopSignal::Terminate,
            };
            if self.first.is_some() {
                return signal;
            }
            self.first = Some(signal);
            tracing::info!("stopping after this step; once more to abort");
            drop(driver.event(Event::StopRequested).await);
        }
    }
}
