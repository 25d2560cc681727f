//! A run that is driven for the tests here and for those of the services in front of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use lockstep_core::{
    Effect, Entry, Epoch, Event, Heartbeat, Origin, Position, Restore, Run, RunSpec, SelectSpec, Split, Step,
    WorkerBounds, WorkerInfo,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Conclusion, Driver, DriverHandle, Notice, now};
use crate::cluster::{self, Alone, Cluster, ClusterHandle};
use crate::data::BlobCache;
use crate::home::Home;
use crate::journal::Journal;
use crate::prepare::Begun;
use crate::run_folder::{RunFacts, RunFolder};
use crate::store::{CheckpointStore, FORMAT_VERSION, Manifest, ManifestFile};

pub(crate) const RUN: &str = "run";

/// The files of a checkpoint.
pub(crate) const MODEL: &[u8] = b"a model";
pub(crate) const OPTIMIZER: &[u8] = b"an optimizer's state";

/// A driver at work.
pub(crate) struct Driven {
    pub(crate) home: TempDir,
    pub(crate) driver: DriverHandle,
    pub(crate) notices: broadcast::Receiver<Notice>,
    pub(crate) store: CheckpointStore,
    pub(crate) driving: JoinHandle<Conclusion>,
}

/// A hundred steps an epoch, and a lease that no test outlives.
pub(crate) fn spec(workers: u32) -> RunSpec {
    RunSpec {
        workers: WorkerBounds { min: workers, start: workers, max: workers },
        shards: 4,
        epochs: 9,
        steps_per_epoch: 100,
        eval_samples: 10,
        test_samples: 0,
        eval_block: 10,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 3,
        join_timeout_ms: 600_000,
        lease_ms: 600_000,
    }
}

impl Driven {
    /// A new run that waits for so many workers.
    pub(crate) fn start(workers: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), RUN).unwrap();
        let (run, effects) = Run::create(now(), spec(workers), Origin::default());
        Self::drive(home, folder, run, effects)
    }

    /// A new run in a cluster of its own, which is served until `shutdown`.
    pub(crate) fn alone(
        workers: u32,
        address: SocketAddr,
        shutdown: CancellationToken,
    ) -> (Self, ClusterHandle, BlobCache) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let blobs = home.blobs.clone();
        let (run, effects) = Run::create(now(), spec(workers), Origin::default());
        let begun = Begun::bare(run, effects, RunFolder::create(&home.path, RUN).unwrap());
        let store = begun.folder.checkpoints().clone();
        let alone = Alone { begun, expected: BTreeSet::new(), worker_url: format!("http://{address}") };
        let (cluster, handle, driven) = Cluster::alone(home, address, alone).unwrap();
        tokio::spawn(cluster.serve(shutdown));
        let cluster::Driven { driver, notices, concluded } = driven;
        let driving = tokio::spawn(async { concluded.await.unwrap() });
        (Self { home: folder, driver, notices, store, driving }, handle, blobs)
    }

    pub(crate) fn drive(home: TempDir, folder: RunFolder, run: Run, effects: Vec<Effect>) -> Self {
        let journal = Journal::open(&home.path().join("journal.db")).unwrap();
        let store = folder.checkpoints().clone();
        let (driver, handle) = Driver::new(run, folder, journal, RunFacts::default());
        let notices = driver.subscribe();
        let driving = tokio::spawn(driver.drive(effects));
        Self { home, driver: handle, notices, store, driving }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        Journal::open(&self.home.path().join("journal.db")).unwrap().entries(RUN).unwrap()
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        RunFolder::path_of(self.home.path(), RUN).unwrap()
    }

    /// Waits for what it knows.
    pub(crate) async fn notice<T>(&mut self, mut wanted: impl FnMut(Notice) -> Option<T>) -> T {
        let deadline = std::time::Duration::from_secs(20);
        let found = tokio::time::timeout(deadline, async {
            loop {
                if let Some(found) = wanted(self.notices.recv().await.unwrap()) {
                    return found;
                }
            }
        });
        found.await.expect("what was waited for happens in time")
    }
}

pub(crate) fn info(incarnation: u64) -> WorkerInfo {
    WorkerInfo { device: "cpu".to_owned(), pid: incarnation as u32, incarnation, ..WorkerInfo::default() }
}

/// Of a worker that has its data and no replica.
pub(crate) fn ready(worker: &str, heartbeat: Heartbeat) -> Event {
    let heartbeat = Heartbeat { address: "127.0.0.1:1".to_owned(), ..heartbeat };
    Event::Heartbeat { worker: worker.into(), heartbeat }
}

pub(crate) fn position(step: u64) -> Position {
    Position { epoch: Epoch(0), step: Step(step) }
}

pub(crate) fn manifest(step: u64) -> Manifest {
    let file = |name: &str, bytes: &[u8]| ManifestFile {
        name: name.to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    Manifest {
        format_version: FORMAT_VERSION,
        lockstep_version: env!("CARGO_PKG_VERSION").to_owned(),
        run: RUN.to_owned(),
        position: position(step),
        metric: None,
        files: vec![file("model.safetensors", MODEL), file("optimizer.safetensors", OPTIMIZER)],
    }
}

/// Stores a checkpoint behind the run's back.
pub(crate) fn store_checkpoint(store: &CheckpointStore, step: u64) {
    let mut writer = store.begin(manifest(step)).unwrap();
    writer.write(&[MODEL, OPTIMIZER].concat()).unwrap();
    writer.finish().unwrap();
}

/// Changes a byte.
pub(crate) fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
