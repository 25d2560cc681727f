//! How a run ends: trained and tested, stopped at a boundary, or failed.

use std::collections::BTreeMap;

use super::{Gathering, Phase, Run, Stage, Training};
use crate::{
    BlockMetrics, Disagreement, Effect, Entry, FailureKind, Generation, Message, Outcome, Reject, Split,
    Step, Time, WorkerName, combine_blocks,
};

impl Run {
    pub(super) fn on_stop_requested(&mut self, now: Time) {
        if self.stopping || matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.stopping = true;
        self.record(Entry::StopRequested);
        // At an epoch's end the verdict says hold instead; a test that is under way is simply left.
        if matches!(&self.phase, Phase::Training(Training { stage: Stage::Testing(_), .. })) {
            return self.end(Outcome::Stopped { position: self.history.position() });
        }
        self.reconsider(now);
    }

    /// Nothing is left to train at `step`. Once its checkpoint is stored, the run stops, tests or is done.
    pub(super) fn hold(&mut self, now: Time, step: Step) {
        self.enter(Stage::Holding { step });
        let stored = self.history.checkpoints.values().next_back().map(|stored| stored.position);
        if step.0 == 0 || stored.is_some_and(|stored| stored.step == step && self.is_saved(stored)) {
            self.conclude_hold(now, step);
        }
    }

    pub(super) fn conclude_hold(&mut self, now: Time, step: Step) {
        let Phase::Training(training) = &self.phase else { return };
        let spec = &self.history.spec;
        let trained = self.history.is_trained();
        let best = self.history.best().map(|row| row.step);
        match best {
            _ if !trained && self.stopping => {
                self.end(Outcome::Stopped { position: self.history.position() })
            }
            _ if !trained && training.parting => self.part(now),
            _ if !trained => {
                self.fail(format!("the run holds at step {step} for no reason"), FailureKind::Run)
            }
            Some(weights_step) if spec.test_samples > 0 && spec.select.split != Split::Test => {
                // It may have been given up for want of its checkpoint, which is being stored again.
                if !self.history.checkpoints.contains_key(&weights_step) {
                    return;
                }
                self.enter(Stage::Testing(BTreeMap::new()));
                let Phase::Training(training) = &self.phase else { return };
                for worker in training.members.clone() {
                    self.tell_evaluate(now, worker);
                }
            }
            _ => self.done(),
        }
    }

    /// Tells a member to report the test split with the best weights.
    pub(super) fn tell_evaluate(&mut self, now: Time, worker: WorkerName) {
        let Some(weights_step) = self.history.best().map(|row| row.step) else { return };
        let Phase::Training(Training { generation, .. }) = self.phase else { return };
        self.tell(now, worker, Message::Evaluate { generation, split: Split::Test, weights_step });
    }

    /// The members' state is stored: those that want to may leave, the others wait for more.
    fn part(&mut self, now: Time) {
        self.close_receipt(now);
        self.phase = Phase::Gathering(Gathering::patient());
        self.reconsider(now);
    }

    pub(super) fn on_eval_reported(
        &mut self,
        worker: WorkerName,
        generation: Generation,
        split: Split,
        blocks: Vec<BlockMetrics>,
    ) -> Result<(), Reject> {
        let training = self.member_of(&worker, generation)?;
        let refusal = self.refuse(worker.clone(), "EvalReport");
        if !training.members.contains(&worker) {
            return Err(refusal);
        }
        let Phase::Training(training) = &mut self.phase else { return Err(refusal) };
        let Stage::Testing(reports) = &mut training.stage else { return Err(refusal) };
        if split != Split::Test {
            return Err(refusal);
        }
        reports.insert(worker, blocks);
        if reports.len() < training.members.len() {
            return Ok(());
        }
        let blocks: Vec<BlockMetrics> = reports.values().flatten().copied().collect();
        let spec = &self.history.spec;
        let (epoch, step) = self.history.best().map(|row| (row.epoch.0, row.step)).unwrap_or_default();
        match combine_blocks(split, spec.test_samples, spec.eval_block, &blocks) {
            // A journal in JSON could not hold such a number.
            Ok(metrics) if !metrics.loss_sum.is_finite() => {
                self.fail_on(&Disagreement::NotFinite { split, epoch });
            }
            Ok(metrics) => {
                self.record(Entry::Tested { step, metrics });
                self.done();
            }
            Err(disagreement) => self.fail_on(&disagreement),
        }
        Ok(())
    }

    fn done(&mut self) {
        let early = self.history.rows.len() < self.history.spec.epochs as usize;
        self.end(Outcome::Done { early });
    }

    pub(super) fn fail(&mut self, reason: String, kind: FailureKind) {
        self.end(Outcome::Failed { reason, kind });
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.record(Entry::Ended { outcome: outcome.clone() });
        let reason = match &outcome {
            Outcome::Done { .. } => "done".to_owned(),
            Outcome::Stopped { position } => format!("stopped at step {}", position.step),
            Outcome::Failed { reason, .. } => format!("failed: {reason}"),
        };
        self.send_all(&Message::Finish { reason });
        self.phase = Phase::Ended(outcome.clone());
        self.effects.push(Effect::Conclude(outcome));
    }
}
