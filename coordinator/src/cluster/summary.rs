//! A run of the cluster as people see it. Each run that is not over has one that many may watch: whoever knows something
//! new changes it in place, and watchers copy it when they get to it, so that a hundred of them cost a hundred copies a few
//! times a second, whatever the run does.

use lockstep_core::{FailureKind, Position, Requirements, RunName, Time, WorkerName};

use super::record::{Record, Stage};

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Waits for workers.
    Queued,
    /// Has its workers promised; data and weights are being looked at.
    Preparing,
    Running,
    /// Was asked to stop.
    Stopping,
    Done,
    Stopped,
    Failed,
}

impl RunState {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Failed)
    }

    /// Where such a run is on its way.
    pub fn stage(self) -> Stage {
        match self {
            Self::Queued => Stage::Queued,
            Self::Preparing | Self::Running | Self::Stopping => Stage::Running,
            Self::Done => Stage::Done,
            Self::Stopped => Stage::Stopped,
            Self::Failed => Stage::Failed,
        }
    }
}

/// What there is to tell of a run at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    pub run: RunName,
    pub state: RunState,
    /// Why it is over; empty while it is not, and when it is done.
    pub reason: String,
    pub kind: Option<FailureKind>,
    /// Why it has no workers, or too few, as the pool sees it; empty: it has what it needs.
    pub lacks: String,
    /// What a running one says itself that it waits for; empty: nothing.
    pub halt: String,
    pub priority: i32,
    pub requirements: Requirements,
    pub submitter: String,
    pub workers: Vec<WorkerName>,
    pub position: Position,
    pub epochs: u32,
    pub steps_total: u64,
    pub best_accuracy: Option<f64>,
    pub left_ms: Option<u64>,
    pub submitted_at_ms: Time,
    pub started_at_ms: Time,
    pub ended_at_ms: Time,
    /// What a running one is at, in words.
    pub phase: String,
    /// 1-based, of a waiting run; else 0.
    pub queue_position: u32,
}

impl RunSummary {
    /// What a run waits for, or one that has come to a halt.
    pub fn waits_for(&self) -> String {
        let said = [&self.halt, &self.lacks].into_iter().filter(|said| !said.is_empty());
        said.map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    pub fn of(record: &Record) -> Self {
        let state = match record.stage {
            Stage::Queued => RunState::Queued,
            Stage::Running => RunState::Preparing,
            Stage::Done => RunState::Done,
            Stage::Stopped => RunState::Stopped,
            Stage::Failed => RunState::Failed,
        };
        let mut summary = Self {
            run: record.run.clone(),
            state,
            reason: String::new(),
            kind: None,
            lacks: String::new(),
            halt: String::new(),
            priority: record.priority,
            requirements: record.requirements,
            submitter: record.submitter.clone(),
            workers: Vec::new(),
            position: Position::default(),
            epochs: record.epochs,
            steps_total: 0,
            best_accuracy: None,
            left_ms: None,
            submitted_at_ms: record.submitted_at_ms,
            started_at_ms: record.started_at_ms,
            ended_at_ms: record.ended_at_ms,
            phase: String::new(),
            queue_position: 0,
        };
        if let Some(end) = &record.end {
            summary.reason.clone_from(&end.reason);
            (summary.kind, summary.position, summary.steps_total) = (end.kind, end.position, end.steps_total);
            summary.best_accuracy = end.best_accuracy;
        }
        summary
    }
}
