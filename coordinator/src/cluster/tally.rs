//! What has happened in the cluster since this coordinator's start, counted where it happens: for metrics alone, and so in
//! memory alone.
//!
//! No label is a name that somebody chose: a cluster's thousands of runs would be as many series.

use std::time::Duration;

use lockstep_core::{Cause, Entry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::record::Stage;

/// Seconds. A submission is durable when it is answered, which takes a disk's write, and 50 ms are promised.
const SUBMIT_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Counters. Copies count together.
#[derive(Debug, Clone)]
pub struct Tally {
    /// By outcome.
    pub ended: Family<Label, Counter>,
    /// By cause.
    pub generations: Family<Label, Counter>,
    /// Those made again after a loss included.
    pub steps: Counter,
    /// Of epochs that ended.
    pub samples: Counter,
    pub checkpoints: Counter,
    pub checkpoint_bytes: Counter,
    pub workers_lost: Counter,
    /// News of runs that was passed over, because it came faster than it was counted: so much the others may lack.
    pub missed: Counter,
    /// From a submission's arrival until it is durable and queued.
    pub submit_seconds: Histogram,
}

/// A name of ours and a value of ours.
pub type Label = [(&'static str, &'static str); 1];

impl Default for Tally {
    /// Every series is there from the start: a counter that appears with its first event has no rate at that event.
    fn default() -> Self {
        let ended = Family::<Label, Counter>::default();
        for stage in [Stage::Done, Stage::Stopped, Stage::Failed] {
            drop(ended.get_or_create(&outcome(stage)));
        }
        let generations = Family::<Label, Counter>::default();
        for cause in [Cause::Start, Cause::Join, Cause::Leave, Cause::Loss, Cause::Link, Cause::Stop] {
            drop(generations.get_or_create(&label(cause)));
        }
        Self {
            ended,
            generations,
            steps: Counter::default(),
            samples: Counter::default(),
            checkpoints: Counter::default(),
            checkpoint_bytes: Counter::default(),
            workers_lost: Counter::default(),
            missed: Counter::default(),
            submit_seconds: Histogram::new(SUBMIT_BUCKETS),
        }
    }
}

fn outcome(stage: Stage) -> Label {
    [("outcome", stage.as_str())]
}

fn label(cause: Cause) -> Label {
    let cause = match cause {
        Cause::Start => "start",
        Cause::Join => "join",
        Cause::Leave => "leave",
        Cause::Loss => "loss",
        Cause::Link => "link",
        Cause::Stop => "stop",
    };
    [("cause", cause)]
}

impl Tally {
    pub(super) fn run_ended(&self, stage: Stage) {
        self.ended.get_or_create(&outcome(stage)).inc();
    }

    pub(super) fn submitted(&self, within: Duration) {
        self.submit_seconds.observe(within.as_secs_f64());
    }

    /// Something became durable in a run.
    pub(super) fn note(&self, entry: &Entry) {
        match entry {
            Entry::GenerationStarted(receipt) => {
                self.generations.get_or_create(&label(receipt.cause)).inc();
            }
            Entry::EpochEnded(row) => {
                self.samples.inc_by(row.ledger.seen);
            }
            Entry::CheckpointStored(checkpoint) => {
                self.checkpoints.inc();
                self.checkpoint_bytes.inc_by(checkpoint.size_bytes);
            }
            Entry::WorkerLost { .. } => {
                self.workers_lost.inc();
            }
            _ => {}
        }
    }
}

/// Counts a run's steps by where it is.
#[derive(Debug, Default)]
pub(super) struct Pedometer {
    at: Option<u64>,
}

impl Pedometer {
    /// Steps go on from here: what lay beyond is made again.
    pub(super) fn begin(&mut self, step: u64) {
        self.at = Some(step);
    }

    /// The run has come to `step`: so many are new.
    pub(super) fn reach(&mut self, step: u64) -> u64 {
        let new = self.at.map_or(0, |at| step.saturating_sub(at));
        self.at = Some(self.at.map_or(step, |at| at.max(step)));
        new
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{CheckpointEntry, Position};

    use super::*;

    #[test]
    fn checkpoints_are_counted_with_their_bytes() {
        let tally = Tally::default();
        for size_bytes in [5, 7] {
            let position = Position::default();
            tally.note(&Entry::CheckpointStored(CheckpointEntry { position, size_bytes }));
        }
        assert_eq!((tally.checkpoints.get(), tally.checkpoint_bytes.get()), (2, 12));
    }

    #[test]
    fn steps_that_are_made_again_are_made() {
        let mut pedometer = Pedometer::default();
        assert_eq!(pedometer.reach(100), 0, "where it was when it was first heard of");
        assert_eq!(pedometer.reach(110), 10);
        assert_eq!(pedometer.reach(108), 0, "an older word");
        assert_eq!(pedometer.reach(112), 2);
        pedometer.begin(90);
        assert_eq!(pedometer.reach(95), 5);
    }
}
