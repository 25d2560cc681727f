//! From one generation to the next: all pause, the most advanced replica is the start, all begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::receipt::Reason;
use super::{Forming, Gathering, Phase, Run, Stage, Training, Verification};
use crate::{
    Begin, Effect, Entry, Generation, MemberEntry, Message, Outcome, Peer, Position, Start, Step, Time,
    WorkerName, shard_blocks,
};

/// Who takes part and where it starts.
struct Agreement {
    members: BTreeSet<WorkerName>,
    position: Position,
    start: Start,
    parting: bool,
}

impl Run {
    /// Asks all to pause: at the next boundary that the members share, or at once.
    pub(super) fn form(&mut self, now: Time, reason: Reason, at_once: bool) {
        // What the former change cost is known as far as it came.
        if matches!(self.phase, Phase::Training(_)) {
            self.close_receipt(now);
        }
        let generation = self.numbered.next();
        self.numbered = generation;
        self.open_receipt(now, generation, reason);
        let ready = self.workers.iter().filter(|(_, worker)| !worker.heartbeat.address.is_empty());
        let waiting: BTreeSet<WorkerName> = ready.map(|(name, _)| name.clone()).collect();
        let nobody = waiting.is_empty();
        self.phase = Phase::Forming(Forming {
            generation,
            now: at_once,
            waiting,
            blamed: BTreeSet::new(),
            since: now,
            verification: Verification::NotAsked,
        });
        self.ask_again(now);
        if nobody {
            self.agree(now);
        }
    }

    /// Asks those that have not paused yet.
    pub(super) fn ask_again(&mut self, now: Time) {
        let Phase::Forming(Forming { generation, now: at_once, waiting, .. }) = &self.phase else { return };
        let message = Message::Prepare { generation: *generation, now: *at_once };
        for worker in waiting.clone() {
            if let Some(known) = self.workers.get_mut(&worker) {
                known.told = now;
            }
            self.send(worker, message.clone());
        }
    }

    /// Those that wait for a generation and those that have become ready meanwhile.
    pub(super) fn ask_newcomers(&mut self, now: Time) {
        let Phase::Forming(forming) = &mut self.phase else { return };
        let mut asked = Vec::new();
        for (name, worker) in &mut self.workers {
            let paused = worker.heartbeat.prepared >= forming.generation;
            if !worker.heartbeat.address.is_empty() && !paused && !forming.waiting.contains(name) {
                forming.waiting.insert(name.clone());
                worker.told = now;
                asked.push(name.clone());
            }
        }
        let message = Message::Prepare { generation: forming.generation, now: forming.now };
        asked.into_iter().for_each(|worker| self.send(worker, message.clone()));
    }

    /// All have paused: decides who takes part and from where.
    pub(super) fn agree(&mut self, now: Time) {
        let Phase::Forming(forming) = &self.phase else { return };
        let (generation, verification) = (forming.generation, forming.verification.clone());
        self.receipt_paused(now);
        let paused = self.workers.iter().filter(|(_, worker)| worker.heartbeat.prepared >= generation);
        let all: BTreeMap<WorkerName, (Option<Position>, bool)> = paused
            .map(|(name, worker)| (name.clone(), (worker.heartbeat.position, worker.is_leaving())))
            .collect();
        let top = all.values().filter_map(|(position, _)| *position).max();
        // A run that stops needs nobody but those that can say where.
        let stays = |(_, (position, leaving)): &(&WorkerName, &(Option<Position>, bool))| match self.stopping
        {
            true => *position == top,
            false => !leaving,
        };
        let staying: BTreeSet<WorkerName> = all.iter().filter(stays).map(|(name, _)| name.clone()).collect();
        let enough = staying.len() >= self.history.spec.workers.min.max(1) as usize;
        let safe = top.is_none() || staying.iter().any(|name| all[name].0 == top);

        let Some(top) = self.newest_state(top, &verification) else {
            if !enough {
                return self.gather_again(now);
            }
            return self.agree_without_state(now, staying, verification);
        };
        if self.stopping && self.is_saved(top) {
            return self.end(Outcome::Stopped { position: top });
        }
        if safe && !enough && !self.stopping {
            return self.gather_again(now);
        }
        // Whoever takes the run's newest state along stays until others have it, or until it is stored.
        let mut members = staying;
        if !safe {
            let holders = all.iter().filter(|(_, (position, _))| *position == Some(top));
            members.extend(holders.map(|(name, _)| name.clone()));
        }
        let parting = !safe && !enough;
        let rank = members.iter().position(|name| all[name].0 == Some(top)).unwrap_or_default() as u32;
        let start = if top.step.0 == 0 { Start::Initial } else { Start::Peer { rank } };
        self.begin(now, Agreement { members, position: top, start, parting });
    }

    /// The most advanced replica, if it is of use: whoever was away for long may have less than what is stored.
    fn newest_state(&mut self, top: Option<Position>, verification: &Verification) -> Option<Position> {
        let top = top?;
        if top >= self.history.position() {
            // Epochs that others ended, and of which nothing is left but their rows, are trained again.
            let judged = top.epoch.0 as usize + usize::from(self.is_unjudged(top));
            if self.history.rows.len() > judged {
                let stored = self.history.checkpoints.keys().copied().collect();
                self.go_back(top, &stored);
            }
            return Some(top);
        }
        let Verification::Done(verified) = verification else { return None };
        // Nor is it without the best model up to it, which is stored unless the workers keep it.
        let best = self.history.best_before(top.epoch);
        let lacks_best = best
            .is_some_and(|best| self.history.checkpoints.contains_key(&best) && !verified.contains(&best));
        if lacks_best || self.history.resume_point(verified).is_some_and(|stored| stored > top) {
            return None;
        }
        self.go_back(top, verified);
        Some(top)
    }

    /// Nobody has the run's state, or not the newest: it is at its beginning, or in its checkpoints.
    fn agree_without_state(&mut self, now: Time, members: BTreeSet<WorkerName>, verification: Verification) {
        let history = &self.history;
        if history.rows.is_empty() && history.checkpoints.is_empty() {
            if self.stopping {
                return self.end(Outcome::Stopped { position: Position::default() });
            }
            let (position, start) = (Position::default(), Start::Initial);
            return self.begin(now, Agreement { members, position, start, parting: false });
        }
        let Phase::Forming(forming) = &mut self.phase else { return };
        match verification {
            Verification::NotAsked => {
                forming.verification = Verification::Asked;
                self.effects.push(Effect::VerifyCheckpoints);
            }
            Verification::Asked => {}
            Verification::Done(verified) => {
                let position = self.history.resume_point(&verified).unwrap_or_default();
                self.go_back(position, &verified);
                if self.stopping && !self.history.is_trained() {
                    return self.end(Outcome::Stopped { position });
                }
                let start = match position.step {
                    Step(0) => Start::Initial,
                    step => Start::Checkpoint(step),
                };
                self.begin(now, Agreement { members, position, start, parting: false });
            }
        }
    }

    pub(super) fn on_verified(&mut self, now: Time, verified: BTreeSet<Step>) {
        let Phase::Forming(forming) = &mut self.phase else { return };
        if forming.verification == Verification::Asked {
            forming.verification = Verification::Done(verified);
            if forming.waiting.is_empty() {
                self.agree(now);
            }
        }
    }

    /// Goes back to what is left of the run, for good.
    fn go_back(&mut self, position: Position, verified: &BTreeSet<Step>) {
        let known = self.history.checkpoints.keys().copied();
        let (damaged, whole): (Vec<Step>, Vec<Step>) = known.partition(|step| !verified.contains(step));
        self.record(Entry::Resumed { position, damaged });
        self.publish();
        let undone = whole.into_iter().filter(|step| *step > position.step);
        self.effects.extend(undone.map(Effect::DeleteCheckpoint));
    }

    /// Too few are left: those that are there keep what they have and wait.
    fn gather_again(&mut self, now: Time) {
        // A run that has never begun has a deadline, from here on again; one that has begun waits for its workers.
        let gathering =
            match self.history.members.is_empty() && self.history.generation == Generation::default() {
                true => Gathering::at_start(now, &self.history.spec),
                false => Gathering::patient(),
            };
        self.phase = Phase::Gathering(gathering);
        self.release_leaving();
        if self.stopping {
            self.end(Outcome::Stopped { position: self.history.position() });
        }
    }

    fn begin(&mut self, now: Time, agreement: Agreement) {
        let Agreement { members, position, start, parting } = agreement;
        let generation = self.numbered;
        self.receipt_agreed(now, position);
        let peers = self.peers(&members, position, start);
        let entries = peers.iter().map(|peer| {
            let info = &self.workers[&peer.worker].info;
            MemberEntry {
                worker: peer.worker.clone(),
                device: info.device.clone(),
                host: info.host.clone(),
                pid: info.pid,
                shards: peer.shards,
            }
        });
        let entry = Entry::GenerationBegan { generation, members: entries.collect(), position };
        self.record(entry);

        let unjudged = self.is_unjudged(position);
        let done = self.history.rows.len();
        let trained = self.history.is_trained() && position.epoch.0 as usize == done;
        let hold = !unjudged && (trained || self.stopping || parting);
        let at_start = position == self.history.spec.start_of(position.epoch);
        let begin = Begin {
            generation,
            rank: 0,
            peers,
            position,
            start,
            judged: unjudged && done > position.epoch.0 as usize,
            save: !unjudged && !self.is_saved(position) && (hold || at_start),
            hold,
        };
        self.phase = Phase::Training(Training {
            generation,
            members,
            begin: Some(begin.clone()),
            parting,
            started: BTreeSet::new(),
            stage: Stage::Stepping,
        });
        self.tell_begin(now, None);
        self.release_leaving();
        if hold {
            self.hold(now, position.step);
        } else if begin.judged {
            self.pronounce_last(now);
        }
    }

    /// Members get contiguous shards by rank; ranks follow their names.
    fn peers(&self, members: &BTreeSet<WorkerName>, position: Position, start: Start) -> Arc<[Peer]> {
        let blocks = shard_blocks(members.len() as u32, self.history.spec.shards);
        let peer = |(worker, shards): (&WorkerName, &(u32, u32))| {
            let heartbeat = &self.workers[worker].heartbeat;
            let has_state = matches!(start, Start::Peer { .. }) && heartbeat.position == Some(position);
            Peer { worker: worker.clone(), address: heartbeat.address.clone(), shards: *shards, has_state }
        };
        members.iter().zip(&blocks).map(peer).collect()
    }

    /// Tells the members to begin, or only this one.
    pub(super) fn tell_begin(&mut self, now: Time, only: Option<&WorkerName>) {
        let Phase::Training(Training { begin: Some(begin), members, .. }) = &self.phase else { return };
        let begin = begin.clone();
        let wanted = |name: &&WorkerName| only.is_none_or(|only| only == *name);
        let told: Vec<(u32, WorkerName)> = (0..)
            .zip(members.iter())
            .filter(|(_, name)| wanted(name))
            .map(|(rank, name)| (rank, name.clone()))
            .collect();
        for (rank, worker) in told {
            if let Some(known) = self.workers.get_mut(&worker) {
                known.told = now;
            }
            self.send(worker, Message::Begin(Begin { rank, ..begin.clone() }));
        }
    }

    /// Nothing of the state at `position` would be lost if all members were.
    pub(super) fn is_saved(&self, position: Position) -> bool {
        let checkpoints = &self.history.checkpoints;
        let stored = checkpoints.get(&position.step).is_some_and(|stored| stored.position == position);
        // A checkpoint is of use only together with the best model up to it, which members may still keep.
        let best = self.history.best_before(position.epoch);
        position.step.0 == 0 || (stored && best.is_none_or(|best| checkpoints.contains_key(&best)))
    }
}
