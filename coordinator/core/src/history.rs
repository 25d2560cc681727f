//! The durable part of a run: the fold of its journal.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    CheckpointEntry, Entry, Epoch, EpochRow, Generation, MemberEntry, Metrics, Origin, Outcome, Position,
    RunSpec, Step, Term,
};

/// What a restart knows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub spec: RunSpec,
    pub origin: Origin,
    /// The newest coordinator's.
    pub term: Term,
    /// The newest generation that began.
    pub generation: Generation,
    /// Its members, by rank.
    pub members: Vec<MemberEntry>,
    /// One row per finished epoch, in order.
    pub rows: Vec<EpochRow>,
    pub checkpoints: BTreeMap<Step, CheckpointEntry>,
    /// What was told last of the frozen prefix.
    pub prefix: Option<String>,
    pub tested: Option<(Step, Metrics)>,
    pub outcome: Option<Outcome>,
}

impl History {
    /// A run of which nothing is done yet.
    pub fn new(spec: RunSpec, origin: Origin) -> Self {
        Self {
            spec,
            origin,
            term: Term(1),
            generation: Generation::default(),
            members: Vec::new(),
            rows: Vec::new(),
            checkpoints: BTreeMap::new(),
            prefix: None,
            tested: None,
            outcome: None,
        }
    }

    /// Rebuilds a run from its journal; none when the first entry does not create one.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Option<Self> {
        let mut entries = entries.into_iter();
        let Some(Entry::Created { spec, origin }) = entries.next() else { return None };
        let mut history = Self::new(spec, origin);
        entries.for_each(|entry| history.fold(&entry));
        Some(history)
    }

    /// Takes one entry in.
    pub fn fold(&mut self, entry: &Entry) {
        match entry {
            Entry::Created { spec, origin } => *self = Self::new(spec.clone(), origin.clone()),
            Entry::TakenOver { term, workers, epochs } => {
                self.term = *term;
                self.spec.workers = *workers;
                self.spec.epochs = *epochs;
                self.tested = None;
                self.outcome = None;
            }
            Entry::Resumed { position, damaged } => {
                self.rows.retain(|row| row.epoch < position.epoch);
                self.checkpoints.retain(|step, _| *step <= position.step && !damaged.contains(step));
            }
            Entry::GenerationBegan { generation, members, .. } => {
                self.generation = *generation;
                self.members.clone_from(members);
            }
            Entry::EpochEnded(row) => self.rows.push(row.clone()),
            Entry::CheckpointStored(checkpoint) => {
                self.checkpoints.insert(checkpoint.position.step, checkpoint.clone());
            }
            Entry::CheckpointDeleted { step } => {
                self.checkpoints.remove(step);
            }
            Entry::PrefixTold { line } => self.prefix = Some(line.clone()),
            Entry::Tested { step, metrics } => self.tested = Some((*step, *metrics)),
            Entry::Ended { outcome } => self.outcome = Some(outcome.clone()),
            Entry::GenerationStarted(_)
            | Entry::WorkerLost { .. }
            | Entry::WorkerLeft { .. }
            | Entry::Straggler { .. }
            | Entry::StopRequested => {}
        }
    }

    /// The epoch with the highest accuracy; of equal ones the first. An accuracy that is no number never wins.
    pub fn best(&self) -> Option<&EpochRow> {
        best_of(self.rows.iter())
    }

    /// Where the newest checkpoint stands; the start when there is none.
    pub fn position(&self) -> Position {
        self.checkpoints.values().next_back().map(|checkpoint| checkpoint.position).unwrap_or_default()
    }

    /// Nothing is left to train once `rows` are done: all epochs, or patience ran out.
    pub fn is_trained(&self) -> bool {
        self.rows.len() >= self.spec.epochs as usize || self.is_out_of_patience()
    }

    /// As many epochs as `select.patience` went by without improvement.
    pub fn is_out_of_patience(&self) -> bool {
        let patience = self.spec.select.patience as usize;
        let since_best =
            self.best().map_or(0, |best| self.rows.len().saturating_sub(best.epoch.0 as usize + 1));
        patience > 0 && since_best >= patience
    }

    /// The newest checkpoint to go on from, given those whose files verify; none means from the start.
    ///
    /// A checkpoint is of use only if the best model up to it is at hand too. When that one is damaged, an
    /// earlier checkpoint serves: training again from there gives the same best model again, bit for bit.
    pub fn resume_point(&self, verified: &BTreeSet<Step>) -> Option<Position> {
        self.checkpoints.values().rev().map(|checkpoint| checkpoint.position).find(|position| {
            let best = self.best_before(position.epoch);
            verified.contains(&position.step) && best.is_none_or(|step| verified.contains(&step))
        })
    }

    /// The step of the best epoch before `epoch`.
    pub(crate) fn best_before(&self, epoch: Epoch) -> Option<Step> {
        best_of(self.rows.iter().filter(|row| row.epoch < epoch)).map(|row| row.step)
    }
}

fn best_of<'a>(rows: impl Iterator<Item = &'a EpochRow>) -> Option<&'a EpochRow> {
    rows.fold(None, |best: Option<&EpochRow>, row| match best {
        Some(best) if row.eval.accuracy() > best.eval.accuracy() => Some(row),
        None if !row.eval.accuracy().is_nan() => Some(row),
        best => best,
    })
}

#[cfg(test)]
mod tests;
