//! One recipe trained twice by real processes of this program: undisturbed, and under a seeded schedule of real faults.
//! Then every byte that the recipe decides is compared.
//!
//! Reading order: `schedule` draws what goes wrong; `cluster` starts a run's processes and finds them; `proxy` stands between workers and coordinator; `follow` reads how the run is; `disturbed` waits for a
//! fault's time and until the run has healed of it, `strike` carries it out; `compare` looks at what came of it. Nothing here knows the run's inside: it sees
//! what a person with a shell sees, and does what a bad day does.

mod cluster;
mod compare;
mod disturbed;
mod error;
mod follow;
mod proxy;
mod schedule;
mod strike;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockstep_core::{Outcome, Receipt};
use serde::Serialize;

use self::cluster::{Cluster, Orders, describe};
pub use self::compare::Comparison;
use self::disturbed::Disturbed;
pub use self::error::ChaosError;
use self::follow::Follower;
use self::proxy::Proxy;
pub use self::schedule::{Fault, Schedule};

/// Between two looks at a run.
const POLL: Duration = Duration::from_millis(20);

/// What to train, and how much shall go wrong.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This program.
    pub program: PathBuf,
    /// The worker's.
    pub worker: PathBuf,
    pub home: PathBuf,
    /// The runs are called `NAME-calm` and `NAME-chaos`.
    pub name: String,
    /// The recipe and its changes, as `lockstep train` takes them.
    pub recipe: Vec<String>,
    pub workers: u32,
    /// So many workers at most, guests included.
    pub workers_max: u32,
    pub schedule: Schedule,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub name: String,
    pub seed: u64,
    pub workers: u32,
    pub steps: u64,
    /// Every file is the same in both runs.
    pub equal: bool,
    pub files: Vec<Comparison>,
    pub faults_planned: u32,
    /// Those that happened, in order.
    pub faults: Vec<Struck>,
    pub calm_ms: u64,
    pub chaos_ms: u64,
}

/// A fault that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Struck {
    #[serde(flatten)]
    pub fault: Fault,
    /// The worker, or who else it was about.
    pub target: String,
    pub pid: Option<u32>,
    /// At least so many steps were done.
    pub step: u64,
    /// Since the disturbed run's start.
    pub at_ms: u64,
    /// From there until all who were left had made a step together; none when that was not seen in time.
    pub healed_ms: Option<u64>,
    /// Of every generation that began between this fault and the next.
    pub receipts: Vec<Receipt>,
}

/// Trains twice and compares. `tell` hears what is going on, a line at a time.
///
/// # Errors
///
/// A run did not get to its end. Nothing is left running then, nor when the future is dropped.
pub async fn run(settings: &Settings, tell: &(dyn Fn(&str) + Sync)) -> Result<Report, ChaosError> {
    let Settings { home, name, workers, workers_max, schedule, .. } = settings;
    let folder = |kind: &str| home.join("runs").join(format!("{name}-{kind}"));
    let (calm, chaos) = (folder("calm"), folder("chaos"));
    let logs = home.join("chaos").join(name);
    for path in [&calm, &chaos, &logs] {
        if path.exists() {
            return Err(ChaosError::Exists { path: path.clone() });
        }
    }
    fs::create_dir_all(&logs).map_err(ChaosError::io("make", &logs))?;

    tell(&format!("{name}-calm: trains undisturbed"));
    let (steps, calm_ms) = undisturbed(settings, &calm, &logs).await?;
    tell(&format!("{name}-calm: {steps} steps in {:.1} s", calm_ms as f64 / 1e3));
    for (index, fault) in schedule.faults.iter().enumerate() {
        tell(&format!("planned {}: {fault} at step {}", index + 1, fault.step(steps)));
    }

    tell(&format!("{name}-chaos: trains under {} faults", schedule.faults.len()));
    let proxy = Proxy::start(&chaos).await.map_err(ChaosError::system("listen for workers"))?;
    let elastic = settings.orders("chaos", format!("1..{workers_max}"), &logs);
    let orders = Orders { url: Some(proxy.url()), ..elastic };
    let calm = Calm { folder: calm, steps, ms: calm_ms };
    let run = Disturbed::start(orders, Follower::new(chaos.clone()), proxy, &calm, settings, tell)?;
    let (faults, chaos_ms) = run.through(&schedule.faults).await?;
    let files = compare::compare(&calm.folder, &chaos)?;
    Ok(Report {
        name: name.clone(),
        seed: schedule.seed,
        workers: *workers,
        steps,
        equal: files.iter().all(|file| file.difference.is_none()),
        files,
        faults_planned: schedule.faults.len() as u32,
        faults,
        calm_ms,
        chaos_ms,
    })
}

/// The undisturbed run.
#[derive(Debug)]
struct Calm {
    folder: PathBuf,
    steps: u64,
    ms: u64,
}

/// Trains undisturbed, and tells the run's steps and how long it took.
async fn undisturbed(settings: &Settings, folder: &Path, logs: &Path) -> Result<(u64, u64), ChaosError> {
    let started = Instant::now();
    let mut cluster = Cluster::train(settings.orders("calm", settings.workers.to_string(), logs))?;
    let mut follower = Follower::new(folder.to_owned());
    let mut poll = tokio::time::interval(POLL);
    let status = loop {
        poll.tick().await;
        if let Some(status) = cluster.ended() {
            break status;
        }
    };
    let seen = follower.look();
    let done = matches!(seen.outcome, Some(Outcome::Done { .. }));
    let Some(spec) = seen.spec.as_ref().filter(|_| done && status.success()) else {
        let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
        return Err(ChaosError::Calm {
            how: describe(status),
            code: code.unwrap_or(1),
            said: cluster.said(),
        });
    };
    // Fewer than planned where patience ended it.
    let (planned, made) = (u64::from(spec.epochs) * spec.steps_per_epoch, seen.step);
    Ok((if made > 0 { made.min(planned) } else { planned }, millis(started)))
}

impl Settings {
    fn orders(&self, kind: &str, workers: String, logs: &Path) -> Orders {
        Orders {
            program: self.program.clone(),
            worker: self.worker.clone(),
            home: self.home.clone(),
            run: format!("{}-{kind}", self.name),
            workers,
            recipe: self.recipe.clone(),
            url: None,
            logs: logs.to_owned(),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
