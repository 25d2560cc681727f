//! One connection for many writers: what waits is committed together.
//!
//! A commit waits for the disk, and SQLite lets one writer in at a time: hundreds of runs with a connection each would
//! queue for the disk one by one, and those that find the file locked would sleep between tries. Here they queue in
//! memory, and every commit takes all that have come meanwhile, so that the wait is two commits at the most however many
//! they are.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::{Connection, TransactionBehavior};

use super::{Journal, JournalError};

/// Writes that may wait; more wait to be queued.
const WAITING_MAX: usize = 1024;

/// Writes of one commit.
const TOGETHER_MAX: usize = 256;

type Work = Box<dyn FnOnce(&Connection) -> Result<(), JournalError> + Send>;

struct Job {
    work: Work,
    done: SyncSender<Result<(), JournalError>>,
}

/// The journal of many writers. It is closed when the last of them is gone.
#[derive(Debug, Clone)]
pub struct SharedJournal {
    jobs: SyncSender<Job>,
}

impl SharedJournal {
    /// Shares `journal` from here on.
    pub fn start(journal: Journal) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        thread::Builder::new().name("journal".into()).spawn(move || serve(journal, &waiting))?;
        Ok(Self { jobs })
    }

    /// Carries out `work` in a transaction, and returns once it is durable: this blocks. Work that fails leaves nothing
    /// behind, and others' work as it is.
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let gone = || JournalError::Lost("it is closed".to_owned());
        let (done, answer) = sync_channel(1);
        let (found, finding) = sync_channel(1);
        let work = Box::new(move |connection: &Connection| {
            // There is room for the one value.
            work(connection).map(|value| drop(found.send(value)))
        });
        self.jobs.send(Job { work, done }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())??;
        finding.recv().map_err(|_| gone())
    }
}

fn serve(mut journal: Journal, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let others = waiting.try_iter().take(TOGETHER_MAX - 1);
        let jobs: Vec<Job> = std::iter::once(first).chain(others).collect();
        commit(&mut journal.connection, jobs);
    }
}

fn commit(connection: &mut Connection, jobs: Vec<Job>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let all = || -> rusqlite::Result<()> {
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Job { work, done } in jobs {
            let savepoint = transaction.savepoint()?;
            let result = work(&savepoint);
            // One that is dropped is rolled back.
            if result.is_ok() {
                savepoint.commit()?;
            }
            answers.push((done, result));
        }
        transaction.commit()
    };
    // Whoever is left out by an error hears of it by its answer's end.
    let committed = all();
    for (done, result) in answers {
        let result = match &committed {
            Ok(()) => result,
            Err(error) => result.and(Err(JournalError::Lost(error.to_string()))),
        };
        // It may have stopped waiting.
        drop(done.send(result));
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Entry, Time};

    use super::*;
    use crate::journal::Pen;

    #[test]
    fn many_write_at_a_time_and_all_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let shared = SharedJournal::start(Journal::open(&path).unwrap()).unwrap();
        thread::scope(|scope| {
            for run in 0..20 {
                let mut pen = Pen::from(shared.clone());
                scope.spawn(move || {
                    for at in 0..20 {
                        pen.append(&format!("run-{run}"), Time(at), &[Entry::StopRequested]).unwrap();
                    }
                });
            }
        });
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.runs().unwrap().len(), 20);
        for run in 0..20 {
            let times = journal.entries_with_times(&format!("run-{run}")).unwrap();
            assert!(times.iter().map(|(at, _)| at.0).eq(0..20), "in order");
        }
    }

    #[test]
    fn work_that_fails_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let shared = SharedJournal::start(Journal::open(&path).unwrap()).unwrap();
        let mut pen = Pen::from(shared.clone());
        let failed = shared.write(|connection| {
            connection.execute("INSERT INTO entries (run, at_ms, entry) VALUES ('a', 0, '{}')", [])?;
            connection.execute("INSERT INTO nothing VALUES (1)", [])?;
            Ok(())
        });
        assert!(failed.is_err());
        pen.append("b", Time(1), &[Entry::StopRequested]).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert!(!journal.knows("a").unwrap() && journal.knows("b").unwrap());
    }
}
