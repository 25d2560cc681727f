//! Joins, and joins again as the same process, for as long as that may help.

use std::fs;
use std::time::Duration;

use rand_core::{OsRng, TryRngCore};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Settings;
use super::presence::Backoff;
use crate::client::{
    Access, Answer, Client, ClientError, FinishOrder, Incoming, Introduction, Outgoing, Pooled, Welcome,
};
use crate::device::{self, LIBTORCH_VERSION};
use crate::logs::LogTail;

/// How long to try to join for the first time: workers and coordinator are often started together.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// What a join has come to.
#[derive(Debug)]
pub(super) enum Joined {
    Welcomed(Box<Welcomed>),
    /// The answer comes later.
    Pooled(Outgoing, Box<Incoming>),
    Dismissed(FinishOrder),
}

/// A session with a run.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub(super) welcome: Welcome,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
}

/// Joins one coordinator.
#[derive(Debug)]
pub(super) struct Joiner {
    coordinator: Access,
    logs: LogTail,
    introduction: Introduction,
    pub(super) patience: Duration,
    /// The coordinator has a pool, and this worker has waited in it, if as a former process.
    pub(super) stands_by: bool,
}

impl Joiner {
    pub(super) fn new(settings: &Settings) -> Self {
        let introduction = Introduction {
            name: settings.name.clone(),
            device: settings.device.to_string(),
            memory_bytes: device::memory_bytes(settings.device),
            host: host_name(),
            pid: std::process::id(),
            libtorch_version: LIBTORCH_VERSION.to_owned(),
            incarnation: incarnation(),
            term: 0,
            run: None,
        };
        Self {
            coordinator: settings.coordinator.clone(),
            logs: settings.logs.clone(),
            introduction,
            patience: settings.patience,
            stands_by: settings.stands_by,
        }
    }

    /// For the first time. A worker that stands by is in no hurry.
    pub(super) async fn first(&mut self) -> Result<Joined, ClientError> {
        self.persist(self.deadline(JOIN_PATIENCE), &mut Backoff::new()).await
    }

    /// Of tries that begin now; none for who stands by.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        (!self.stands_by).then(|| Instant::now() + patience)
    }

    /// Tries until it succeeds, it is refused for good, or the deadline has passed, if there is one.
    pub(super) async fn persist(
        &mut self,
        deadline: Option<Instant>,
        backoff: &mut Backoff,
    ) -> Result<Joined, ClientError> {
        let mut told = String::new();
        loop {
            let error = match self.attempt().await {
                Ok(joined) => return Ok(joined),
                Err(error) => error,
            };
            if !error.is_passing() {
                return Err(error);
            }
            let why = error.to_string();
            match &error {
                // Worth a person's attention: two of them should not be there.
                ClientError::Overtaken { .. } => warn!(%error, "turned away from an old coordinator"),
                // Without an end somebody has to hear of it, once.
                error if deadline.is_none() && told != why => {
                    warn!(reason = %error, "cannot join; trying until it works");
                    told = why;
                }
                error => debug!(%error, "trying again"),
            }
            if !backoff.wait_before(deadline).await {
                return Err(error);
            }
        }
    }

    async fn attempt(&mut self) -> Result<Joined, ClientError> {
        let client = Client::connect(&self.coordinator).await?;
        let (answer, outgoing, incoming) = client.join(self.introduction.clone(), &self.logs).await?;
        self.take(answer, outgoing, incoming)
    }

    /// What an answer on an open session means.
    ///
    /// # Errors
    /// [`ClientError::Overtaken`].
    pub(super) fn take(
        &mut self,
        answer: Answer,
        outgoing: Outgoing,
        incoming: Incoming,
    ) -> Result<Joined, ClientError> {
        match answer {
            Answer::Welcome(welcome) => {
                let (term, newest) = (welcome.term, self.introduction.term);
                if term < newest {
                    return Err(ClientError::Overtaken { term, newest });
                }
                self.introduction.term = term;
                self.logs.keep(welcome.keep_logs);
                self.introduction.run.get_or_insert_with(|| welcome.plan.run.clone());
                Ok(Joined::Welcomed(Box::new(Welcomed { welcome: *welcome, outgoing, incoming })))
            }
            Answer::Pooled(Pooled { keep_logs, stand_by }) => {
                self.logs.keep(keep_logs);
                self.stands_by |= stand_by;
                Ok(Joined::Pooled(outgoing, Box::new(incoming)))
            }
            Answer::Finish(finish) => Ok(Joined::Dismissed(finish)),
        }
    }
}

/// A number that no other process has.
fn incarnation() -> u64 {
    // No randomness: the process and its start tell processes of one machine apart.
    OsRng.try_next_u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(std::process::id()) << 32 ^ u64::try_from(now.as_nanos()).unwrap_or_default()
    })
}

/// This machine's.
pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
