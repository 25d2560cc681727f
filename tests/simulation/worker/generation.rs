//! A generation's beginning and end for one member: connecting with the others, and getting the replica's state from
//! where it is.

use lockstep_core::{Begin, Broken, Event, Generation, Start, StartTimings};

use super::session::process;
use super::{Action, Content, Inbox, Member, PeerWord, Stage, Timer, Worker};
use crate::network::ProcessId;
use crate::planted::Planted;
use crate::replica::State;

/// Between attempts to reach the members that have not come yet.
const DIAL_MS: u64 = 250;

/// A generation that is not connected, or whose state did not come, within this time is given up.
const FORMING_MS: u64 = 8000;

impl Worker {
    pub(super) fn on_begin(&mut self, begin: Begin) {
        let generation = begin.generation;
        if generation <= self.begun || generation < self.asked.max(self.prepared) {
            return self.heartbeat();
        }
        let own = begin.peers.get(begin.rank as usize);
        let processes: Option<Vec<_>> = begin.peers.iter().map(|peer| process(&peer.address)).collect();
        let Some((own, peers)) = own.zip(processes).filter(|(own, _)| own.worker == self.name) else {
            return self.complain(&format!("was given another's place: {begin:?}"));
        };
        if peers[begin.rank as usize] != self.id {
            return self.complain(&format!("was given wrong addresses: {:?}", begin.peers));
        }
        if own.has_state && self.position() != Some(begin.position) {
            return self.complain(&format!("stands at {:?}, not as told: {begin:?}", self.position()));
        }
        self.leave_generation();
        self.begun = generation;
        self.broken = None;
        self.inbox.forget(generation);
        let start = begin.start;
        let has_state = self.position() == Some(begin.position);
        self.member = Some(Member {
            begin,
            peers,
            pause: false,
            cancelled: false,
            connected: false,
            started: false,
            begun_ms: self.now_ms,
            formed_ms: self.now_ms,
        });
        self.enter(Stage::Forming { fetched: None });
        self.heartbeat();
        self.dial(generation);
        self.timer(FORMING_MS, Timer::FormingOver(generation));
        match start {
            Start::Checkpoint(step) if !has_state => self.fetch(step),
            _ => self.try_form(),
        }
    }

    /// Says hello to all, and again as long as somebody has not answered.
    pub(super) fn dial(&mut self, generation: Generation) {
        let Some(member) = &self.member else { return };
        if member.begin.generation != generation || !matches!(self.stage, Stage::Forming { .. }) {
            return;
        }
        let own = self.id;
        for to in member.peers.clone().into_iter().filter(|peer| *peer != own) {
            self.act(Action::Tell(to, PeerWord::Hello { generation }));
        }
        if self.member.as_ref().is_some_and(|member| member.peers.len() > 1) {
            self.timer(DIAL_MS, Timer::Dial(generation));
        }
    }

    /// Forms the generation when all are connected and the state is here; gives it up when somebody has left it.
    pub(super) fn try_form(&mut self) {
        if !matches!(self.stage, Stage::Forming { .. }) {
            return;
        }
        let Some(member) = &mut self.member else { return };
        let generation = member.begin.generation;
        let others = || member.peers.iter().filter(|peer| **peer != self.id);
        if !member.connected {
            let missing = others().find(|peer| !self.inbox.hellos.contains(&(generation, **peer)));
            if let Some(missing) = missing.copied() {
                return self.give_up_if_left(missing);
            }
            member.connected = true;
            if member.begin.start == (Start::Peer { rank: member.begin.rank }) {
                self.send_state();
            }
        }
        let Some(member) = &self.member else { return };
        let position = member.begin.position;
        if self.position() != Some(position) {
            let state = match (member.begin.start, &mut self.stage) {
                (Start::Initial, _) => State::initial(&self.case),
                (Start::Checkpoint(_), Stage::Forming { fetched }) => match fetched.take() {
                    Some(state) => state,
                    None => return,
                },
                (Start::Peer { rank }, _) => match self.inbox.states.remove(&generation) {
                    Some((state, kept)) => {
                        self.kept = kept;
                        state
                    }
                    None => return self.give_up_if_left(member.peers[rank as usize]),
                },
                _ => return,
            };
            if state.position != position {
                return self.complain(&format!("is to start at {position:?} with {:?}", state.position));
            }
            self.held = Some(state);
            self.changed = true;
        }
        self.formed();
    }

    /// To those that have none.
    fn send_state(&mut self) {
        let Some(member) = &self.member else { return };
        let generation = member.begin.generation;
        let Some(state) = self.held.clone().filter(|held| held.position == member.begin.position) else {
            return self.complain("is to send a state that it does not have");
        };
        let kept = self.kept.clone().filter(|_| !self.is_planted(Planted::KeptNotTransferred));
        let needs = member.begin.peers.iter().zip(&member.peers).filter(|(peer, _)| !peer.has_state);
        let receivers: Vec<ProcessId> = needs.map(|(_, process)| *process).collect();
        for to in receivers {
            let (state, kept) = (state.clone(), kept.clone());
            self.act(Action::Tell(to, PeerWord::State { generation, state, kept }));
        }
    }

    fn formed(&mut self) {
        let Some(member) = &mut self.member else { return };
        member.formed_ms = self.now_ms;
        let (hold, judged, save) = (member.begin.hold, member.begin.judged, member.begin.save);
        let Some(held) = &self.held else { return };
        let unjudged = self.case.is_unjudged(held.position);
        if member.begin.rank == 0 {
            // The best model first: a checkpoint is of use only together with it.
            let saved = held.clone();
            if let Some(kept) = self.kept.clone() {
                self.upload(kept, false);
            }
            if save {
                self.upload(saved, false);
            }
        }
        match (hold, unjudged, judged) {
            (true, ..) => {
                self.started();
                self.settle(Stage::Holding);
            }
            (_, true, true) => self.settle(Stage::AwaitingVerdict),
            (_, true, false) => self.compute(Stage::Evaluating),
            _ => self.compute(Stage::Computing),
        }
    }

    /// Waits for the coordinator's word, or pauses for the one that it has given already.
    pub(super) fn settle(&mut self, stage: Stage) {
        self.enter(stage);
        match &self.member {
            Some(member) if member.pause => self.pause(),
            _ => self.heartbeat(),
        }
    }

    /// The first step is made, or there is none to make.
    pub(super) fn started(&mut self) {
        let Some(member) = &mut self.member else { return };
        if std::mem::replace(&mut member.started, true) {
            return;
        }
        let timings = StartTimings {
            connect_ms: member.formed_ms - member.begun_ms,
            state_ms: 0,
            first_step_ms: self.now_ms - member.formed_ms,
        };
        let (worker, generation) = (self.name.clone(), member.begin.generation);
        self.say(Event::Started { worker, generation, timings });
    }

    pub(super) fn on_peer(&mut self, from: ProcessId, word: PeerWord) {
        let of_old = |generation: Generation| generation < self.begun;
        match word {
            PeerWord::Hello { generation } | PeerWord::Left { generation } if of_old(generation) => {}
            PeerWord::Hello { generation } => {
                self.inbox.hellos.insert((generation, from));
            }
            PeerWord::Left { generation } => {
                self.inbox.left.insert((generation, from));
            }
            PeerWord::Gone => {
                // Of the connections that there are now; others may be opened later.
                let newest = self.begun.max(self.prepared);
                self.inbox.left.insert((newest, from));
            }
            PeerWord::State { generation, .. } if self.inbox.left.contains(&(generation, from)) => {}
            PeerWord::State { generation, state, kept } => {
                self.inbox.states.insert(generation, (state, kept));
            }
            PeerWord::Part(part) if self.inbox.left.contains(&(part.generation, from)) => {}
            PeerWord::Part(part) => match part.content {
                Content::Gradient(accounts) => {
                    self.inbox.gradients.insert((part.generation, part.step, from), accounts);
                }
                Content::Trailer { pause } => {
                    self.inbox.trailers.insert((part.generation, part.step, from), pause);
                }
            },
        }
        self.try_form();
        self.try_exchange();
    }

    /// Whoever is missing has left the generation: it cannot go on.
    pub(super) fn give_up_if_left(&mut self, missing: ProcessId) {
        let Some(member) = &self.member else { return };
        if self.inbox.left.contains(&(member.begin.generation, missing)) {
            let blames = member.begin.peers.iter().zip(&member.peers);
            let blames = blames.filter(|(_, process)| **process == missing);
            let blames = blames.map(|(peer, _)| peer.worker.clone()).collect();
            self.fall_out(Broken { blames, reason: "lost the connection".to_owned() });
        }
    }

    pub(super) fn on_forming_over(&mut self, generation: Generation) {
        let Some(member) = &self.member else { return };
        if member.begin.generation != generation || !matches!(self.stage, Stage::Forming { .. }) {
            return;
        }
        let missing =
            |process: &ProcessId| *process != self.id && !self.inbox.hellos.contains(&(generation, *process));
        let blames = member.begin.peers.iter().zip(&member.peers);
        let blames = blames.filter(|(_, process)| missing(process));
        let blames = blames.map(|(peer, _)| peer.worker.clone()).collect();
        self.fall_out(Broken { blames, reason: "did not come".to_owned() });
    }

    /// The generation is broken for this member. Its replica is as at the last boundary.
    pub(super) fn fall_out(&mut self, broken: Broken) {
        self.leave_generation();
        self.broken = Some(broken);
        self.pause();
    }

    pub(super) fn leave_generation(&mut self) {
        let Some(member) = self.member.take() else { return };
        let generation = member.begin.generation;
        for to in member.peers.into_iter().filter(|peer| *peer != self.id) {
            self.actions.push(Action::Tell(to, PeerWord::Left { generation }));
        }
        self.owed = None;
        self.forget_fetch();
        self.enter(Stage::Idle);
    }
}

impl Inbox {
    /// What was said in generations before this one is of no use.
    fn forget(&mut self, before: Generation) {
        self.hellos.retain(|(generation, _)| *generation >= before);
        self.left.retain(|(generation, _)| *generation >= before);
        self.states.retain(|generation, _| *generation >= before);
        self.gradients.retain(|(generation, ..), _| *generation >= before);
        self.trailers.retain(|(generation, ..), _| *generation >= before);
    }
}
