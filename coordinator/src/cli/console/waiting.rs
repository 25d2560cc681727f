//! When to tell what a run waits for: when it lacks workers, and not for every moment of it.

use std::time::Duration;

use lockstep_core::Status;

/// Between two looks at the run.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks in a row that find the same want, until it is told. A worker's restart takes less.
const PATIENCE_LOOKS: u32 = 6;

/// What was seen in the last looks.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    reason: String,
    looks: u32,
}

impl Waiting {
    /// A line when the run has lacked the same for a while; once.
    pub(super) fn look(&mut self, status: &Status) -> Option<String> {
        let lacks_workers = ["gathering workers", "waiting for workers to come back"].contains(&status.phase);
        if !lacks_workers || status.reason != self.reason {
            self.reason = if lacks_workers { status.reason.clone() } else { String::new() };
            self.looks = 0;
        }
        self.looks += u32::from(lacks_workers);
        (self.looks == PATIENCE_LOOKS).then(|| format!("{}: {}", status.phase, self.reason))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Generation, Position};

    use super::*;

    fn status(phase: &'static str, reason: &str) -> Status {
        Status {
            phase,
            reason: reason.into(),
            generation: Generation(1),
            position: Position::default(),
            epochs: 1,
            best_accuracy: None,
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_want_that_lasts_is_told_once() {
        let mut waiting = Waiting::default();
        let wants = status("gathering workers", "1 of 2 workers are ready");
        let lines: Vec<String> = (0..50).filter_map(|_| waiting.look(&wants)).collect();
        assert_eq!(lines, ["gathering workers: 1 of 2 workers are ready"]);
        assert_eq!(waiting.look(&status("training", "")), None);
        assert_eq!((0..50).filter_map(|_| waiting.look(&wants)).count(), 1, "again, after training");
    }

    #[test]
    fn a_want_that_passes_is_not_told() {
        let mut waiting = Waiting::default();
        for ready in 0..50 {
            let reason = format!("{} of 2 workers are ready", ready % 2);
            assert_eq!(waiting.look(&status("gathering workers", &reason)), None);
            assert_eq!(waiting.look(&status("forming a generation", "waits for worker-1 to pause")), None);
        }
    }
}
