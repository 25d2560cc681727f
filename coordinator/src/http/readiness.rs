//! Whether the coordinator can do its work: what must be durable gets to the disk, and the cluster's loop turns.
//!
//! Many may ask at a time. One look is enough for all of them, and a disk that hangs is not asked again before it has
//! answered, so that probes never pile up behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};

use crate::cluster::ClusterHandle;

/// Beyond it whoever submits a run waits noticeably.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Readiness {
    cluster: ClusterHandle,
    last: Mutex<Option<(Instant, Verdict)>>,
    /// Of the one write that may be under way.
    writing: Arc<Semaphore>,
}

/// Why it is not ready.
type Verdict = Result<(), &'static str>;

impl Readiness {
    pub(super) fn new(cluster: ClusterHandle) -> Self {
        Self { cluster, last: Mutex::default(), writing: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn look(&self) -> Verdict {
        let mut last = self.last.lock().await;
        if let Some((at, verdict)) = *last
            && at.elapsed() < FRESH
        {
            return verdict;
        }
        let (cluster, journal) = tokio::join!(self.cluster_answers(), self.journal_writes());
        let verdict = journal.and(cluster);
        if let Err(why) = verdict {
            tracing::warn!("not ready: {why}");
        }
        *last = Some((Instant::now(), verdict));
        verdict
    }

    async fn cluster_answers(&self) -> Verdict {
        match tokio::time::timeout(ANSWERS_WITHIN, self.cluster.census()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the coordinator is about to end"),
            Err(_) => Err("the cluster's loop does not answer within a second"),
        }
    }

    async fn journal_writes(&self) -> Verdict {
        let slow = Err("the journal's disk does not write within a second");
        let Ok(turn) = Arc::clone(&self.writing).try_acquire_owned() else { return slow };
        let cluster = self.cluster.clone();
        let write = tokio::task::spawn_blocking(move || {
            let written = cluster.try_journal();
            drop(turn);
            written
        });
        match tokio::time::timeout(ANSWERS_WITHIN, write).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "the journal cannot be written");
                // The error may name files, which are nobody's business here.
                Err("the journal cannot be written")
            }
            Ok(Err(_)) => Err("the journal cannot be written"),
            Err(_) => slow,
        }
    }
}
