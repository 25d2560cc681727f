//! What a change of membership costs, from the last sign of life of what went wrong to the first step thereafter.

use super::{Phase, Run, Stage, Worker};
use crate::{Cause, Entry, Generation, Receipt, Reject, StartTimings, Time, WorkerName};

/// A receipt that is being written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenReceipt {
    receipt: Receipt,
    noticed: Time,
    paused: Time,
}

/// Why a generation has to give way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reason {
    pub(super) cause: Cause,
    pub(super) culprit: Option<WorkerName>,
    pub(super) text: String,
    /// The last sign of life of what went wrong.
    pub(super) since: Time,
}

impl Reason {
    /// Nothing went wrong.
    pub(super) fn planned(now: Time, cause: Cause, culprit: Option<WorkerName>, text: &str) -> Self {
        Self { cause, culprit, text: text.to_owned(), since: now }
    }
}

impl Run {
    /// A change begins. One that is under way already goes on, for the graver of the two reasons.
    pub(super) fn open_receipt(&mut self, now: Time, generation: Generation, reason: Reason) {
        let is_graver = |cause: Cause| matches!(cause, Cause::Loss | Cause::Link);
        let (graver, stepping) = (is_graver(reason.cause), self.is_stepping());
        if let Some(open) = &mut self.receipt {
            if graver && !is_graver(open.receipt.cause) {
                open.receipt.steps_lost += u64::from(stepping);
            }
            if graver && !matches!(open.receipt.cause, Cause::Loss) {
                open.receipt.cause = reason.cause;
                open.receipt.culprit = reason.culprit;
                open.receipt.reason = reason.text;
            }
            open.receipt.generation = generation;
            return;
        }
        let receipt = Receipt {
            generation,
            cause: reason.cause,
            culprit: reason.culprit,
            reason: reason.text,
            position: self.furthest,
            detect_ms: now.0.saturating_sub(reason.since.0),
            halt_ms: 0,
            agree_ms: 0,
            connect_ms: 0,
            state_ms: 0,
            first_step_ms: 0,
            total_ms: 0,
            // The one under way; those that nobody has any more come on top.
            steps_lost: u64::from(graver && stepping),
        };
        self.receipt = Some(OpenReceipt { receipt, noticed: now, paused: now });
    }

    /// A step is under way. One that has paused has made the last step that the others make.
    fn is_stepping(&self) -> bool {
        let stepping = match &self.phase {
            Phase::Training(training) => training.stage == Stage::Stepping,
            Phase::Forming(forming) => {
                let mut members = self.history.members.iter();
                members.any(|member| forming.waiting.contains(&member.worker))
            }
            Phase::Returning { .. } | Phase::Gathering(_) | Phase::Ended(_) => false,
        };
        let mut members = self.history.members.iter().filter_map(|member| self.workers.get(&member.worker));
        stepping && !members.any(Worker::is_at_epochs_end)
    }

    /// The members have paused.
    pub(super) fn receipt_paused(&mut self, now: Time) {
        if let Some(OpenReceipt { receipt, noticed, paused }) = &mut self.receipt {
            receipt.halt_ms = now.0.saturating_sub(noticed.0);
            *paused = now;
        }
    }

    /// The members are told to begin.
    pub(super) fn receipt_agreed(&mut self, now: Time, position: crate::Position) {
        let lost = self.furthest.step.0.saturating_sub(position.step.0);
        if let Some(OpenReceipt { receipt, paused, .. }) = &mut self.receipt {
            receipt.agree_ms = now.0.saturating_sub(paused.0);
            receipt.position = position;
            receipt.steps_lost += lost;
        }
        self.furthest = position;
    }

    pub(super) fn on_started(
        &mut self,
        now: Time,
        worker: WorkerName,
        generation: Generation,
        timings: StartTimings,
    ) -> Result<(), Reject> {
        if !self.member_of(&worker, generation)?.members.contains(&worker) {
            return Err(self.refuse(worker, "Started"));
        }
        self.hear(now, &worker);
        let Phase::Training(training) = &mut self.phase else { return Ok(()) };
        training.started.insert(worker);
        let all = training.started.len() == training.members.len();
        if let Some(OpenReceipt { receipt, .. }) = &mut self.receipt {
            receipt.connect_ms = receipt.connect_ms.max(timings.connect_ms);
            receipt.state_ms = receipt.state_ms.max(timings.state_ms);
            receipt.first_step_ms = receipt.first_step_ms.max(timings.first_step_ms);
        }
        if all {
            self.close_receipt(now);
            self.workers.values_mut().for_each(|worker| worker.blamed = 0);
        }
        Ok(())
    }

    /// The change is over, if one was under way.
    pub(super) fn close_receipt(&mut self, now: Time) {
        if let Some(OpenReceipt { mut receipt, noticed, .. }) = self.receipt.take() {
            receipt.total_ms = receipt.detect_ms + now.0.saturating_sub(noticed.0);
            self.record(Entry::GenerationStarted(receipt));
        }
    }
}
