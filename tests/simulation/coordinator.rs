//! The coordinator's process: decides by the core, makes what it records durable, then carries out the rest, as the
//! real driver does. A crash may come between any two of these.

use lockstep_core::{
    Effect, Entry, Event, Generation, History, Message, Origin, Outcome, Reject, Run, Step, Time, WorkerName,
};

use crate::checks;
use crate::faults::Life;
use crate::network::{Delivery, Link, ProcessId};
use crate::planted::Planted;
use crate::replica::Snapshot;
use crate::worker::Input;
use crate::world::{Going, Interruption, World};

/// What a checkpoint is said to weigh.
const SIZE_BYTES: u64 = 64;

/// A coordinator that runs.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) run: Run,
    /// The fold of what was recorded, kept beside the run's own.
    pub(crate) folded: History,
    pub(crate) outcome: Option<Outcome>,
}

impl World {
    /// Starts a life: creates the run, or resumes it from what is on the disk.
    pub(crate) fn start_coordinator(&mut self, life: &Life) -> Going {
        let now = Time(self.network.now_ms());
        let folded = History::from_entries(self.disk.journal().to_vec());
        let (run, folded, effects) = match folded {
            None => {
                let mut spec = self.case.spec.clone();
                spec.workers = life.workers;
                let (run, effects) = Run::create(now, spec.clone(), Origin::default());
                (run, History::new(spec, Origin::default()), effects)
            }
            Some(history) => {
                checks::stored(&history, &self.disk)?;
                let known: Vec<Step> = history.checkpoints.keys().copied().collect();
                let whole = |step: &Step| self.disk.whole(*step).is_some();
                let verified = known.iter().copied().filter(whole).collect();
                let damaged: Vec<Step> = known.into_iter().filter(|step| !whole(step)).collect();
                damaged.iter().for_each(|step| self.disk.set_aside(*step));
                let position = history.resume_point(&verified).unwrap_or_default();
                self.trace(|| format!("resumes from step {} with {} workers", position.step, life.workers));
                checks::resumes(&history, position, &damaged, &self.disk)?;
                let epochs = self.case.spec.epochs;
                let (run, effects) =
                    Run::resume(now, history.clone(), position, damaged, life.workers, epochs);
                (run, history, effects)
            }
        };
        self.coordinator = Some(Coordinator { run, folded, outcome: None });
        self.carry_out(effects)
    }

    /// Lets the run decide on an event.
    pub(crate) fn decide(&mut self, event: Event) -> Going<Result<(), Reject>> {
        let now = Time(self.network.now_ms());
        let Some(Coordinator { run, .. }) = &mut self.coordinator else { return Ok(Err(Reject::RunOver)) };
        let before = run.clone();
        match run.apply(now, event) {
            Ok(effects) => {
                self.carry_out(effects)?;
                Ok(Ok(()))
            }
            Err(reject) if *run == before => Ok(Err(reject)),
            Err(reject) => Err(Interruption::Violation(format!("a refusal changed the run: {reject}"))),
        }
    }

    /// Records first, all of them or none; then the rest in order.
    fn carry_out(&mut self, effects: Vec<Effect>) -> Going {
        self.burn()?;
        if self.planted == Some(Planted::HastyDeletion) {
            let deletions = effects.iter().filter_map(|effect| match effect {
                Effect::DeleteCheckpoint(step) => Some(*step),
                _ => None,
            });
            deletions.for_each(|step| self.disk.delete(step));
            self.burn()?;
        }
        let records: Vec<Entry> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(entry) => Some(entry.clone()),
                _ => None,
            })
            .collect();
        if !records.is_empty() {
            let synced = self.disk.journal().len();
            self.disk.append(&records);
            self.burn()?;
            let forgetful = self.planted == Some(Planted::ForgetfulJournal);
            self.disk.sync(if forgetful { synced } else { synced + records.len() });
        }
        for entry in &records {
            self.trace(|| format!("records {entry:?}"));
            self.lineage.record(entry)?;
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.folded.fold(entry);
            }
        }
        for effect in effects {
            self.burn()?;
            match effect {
                Effect::Record(_) => {}
                Effect::Send { to, message } => self.send_order(&to, message)?,
                Effect::Publish { last, best } => {
                    for step in [Some(last), best].into_iter().flatten() {
                        if !self.disk.has(step) && !self.disk.is_damaged(step) {
                            return Err(Interruption::Violation(format!(
                                "step {step} is published but gone"
                            )));
                        }
                    }
                }
                Effect::DeleteCheckpoint(step) => self.disk.delete(step),
                Effect::Conclude(outcome) => {
                    self.trace(|| format!("concludes {outcome:?}"));
                    let coordinator = self.coordinator.as_mut();
                    let former = coordinator.and_then(|coordinator| coordinator.outcome.replace(outcome));
                    if former.is_some() {
                        return Err(Interruption::Violation("a run ended twice".to_owned()));
                    }
                }
            }
        }
        match &self.coordinator {
            Some(coordinator) => checks::decision(coordinator, &self.disk),
            None => Ok(()),
        }
    }

    fn send_order(&mut self, to: &WorkerName, message: Message) -> Going {
        if let Message::Begin(begin) = &message {
            self.lineage.begin(begin, self.case.spec.shards)?;
        }
        if let Message::Verdict(verdict) = &message
            && self.stop_asked
            && !verdict.hold
        {
            return Err(Interruption::Violation(format!("{to} is to go on though a stop was asked for")));
        }
        self.trace(|| format!("tells {to} {message:?}"));
        if let Some(process) = self.names.get(to).copied() {
            self.network.send(Link::Down(process), Delivery::ToWorker(process, Input::Order(message)));
        }
        Ok(())
    }

    /// A snapshot's header has come. The bytes follow if it is admitted.
    pub(crate) fn on_upload_began(
        &mut self,
        from: ProcessId,
        generation: Generation,
        snapshot: Snapshot,
    ) -> Going {
        let Some(Coordinator { run, .. }) = &self.coordinator else { return Ok(()) };
        if run.admit_upload(generation).is_err() {
            self.network.send(Link::Upload(from), Delivery::ToWorker(from, Input::Uploaded));
            return Ok(());
        }
        if self.planted == Some(Planted::HastyStore) {
            let position = snapshot.position;
            let event = Event::CheckpointStored { generation, position, size_bytes: SIZE_BYTES };
            // Nobody hears of a refusal here.
            drop(self.decide(event)?);
        }
        let delay_ms = self.random.below(self.transfer_max_ms);
        self.network.send_slowly(
            Link::Upload(from),
            delay_ms,
            Delivery::UploadEnded(from, generation, snapshot),
        );
        Ok(())
    }

    /// All of a snapshot has come: it is made durable under its final name, then the run hears of it.
    pub(crate) fn on_upload_ended(
        &mut self,
        from: ProcessId,
        generation: Generation,
        snapshot: Snapshot,
    ) -> Going {
        let position = snapshot.position;
        checks::snapshot(&snapshot, &self.oracle)?;
        self.disk.store(snapshot);
        self.burn()?;
        if self.planted != Some(Planted::HastyStore) {
            let event = Event::CheckpointStored { generation, position, size_bytes: SIZE_BYTES };
            // A run that is over refuses it; then nobody knows of the checkpoint.
            drop(self.decide(event)?);
        }
        self.network.send(Link::Upload(from), Delivery::ToWorker(from, Input::Uploaded));
        Ok(())
    }

    pub(crate) fn on_fetch_asked(&mut self, from: ProcessId, step: Step) -> Going {
        let snapshot = self.disk.whole(step).cloned();
        if snapshot.is_none() && !self.disk.is_damaged(step) {
            return Err(Interruption::Violation(format!("the checkpoint of step {step} is wanted but gone")));
        }
        self.excuse |= snapshot.is_none();
        let delay_ms = self.random.below(self.transfer_max_ms);
        let delivery = Delivery::ToWorker(from, Input::Fetched(snapshot));
        self.network.send_slowly(Link::Fetch(from), delay_ms, delivery);
        Ok(())
    }
}
