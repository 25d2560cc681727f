//! How a worker's process ended, in words and as what it means for its slot.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use lockstep_core::WorkerName;

/// Lines of a dead worker's log that are shown.
const LAST_LINES: usize = 15;

/// SIGINT and SIGTERM, as signals and as what a shell makes of them.
const STOP_SIGNALS: [i32; 2] = [2, 15];
const STOP_CODES: [i32; 2] = [130, 143];

/// A worker's process that ended.
#[derive(Debug, Clone)]
pub struct WorkerExit {
    pub name: WorkerName,
    /// Not known of a process that another coordinator started.
    pub status: Option<ExitStatus>,
    /// By this coordinator: it had no part in the run any more.
    pub killed: bool,
    pub log: PathBuf,
}

impl WorkerExit {
    /// How it ended, in words.
    pub fn describe(&self) -> String {
        match self.status {
            _ if self.killed => "killed, because the run had given it up".into(),
            Some(status) => describe(status),
            None => "nobody knows how: an earlier coordinator had started it".into(),
        }
    }

    /// Somebody asked it to end.
    pub(super) fn was_told_to_go(&self) -> bool {
        let status = self.status.filter(|_| !self.killed);
        status.is_some_and(|status| {
            status.code().is_some_and(|code| STOP_CODES.contains(&code))
                || status.signal().is_some_and(|signal| STOP_SIGNALS.contains(&signal))
        })
    }

    /// It ended by itself, and not well.
    pub fn went_wrong(&self) -> bool {
        !self.killed && self.status.is_some_and(|status| !status.success())
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        last_lines(&String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()))
    }
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by signal 9; the system may have run out of memory".into(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it vanished".into(),
    }
}

pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(raw: i32, killed: bool) -> WorkerExit {
        let status = Some(ExitStatus::from_raw(raw));
        WorkerExit { name: "worker-0".into(), status, killed, log: PathBuf::new() }
    }

    #[test]
    fn only_who_was_asked_to_end_left_on_purpose() {
        // A raw status is the exit code times 256, or the signal.
        for (raw, left) in [(143 << 8, true), (130 << 8, true), (15, true), (2, true), (0, false), (9, false)]
        {
            assert_eq!(exit(raw, false).was_told_to_go(), left, "{raw}");
        }
        assert!(!exit(15, true).was_told_to_go());
    }

    #[test]
    fn what_this_coordinator_killed_did_not_go_wrong() {
        assert!(exit(9, false).went_wrong() && exit(1 << 8, false).went_wrong());
        assert!(!exit(9, true).went_wrong() && !exit(0, false).went_wrong());
        assert!(exit(9, false).describe().starts_with("killed by signal 9"));
    }
}
