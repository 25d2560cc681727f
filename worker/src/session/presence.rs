//! Whether the coordinator is there: what goes beside the session waits for it to come back.

use std::time::Duration;

use rand_core::{OsRng, TryRngCore};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Bulk, ClientError};

/// The first pause between two tries to reach the coordinator,
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// and the longest.
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// The pause before a worker begins again after a failure,
const REST_FIRST: Duration = Duration::from_secs(1);
/// and the longest after many: whatever it fails for then, a person has to see to it.
const REST_MOST: Duration = Duration::from_secs(60);

/// Pauses between tries: each twice the last, less a random part of it, so that workers which lost the same coordinator
/// do not all come back in the same instant.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: PAUSE_FIRST, most: PAUSE_MOST }
    }

    /// For a worker that has failed so many times in a row.
    pub(super) fn after_failures(failures: u32) -> Self {
        // Far beyond the longest.
        let doubled = failures.saturating_sub(1).min(16);
        Self { next: REST_MOST.min(REST_FIRST * (1 << doubled)), most: REST_MOST }
    }

    /// Waits until the next try is due, if that is before `deadline`; otherwise it says at once that there is to be none.
    pub(super) async fn wait_before(&mut self, deadline: Option<Instant>) -> bool {
        let next = Instant::now() + self.pause();
        let is_in_time = deadline.is_none_or(|deadline| next < deadline);
        if is_in_time {
            sleep_until(next).await;
        }
        is_in_time
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.most.min(pause * 2);
        // Without randomness it is still a pause.
        let share = OsRng.try_next_u32().unwrap_or(u32::MAX);
        pause / 2 + (pause / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// Knows whether a session is open.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    is_attached: watch::Receiver<bool>,
    backoff: Backoff,
}

impl Presence {
    pub(super) fn new(is_attached: watch::Receiver<bool>) -> Self {
        Self { is_attached, backoff: Backoff::new() }
    }

    /// Until a session is open. For ever, once there is nobody to open one.
    pub(super) async fn wait(&mut self) {
        if self.is_attached.wait_for(|attached| *attached).await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.backoff.pause()).await;
    }
}

/// Asks the coordinator for files, again and again where the connection is at fault.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    pub(super) bulk: Bulk,
    pub(super) presence: Presence,
    /// How long a coordinator that is there may fail to deliver.
    pub(super) patience: Duration,
}

impl Fetcher {
    /// The outcome of `fetch`, tried until it is not the connection that refuses. The time that the coordinator is away does
    /// not count.
    pub(super) async fn persist<T, E>(
        &self,
        fetch: impl AsyncFn(&Bulk) -> Result<T, E>,
        cause: impl Fn(&E) -> Option<&ClientError>,
    ) -> Result<T, E> {
        let mut presence = self.presence.clone();
        let mut deadline = Instant::now() + self.patience;
        loop {
            if !*presence.is_attached.borrow() {
                presence.wait().await;
                deadline = Instant::now() + self.patience;
            }
            match fetch(&self.bulk).await {
                Err(error)
                    if cause(&error).is_some_and(ClientError::is_of_the_connection)
                        && Instant::now() < deadline =>
                {
                    presence.pause().await;
                }
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_never_vanish() {
        let mut backoff = Backoff::new();
        for expected_ms in [50, 100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause().as_millis();
            assert!((expected_ms / 2..=expected_ms).contains(&pause), "{pause} of {expected_ms}");
        }
    }

    #[test]
    fn rests_grow_with_the_failures_to_a_minute() {
        for (failures, expected_s) in [(0, 1.0), (1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (u32::MAX, 60.0)] {
            let rest = Backoff::after_failures(failures).pause().as_secs_f64();
            assert!((expected_s / 2.0..=expected_s).contains(&rest), "{rest} of {expected_s}");
        }
    }
}
