//! A step: this member's shards, the exchange of gradients, the exchange of trailers, and only then the update, which is
//! purely local. Whatever breaks before that leaves the replica as it was at the last boundary.

use std::rc::Rc;

use lockstep_core::{Event, Progress, WorkerName};

use super::{Action, Content, Member, Part, PeerWord, Stage, Worker};
use crate::network::ProcessId;
use crate::planted::Planted;
use crate::replica::ShardAccount;

/// One report of progress in so many steps.
const PROGRESS_STEPS: u64 = 2;

impl Worker {
    /// This member's shards are computed: they go to all.
    pub(super) fn contribute(&mut self) {
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let (generation, step) = (member.begin.generation, held.position.step);
        let mut shards = member.begin.peers[member.begin.rank as usize].shards;
        if self.is_planted(Planted::TakeOverOffByOne) && generation.0 > 1 && shards.0 > 0 {
            shards.0 = shards.1.min(shards.0 + 1);
        }
        let account = |shard| held.replica.shard(&self.case, held.position, shard);
        let accounts: Rc<Vec<ShardAccount>> = Rc::new((shards.0..shards.1).map(account).collect());
        self.act(Action::Computed { generation, step, shards });
        self.inbox.gradients.insert((generation, step, self.id), Rc::clone(&accounts));
        self.tell_all(Content::Gradient(accounts));
        self.enter(Stage::Exchanging { trailer: false });
        self.try_exchange();
    }

    /// Tells all other members this one's part of the exchange under way.
    fn tell_all(&mut self, content: Content) {
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let part = Part { generation: member.begin.generation, step: held.position.step, content };
        for to in member.peers.iter().copied().filter(|peer| *peer != self.id) {
            self.actions.push(Action::Tell(to, PeerWord::Part(part.clone())));
        }
    }

    /// The members whose part of the exchange under way is missing, by rank.
    fn missing(&self) -> impl Iterator<Item = (ProcessId, &WorkerName)> {
        let trailer = matches!(self.stage, Stage::Exchanging { trailer: true });
        let key = self.member.as_ref().zip(self.held.as_ref());
        key.into_iter().flat_map(move |(member, held)| {
            let (generation, step) = (member.begin.generation, held.position.step);
            let named = member.peers.iter().copied().zip(member.begin.peers.iter());
            let named = named.map(|(process, peer)| (process, &peer.worker));
            named.filter(move |(process, _)| {
                let key = (generation, step, *process);
                if trailer {
                    !self.inbox.trailers.contains_key(&key)
                } else {
                    !self.inbox.gradients.contains_key(&key)
                }
            })
        })
    }

    pub(super) fn waits_for(&self) -> Option<WorkerName> {
        self.missing().map(|(_, name)| name.clone()).next()
    }

    /// Goes on when all members' parts are here, and falls out of the generation when one of those that are missing has
    /// left it.
    pub(super) fn try_exchange(&mut self) {
        let Stage::Exchanging { trailer } = self.stage else { return };
        let missing: Vec<ProcessId> = self.missing().map(|(process, _)| process).collect();
        let members = self.member.as_ref().map_or(0, |member| member.peers.len());
        let careless = self.is_planted(Planted::StepWithoutTheLast) && members > 2 && missing.len() == 1;
        if missing.is_empty() || careless {
            return if trailer { self.finish_step() } else { self.finish_gradients() };
        }
        for process in missing {
            self.give_up_if_left(process);
        }
    }

    fn finish_gradients(&mut self) {
        if self.is_planted(Planted::UpdateBeforeTrailer) {
            self.update();
        }
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let (generation, step, pause) = (member.begin.generation, held.position.step, member.pause);
        self.inbox.trailers.insert((generation, step, self.id), pause);
        self.tell_all(Content::Trailer { pause });
        let since_ms = self.since_ms;
        self.enter(Stage::Exchanging { trailer: true });
        self.since_ms = since_ms;
        self.try_exchange();
    }

    /// Sums all shards' gradients in the order of the shards.
    fn update(&mut self) {
        let (Some(member), Some(held)) = (&self.member, &mut self.held) else { return };
        let (generation, step) = (member.begin.generation, held.position.step);
        let part = |process: &ProcessId| self.inbox.gradients.remove(&(generation, step, *process));
        let parts: Vec<Rc<Vec<ShardAccount>>> = member.peers.iter().filter_map(part).collect();
        let mut accounts: Vec<&ShardAccount> = parts.iter().flat_map(|part| part.iter()).collect();
        if self.planted == Some(Planted::SumFromOneself) {
            let own = member.begin.peers[member.begin.rank as usize].shards.0;
            accounts.sort_by_key(|account| account.shard != own);
        }
        held.replica.update(accounts.iter().copied());
        held.epoch.record(accounts);
    }

    fn finish_step(&mut self) {
        if !self.is_planted(Planted::UpdateBeforeTrailer) {
            self.update();
        }
        let (Some(member), Some(held)) = (&mut self.member, &mut self.held) else { return };
        let Member { begin, peers, .. } = member;
        let (generation, rank, step) = (begin.generation, begin.rank, held.position.step);
        let flag = |process: &ProcessId| self.inbox.trailers.remove(&(generation, step, *process));
        let pause = peers.iter().filter_map(flag).fold(false, |any, flag| any | flag);
        held.position.step.0 += 1;
        Rc::make_mut(&mut held.makers).push(generation);
        let (position, saved) = (held.position, held.clone());
        self.changed = true;
        self.act(Action::Updated { generation, step });
        self.started();
        self.say_progress();
        if rank == 0 && self.case.is_checkpoint_due(position) {
            self.upload(saved, true);
        }
        let ends = self.case.is_unjudged(position);
        if pause && (!ends || self.case.pauses_unevaluated) {
            self.pause();
        } else if ends {
            self.compute(Stage::Evaluating);
            self.heartbeat();
        } else {
            self.compute(Stage::Computing);
        }
    }

    fn say_progress(&mut self) {
        let (Some(member), Some(held)) = (&self.member, &self.held) else { return };
        let (generation, worker) = (member.begin.generation, self.name.clone());
        let since_ms = std::mem::replace(&mut self.stepped.1, self.now_ms);
        self.stepped.0 += 1;
        if self.stepped.0.is_multiple_of(PROGRESS_STEPS) {
            let step_ms = (self.now_ms - since_ms) as f64;
            let progress =
                Progress { position: held.position, train: held.epoch.train, step_ms, exchange_ms: 0.5 };
            self.say(Event::Progressed { worker, generation, progress });
        }
    }
}
