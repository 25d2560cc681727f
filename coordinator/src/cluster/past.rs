//! Runs that are over, and how a home forgets one.
//!
//! Both a cluster's runs and those of `lockstep train` are here: the first have a row in the register, all that got to
//! their beginning have entries in the journal. What is forgotten is forgotten in one transaction, which is also where it
//! is looked at for the last time, so that a run that somebody has just put back into the queue stays.

use std::collections::BTreeSet;
use std::io;

use lockstep_core::{History, Outcome, RunName, Time};
use rusqlite::{Connection, OptionalExtension};

use super::record::{Record, Stage};
use super::register::Archive;
use crate::home::Home;
use crate::journal::{Journal, JournalError, SharedJournal};

/// The runs of a home, beside whoever works there.
#[derive(Debug)]
pub struct Past {
    journal: Journal,
    shared: SharedJournal,
    archive: Archive,
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    pub run: RunName,
    pub stage: Stage,
    pub ended_at_ms: Time,
}

/// What a home knows of its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The one that ended last comes first.
    pub over: Vec<PastRun>,
    /// In a cluster's queue, or under way there.
    pub going_on: Vec<RunName>,
    /// Neither over nor a cluster's: under way by `lockstep train`, or broken off and to be resumed.
    pub open: Vec<RunName>,
}

/// Why a run was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    #[error("it goes on again")]
    GoesOn,
    #[error("its folder cannot be moved: {0}")]
    Folder(io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Past {
    /// Of a home that others may be working in. This blocks, as everything here.
    pub fn open(home: &Home) -> Result<Self, JournalError> {
        let path = home.path.join("journal.db");
        let shared = super::journal(home)?;
        Ok(Self { journal: home.journal()?, shared, archive: Archive::open(&path)? })
    }

    pub fn account(&self) -> Result<Account, JournalError> {
        let mut account = Account::default();
        let mut known = BTreeSet::new();
        for record in self.archive.all()? {
            known.insert(record.run.clone());
            if record.stage.is_over() {
                let Record { run, stage, ended_at_ms, .. } = record;
                account.over.push(PastRun { run, stage, ended_at_ms });
            } else {
                account.going_on.push(record.run);
            }
        }
        for run in self.journal.runs()?.into_iter().map(RunName).filter(|run| !known.contains(run)) {
            match self.local(&run)? {
                Some(past) => account.over.push(past),
                None => account.open.push(run),
            }
        }
        account.over.sort_by(|a, b| b.ended_at_ms.cmp(&a.ended_at_ms).then_with(|| a.run.cmp(&b.run)));
        Ok(account)
    }

    /// Whether anything is known under this name.
    pub fn knows(&self, run: &RunName) -> Result<bool, JournalError> {
        Ok(self.archive.get(run)?.is_some() || self.journal.knows(&run.0)?)
    }

    /// Whether a run is in a cluster's queue, or under way there.
    pub fn is_a_clusters(&self, run: &RunName) -> Result<bool, JournalError> {
        Ok(self.archive.get(run)?.is_some_and(|record| !record.stage.is_over()))
    }

    /// A run that no cluster has, if it is over.
    fn local(&self, run: &RunName) -> Result<Option<PastRun>, JournalError> {
        let entries = self.journal.entries_with_times(&run.0)?;
        let ended_at_ms = entries.last().map(|(at, _)| *at).unwrap_or_default();
        let history = History::from_entries(entries.into_iter().map(|(_, entry)| entry));
        let stage = match history.and_then(|history| history.outcome) {
            Some(Outcome::Done { .. }) => Stage::Done,
            Some(Outcome::Stopped { .. }) => Stage::Stopped,
            Some(Outcome::Failed { .. }) => Stage::Failed,
            None => return Ok(None),
        };
        Ok(Some(PastRun { run: run.clone(), stage, ended_at_ms }))
    }

    /// Forgets a run that is over, once `set_aside` has moved its folder away: within one transaction, which keeps others
    /// from writing. Cut off before its commit, the run is still known, without a folder, and is forgotten again; after it,
    /// nothing bears its name any more.
    pub fn forget(
        &self,
        run: &RunName,
        set_aside: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), ForgetError> {
        let run = run.0.clone();
        self.shared.write(move |connection| {
            if goes_on(connection, &run)? {
                return Ok(Err(ForgetError::GoesOn));
            }
            if let Err(error) = set_aside() {
                return Ok(Err(ForgetError::Folder(error)));
            }
            connection.execute("DELETE FROM entries WHERE run = ?1", [&run])?;
            connection.execute("DELETE FROM runs WHERE run = ?1", [&run])?;
            Ok(Ok(()))
        })?
    }
}

/// As of this transaction.
fn goes_on(connection: &Connection, run: &str) -> Result<bool, JournalError> {
    let row = connection.query_row(
        "SELECT stage IN ('queued', 'running') FROM runs WHERE run = ?1",
        [run],
        |row| row.get::<_, bool>(0),
    );
    if let Some(goes_on) = row.optional()? {
        return Ok(goes_on);
    }
    // One without a cluster has been taken over if that is newer than its end.
    let newest = connection.query_row(
        "SELECT json_extract(entry, '$.event') FROM entries WHERE run = ?1 \
         AND json_extract(entry, '$.event') IN ('ended', 'taken_over') ORDER BY seq DESC LIMIT 1",
        [run],
        |row| row.get::<_, String>(0),
    );
    Ok(newest.optional()?.as_deref() != Some("ended"))
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Entry, Requirements, Term};

    use super::super::register::Register;
    use super::*;

    fn record(run: &str, stage: Stage, ended_at_ms: u64) -> Record {
        Record {
            run: run.into(),
            stage,
            recipe: String::new(),
            priority: 0,
            requirements: Requirements { min_workers: 1, max_workers: 1, device: None, memory_bytes: 0 },
            submitter: String::new(),
            epochs: 1,
            term: Term(0),
            stopping: false,
            submitted_at_ms: Time(1),
            started_at_ms: Time(0),
            ended_at_ms: Time(ended_at_ms),
            end: None,
        }
    }

    #[test]
    fn a_clusters_runs_are_forgotten_once_they_are_over() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let past = Past::open(&home).unwrap();
        let register = Register::open(past.shared.clone()).unwrap();
        for (run, stage, ended) in
            [("done", Stage::Done, 5), ("failed", Stage::Failed, 9), ("queued", Stage::Queued, 0)]
        {
            register.insert(&record(run, stage, ended)).unwrap();
            register.update(&[&record(run, stage, ended)]).unwrap();
            home.journal().unwrap().append(run, Time(1), &[Entry::StopRequested]).unwrap();
        }
        let account = past.account().unwrap();
        let over: Vec<&str> = account.over.iter().map(|past| past.run.0.as_str()).collect();
        assert_eq!((over, account.going_on), (vec!["failed", "done"], vec!["queued".into()]));

        // It is put back into the queue before its turn.
        assert!(register.requeue(&record("failed", Stage::Queued, 0)).unwrap());
        for (run, is_forgotten) in [("failed", false), ("queued", false), ("done", true)] {
            let forgotten = past.forget(&run.into(), || Ok(()));
            assert_eq!(forgotten.is_ok(), is_forgotten, "{run}: {forgotten:?}");
            assert_eq!(past.knows(&run.into()).unwrap(), !is_forgotten, "{run}");
        }
        assert!(register.insert(&record("done", Stage::Queued, 0)).unwrap(), "its name is free");
    }
}
