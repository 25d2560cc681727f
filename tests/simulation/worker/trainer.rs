//! The trainer's half: steps, epochs' ends, holds.

use std::collections::BTreeMap;

use lockstep_core::{
    Begin, BlockMetrics, Epoch, EpochReport, Event, FailureKind, Message, Position, Progress, Split, Verdict,
};

use super::session::process;
use super::{Action, Contribution, Membership, Stage, Then, Worker};
use crate::network::ProcessId;
use crate::planted::Planted;
use crate::replica::{EpochState, Replica, ShardAccount, Snapshot};

/// Virtual milliseconds that computing may take.
const STEP_MAX_MS: u64 = 20;
const EVALUATION_MAX_MS: u64 = 30;

/// When a peer is lost, the coordinator most likely knows better why.
const FIRST_WORD_MS: u64 = 1000;

/// One report of progress in so many steps.
const PROGRESS_STEPS: u64 = 2;

impl Worker {
    /// Takes the next order, if the trainer is waiting for one.
    pub(super) fn attend(&mut self) {
        if !matches!(self.stage, Stage::Waiting | Stage::AwaitingVerdict(_) | Stage::Holding) {
            return;
        }
        let Some((order, snapshot)) = self.mailbox.pop_front() else { return };
        match (&self.stage, order, snapshot) {
            (Stage::Waiting, Message::Begin(begin), snapshot) if self.membership.is_none() => {
                self.begin(begin, snapshot);
            }
            (Stage::AwaitingVerdict(epoch), Message::Verdict(verdict), snapshot)
                if verdict.epoch == *epoch =>
            {
                self.follow(verdict, snapshot);
            }
            (Stage::Holding, order @ Message::Evaluate { .. }, Some(snapshot)) => {
                self.stage = Stage::Testing(order, snapshot);
                self.alarm(EVALUATION_MAX_MS);
            }
            (stage, order, _) => {
                let complaint = format!("{} was told {order:?} while {stage:?}", self.name);
                self.act(Action::Complain(complaint));
            }
        }
    }

    fn begin(&mut self, begin: Begin, snapshot: Option<Snapshot>) {
        let Begin { generation, rank, peers, position, hold, .. } = begin;
        let own = &peers[rank as usize];
        let processes: Option<Vec<_>> = peers.iter().map(|peer| process(&peer.address)).collect();
        let Some(processes) = processes.filter(|processes| processes[rank as usize] == self.id) else {
            return self.act(Action::Complain(format!("{} was given wrong addresses: {peers:?}", self.name)));
        };
        let start = Snapshot {
            position: Position::default(),
            replica: Replica::initial(&self.case),
            epoch: EpochState::new(&self.case),
        };
        let Snapshot { position: found, replica, epoch } = snapshot.unwrap_or(start);
        if found != position {
            return self.act(Action::Complain(format!("to start at {position:?} with weights of {found:?}")));
        }
        let halt = self.early_halt.take() == Some(generation);
        let shards = own.shards;
        self.membership =
            Some(Membership { generation, rank, peers: processes, shards, halt, position, replica, epoch });
        self.enter(if hold { Then::Hold } else { Then::Step });
    }

    fn follow(&mut self, verdict: Verdict, restored: Option<Snapshot>) {
        let Some(membership) = &mut self.membership else { return };
        let before = membership.snapshot();
        if let Some(restored) = restored {
            membership.replica.restore(&restored.replica);
        }
        let saved =
            if self.planted == Some(Planted::SaveBeforeRestore) { before } else { membership.snapshot() };
        let then = if verdict.hold { Then::Hold } else { Then::Step };
        if verdict.save && membership.rank == 0 { self.hand_over(saved, then) } else { self.enter(then) }
    }

    /// Gives a snapshot to the upload, waiting for room if need be, and goes on.
    pub(super) fn hand_over(&mut self, snapshot: Snapshot, then: Then) {
        match self.upload(snapshot) {
            Ok(()) => self.enter(then),
            Err(snapshot) => self.stage = Stage::Saving(snapshot, then),
        }
    }

    fn enter(&mut self, then: Then) {
        let Some(membership) = &self.membership else { return };
        match then {
            Then::Step => {
                self.stage = Stage::Computing;
                self.alarm(STEP_MAX_MS);
            }
            Then::SayHalted => {
                let (generation, position) = (membership.generation, membership.position);
                let worker = self.name.clone();
                self.act(Action::Tell(Event::Halted { worker, generation, position }));
                self.enter(Then::Hold);
            }
            Then::Hold => {
                self.stage = Stage::Holding;
                self.attend();
            }
        }
    }

    pub(super) fn on_alarm(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Computing => self.contribute(),
            Stage::Evaluating => self.report_epoch(),
            Stage::Testing(order, snapshot) => self.report_test(&order, &snapshot),
            Stage::Failing(event) => {
                self.act(Action::Tell(event));
                self.act(Action::Exit);
            }
            stage => self.stage = stage,
        }
    }

    /// This member's shards are computed: they go to all, together with the flag.
    fn contribute(&mut self) {
        let Some(membership) = &self.membership else { return };
        let Membership { generation, rank, shards, halt, position, .. } = *membership;
        let account = |shard| membership.replica.shard(&self.case, position, shard);
        let accounts: Vec<ShardAccount> = (shards.0..shards.1).map(account).collect();
        let contribution = Contribution { generation, step: position.step, rank, accounts, halt };
        let others: Vec<_> = membership.peers.iter().copied().filter(|peer| *peer != self.id).collect();
        for to in others {
            self.act(Action::Contribute { to, contribution: contribution.clone() });
        }
        self.act(Action::Computed { generation, step: position.step, shards });
        self.contributions.entry((generation, position.step)).or_default().insert(rank, contribution);
        self.stage = Stage::Exchanging;
        self.try_finish_step();
    }

    /// A step is finished when all members' parts are here. A peer that is gone and left none ends this member too.
    pub(super) fn try_finish_step(&mut self) {
        if !matches!(self.stage, Stage::Exchanging) {
            return;
        }
        let Some(membership) = &self.membership else { return };
        let key = (membership.generation, membership.position.step);
        let here = self.contributions.get(&key).map_or(0, BTreeMap::len);
        let careless =
            self.is_planted(Planted::StepWithoutTheLast) && here > 1 && here + 1 == membership.peers.len();
        if here == membership.peers.len() || careless {
            let parts = self.contributions.remove(&key).unwrap_or_default();
            return self.finish_step(&parts);
        }
        let absent = |(rank, peer): &(u32, &ProcessId)| {
            self.gone.contains(peer)
                && self.contributions.get(&key).is_none_or(|parts| !parts.contains_key(rank))
        };
        if let Some((rank, _)) = (0..).zip(&membership.peers).find(absent) {
            let reason = format!("lost its connection with rank {rank}");
            let worker = self.name.clone();
            self.stage = Stage::Failing(Event::WorkerFailed { worker, reason, kind: FailureKind::Cluster });
            self.act(Action::Alarm { after_ms: FIRST_WORD_MS });
        }
    }

    fn finish_step(&mut self, parts: &BTreeMap<u32, Contribution>) {
        let Some(membership) = &mut self.membership else { return };
        let mut accounts: Vec<ShardAccount> =
            parts.values().flat_map(|part| part.accounts.iter().cloned()).collect();
        if self.planted == Some(Planted::SumFromOneself) {
            let own = membership.shards.0;
            accounts.sort_by_key(|account| account.shard != own);
        }
        membership.replica.update(&accounts);
        membership.epoch.record(&accounts);
        membership.position.step.0 += 1;
        let Membership { generation, rank, position, .. } = *membership;
        let (epoch, step) = (position.epoch, position.step.0);
        if step.is_multiple_of(PROGRESS_STEPS) {
            let progress =
                Progress { position, train: membership.epoch.train, step_ms: 1.0, exchange_ms: 0.5 };
            let worker = self.name.clone();
            self.act(Action::Tell(Event::Progressed { worker, generation, progress }));
        }
        // At the epoch's end the verdict takes the halt's place.
        let ends = step == self.case.spec.start_of(Epoch(epoch.0 + 1)).step.0;
        let halt = parts.values().any(|part| part.halt) && !ends;
        let then = if halt { Then::SayHalted } else { Then::Step };
        if ends {
            self.stage = Stage::Evaluating;
            self.alarm(EVALUATION_MAX_MS);
        } else if rank == 0 && (halt || self.case.is_checkpoint_due(step)) {
            let Some(membership) = &self.membership else { return };
            self.hand_over(membership.snapshot(), then);
        } else {
            self.enter(then);
        }
    }

    fn report_epoch(&mut self) {
        let split = self.case.spec.select.split;
        let Some(membership) = &mut self.membership else { return };
        let epoch = membership.position.epoch;
        let next = self.case.spec.start_of(Epoch(epoch.0 + 1));
        let done = std::mem::replace(&mut membership.epoch, EpochState::new(&self.case));
        membership.position = next;
        let generation = membership.generation;
        let replica = membership.replica;
        let report = EpochReport {
            epoch,
            position: next,
            learning_rate: self.case.learning_rate(epoch.0),
            train: done.train,
            ledger: done.ledger(),
            split,
            blocks: self.blocks(split, &replica),
            ema_blocks: if self.case.spec.ema { self.blocks(split, &replica) } else { Vec::new() },
            weights_digest: replica.digest(),
            train_ms: self.random.below(100),
            eval_ms: self.random.below(100),
            peak_memory_bytes: self.random.below(1 << 30),
        };
        let worker = self.name.clone();
        self.act(Action::Tell(Event::EpochReported { worker, generation, report }));
        self.stage = Stage::AwaitingVerdict(epoch);
        self.attend();
    }

    fn report_test(&mut self, order: &Message, snapshot: &Snapshot) {
        let Message::Evaluate { generation, split, .. } = *order else { return };
        let (worker, blocks) = (self.name.clone(), self.blocks(split, &snapshot.replica));
        self.act(Action::Tell(Event::EvalReported { worker, generation, split, blocks }));
        self.enter(Then::Hold);
    }

    /// The blocks that fall to this member: dealt by rank, contiguous.
    fn blocks(&self, split: Split, replica: &Replica) -> Vec<BlockMetrics> {
        let Some(Membership { rank, peers, .. }) = &self.membership else { return Vec::new() };
        let counts = self.case.blocks(split);
        let bound = |rank: usize| rank * counts.len() / peers.len();
        let (first, end) = (bound(*rank as usize), bound(*rank as usize + 1));
        let block = |(block, count): (u32, &u64)| BlockMetrics {
            block,
            metrics: replica.evaluate(split, block, *count),
        };
        (first as u32..).zip(&counts[first..end]).map(block).collect()
    }
}

impl Membership {
    fn snapshot(&self) -> Snapshot {
        Snapshot { position: self.position, replica: self.replica, epoch: self.epoch.clone() }
    }
}
