//! An epoch's end for one member: evaluation, the verdict, and the test at the end of all.

use lockstep_core::{BlockMetrics, Epoch, EpochReport, Event, Generation, Split, Step, Verdict};

use super::{Stage, Worker};
use crate::planted::Planted;
use crate::replica::{EpochState, Replica, State};

impl Worker {
    /// The evaluation is over.
    pub(super) fn report_epoch(&mut self) {
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let (generation, pause) = (member.begin.generation, member.pause);
        let split = self.case.spec.select.split;
        let (epoch, replica) = (held.position.epoch, held.replica);
        let (train, ledger) = (held.epoch.train, held.epoch.ledger());
        let blocks = self.blocks(split, &replica);
        let report = EpochReport {
            epoch,
            position: self.case.spec.start_of(Epoch(epoch.0 + 1)),
            learning_rate: self.case.learning_rate(epoch.0),
            train,
            ledger,
            split,
            ema_blocks: if self.case.spec.ema { blocks.clone() } else { Vec::new() },
            blocks,
            weights_digest: replica.digest(),
            train_ms: self.random.below(100),
            eval_ms: self.random.below(100),
            peak_memory_bytes: self.random.below(1 << 30),
        };
        self.enter(Stage::AwaitingVerdict);
        let worker = self.name.clone();
        self.report(Event::EpochReported { worker, generation, report });
        if pause {
            self.pause();
        } else {
            self.heartbeat();
        }
    }

    pub(super) fn on_verdict(&mut self, verdict: Verdict) {
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let current = (member.begin.generation, held.position.epoch);
        if !matches!(self.stage, Stage::AwaitingVerdict) || (verdict.generation, verdict.epoch) != current {
            return;
        }
        self.owed = None;
        match verdict.restore {
            Some(step) => {
                self.stage = Stage::Restoring(verdict);
                self.fetch(step);
            }
            None => self.follow(verdict, None),
        }
    }

    /// Restore, save, then go on or hold.
    pub(super) fn follow(&mut self, verdict: Verdict, restored: Option<&State>) {
        let (Some(member), Some(held)) = (&self.member, &mut self.held) else { return };
        let rank = member.begin.rank;
        held.position.epoch = Epoch(verdict.epoch.0 + 1);
        held.epoch = EpochState::new(&self.case);
        let before = held.clone();
        if let Some(restored) = restored {
            held.replica.restore(&restored.replica);
        }
        let saved = if self.planted == Some(Planted::SaveBeforeRestore) { before } else { held.clone() };
        self.changed = true;
        if verdict.keep {
            self.kept = Some(saved.clone());
        }
        if verdict.save && rank == 0 {
            self.upload(saved, !verdict.keep && !verdict.hold);
        }
        if verdict.hold {
            self.started();
            self.settle(Stage::Holding);
        } else {
            self.compute(Stage::Computing);
        }
    }

    /// To test with the weights of this step. Said again after the test, it is reported again.
    pub(super) fn on_evaluate(&mut self, generation: Generation, split: Split, weights_step: Step) {
        let Some(member) = &self.member else { return };
        if split != Split::Test
            || member.begin.generation != generation
            || !matches!(self.stage, Stage::Holding)
        {
            return;
        }
        match self.owed.clone() {
            Some(report) => self.say(report),
            None => {
                self.enter(Stage::Testing { weights: None });
                self.fetch(weights_step);
            }
        }
    }

    pub(super) fn report_test(&mut self) {
        let Stage::Testing { weights: Some(weights) } = &self.stage else { return };
        let Some(member) = &self.member else { return };
        let generation = member.begin.generation;
        let blocks = self.blocks(Split::Test, &weights.replica);
        let pause = member.pause;
        self.enter(Stage::Holding);
        let worker = self.name.clone();
        self.report(Event::EvalReported { worker, generation, split: Split::Test, blocks });
        if pause {
            self.pause();
        }
    }

    /// The blocks that fall to this member: dealt by rank, contiguous.
    fn blocks(&self, split: Split, replica: &Replica) -> Vec<BlockMetrics> {
        let Some(member) = &self.member else { return Vec::new() };
        let counts = self.case.blocks(split);
        let bound = |rank: usize| rank * counts.len() / member.peers.len();
        let rank = member.begin.rank as usize;
        let (first, end) = (bound(rank), bound(rank + 1));
        let block = |(block, count): (u32, &u64)| BlockMetrics {
            block,
            metrics: replica.evaluate(split, block, *count),
        };
        (first as u32..).zip(&counts[first..end]).map(block).collect()
    }
}
