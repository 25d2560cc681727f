//! Where a run is, read from its folder as any other reader would: `events.jsonl` for what happened, `run.json` for how
//! far it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use lockstep_core::{Entry, Outcome, Position, Receipt, RunSpec};
use serde::Deserialize;

/// A run's folder, read along.
#[derive(Debug)]
pub(super) struct Follower {
    folder: PathBuf,
    /// How much of `events.jsonl` has been read.
    read_bytes: u64,
    seen: Seen,
}

/// What is known of a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) spec: Option<RunSpec>,
    /// The newest coordinator's; 1 is the first.
    pub(super) term: u64,
    /// The newest generation that began, and the processes of those who are in it.
    pub(super) generation: u64,
    pub(super) members: BTreeMap<String, u32>,
    /// One for every generation all of whose members have made their first step.
    pub(super) receipts: Vec<Receipt>,
    /// A lower bound of the steps done: what is written down lags behind.
    pub(super) step: u64,
    pub(super) outcome: Option<Outcome>,
    /// When the run went back to a checkpoint the last time.
    resumed_at_ms: u64,
}

/// A moment in a run's life, to tell later what has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) term: u64,
    pub(super) generation: u64,
    pub(super) receipts: usize,
    pub(super) step: u64,
}

impl Follower {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, read_bytes: 0, seen: Seen { term: 1, ..Seen::default() } }
    }

    /// Reads what has come since the last look. Files that are not there yet, or half written, are read next time.
    pub(super) fn look(&mut self) -> &Seen {
        for line in self.new_lines().lines() {
            if let Ok(Line { at_ms, entry }) = serde_json::from_str(line) {
                self.seen.take(at_ms, entry);
            }
        }
        self.look_at_status();
        &self.seen
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    fn new_lines(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.folder.join("events.jsonl")).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read_bytes))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return String::new();
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read_bytes += complete as u64;
        String::from_utf8_lossy(&bytes[..complete]).into_owned()
    }

    fn look_at_status(&mut self) {
        #[derive(Deserialize)]
        struct Status {
            updated_at_ms: u64,
            live: Live,
        }
        #[derive(Deserialize)]
        struct Live {
            position: Position,
        }
        let Ok(bytes) = fs::read(self.folder.join("run.json")) else { return };
        let Ok(Status { updated_at_ms, live: Live { position } }) = serde_json::from_slice(&bytes) else {
            return;
        };
        // One from before the run went back to a checkpoint tells of steps that are undone.
        if updated_at_ms > self.seen.resumed_at_ms {
            self.seen.step = self.seen.step.max(position.step.0);
        }
    }
}

/// A line of `events.jsonl`.
#[derive(Deserialize)]
struct Line {
    at_ms: u64,
    #[serde(flatten)]
    entry: Entry,
}

impl Seen {
    fn take(&mut self, at_ms: u64, entry: Entry) {
        match entry {
            Entry::Created { spec, .. } => self.spec = Some(spec),
            Entry::TakenOver { term, .. } => {
                self.term = term.0;
                self.outcome = None;
            }
            Entry::Resumed { position, .. } => {
                self.step = position.step.0;
                self.resumed_at_ms = at_ms;
            }
            Entry::GenerationBegan { generation, members, position } => {
                self.generation = generation.0;
                self.members = members.into_iter().map(|member| (member.worker.0, member.pid)).collect();
                self.step = self.step.max(position.step.0);
            }
            Entry::GenerationStarted(receipt) => self.receipts.push(receipt),
            Entry::EpochEnded(row) => self.step = self.step.max(row.step.0),
            Entry::Ended { outcome } => self.outcome = Some(outcome),
            _ => {}
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { term: self.term, generation: self.generation, receipts: self.receipts.len(), step: self.step }
    }

    /// Whether the newest generation's members have all made a step in it.
    pub(super) fn has_started(&self) -> bool {
        self.generation > 0
            && self.receipts.last().is_some_and(|receipt| receipt.generation.0 >= self.generation)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGAN: &str = r#"{"at_ms":5,"event":"generation_began","generation":2,"members":[{"worker":"worker-1","device":"cpu","host":"h","pid":7,"shards":[0,4]}],"position":{"epoch":0,"step":6}}"#;
    const STARTED: &str = r#"{"at_ms":6,"event":"generation_started","generation":2,"cause":"loss","culprit":"worker-0","reason":"gone","position":{"epoch":0,"step":6},"detect_ms":1,"halt_ms":2,"agree_ms":3,"connect_ms":4,"state_ms":5,"first_step_ms":6,"total_ms":21,"steps_lost":1}"#;

    fn append(folder: &Path, text: &str) {
        use std::io::Write as _;
        let file = fs::OpenOptions::new().create(true).append(true).open(folder.join("events.jsonl"));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn events_are_read_as_they_come_and_half_lines_when_they_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = Follower::new(folder.path().to_owned());
        assert_eq!(follower.look().generation, 0);
        let (head, tail) = STARTED.split_at(50);
        append(folder.path(), &format!("{BEGAN}\nnot an event\n{head}"));
        let seen = follower.look();
        assert_eq!((seen.generation, seen.step, seen.has_started()), (2, 6, false));
        assert_eq!(seen.members, [("worker-1".to_owned(), 7)].into());
        let mark = seen.mark();
        append(folder.path(), &format!("{tail}\n"));
        let seen = follower.look();
        assert!(seen.has_started());
        assert_eq!(seen.receipts[mark.receipts..].len(), 1);
    }

    #[test]
    fn a_status_from_before_a_resume_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let status = |at_ms: u64, step: u64| {
            let text =
                format!(r#"{{"updated_at_ms":{at_ms},"live":{{"position":{{"epoch":0,"step":{step}}}}}}}"#);
            fs::write(folder.path().join("run.json"), text).unwrap();
        };
        let mut follower = Follower::new(folder.path().to_owned());
        status(10, 9);
        assert_eq!(follower.look().step, 9);
        let resumed = r#"{"at_ms":20,"event":"resumed","position":{"epoch":0,"step":4},"damaged":[]}"#;
        append(folder.path(), &format!("{resumed}\n"));
        assert_eq!(follower.look().step, 4);
        status(30, 5);
        assert_eq!(follower.look().step, 5);
    }
}
