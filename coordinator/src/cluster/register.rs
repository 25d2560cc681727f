//! The register of the cluster's runs: a row each, in the journal's file beside the runs' entries.
//!
//! A row is what a restart needs and what a list shows, so that a run that is over costs no memory here: it is read when
//! somebody asks. The state is written whole, never as a change, and always before anybody hears of it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lockstep_core::RunName;
use rusqlite::{Connection, OptionalExtension, params};

use super::record::{Record, Stage};
use crate::home::Home;
use crate::journal::{Journal, JournalError, SharedJournal};

/// Bumped when a row changes its meaning; an unknown version is refused, never guessed at.
const FORMAT_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS formats (
        of      TEXT PRIMARY KEY,
        version INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS runs (
        run         TEXT    PRIMARY KEY,
        seq         INTEGER NOT NULL,
        stage       TEXT    NOT NULL,
        ended_at_ms INTEGER NOT NULL,
        record      TEXT    NOT NULL
    );
    CREATE INDEX IF NOT EXISTS runs_by_stage ON runs (stage, seq);
    CREATE INDEX IF NOT EXISTS runs_by_end ON runs (stage, ended_at_ms DESC);";

/// A place in the order of submission, after all others.
const NEXT: &str = "(SELECT IFNULL(MAX(seq), 0) + 1 FROM runs)";

/// Writes.
#[derive(Debug, Clone)]
pub(super) struct Register {
    journal: SharedJournal,
}

/// Reads, beside whoever writes.
#[derive(Debug)]
pub(super) struct Archive {
    connection: Mutex<Connection>,
}

/// Of a page of runs that are over.
#[derive(Debug)]
pub struct Page {
    pub records: Vec<Record>,
    /// So many there are in all.
    pub total: usize,
}

/// The journal of a home for many writers, with the register in it.
///
/// # Errors
/// When its file cannot be used.
pub fn journal(home: &Home) -> Result<SharedJournal, JournalError> {
    let lost = |error: std::io::Error| JournalError::Lost(error.to_string());
    let journal = SharedJournal::start(home.journal()?).map_err(lost)?;
    Register::open(journal.clone())?;
    Ok(journal)
}

impl Register {
    /// The register in `journal`, made where there is none.
    pub(super) fn open(journal: SharedJournal) -> Result<Self, JournalError> {
        journal.write(|connection| {
            connection.execute_batch(SCHEMA)?;
            connection.execute(
                "INSERT INTO formats (of, version) VALUES ('runs', ?1) ON CONFLICT DO NOTHING",
                [FORMAT_VERSION],
            )?;
            let found: i64 =
                connection
                    .query_row("SELECT version FROM formats WHERE of = 'runs'", [], |row| row.get(0))?;
            if found == FORMAT_VERSION {
                return Ok(());
            }
            let path = connection.path().unwrap_or_default().to_owned();
            Err(JournalError::Table { path, table: "runs", found, known: FORMAT_VERSION })
        })?;
        Ok(Self { journal })
    }

    /// Adds a run, the last in the queue; false when its name is taken, by a run of the cluster or any other here.
    pub(super) fn insert(&self, record: &Record) -> Result<bool, JournalError> {
        let (run, stage, text) = (record.run.0.clone(), record.stage.as_str(), text(record)?);
        self.journal.write(move |connection| {
            let mut known = connection.prepare_cached("SELECT 1 FROM entries WHERE run = ?1 LIMIT 1")?;
            if known.exists([&run])? {
                return Ok(false);
            }
            let mut insert = connection.prepare_cached(&format!(
                "INSERT INTO runs (run, seq, stage, ended_at_ms, record) VALUES (?1, {NEXT}, ?2, 0, ?3) \
                 ON CONFLICT DO NOTHING"
            ))?;
            Ok(insert.execute(params![run, stage, text])? == 1)
        })
    }

    /// Writes how runs are now, all or none.
    pub(super) fn update(&self, records: &[&Record]) -> Result<(), JournalError> {
        let rows: Result<Vec<_>, JournalError> = records
            .iter()
            .map(|record| {
                let ended_at_ms = record.ended_at_ms.0 as i64;
                Ok((record.run.0.clone(), record.stage.as_str(), ended_at_ms, text(record)?))
            })
            .collect();
        let rows = rows?;
        self.journal.write(move |connection| {
            let mut update = connection
                .prepare_cached("UPDATE runs SET stage = ?2, ended_at_ms = ?3, record = ?4 WHERE run = ?1")?;
            for (run, stage, ended_at_ms, text) in rows {
                update.execute(params![run, stage, ended_at_ms, text])?;
            }
            Ok(())
        })
    }

    /// Where it is written.
    pub(super) fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    /// A commit that changes nothing, as far as the disk.
    pub(super) fn touch(&self) -> Result<(), JournalError> {
        self.journal.write(|connection| {
            connection
                .prepare_cached("UPDATE formats SET version = version WHERE of = 'runs'")?
                .execute([])?;
            Ok(())
        })
    }

    /// Puts a run that is over back into the queue, behind all others; false when it is not over.
    pub(super) fn requeue(&self, record: &Record) -> Result<bool, JournalError> {
        let (run, stage, text) = (record.run.0.clone(), record.stage.as_str(), text(record)?);
        self.journal.write(move |connection| {
            let mut update = connection.prepare_cached(&format!(
                "UPDATE runs SET seq = {NEXT}, stage = ?2, ended_at_ms = 0, record = ?3 \
                 WHERE run = ?1 AND stage IN ('done', 'stopped', 'failed')"
            ))?;
            Ok(update.execute(params![run, stage, text])? == 1)
        })
    }
}

impl Archive {
    /// Of the journal at `path`, once the register is open.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { connection: Mutex::new(Journal::open(path)?.into_connection()) })
    }

    /// Those that are not over, in the order of their submission.
    pub(super) fn active(&self) -> Result<Vec<Record>, JournalError> {
        self.with(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT run, record FROM runs WHERE stage IN ('queued', 'running') ORDER BY seq",
            )?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.map(|row| read(row?)).collect()
        })
    }

    /// All, over or not, in the order of their submission.
    pub(super) fn all(&self) -> Result<Vec<Record>, JournalError> {
        self.with(|connection| {
            let mut select = connection.prepare_cached("SELECT run, record FROM runs ORDER BY seq")?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.map(|row| read(row?)).collect()
        })
    }

    /// A run, over or not.
    pub(super) fn get(&self, run: &RunName) -> Result<Option<Record>, JournalError> {
        self.with(|connection| {
            let mut select = connection.prepare_cached("SELECT run, record FROM runs WHERE run = ?1")?;
            let row = select.query_row([&run.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            row.map(read).transpose()
        })
    }

    /// The newest of those that are over, in any of `stages`.
    pub(super) fn over(&self, stages: &[Stage], limit: usize) -> Result<Page, JournalError> {
        let over = stages.iter().filter(|stage| stage.is_over());
        let stages: Vec<String> = over.map(|stage| format!("'{}'", stage.as_str())).collect();
        let stages = stages.join(", ");
        self.with(|connection| {
            let count = format!("SELECT COUNT(*) FROM runs WHERE stage IN ({stages})");
            let total: i64 = connection.query_row(&count, [], |row| row.get(0))?;
            let mut select = connection.prepare_cached(&format!(
                "SELECT run, record FROM runs WHERE stage IN ({stages}) ORDER BY ended_at_ms DESC, seq DESC LIMIT ?1"
            ))?;
            let rows = select.query_map([limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let records = rows.map(|row| read(row?)).collect::<Result<_, _>>()?;
            Ok(Page { records, total: total.unsigned_abs() as usize })
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, JournalError>) -> Result<T, JournalError> {
        // It guards a connection, which is whole whatever a thread died of.
        read(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn text(record: &Record) -> Result<String, JournalError> {
    serde_json::to_string(record).map_err(JournalError::Encode)
}

fn read((run, text): (String, String)) -> Result<Record, JournalError> {
    serde_json::from_str(&text).map_err(|source| JournalError::Entry { run, seq: 0, source })
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Entry, Requirements, Term, Time};

    use super::super::record::End;
    use super::*;
    use crate::journal::Pen;

    fn record(run: &str) -> Record {
        Record {
            run: run.into(),
            stage: Stage::Queued,
            recipe: "epochs = 1".to_owned(),
            priority: 2,
            requirements: Requirements { min_workers: 1, max_workers: 2, device: None, memory_bytes: 0 },
            submitter: String::new(),
            epochs: 1,
            term: Term(0),
            stopping: false,
            submitted_at_ms: Time(5),
            started_at_ms: Time(0),
            ended_at_ms: Time(0),
            end: None,
        }
    }

    fn names(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| record.run.0.as_str()).collect()
    }

    #[test]
    fn runs_are_queued_in_order_and_names_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let shared = SharedJournal::start(Journal::open(&path).unwrap()).unwrap();
        Pen::from(shared.clone()).append("local", Time(1), &[Entry::StopRequested]).unwrap();
        let register = Register::open(shared).unwrap();
        let archive = Archive::open(&path).unwrap();
        for run in ["b", "a", "c"] {
            assert!(register.insert(&record(run)).unwrap());
        }
        assert!(!register.insert(&record("a")).unwrap());
        assert!(!register.insert(&record("local")).unwrap(), "it is in the journal without the cluster");
        assert_eq!(names(&archive.active().unwrap()), ["b", "a", "c"]);
        assert_eq!(archive.get(&"b".into()).unwrap(), Some(record("b")));
        assert_eq!(archive.get(&"d".into()).unwrap(), None);

        // Over, and back into the queue at its end.
        assert!(!register.requeue(&record("b")).unwrap(), "it is not over");
        let end = Some(End::early("no reason", None));
        let over = Record { stage: Stage::Failed, ended_at_ms: Time(9), end, ..record("b") };
        register.update(&[&over]).unwrap();
        assert_eq!(names(&archive.active().unwrap()), ["a", "c"]);
        assert!(register.requeue(&record("b")).unwrap());
        assert_eq!(names(&archive.active().unwrap()), ["a", "c", "b"]);
    }

    #[test]
    fn the_newest_of_those_that_are_over_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let register = Register::open(SharedJournal::start(Journal::open(&path).unwrap()).unwrap()).unwrap();
        let archive = Archive::open(&path).unwrap();
        for (run, stage, ended) in
            [("a", Stage::Done, 7), ("b", Stage::Failed, 9), ("c", Stage::Done, 8), ("d", Stage::Queued, 0)]
        {
            register.insert(&record(run)).unwrap();
            register.update(&[&Record { stage, ended_at_ms: Time(ended), ..record(run) }]).unwrap();
        }
        let page = archive.over(&Stage::ALL, 2).unwrap();
        assert_eq!((names(&page.records), page.total), (vec!["b", "c"], 3));
        let page = archive.over(&[Stage::Done], 9).unwrap();
        assert_eq!((names(&page.records), page.total), (vec!["c", "a"], 2));
        assert_eq!(archive.over(&[Stage::Queued], 9).unwrap().total, 0);
    }

    #[test]
    fn a_register_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let shared = SharedJournal::start(Journal::open(&path).unwrap()).unwrap();
        Register::open(shared.clone()).unwrap();
        shared.write(|connection| Ok(connection.execute("UPDATE formats SET version = 9", [])?)).unwrap();
        let error = Register::open(shared).unwrap_err();
        assert!(matches!(error, JournalError::Table { found: 9, .. }), "{error}");
    }
}
