//! Beginning again as a new process in the place of this one: same number, same arguments, nothing else the same.
//!
//! A worker that stands by for one run after another does so between two of them. What libtorch and a device's libraries
//! have set up in a process cannot be undone there, and memory that is not given back would be missing in every later run.
//! A new process also is the one cure for whatever a worker has failed by. All files, sockets and shared memory of this
//! crate are closed with the old one.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::session::{self, StopSignal};

/// Tells a process that it stands by, and how often in a row its predecessors have failed.
pub(crate) const VARIABLE: &str = "LOCKSTEP_STAND_BY";
/// A process that went on for so long has not failed in a row with the one before: ten times the longest rest.
const STEADY: Duration = Duration::from_secs(600);
/// What the system calls this program's file once another one lies in its place.
const REPLACED: &str = " (deleted)";

/// Failures in a row, this process's included.
pub(crate) fn failures(before: u32, lived: Duration) -> u32 {
    if lived < STEADY { before.saturating_add(1) } else { 1 }
}

/// Goes on as a new process: at once, or after a rest when this one has failed, the longer the oftener. Returns with the
/// signal that has come instead, or when the system refuses.
pub(crate) async fn begin_again(
    failures: Option<u32>,
    signals: &mut mpsc::Receiver<StopSignal>,
) -> io::Result<StopSignal> {
    if let Some(failures) = failures {
        info!(failures, "resting, then beginning again as a new process");
        if let Some(signal) = session::rest(failures, signals).await {
            return Ok(signal);
        }
    }
    if let Ok(signal) = signals.try_recv() {
        return Ok(signal);
    }
    debug!("beginning again as a new process");
    Err(start_again(VARIABLE, &failures.unwrap_or_default().to_string()))
}

/// Becomes the same program with the same arguments and a variable more: a library reads its environment once, and
/// changing that of a running program is not safe. Returns only if that fails.
pub(crate) fn start_again(name: &str, value: &str) -> io::Error {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    match std::env::current_exe() {
        Ok(own) => {
            let program = program(own, Path::is_file);
            Command::new(program).arg0(called).args(arguments).env(name, value).exec()
        }
        Err(error) => error,
    }
}

/// The file to start: after an upgrade the one that has taken the place of this program's.
fn program(own: PathBuf, is_there: impl Fn(&Path) -> bool) -> PathBuf {
    let upgraded = own.to_str().and_then(|path| path.strip_suffix(REPLACED)).map(PathBuf::from);
    match upgraded {
        Some(upgraded) if is_there(&upgraded) => upgraded,
        // The one that runs can be started even when it has no name any more.
        Some(_) => PathBuf::from("/proc/self/exe"),
        None => own,
    }
}

#[cfg(test)]
mod tests;
