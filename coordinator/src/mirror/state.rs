//! What the journal's file remembers of the mirror: which store it is, how far each run is in it, and which runs have changed
//! since.
//!
//! Changes are noted by triggers, in the transaction that makes them: so whoever makes them, and whatever crashes after, the
//! mirror hears of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lockstep_core::{Entry, Time};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::segment::Row;
use crate::journal::{Journal, JournalError, SharedJournal};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS mirror (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS mirrored (run TEXT PRIMARY KEY, seq INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS touched (run TEXT PRIMARY KEY, changes INTEGER NOT NULL);
    CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO touched VALUES (NEW.run, 1) ON CONFLICT (run) DO UPDATE SET changes = changes + 1; END;
    CREATE TRIGGER IF NOT EXISTS entry_deleted AFTER DELETE ON entries BEGIN
        INSERT INTO touched VALUES (OLD.run, 1) ON CONFLICT (run) DO UPDATE SET changes = changes + 1; END;
    CREATE TRIGGER IF NOT EXISTS run_added AFTER INSERT ON runs BEGIN
        INSERT INTO touched VALUES (NEW.run, 1) ON CONFLICT (run) DO UPDATE SET changes = changes + 1; END;
    CREATE TRIGGER IF NOT EXISTS run_changed AFTER UPDATE ON runs BEGIN
        INSERT INTO touched VALUES (NEW.run, 1) ON CONFLICT (run) DO UPDATE SET changes = changes + 1; END;
    CREATE TRIGGER IF NOT EXISTS run_deleted AFTER DELETE ON runs BEGIN
        INSERT INTO touched VALUES (OLD.run, 1) ON CONFLICT (run) DO UPDATE SET changes = changes + 1; END;";

/// Before the store is used again from its beginning.
const TOUCH_ALL: &str = "
    DELETE FROM mirrored;
    INSERT OR IGNORE INTO touched SELECT DISTINCT run, 1 FROM entries;
    INSERT OR IGNORE INTO touched SELECT run, 1 FROM runs;";

/// A row of the register, as it lies in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registered {
    /// The place in the order of submission.
    pub(super) seq: i64,
    pub(super) stage: String,
    pub(super) ended_at_ms: i64,
    /// As the register writes it.
    pub(super) record: String,
}

/// A run as it is in the journal at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) rows: Vec<Row>,
    pub(super) registered: Option<Registered>,
    /// The newest entry that the store has; 0: none.
    pub(super) mirrored: i64,
    /// So often it has changed since it was mirrored last.
    pub(super) changes: i64,
}

/// A run of a restored journal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Restored {
    pub(super) run: String,
    pub(super) rows: Vec<Row>,
    pub(super) registered: Option<Registered>,
}

/// Reads beside everybody who writes; writes as they do.
#[derive(Debug)]
pub(super) struct State {
    journal: SharedJournal,
    reader: Mutex<Connection>,
}

impl State {
    /// Of the journal at `path`, once the register is in it.
    pub(super) fn open(journal: SharedJournal, path: &Path) -> Result<Self, JournalError> {
        journal.write(|connection| Ok(connection.execute_batch(SCHEMA)?))?;
        Ok(Self { journal, reader: Mutex::new(Journal::open(path)?.into_connection()) })
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<String>, JournalError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached("SELECT value FROM mirror WHERE key = ?1")?;
            Ok(select.query_row([key], |row| row.get(0)).optional()?)
        })
    }

    pub(super) fn set(&self, pairs: Vec<(&'static str, String)>) -> Result<(), JournalError> {
        self.journal.write(move |connection| {
            for (key, value) in pairs {
                connection.execute("INSERT OR REPLACE INTO mirror VALUES (?1, ?2)", [key, &value])?;
            }
            Ok(())
        })
    }

    /// Nothing of this home is in the store yet.
    pub(super) fn touch_all(&self) -> Result<(), JournalError> {
        self.journal.write(|connection| Ok(connection.execute_batch(TOUCH_ALL)?))
    }

    /// Whether there is anything in the journal.
    pub(super) fn is_empty(&self) -> Result<bool, JournalError> {
        self.read(|connection| {
            let any = "SELECT EXISTS (SELECT 1 FROM entries) OR EXISTS (SELECT 1 FROM runs)";
            Ok(!connection.query_row(any, [], |row| row.get::<_, bool>(0))?)
        })
    }

    /// Those that have changed, those that changed first before the others.
    pub(super) fn touched(&self) -> Result<Vec<String>, JournalError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached("SELECT run FROM touched ORDER BY rowid")?;
            let runs = select.query_map([], |row| row.get(0))?;
            Ok(runs.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Data sets and weights that the runs began with.
    pub(super) fn inputs(&self) -> Result<BTreeSet<String>, JournalError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT run, seq, entry FROM entries WHERE seq IN (SELECT MIN(seq) FROM entries GROUP BY run)",
            )?;
            let firsts = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let mut digests = BTreeSet::new();
            for first in firsts {
                let (run, seq, text): (String, i64, String) = first?;
                let entry = serde_json::from_str(&text);
                let entry = entry.map_err(|source| JournalError::Entry { run, seq, source })?;
                if let Entry::Created { origin, .. } = entry {
                    digests.extend(origin.digests().cloned());
                }
            }
            Ok(digests)
        })
    }

    pub(super) fn known(&self, run: &str) -> Result<Known, JournalError> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut select = transaction
                .prepare_cached("SELECT seq, at_ms, entry FROM entries WHERE run = ?1 ORDER BY seq")?;
            let rows = select.query_map([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let rows: Vec<(i64, i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
            let row = |(seq, at_ms, text): (i64, i64, String)| {
                let entry = serde_json::from_str(&text).map_err(|source| JournalError::Entry {
                    run: run.to_owned(),
                    seq,
                    source,
                })?;
                Ok(Row { seq, at_ms: Time(at_ms.unsigned_abs()), entry })
            };
            let rows = rows.into_iter().map(row).collect::<Result<_, JournalError>>()?;
            let registered = "SELECT seq, stage, ended_at_ms, record FROM runs WHERE run = ?1";
            let registered =
                transaction.prepare_cached(registered)?.query_row([run], registered_of).optional()?;
            let number = |of: &str| -> Result<i64, JournalError> {
                let found = transaction.prepare_cached(of)?.query_row([run], |row| row.get(0)).optional()?;
                Ok(found.unwrap_or_default())
            };
            let mirrored = number("SELECT seq FROM mirrored WHERE run = ?1")?;
            let changes = number("SELECT changes FROM touched WHERE run = ?1")?;
            Ok(Known { rows, registered, mirrored, changes })
        })
    }

    /// The store has a run as far as entry `seq`, or nothing of it any more; what happened after `changes` is still to come.
    pub(super) fn note(&self, run: &str, seq: Option<i64>, changes: i64) -> Result<(), JournalError> {
        let run = run.to_owned();
        self.journal.write(move |connection| {
            match seq {
                Some(seq) => connection
                    .execute("INSERT OR REPLACE INTO mirrored VALUES (?1, ?2)", params![run, seq])?,
                None => connection.execute("DELETE FROM mirrored WHERE run = ?1", [&run])?,
            };
            connection
                .execute("DELETE FROM touched WHERE run = ?1 AND changes = ?2", params![run, changes])?;
            Ok(())
        })
    }

    /// Writes a whole journal, all or nothing, as one that the store has.
    pub(super) fn restore(&self, runs: Vec<Restored>) -> Result<(), JournalError> {
        self.journal.write(move |connection| {
            let mut entries =
                connection.prepare("INSERT INTO entries (seq, run, at_ms, entry) VALUES (?1, ?2, ?3, ?4)")?;
            let mut registered = connection.prepare("INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let mut mirrored = connection.prepare("INSERT INTO mirrored VALUES (?1, ?2)")?;
            for Restored { run, rows, registered: row } in runs {
                let last = rows.last().map_or(0, |row| row.seq);
                for Row { seq, at_ms, entry } in rows {
                    let text = serde_json::to_string(&entry).map_err(JournalError::Encode)?;
                    entries.execute(params![seq, run, at_ms.0 as i64, text])?;
                }
                if let Some(Registered { seq, stage, ended_at_ms, record }) = row {
                    registered.execute(params![run, seq, stage, ended_at_ms, record])?;
                }
                mirrored.execute(params![run, last])?;
            }
            connection.execute("DELETE FROM touched", [])?;
            Ok(())
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, JournalError>) -> Result<T, JournalError> {
        // It guards a connection, which is whole whatever a thread died of.
        read(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn registered_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Registered> {
    Ok(Registered { seq: row.get(0)?, stage: row.get(1)?, ended_at_ms: row.get(2)?, record: row.get(3)? })
}
