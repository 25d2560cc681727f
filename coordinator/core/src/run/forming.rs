//! Who takes part: joining, and the forming of a generation.

use std::collections::BTreeMap;

use super::{Forming, Phase, Run, Stage, Training, Worker};
use crate::{
    Begin, Entry, FailureKind, Generation, MemberEntry, Message, Peer, Progress, Reject, Time, WorkerInfo,
    WorkerName, shard_blocks,
};

impl Run {
    pub(super) fn on_joined(
        &mut self,
        now: Time,
        worker: WorkerName,
        info: WorkerInfo,
    ) -> Result<(), Reject> {
        let workers = self.history.spec.workers;
        match self.phase {
            Phase::Ended(_) => return Err(Reject::RunOver),
            _ if self.workers.contains_key(&worker) => return Err(Reject::NameTaken { worker }),
            Phase::Gathering { .. } => {}
            _ => return Err(Reject::Full { workers }),
        }
        self.workers.insert(worker.clone(), Worker { info, progress: Progress::default() });
        self.send(worker, Message::Welcome);
        if self.workers.len() == workers as usize {
            let generation = self.history.generation.next();
            let deadline = Time(now.0 + self.history.spec.join_timeout_ms);
            self.phase = Phase::Forming(Forming { generation, addresses: BTreeMap::new(), deadline });
            self.send_all(&Message::Prepare { generation });
        }
        Ok(())
    }

    pub(super) fn on_prepared(
        &mut self,
        worker: WorkerName,
        generation: Generation,
        address: String,
    ) -> Result<(), Reject> {
        let current = self.generation();
        if !self.workers.contains_key(&worker) {
            return Err(Reject::UnknownWorker { worker });
        }
        let Phase::Forming(forming) = &mut self.phase else { return Err(self.refuse(worker, "Prepared")) };
        if generation != current {
            return Err(Reject::StaleGeneration { given: generation, current });
        }
        forming.addresses.insert(worker, address);
        if forming.addresses.len() == self.workers.len() {
            self.begin();
        }
        Ok(())
    }

    /// Ranks follow the workers' names, so that they are the same whatever the order of joining.
    fn begin(&mut self) {
        let Phase::Forming(forming) = &mut self.phase else { return };
        let (generation, addresses) = (forming.generation, std::mem::take(&mut forming.addresses));
        let blocks = shard_blocks(addresses.len() as u32, self.history.spec.shards);
        let members: Vec<WorkerName> = addresses.keys().cloned().collect();
        let peers: Vec<Peer> = addresses
            .into_iter()
            .zip(&blocks)
            .map(|((worker, address), shards)| Peer { worker, address, shards: *shards })
            .collect();
        let entries =
            self.workers.iter().zip(&blocks).map(|((worker, Worker { info, .. }), shards)| MemberEntry {
                worker: worker.clone(),
                device: info.device.clone(),
                host: info.host.clone(),
                pid: info.pid,
                shards: *shards,
            });
        let position = self.start;
        self.record(Entry::GenerationBegan { generation, members: entries.collect(), position });

        let checkpoint = (position.step.0 > 0).then_some(position.step);
        let hold = self.stopping || self.history.is_trained();
        for (rank, worker) in members.iter().enumerate() {
            let begin =
                Begin { generation, rank: rank as u32, peers: peers.clone(), position, checkpoint, hold };
            self.send(worker.clone(), Message::Begin(begin));
        }
        self.phase = Phase::Training(Training { generation, members, stage: Stage::Stepping });
        if hold {
            self.hold_or_conclude(position.step);
        }
    }

    pub(super) fn on_tick(&mut self, now: Time) {
        let spec = &self.history.spec;
        let (late, what) = match &self.phase {
            Phase::Gathering { deadline } => (now >= *deadline, "joined"),
            Phase::Forming(forming) => (now >= forming.deadline, "got ready"),
            _ => return,
        };
        if late {
            let have = match &self.phase {
                Phase::Forming(forming) => forming.addresses.len(),
                _ => self.workers.len(),
            };
            let seconds = spec.join_timeout_ms / 1000;
            let reason = format!("{have} of {} workers {what} within {seconds} s", spec.workers);
            self.fail(reason, FailureKind::Cluster);
        }
    }

    pub(super) fn on_worker_gone(
        &mut self,
        worker: WorkerName,
        reason: String,
        kind: FailureKind,
    ) -> Result<(), Reject> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Ok(());
        }
        if self.workers.remove(&worker).is_none() {
            // It may have died before it could join; then the run cannot become complete.
            let message = format!("{worker} did not join: {reason}");
            self.fail(message, kind);
            return Ok(());
        }
        let generation = self.generation();
        self.record(Entry::WorkerLost { worker: worker.clone(), generation, reason: reason.clone() });
        self.fail(format!("{worker}: {reason}"), kind);
        Ok(())
    }
}
