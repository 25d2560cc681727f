//! A read-only view of a run, for people and programs.

use serde::Serialize;

use crate::run::Run;
use crate::{Generation, Position, Progress, WorkerName};

/// Where a run is and why it is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `gathering workers`, `training`, …
    pub phase: &'static str,
    /// What it waits for, in words; empty when nothing.
    pub reason: String,
    pub generation: Generation,
    pub position: Position,
    pub epochs: u32,
    pub best_accuracy: Option<f64>,
    pub workers: Vec<WorkerStatus>,
}

/// A worker as last heard of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    pub worker: WorkerName,
    pub device: String,
    pub position: Position,
    pub step_ms: f64,
    pub exchange_ms: f64,
}

impl Run {
    /// The run as it is now.
    pub fn status(&self) -> Status {
        let workers: Vec<WorkerStatus> = self
            .worker_views()
            .map(|(worker, device, Progress { position, step_ms, exchange_ms, .. })| WorkerStatus {
                worker: worker.clone(),
                device: device.to_owned(),
                position: *position,
                step_ms: *step_ms,
                exchange_ms: *exchange_ms,
            })
            .collect();
        let history = self.history();
        Status {
            phase: self.phase_name(),
            reason: self.waits_for(),
            generation: self.generation(),
            position: workers
                .iter()
                .map(|worker| worker.position)
                .max()
                .unwrap_or_default()
                .max(history.position()),
            epochs: history.spec.epochs,
            best_accuracy: history.best().map(|row| row.eval.accuracy()),
            workers,
        }
    }
}
