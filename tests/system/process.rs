//! Real processes under watch: started a few at a time, waited for with a deadline, never left behind.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::processes::{children, stat};

/// No wait here takes a tenth of it on an idle machine; a busy one is not a failure.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Runs that compute at a time. Each has several processes; more would only make each other late.
const RUNS_MAX: u32 = 2;
static RUNS: Mutex<u32> = Mutex::new(0);
static RUN_ENDED: Condvar = Condvar::new();

/// The right to compute. Never asked for by somebody who holds one already.
#[derive(Debug)]
struct Permit;

impl Permit {
    fn take() -> Self {
        let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs =
            RUN_ENDED.wait_while(runs, |runs| *runs >= RUNS_MAX).unwrap_or_else(PoisonError::into_inner);
        *runs += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUN_ENDED.notify_one();
    }
}

/// A process at work. It and its children are killed when the test lets go of it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: TempDir,
    permit: Option<Permit>,
}

/// What an ended process left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts it as soon as there is room.
    pub(crate) fn start(command: &mut Command) -> Self {
        let permit = Permit::take();
        Self::spawn(command, Some(permit))
    }

    /// Starts a short command beside a run, and waits for its end.
    pub(crate) fn beside(&self, command: &mut Command) -> Ended {
        self.companion(command).wait()
    }

    /// Starts a process that takes part in this one's work.
    pub(crate) fn companion(&self, command: &mut Command) -> Self {
        Self::spawn(command, None)
    }

    /// Starts what goes on with the work of this one, which has ended. The room for it was never given up: whoever waits for
    /// it, for example a worker for its coordinator, does not wait for other tests.
    pub(crate) fn succeeded_by(mut self, command: &mut Command) -> Self {
        let permit = self.permit.take();
        Self::spawn(command, permit)
    }

    fn spawn(command: &mut Command, permit: Option<Permit>) -> Self {
        let output = tempfile::tempdir().unwrap();
        // Files, not pipes: nobody need read them for the process to go on.
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Self { child, output, permit }
    }

    /// Waits until `condition` gives something, while the process lives.
    pub(crate) fn until<T>(&mut self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        until(what, || {
            let ended = self.child.try_wait().unwrap();
            let found = condition();
            if let (Some(status), None) = (ended, &found) {
                panic!("ended ({status}) before {what}\n{}", self.said("stderr"));
            }
            found
        })
    }

    pub(crate) fn wait(mut self) -> Ended {
        let code = until(&format!("the end of process {}", self.child.id()), || {
            Some(self.child.try_wait().unwrap()?.code())
        });
        Ended { code, stdout: self.said("stdout"), stderr: self.said("stderr") }
    }

    /// The processes that it started and that are still there.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// What it says on stdout, also while somebody waits for it.
    pub(crate) fn output(&self) -> Said {
        Said { path: self.output.path().join("stdout") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, `INT` or `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        send(signal, &[self.child.id()]);
    }

    /// Kills it with SIGKILL; nobody tells its children.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn said(&self, stream: &str) -> String {
        String::from_utf8(fs::read(self.output.path().join(stream)).unwrap()).unwrap()
    }
}

/// What a process says, as far as it has said it.
#[derive(Debug)]
pub(crate) struct Said {
    path: PathBuf,
}

impl Said {
    pub(crate) fn read(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let children = self.children();
            let _ = self.child.kill();
            let _ = self.child.wait();
            send("KILL", &children);
        }
    }
}

impl Ended {
    /// The exit code is `code`, and what it said on stderr is fit for people: no panic, no debug print, no colours in
    /// a file, and an error once.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
        for unfit in [
            "panicked",
            "RUST_BACKTRACE",
            "thread '",
            "Err(",
            "Some(",
            "Os {",
            "source: ",
            "stack backtrace",
            "\u{1b}[",
        ] {
            assert!(!stderr.contains(unfit), "{unfit:?} in\n{stderr}");
        }
        let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        let right = match code {
            0 => errors == 0,
            // A second signal is told as an error, the first is not.
            130 | 143 => errors <= 1,
            _ => errors == 1,
        };
        assert!(right, "{errors} errors in\n{stderr}");
        self
    }

    /// All `words` are in what it said on stderr.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in\n{}", self.stderr);
        }
    }
}

/// Polls until `condition` gives something; fails at the deadline.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {DEADLINE:?}");
        thread::sleep(POLL);
    }
}

/// Sends a signal to processes, by the shell's own `kill`; those that are gone are passed over.
pub(crate) fn send(signal: &str, pids: &[u32]) {
    if !pids.is_empty() {
        let pids = pids.iter().map(u32::to_string);
        let script = "kill -s \"$0\" \"$@\" 2>/dev/null; true";
        assert!(Command::new("sh").args(["-c", script, signal]).args(pids).status().unwrap().success());
    }
}

/// Waits until a process stands still after a SIGSTOP.
pub(crate) fn await_stopped(pid: u32) {
    until(&format!("process {pid} to stand still"), || {
        stat(pid).is_some_and(|(state, _)| state == 'T').then_some(())
    });
}

/// Waits until processes are gone. What nobody has waited for yet is gone too.
pub(crate) fn await_gone(pids: &[u32]) {
    for pid in pids {
        until(&format!("the end of process {pid}"), || {
            stat(*pid).is_none_or(|(state, _)| state == 'Z').then_some(())
        });
    }
}
