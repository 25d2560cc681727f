//! A run's account: the fold of its journal, with what is known of it at this moment.

use std::path::Path;

use lockstep_core::{
    Entry, Generation, History, MemberEntry, Metrics, Outcome, Position, Receipt, Split, Step, Term, Time,
    WorkerBounds, WorkerName,
};
use serde::Serialize;
use serde_json::Value;

use crate::run_folder::Serving;

/// Field names are those of the JSON.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Account {
    pub(super) name: String,
    /// `running`, `interrupted` (its coordinator is gone, without a word), `done`, `stopped`, `failed`; of a standing
    /// coordinator's run also `queued`, `preparing`, `stopping`.
    pub(super) status: &'static str,
    pub(super) reason: String,
    /// What it is at; empty unless it runs.
    pub(super) phase: String,
    pub(super) term: Term,
    pub(super) generation: Generation,
    /// The furthest that is known: by the coordinator while it runs, else by the newest checkpoint.
    pub(super) position: Position,
    pub(super) epochs: u32,
    pub(super) epochs_done: usize,
    pub(super) workers: WorkerBounds,
    pub(super) best: Option<Best>,
    pub(super) test: Option<Metrics>,
    /// Of the newest generation, by rank.
    pub(super) members: Vec<Member>,
    pub(super) generations: Vec<GenerationAccount>,
    pub(super) lost: Vec<Timed<Lost>>,
    pub(super) left: Vec<Timed<Left>>,
    pub(super) stragglers: Vec<Timed<Straggler>>,
    pub(super) resumed: Vec<Timed<Resumed>>,
    /// Where its coordinator listens; none unless it runs.
    pub(super) coordinator: Option<Serving>,
}

#[derive(Debug, Serialize)]
pub(super) struct Best {
    pub(super) epoch: u32,
    pub(super) step: Step,
    pub(super) split: Split,
    pub(super) acc_top1: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Member {
    #[serde(flatten)]
    pub(super) entry: MemberEntry,
    /// As the coordinator wrote last; none of who is gone.
    pub(super) live: Option<Value>,
}

/// A generation and what it took to form it.
#[derive(Debug, Serialize)]
pub(super) struct GenerationAccount {
    pub(super) at_ms: Time,
    pub(super) generation: Generation,
    pub(super) members: Vec<WorkerName>,
    pub(super) position: Position,
    /// None before all members have made their first step.
    pub(super) receipt: Option<Timed<Receipt>>,
}

/// Something, and when the journal has it.
#[derive(Debug, Serialize)]
pub(super) struct Timed<T> {
    pub(super) at_ms: Time,
    #[serde(flatten)]
    pub(super) what: T,
}

#[derive(Debug, Serialize)]
pub(super) struct Lost {
    pub(super) worker: WorkerName,
    pub(super) generation: Generation,
    pub(super) reason: String,
    pub(super) log: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Left {
    pub(super) worker: WorkerName,
    pub(super) generation: Generation,
}

#[derive(Debug, Serialize)]
pub(super) struct Straggler {
    pub(super) worker: WorkerName,
    pub(super) generation: Generation,
    pub(super) shard_ms: f64,
    pub(super) others_ms: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Resumed {
    pub(super) position: Position,
    pub(super) damaged: Vec<Step>,
}

impl Account {
    /// None when the journal does not begin with the run's creation.
    pub(super) fn new(name: &str, folder: &Path, entries: Vec<(Time, Entry)>) -> Option<Self> {
        let live = std::fs::read(folder.join("run.json")).unwrap_or_default();
        let live = serde_json::from_slice::<Value>(&live).unwrap_or_default();
        let serving = Serving::read(folder).filter(Serving::is_alive);
        Self::from_parts(name, entries, &live["live"], serving)
    }

    /// Of a run whose coordinator says itself how it is: `live` is what it wrote of one that is being trained.
    pub(in crate::cli) fn as_told(
        name: &str,
        entries: Vec<(Time, Entry)>,
        live: &Value,
        (status, reason): (&'static str, String),
    ) -> Option<Self> {
        Self::with_status(name, entries, live, None, |_| (status, reason))
    }

    fn from_parts(
        name: &str,
        entries: Vec<(Time, Entry)>,
        live: &Value,
        serving: Option<Serving>,
    ) -> Option<Self> {
        let served = serving.is_some();
        Self::with_status(name, entries, live, serving, |history| status(name, history, live, served))
    }

    fn with_status(
        name: &str,
        entries: Vec<(Time, Entry)>,
        live: &Value,
        serving: Option<Serving>,
        status: impl FnOnce(&History) -> (&'static str, String),
    ) -> Option<Self> {
        let history = History::from_entries(entries.iter().map(|(_, entry)| entry.clone()))?;
        let (status, reason) = status(&history);
        let live = if ["running", "stopping"].contains(&status) { live } else { &Value::Null };
        let position = serde_json::from_value(live["position"].clone()).unwrap_or_default();
        let best = history.best().map(|row| Best {
            epoch: row.epoch.0,
            step: row.step,
            split: row.split,
            acc_top1: row.eval.accuracy(),
        });
        let mut account = Self {
            name: name.to_owned(),
            status,
            reason,
            phase: live["phase"].as_str().unwrap_or_default().to_owned(),
            term: history.term,
            generation: history.generation,
            position: history.position().max(position),
            epochs: history.spec.epochs,
            epochs_done: history.rows.len(),
            workers: history.spec.workers,
            best,
            test: history.tested.map(|(_, metrics)| metrics),
            members: history
                .members
                .into_iter()
                .map(|entry| Member { live: of(live, &entry), entry })
                .collect(),
            generations: Vec::new(),
            lost: Vec::new(),
            left: Vec::new(),
            stragglers: Vec::new(),
            resumed: Vec::new(),
            coordinator: serving.filter(|_| status == "running"),
        };
        entries.into_iter().for_each(|(at_ms, entry)| account.take(at_ms, entry));
        Some(account)
    }

    fn take(&mut self, at_ms: Time, entry: Entry) {
        match entry {
            Entry::GenerationBegan { generation, members, position } => {
                let members = members.into_iter().map(|member| member.worker).collect();
                let receipt = None;
                self.generations.push(GenerationAccount { at_ms, generation, members, position, receipt });
            }
            Entry::GenerationStarted(receipt) => {
                let began =
                    self.generations.iter_mut().rev().find(|began| began.generation == receipt.generation);
                if let Some(began) = began {
                    began.receipt = Some(Timed { at_ms, what: receipt });
                }
            }
            Entry::WorkerLost { worker, generation, reason, log } => {
                self.lost.push(Timed { at_ms, what: Lost { worker, generation, reason, log } });
            }
            Entry::WorkerLeft { worker, generation } => {
                self.left.push(Timed { at_ms, what: Left { worker, generation } });
            }
            Entry::Straggler { worker, generation, shard_ms, others_ms } => {
                let what = Straggler { worker, generation, shard_ms, others_ms };
                self.stragglers.push(Timed { at_ms, what });
            }
            Entry::Resumed { position, damaged } => {
                self.resumed.push(Timed { at_ms, what: Resumed { position, damaged } });
            }
            _ => {}
        }
    }
}

fn status(name: &str, history: &History, live: &Value, served: bool) -> (&'static str, String) {
    match &history.outcome {
        Some(Outcome::Done { early: false }) => ("done", "all epochs are done".into()),
        Some(Outcome::Done { early: true }) => ("done", "no improvement within the patience".into()),
        Some(Outcome::Stopped { .. }) => ("stopped", "stopped on request".into()),
        Some(Outcome::Failed { reason, .. }) => ("failed", reason.clone()),
        None if served => ("running", live["reason"].as_str().unwrap_or_default().to_owned()),
        None => ("interrupted", format!("its coordinator is gone; `lockstep resume {name}` goes on")),
    }
}

/// What the coordinator wrote last of a member.
fn of(live: &Value, member: &MemberEntry) -> Option<Value> {
    let workers = live["workers"].as_array()?;
    workers.iter().find(|worker| worker["worker"] == member.worker.0.as_str()).cloned()
}

#[cfg(test)]
pub(super) mod tests;
