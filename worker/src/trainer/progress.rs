//! How far a member is, told a few times a second at the most: people watch it, nothing waits for it.

use std::time::{Duration, Instant};

use super::message::Progress;
use super::metrics::Metrics;
use crate::plan::Position;

const INTERVAL: Duration = Duration::from_millis(200);

/// Collects steps until a report is due.
#[derive(Debug)]
pub(super) struct ProgressMeter {
    since: Instant,
    steps: u32,
    exchanging: Duration,
}

impl ProgressMeter {
    /// Starts now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), steps: 0, exchanging: Duration::ZERO }
    }

    /// Takes a finished step in, and returns a report when one is due.
    pub(super) fn step(
        &mut self,
        exchanging: Duration,
        generation: u64,
        position: Position,
        train: Metrics,
    ) -> Option<Progress> {
        self.steps += 1;
        self.exchanging += exchanging;
        let elapsed = self.since.elapsed();
        if elapsed < INTERVAL {
            return None;
        }
        let mean_ms = |total: Duration| total.as_secs_f64() * 1e3 / f64::from(self.steps);
        let (step_ms, exchange_ms) = (mean_ms(elapsed), mean_ms(self.exchanging));
        *self = Self::new();
        Some(Progress { generation, position, train, step_ms, exchange_ms })
    }
}
