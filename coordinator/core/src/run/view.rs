//! What a run tells of itself to people: where it is, and what it waits for.

use super::{Forming, Phase, Run, Stage, Training};
use crate::{Generation, Outcome, Progress, WorkerName};

impl Run {
    /// The current generation, or the one being formed.
    pub(crate) fn generation(&self) -> Generation {
        match &self.phase {
            Phase::Forming(forming) => forming.generation,
            Phase::Training(training) => training.generation,
            Phase::Returning { .. } | Phase::Gathering(_) | Phase::Ended(_) => self.history.generation,
        }
    }

    /// Workers by name: name, device, last progress.
    pub(crate) fn worker_views(&self) -> impl Iterator<Item = (&WorkerName, &str, &Progress)> {
        self.workers.iter().map(|(name, worker)| (name, worker.info.device.as_str(), &worker.progress))
    }

    /// What the run waits for, in words; empty when it steps.
    pub(crate) fn waits_for(&self) -> String {
        match &self.phase {
            Phase::Returning { missing, .. } => {
                format!("waits for members of before to come back: {}", names(missing))
            }
            Phase::Gathering(gathering) => {
                let bounds = self.history.spec.workers;
                let ready = self.workers.values().filter(|worker| worker.is_ready()).count();
                let wanted = if gathering.patience.is_some() { bounds.start } else { bounds.min };
                format!("{ready} of {} workers are ready", wanted.max(bounds.min).max(1))
            }
            Phase::Forming(Forming { waiting, .. }) if waiting.is_empty() => {
                "looks for a checkpoint that is whole".into()
            }
            Phase::Forming(forming) => format!("waits for {} to pause", names(&forming.waiting)),
            Phase::Training(Training { members, stage, .. }) => {
                let all = members.len();
                match stage {
                    Stage::Stepping => String::new(),
                    Stage::Collecting(reports) => {
                        format!("{} of {all} members ended the epoch", reports.len())
                    }
                    Stage::AwaitingBest(_) => "the best model's checkpoint is being stored".into(),
                    Stage::Holding { step } => format!("the checkpoint of step {step} is being stored"),
                    Stage::Testing(reports) => format!("{} of {all} members tested", reports.len()),
                }
            }
            Phase::Ended(Outcome::Failed { reason, .. }) => reason.clone(),
            Phase::Ended(Outcome::Done { .. } | Outcome::Stopped { .. }) => String::new(),
        }
    }

    pub(crate) fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Returning { .. } => "waiting for workers to come back",
            Phase::Gathering(_) => "gathering workers",
            Phase::Forming(_) => "forming a generation",
            Phase::Training(Training { stage, .. }) => match stage {
                Stage::Stepping => "training",
                Stage::Collecting(_) | Stage::AwaitingBest(_) => "ending an epoch",
                Stage::Holding { .. } => "storing the last checkpoint",
                Stage::Testing(_) => "testing",
            },
            Phase::Ended(_) => "over",
        }
    }
}

fn names<'a>(workers: impl IntoIterator<Item = &'a WorkerName>) -> String {
    let names: Vec<&str> = workers.into_iter().map(|worker| worker.0.as_str()).collect();
    names.join(", ")
}
