//! What workers on other machines have logged, kept in the run's folder as if they had written it here.
//!
//! They send what they like, so there is a limit for each run: when it is reached a last line says so, and what comes
//! after it is left out. The worker has its own output besides.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lockstep_core::WorkerName;

/// Of all workers of one run.
const BYTES_MAX: u64 = 64 << 20;

/// The logs of one run's workers.
#[derive(Debug)]
pub struct WorkerLogs {
    folder: PathBuf,
    /// So many bytes may still come; none once it was said that no more are kept.
    room: Mutex<Option<u64>>,
}

impl WorkerLogs {
    /// In the run's folder at `path`; what lies there counts.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, BYTES_MAX)
    }

    fn with_limit(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let folder = path.join("logs");
        fs::create_dir_all(&folder)?;
        let mut bytes = 0;
        for entry in fs::read_dir(&folder)? {
            bytes += entry?.metadata()?.len();
        }
        Ok(Self { folder, room: Mutex::new(Some(bytes_max.saturating_sub(bytes))) })
    }

    /// Appends whole lines to a worker's log. The name has to be one that is a file's too.
    pub fn append(&self, worker: &WorkerName, lines: &str) -> io::Result<()> {
        // It guards a number; whoever died with it has written a line less.
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = *room else { return Ok(()) };
        let after = left.checked_sub(lines.len() as u64);
        *room = after;
        let text = match after {
            Some(_) => lines.to_owned(),
            None => format!(
                "the logs of this run's workers have reached their limit of {} MiB: no more is kept here\n",
                BYTES_MAX >> 20
            ),
        };
        let path = self.folder.join(format!("{worker}.log"));
        OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_left_out_and_a_line_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let logs = WorkerLogs::with_limit(folder.path(), 20).unwrap();
        for line in ["eight..\n", "eight..\n", "eight..\n", "eight..\n"] {
            logs.append(&"a".into(), line).unwrap();
        }
        let text = fs::read_to_string(folder.path().join("logs/a.log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["eight..", "eight.."]);
        assert!(lines[2].contains("no more is kept"), "{text}");
        assert_eq!(lines.len(), 3);
        // What lies there counts after a restart too.
        let logs = WorkerLogs::with_limit(folder.path(), text.len() as u64 + 8).unwrap();
        logs.append(&"b".into(), "eight..\n").unwrap();
        logs.append(&"b".into(), "x\n").unwrap();
        let text = fs::read_to_string(folder.path().join("logs/b.log")).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("eight..\n"), "{text}");
    }
}
