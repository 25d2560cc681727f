//! The processes of one run: a coordinator by `lockstep train` or `lockstep resume`, its workers, and guests that join.
//!
//! Whatever is left of them is killed when the value goes, so that no way out of chaos leaves anything running.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::ChaosError;
use crate::local::Survivor;
use crate::run_folder::Serving;

/// How a run's processes are started.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// This very program.
    pub(super) program: PathBuf,
    pub(super) worker: PathBuf,
    pub(super) home: PathBuf,
    pub(super) run: String,
    /// `N` or `A..B`.
    pub(super) workers: String,
    /// The recipe and its changes, as `lockstep train` takes them.
    pub(super) recipe: Vec<String>,
    /// What workers are told, if not the coordinator's own address.
    pub(super) url: Option<String>,
    /// Where output goes that a run does not keep itself.
    pub(super) logs: PathBuf,
}

#[derive(Debug)]
pub(super) struct Cluster {
    orders: Orders,
    coordinator: Child,
    guests: Vec<Child>,
}

impl Cluster {
    /// Starts the run.
    pub(super) fn train(orders: Orders) -> Result<Self, ChaosError> {
        let mut command = orders.lockstep("train")?;
        command.args(&orders.recipe).args(["--name", &orders.run]);
        let coordinator = spawn(&mut command, &orders.program)?;
        Ok(Self { orders, coordinator, guests: Vec::new() })
    }

    /// Starts another coordinator of the run, whose last one has ended.
    pub(super) fn resume(&mut self) -> Result<(), ChaosError> {
        let mut command = self.orders.lockstep("resume")?;
        command.arg(&self.orders.run);
        self.coordinator = spawn(&mut command, &self.orders.program)?;
        Ok(())
    }

    /// Starts a worker of its own, and gives its name.
    pub(super) fn join(&mut self) -> Result<String, ChaosError> {
        let Orders { worker, home, url, .. } = &self.orders;
        let name = format!("guest-{}", self.guests.len() + 1);
        let log = self.orders.log(&name)?;
        let mut command = Command::new(worker);
        command.args(["join", url.as_deref().unwrap_or_default(), "--name", &name, "--cache"]);
        command.arg(home.join("cache"));
        apart(&mut command, log)?;
        self.guests.push(spawn(&mut command, worker)?);
        Ok(name)
    }

    /// The run's living workers, by name, whoever started them.
    pub(super) fn workers(&self) -> Vec<Survivor> {
        self.url().map(|url| Survivor::of(&url)).unwrap_or_default()
    }

    /// What workers were told; none before the coordinator has said it.
    fn url(&self) -> Option<String> {
        let folder = self.orders.home.join("runs").join(&self.orders.run);
        self.orders.url.clone().or_else(|| Some(Serving::read(&folder)?.worker_url))
    }

    /// Kills the coordinator alone, and waits until it is gone.
    pub(super) async fn kill_coordinator(&mut self) {
        // It may have ended by itself in the meantime.
        drop(self.coordinator.kill().await);
    }

    /// Kills all there is at once, and waits until the coordinator is gone.
    pub(super) async fn kill_everything(&mut self) {
        self.kill_all();
        self.kill_coordinator().await;
    }

    /// The coordinator is held first, so that it starts no worker again.
    fn kill_all(&mut self) {
        if let Some(pid) = self.coordinator.id() {
            send(pid, Signal::STOP);
        }
        self.workers().iter().for_each(Survivor::kill);
        drop(self.coordinator.start_kill());
    }

    /// How the coordinator ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.coordinator.try_wait().ok().flatten()
    }

    /// The end of what the coordinator has said, a line after a line end.
    pub(super) fn said(&self) -> String {
        const LINES: usize = 10;
        let said = std::fs::read(self.orders.log_path("coordinator")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  | {line}")).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Orders {
    fn lockstep(&self, verb: &str) -> Result<Command, ChaosError> {
        let mut command = Command::new(&self.program);
        command.args([verb, "--workers", &self.workers, "--home"]).arg(&self.home);
        if let Some(url) = &self.url {
            command.args(["--worker-url", url]);
        }
        apart(&mut command, self.log("coordinator")?)?;
        Ok(command)
    }

    fn log(&self, who: &str) -> Result<File, ChaosError> {
        let path = self.log_path(who);
        OpenOptions::new().create(true).append(true).open(&path).map_err(ChaosError::io("write", &path))
    }

    fn log_path(&self, who: &str) -> PathBuf {
        self.logs.join(format!("{}-{who}.log", self.run))
    }
}

/// Away from the terminal: a Ctrl-C there is chaos's own, which then ends the others.
fn apart(command: &mut Command, log: File) -> Result<(), ChaosError> {
    let copy = log.try_clone().map_err(ChaosError::system("share a log file"))?;
    command.stdin(Stdio::null()).stdout(copy).stderr(log).process_group(0).kill_on_drop(true);
    Ok(())
}

fn spawn(command: &mut Command, program: &Path) -> Result<Child, ChaosError> {
    command.spawn().map_err(ChaosError::io("start", program))
}

/// Sends a signal; whoever is gone already needs none.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    }
}
