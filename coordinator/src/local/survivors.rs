//! Workers that outlived their coordinator: found by their command line among this machine's processes.
//!
//! A process id alone may have become somebody else's. A worker says on its command line which coordinator it was told to
//! join, and that address is in use by one run alone.

use std::fs;
use std::os::fd::OwnedFd;

use lockstep_core::WorkerName;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A worker's process that nobody on this machine is the parent of.
#[derive(Debug)]
pub struct Survivor {
    pub name: WorkerName,
    pub pid: u32,
    /// Stays with this process, even when its number is given to another.
    pub(super) handle: OwnedFd,
}

impl Survivor {
    /// All workers here that were told to join at `url`, by name.
    pub fn of(url: &str) -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut found: Vec<Self> = pids.filter_map(|pid| Self::at(pid, url)).collect();
        found.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
        found
    }

    fn at(pid: u32, url: &str) -> Option<Self> {
        let joined = || name_of(&fs::read(format!("/proc/{pid}/cmdline")).ok()?, url);
        joined()?;
        let handle = handle_of(pid)?;
        // Once more: now the handle holds on to whoever this is.
        let name = joined()?;
        Some(Self { name, pid, handle })
    }

    /// Ends a worker that has no place in the run any more.
    pub fn kill(&self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

pub(super) fn handle_of(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// The name in `… join URL … --name NAME …`, where it is this `url`.
fn name_of(command_line: &[u8], url: &str) -> Option<WorkerName> {
    let text = String::from_utf8_lossy(command_line);
    let arguments: Vec<&str> = text.split('\0').collect();
    let after = |word: &str| {
        let at = arguments.iter().position(|argument| *argument == word)?;
        arguments.get(at + 1).copied()
    };
    (after("join")? == url).then_some(())?;
    after("--name").map(WorkerName::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"/x/lockstep-worker\0join\0http://127.0.0.1:7\0--name\0worker-1\0--device\0cpu\0";

    #[test]
    fn a_worker_is_known_by_the_coordinator_that_it_was_told_of() {
        assert_eq!(name_of(LINE, "http://127.0.0.1:7"), Some("worker-1".into()));
        assert_eq!(name_of(LINE, "http://127.0.0.1:70"), None);
        assert_eq!(name_of(b"lockstep\0train\0--name\0a\0", "http://127.0.0.1:7"), None);
        assert_eq!(name_of(b"x\0join\0u\0--name", "u"), None);
        assert_eq!(name_of(b"", ""), None);
    }

    #[test]
    fn processes_are_found_and_killed() {
        // What a shell runs after `-c` keeps its further arguments on its command line. It waits without a child, which
        // would bear the same line for a moment.
        let url = format!("http://test-{}", std::process::id());
        let arguments = ["-c", "read line", "worker", "join", &url, "--name", "worker-3"];
        let mut shell = std::process::Command::new("sh");
        let mut child = shell.args(arguments).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let found = loop {
            // Between fork and exec it still bears the test's command line.
            if let Some(found) = Survivor::of(&url).pop() {
                break found;
            }
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        };
        assert_eq!((found.name.0.as_str(), found.pid), ("worker-3", child.id()));
        found.kill();
        child.wait().unwrap();
        assert!(Survivor::of(&url).is_empty());
    }
}
