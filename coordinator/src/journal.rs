//! The journal: every run's entries in one SQLite file, durable before anybody hears of them.
//!
//! `synchronous=FULL` makes a committed entry survive a power cut. One transaction holds all entries of one
//! decision, so that a restart sees a decision whole or not at all. The file can be read with `sqlite3`. Where many runs
//! write at a time they share one connection (`shared`), and each disk's write carries what all of them have to say.

mod shared;

use std::path::Path;
use std::time::Duration;

use lockstep_core::{Entry, Time};
use rusqlite::{Connection, params};
use thiserror::Error;

pub use self::shared::SharedJournal;

/// Bumped when a stored entry changes its meaning; an unknown version is refused, never guessed at.
const FORMAT_VERSION: i64 = 2;

/// Several commands may work in one home; a writer waits this long for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        seq   INTEGER PRIMARY KEY AUTOINCREMENT,
        run   TEXT    NOT NULL,
        at_ms INTEGER NOT NULL,
        entry TEXT    NOT NULL
    );
    CREATE INDEX IF NOT EXISTS entries_by_run ON entries (run, seq);";

/// The open journal of a home.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
}

/// The journal cannot be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("the journal {path}: {source}")]
    Open { path: String, source: rusqlite::Error },
    #[error("the journal {path} has format {found}, this version reads {FORMAT_VERSION}")]
    Version { path: String, found: i64 },
    #[error("table {table} of the journal {path} has format {found}, this version reads {known}")]
    Table { path: String, table: &'static str, found: i64, known: i64 },
    #[error("the journal: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("entry {seq} of run {run} in the journal does not read: {source}")]
    Entry { run: String, seq: i64, source: serde_json::Error },
    #[error("an entry cannot be written: {0}")]
    Encode(serde_json::Error),
    /// What others wrote at the same time was lost with it.
    #[error("the journal: {0}")]
    Lost(String),
}

/// How a run's entries get into the journal.
#[derive(Debug)]
pub enum Pen {
    /// Over a connection of its own.
    Own(Journal),
    /// Together with what other runs write.
    Shared(SharedJournal),
}

impl From<Journal> for Pen {
    fn from(journal: Journal) -> Self {
        Self::Own(journal)
    }
}

impl From<SharedJournal> for Pen {
    fn from(journal: SharedJournal) -> Self {
        Self::Shared(journal)
    }
}

impl Pen {
    /// As [`Journal::append`].
    pub fn append(&mut self, run: &str, at: Time, entries: &[Entry]) -> Result<(), JournalError> {
        match self {
            Self::Own(journal) => journal.append(run, at, entries),
            Self::Shared(journal) => {
                let (run, texts) = (run.to_owned(), texts(entries)?);
                journal.write(move |connection| insert(connection, &run, at, &texts))
            }
        }
    }
}

impl Journal {
    /// Opens the journal at `path`, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let label = path.display().to_string();
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, version))
        };
        let (connection, found) =
            open().map_err(|source| JournalError::Open { path: label.clone(), source })?;
        match found {
            0 => {
                connection.execute_batch(SCHEMA)?;
                connection.pragma_update(None, "user_version", FORMAT_VERSION)?;
            }
            FORMAT_VERSION => {}
            _ => return Err(JournalError::Version { path: label, found }),
        }
        Ok(Self { connection })
    }

    /// In memory, with a run's rows as they are to be read.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_rows(run: &str, rows: &[String]) -> Result<Self, JournalError> {
        let journal = Self::open(Path::new(":memory:"))?;
        insert(&journal.connection, run, Time(0), rows)?;
        Ok(journal)
    }

    /// Appends entries in one transaction. They are durable when it returns.
    pub fn append(&mut self, run: &str, at: Time, entries: &[Entry]) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        insert(&transaction, run, at, &texts(entries)?)?;
        transaction.commit()?;
        Ok(())
    }

    /// A run's entries in order; empty when there is no such run.
    pub fn entries(&self, run: &str) -> Result<Vec<Entry>, JournalError> {
        Ok(self.entries_with_times(run)?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// A run's entries in order, and when each was written.
    pub fn entries_with_times(&self, run: &str) -> Result<Vec<(Time, Entry)>, JournalError> {
        let mut select =
            self.connection.prepare("SELECT seq, at_ms, entry FROM entries WHERE run = ?1 ORDER BY seq")?;
        let rows = select.query_map([run], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (seq, at_ms, text) = row?;
            let entry = serde_json::from_str(&text).map_err(|source| JournalError::Entry {
                run: run.to_owned(),
                seq,
                source,
            })?;
            Ok((Time(at_ms.unsigned_abs()), entry))
        })
        .collect()
    }

    /// Whether the journal knows a run of this name.
    pub fn knows(&self, run: &str) -> Result<bool, JournalError> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM entries WHERE run = ?1 LIMIT 1")?;
        Ok(select.exists([run])?)
    }

    /// For the same file's other tables.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    /// The names of all runs, the one with the newest entry first.
    pub fn runs(&self) -> Result<Vec<String>, JournalError> {
        let mut select =
            self.connection.prepare("SELECT run FROM entries GROUP BY run ORDER BY MAX(seq) DESC")?;
        let names = select.query_map([], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }
}

fn texts(entries: &[Entry]) -> Result<Vec<String>, JournalError> {
    entries.iter().map(|entry| serde_json::to_string(entry).map_err(JournalError::Encode)).collect()
}

fn insert(connection: &Connection, run: &str, at: Time, texts: &[String]) -> Result<(), JournalError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO entries (run, at_ms, entry) VALUES (?1, ?2, ?3)")?;
    for text in texts {
        insert.execute(params![run, at.0 as i64, text])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::Step;

    #[test]
    fn entries_come_back_in_order_and_by_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let entries = [Entry::StopRequested, Entry::CheckpointDeleted { step: Step(3) }];
        let mut journal = Journal::open(&path).unwrap();
        journal.append("a", Time(1), &entries).unwrap();
        journal.append("b", Time(2), &entries[..1]).unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.entries("a").unwrap(), entries);
        let [first, second] = entries;
        assert_eq!(journal.entries_with_times("a").unwrap(), [(Time(1), first), (Time(1), second)]);
        assert_eq!(journal.entries("c").unwrap(), []);
        assert_eq!(journal.runs().unwrap(), ["b", "a"]);
    }

    #[test]
    fn a_journal_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        for other in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            Connection::open(&path).unwrap().pragma_update(None, "user_version", other).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(matches!(error, JournalError::Version { found, .. } if found == other), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_journal_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Open { .. })));
    }
}
