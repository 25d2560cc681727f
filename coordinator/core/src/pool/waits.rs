//! Why a run has no workers yet, or not enough: typed for programs, in words for people.

use std::fmt;

use crate::{DeviceKind, RunName, WorkerName};

/// More workers are not named one by one.
const NAMED_MAX: usize = 3;

/// What a run waits for that has fewer workers than its minimum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// With all workers that there are it would have too few. It keeps nothing from others.
    Never { needs: usize, asked: WorkerKind, has: usize },
    /// It would have enough of those that are free if nobody were before it.
    Behind { runs: usize },
    /// These come back from the runs that they are at, and then it has enough.
    GivenBack { workers: Vec<Awaited> },
    /// Others have what it needs, and cannot give it back before they end.
    Workers { needs: usize, asked: WorkerKind, free: usize },
}

/// A worker that is on its way back to the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    pub worker: WorkerName,
    pub run: RunName,
    /// The run has ended; otherwise it lets the worker go at its next step boundary.
    pub over: bool,
}

/// The kind of workers that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerKind {
    /// None: any, but all of one kind.
    pub device: Option<DeviceKind>,
    /// 0: any.
    pub memory_bytes: u64,
}

impl WorkerKind {
    /// `3 cpu workers with 16.0 GiB each`.
    fn count(self, count: usize, more: &str) -> String {
        let device = self.device.map(|device| format!("{device} ")).unwrap_or_default();
        let plural = if count == 1 { "" } else { "s" };
        let kind = if self.device.is_none() && count > 1 { " of one kind" } else { "" };
        let memory = match self.memory_bytes {
            0 => String::new(),
            bytes => format!(
                " with {:.1} GiB{}",
                bytes as f64 / f64::from(1 << 30),
                if count == 1 { "" } else { " each" }
            ),
        };
        format!("{count} {more}{device}worker{plural}{kind}{memory}")
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never { needs, asked, has } => {
                write!(f, "can never be placed: it needs {}, and the pool has {has}", asked.count(*needs, ""))
            }
            Self::Behind { runs: 1 } => write!(f, "1 run is before it"),
            Self::Behind { runs } => write!(f, "{runs} runs are before it"),
            Self::GivenBack { workers } => given_back(f, workers),
            Self::Workers { needs, asked, free } => {
                let are = if *free == 1 { "is" } else { "are" };
                let lacks = asked.count(needs.saturating_sub(*free), "more ");
                write!(f, "waits for {lacks} ({free} of {needs} {are} free)")
            }
        }
    }
}

/// `waits for worker-3, which run b gives back at its next step`.
fn given_back(f: &mut fmt::Formatter<'_>, workers: &[Awaited]) -> fmt::Result {
    if let [Awaited { worker, run, over }] = workers {
        return match over {
            true => write!(f, "waits for {worker}, which comes back from run {run}"),
            false => write!(f, "waits for {worker}, which run {run} gives back at its next step"),
        };
    }
    let named = workers.iter().take(NAMED_MAX);
    let named: Vec<String> =
        named.map(|Awaited { worker, run, .. }| format!("{worker} of run {run}")).collect();
    let others = match workers.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        1 => " and 1 other".to_owned(),
        more => format!(" and {more} others"),
    };
    write!(f, "waits for {}{others}, which come back at their next steps", named.join(", "))
}
