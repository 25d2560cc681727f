//! What is durable of a run in a cluster, beside the run's own history: who asked for it, what it needs, where it is on its
//! way from the queue to its end.

use lockstep_core::{FailureKind, History, Outcome, Position, Requirements, RunName, Term, Time};
use serde::{Deserialize, Serialize};

/// Where a run is on its way, as far as a restart has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Queued,
    /// It was given workers: it is being prepared, or trained.
    Running,
    Done,
    Stopped,
    Failed,
}

impl Stage {
    #[cfg(test)]
    pub(super) const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Stopped, Self::Failed];

    /// As the table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Failed)
    }
}

/// One run of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub run: RunName,
    pub stage: Stage,
    /// Resolved, as TOML.
    pub recipe: String,
    pub priority: i32,
    pub requirements: Requirements,
    pub submitter: String,
    /// To train to in all.
    pub epochs: u32,
    /// The run's term when it was put into the queue, 0 for a new one: only what comes after it is of this life.
    pub term: Term,
    /// A stop was asked for.
    pub stopping: bool,
    pub submitted_at_ms: Time,
    /// 0: not yet, as the next one.
    pub started_at_ms: Time,
    pub ended_at_ms: Time,
    /// Once it is over.
    pub end: Option<End>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Empty when it is done.
    pub reason: String,
    /// Of one that failed.
    pub kind: Option<FailureKind>,
    pub position: Position,
    pub steps_total: u64,
    pub best_accuracy: Option<f64>,
}

impl End {
    /// Before it had made a step.
    pub(super) fn early(reason: impl Into<String>, kind: Option<FailureKind>) -> Self {
        let position = Position::default();
        Self { reason: reason.into(), kind, position, steps_total: 0, best_accuracy: None }
    }

    /// Of a run that has concluded.
    pub(super) fn of(outcome: &Outcome, history: &History) -> (Stage, Self) {
        let steps_total = u64::from(history.spec.epochs) * history.spec.steps_per_epoch;
        let (stage, reason, kind) = match outcome {
            Outcome::Done { .. } => (Stage::Done, String::new(), None),
            Outcome::Stopped { .. } => (Stage::Stopped, "stopped on request".to_owned(), None),
            Outcome::Failed { reason, kind } => (Stage::Failed, reason.clone(), Some(*kind)),
        };
        let best_accuracy = history.best().map(|row| row.eval.accuracy());
        (stage, Self { reason, kind, position: history.position(), steps_total, best_accuracy })
    }
}
