//! `coordinator.json`: who serves a run, as long as somebody does.
//!
//! What a coordinator that was killed leaves behind tells the next one where its workers look for it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lockstep_core::{Term, Time};
use serde::{Deserialize, Serialize};

use crate::durable;

/// A coordinator at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its local workers were told to look for it.
    pub worker_url: String,
    pub pid: u32,
    pub term: Term,
    pub started_at_ms: Time,
}

/// Removes the file when this coordinator ends, unless it is another's by then.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    pid: u32,
}

impl Serving {
    /// Of the run in `folder`: who serves it, or did when it was killed. A file that does not read says nothing.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file(folder)).ok()?).ok()
    }

    /// Makes it known.
    pub fn announce(&self, folder: &Path) -> io::Result<Announcement> {
        let path = file(folder);
        // No process outlives a loss of power.
        durable::show_file(&path, &serde_json::to_vec_pretty(self)?)?;
        Ok(Announcement { path, pid: self.pid })
    }

    /// The process is there. A number that was given to another program meanwhile does not count.
    pub fn is_alive(&self) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(program).contains("lockstep")
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let own = |path: &Path| Serving::read(path).is_some_and(|serving| serving.pid == self.pid);
        if self.path.parent().is_some_and(own) {
            // Left behind, it makes a resume look for workers that are not there, no more.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("coordinator.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(pid: u32) -> Serving {
        Serving {
            address: "127.0.0.1:7".parse().unwrap(),
            worker_url: "http://127.0.0.1:7".into(),
            pid,
            term: Term(2),
            started_at_ms: Time(5),
        }
    }

    #[test]
    fn it_is_there_until_its_coordinator_ends() {
        let folder = tempfile::tempdir().unwrap();
        let announcement = serving(1).announce(folder.path()).unwrap();
        assert_eq!(Serving::read(folder.path()), Some(serving(1)));
        // Another one has taken the run over: the file stays.
        let newer = serving(2).announce(folder.path()).unwrap();
        drop(announcement);
        assert_eq!(Serving::read(folder.path()), Some(serving(2)));
        drop(newer);
        assert_eq!(Serving::read(folder.path()), None);
    }

    #[test]
    fn a_file_that_does_not_read_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), "{").unwrap();
        assert_eq!(Serving::read(folder.path()), None);
    }

    #[test]
    fn a_process_that_is_gone_or_another_program_is_not_alive() {
        assert!(!serving(u32::MAX).is_alive());
        let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        while fs::read(format!("/proc/{}/cmdline", other.id())).unwrap() != b"sleep\x00600\0" {
            std::thread::yield_now(); // between fork and exec it is still this program
        }
        assert!(!serving(other.id()).is_alive());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
