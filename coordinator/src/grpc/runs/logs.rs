//! The logs of a run: what its workers and its coordinator have written there, from the end backwards as far as was asked,
//! and then on, as long as the run lasts and somebody listens.
//!
//! Logs are files, which cannot notify, so whoever follows looks at their sizes a few times a second.

mod tail;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use lockstep_core::RunName;
use lockstep_proto::v1 as pb;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refused;
use crate::cluster::{ClusterHandle, RunSummary};

/// The contract's limit on one answer.
const LINES_BYTES: usize = 64 << 10;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Answers ahead of the network.
const AHEAD: usize = 2;

/// Logs of one run that are followed: one per worker that it ever had.
const SOURCES_MAX: usize = 10_000;

type Answers = ReceiverStream<Result<pb::ReadLogsResponse, Status>>;

pub(super) async fn read(cluster: &ClusterHandle, request: pb::ReadLogsRequest) -> Result<Answers, Status> {
    let pb::ReadLogsRequest { run, worker, follow, tail, after } = request;
    let run = RunName(run);
    if worker.contains(['/', '\\']) || worker.starts_with('.') {
        return Err(Status::invalid_argument(format!("`{}` is no worker's name", worker.escape_debug())));
    }
    let folder = cluster.folder(&run).await.map_err(refused)?.join("logs");
    let watched = if follow { cluster.watch(&run).await.map_err(refused)? } else { None };
    let (answers, stream) = mpsc::channel(AHEAD);
    let worker = (!worker.is_empty()).then_some(worker);
    let sources = after.into_iter().take(SOURCES_MAX).collect();
    let reader = Reader { folder, worker, tail: tail as usize, sources, answers };
    if !follow
        && let Some(worker) = &reader.worker
        && !reader.folder.join(format!("{worker}.log")).is_file()
    {
        return Err(Status::not_found(format!("run {run} has no log of {worker}")));
    }
    tokio::spawn(reader.read(watched));
    Ok(ReceiverStream::new(stream))
}

struct Reader {
    folder: PathBuf,
    /// None: all.
    worker: Option<String>,
    /// 0: all.
    tail: usize,
    /// By name: how far each was read.
    sources: BTreeMap<String, u64>,
    answers: mpsc::Sender<Result<pb::ReadLogsResponse, Status>>,
}

impl Reader {
    async fn read(mut self, mut watched: Option<watch::Receiver<RunSummary>>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whether it is over is asked first, so that the last look sees all.
            let goes_on = match &mut watched {
                Some(summary) => !summary.borrow().state.is_over() && summary.has_changed().is_ok(),
                None => false,
            };
            tokio::select! {
                _ = looks.tick() => {}
                () = self.answers.closed() => return,
            }
            let looking = tokio::task::spawn_blocking(move || self.look(!goes_on));
            let Ok((reader, looked)) = looking.await else { return };
            self = reader;
            if let Err(error) = looked {
                drop(self.answers.send(Err(Status::internal(format!("the run's logs: {error}")))).await);
                return;
            }
            if !goes_on || self.answers.is_closed() {
                return;
            }
        }
    }

    /// Sends what is new in all logs. This blocks, as long as nobody takes it.
    fn look(mut self, is_last: bool) -> (Self, io::Result<()>) {
        let looked = self
            .names()
            .and_then(|names| names.into_iter().try_for_each(|name| self.look_at(&name, is_last)));
        (self, looked)
    }

    /// The coordinator's own first.
    fn names(&self) -> io::Result<Vec<String>> {
        if let Some(worker) = &self.worker {
            return Ok(vec![worker.clone()]);
        }
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: io::Result<fs::DirEntry>| {
            Some(entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.to_owned())
        };
        let mut names: Vec<String> = entries.filter_map(name).take(SOURCES_MAX).collect();
        names.sort_by_key(|name| (name != "coordinator", name.clone()));
        Ok(names)
    }

    fn look_at(&mut self, name: &str, is_last: bool) -> io::Result<()> {
        let path = self.folder.join(format!("{name}.log"));
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let at = match self.sources.get(name) {
            Some(at) => *at,
            None => tail::start(&mut file, self.tail)?,
        };
        file.seek(SeekFrom::Start(at))?;
        let read = self.send(name, at, &mut file, is_last)?;
        self.sources.insert(name.to_owned(), at + read);
        Ok(())
    }

    /// Whole lines, as many as fit into an answer; a longer line is broken. A last line without an end waits for it, unless
    /// there will be none. Returns the bytes that were sent.
    fn send(&self, name: &str, at: u64, file: &mut File, is_last: bool) -> io::Result<u64> {
        let mut sent = 0;
        let mut buffer = Vec::new();
        loop {
            let room = LINES_BYTES - 1 - buffer.len();
            let read = file.take(room as u64).read_to_end(&mut buffer)?;
            let ends = buffer.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
            let whole = match ends {
                Some(whole) => whole,
                None if buffer.is_empty() => return Ok(sent),
                None if buffer.len() == LINES_BYTES - 1 || (is_last && read == 0) => buffer.len(),
                None if read == 0 => return Ok(sent),
                None => continue,
            };
            let mut lines = String::from_utf8_lossy(&buffer[..whole]).into_owned();
            if !lines.ends_with('\n') {
                lines.push('\n');
            }
            let read_bytes = at + sent + whole as u64;
            let answer = pb::ReadLogsResponse { source: name.to_owned(), lines, read_bytes };
            if self.answers.blocking_send(Ok(answer)).is_err() {
                return Ok(sent);
            }
            sent += whole as u64;
            buffer.drain(..whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn reader_of(
        folder: &std::path::Path,
        tail: usize,
    ) -> (Reader, mpsc::Receiver<Result<pb::ReadLogsResponse, Status>>) {
        let (answers, taken) = mpsc::channel(1_000);
        let folder = folder.to_owned();
        (Reader { folder, worker: None, tail, sources: BTreeMap::new(), answers }, taken)
    }

    fn taken(answers: &mut mpsc::Receiver<Result<pb::ReadLogsResponse, Status>>) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Ok(answer) = answers.try_recv() {
            let answer = answer.unwrap();
            assert!(answer.lines.len() <= LINES_BYTES && answer.lines.ends_with('\n'));
            all.push((answer.source, answer.lines));
        }
        all
    }

    #[test]
    fn what_comes_is_told_line_by_line_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, mut answers) = reader_of(folder.path(), 2);
        let (reader, looked) = reader.look(false);
        looked.unwrap();
        assert!(taken(&mut answers).is_empty());

        fs::write(folder.path().join("b.log"), "1\n2\n3\n").unwrap();
        fs::write(folder.path().join("coordinator.log"), "x\nhalf").unwrap();
        let (reader, looked) = reader.look(false);
        looked.unwrap();
        let told = |source: &str, lines: &str| (source.to_owned(), lines.to_owned());
        assert_eq!(taken(&mut answers), [told("coordinator", "x\n"), told("b", "2\n3\n")]);

        let mut file = fs::OpenOptions::new().append(true).open(folder.path().join("b.log")).unwrap();
        file.write_all(b"4\n").unwrap();
        let (reader, looked) = reader.look(false);
        looked.unwrap();
        assert_eq!(taken(&mut answers), [told("b", "4\n")]);
        reader.look(true).1.unwrap();
        assert_eq!(taken(&mut answers), [told("coordinator", "half\n")]);
    }

    #[test]
    fn long_logs_come_in_pieces_and_longer_lines_are_broken() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..30_000).map(|line| format!("line {line}\n")).collect();
        fs::write(folder.path().join("a.log"), &text).unwrap();
        fs::write(folder.path().join("b.log"), "y".repeat(150_000)).unwrap();
        let (reader, mut answers) = reader_of(folder.path(), 0);
        reader.look(true).1.unwrap();
        let told = taken(&mut answers);
        let of = |wanted: &str| -> String {
            told.iter().filter(|(source, _)| source == wanted).map(|(_, lines)| lines.as_str()).collect()
        };
        assert_eq!(of("a"), text);
        assert_eq!(of("b").replace('\n', ""), "y".repeat(150_000));
    }
}
