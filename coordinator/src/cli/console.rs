//! What a person sees of a run while it goes: a bar on a terminal, one line for training and one for evaluation per
//! epoch everywhere.

mod downloads;
mod membership;
mod waiting;
mod words;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockstep_core::{Entry, EpochRow, Outcome, Position, WorkerName};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use self::membership::Membership;
use self::waiting::{LOOK_EVERY, Waiting};
use crate::driver::Notice;
use crate::launch::{Launch, Views};
use crate::local::LocalNews;
use crate::recipe::Recipe;

pub(super) use self::downloads::DownloadBar;
pub(super) use self::words::{counted, duration};

/// Follows one run.
#[derive(Debug)]
pub(super) struct Console {
    bar: ProgressBar,
    epochs: u32,
    steps_per_epoch: u64,
    batch: u32,
    started: Instant,
    /// The step at which this life of the run began to train, to tell the time left.
    start: Option<u64>,
    /// Spent on training and evaluation, over all lives.
    learning_ms: u64,
    best: Option<EpochRow>,
    run_path: std::path::PathBuf,
    membership: Membership,
    waiting: Waiting,
}

impl Console {
    pub(super) fn new(launch: &Launch, recipe: &Recipe) -> Self {
        let history = launch.begun.run.history();
        let bar =
            ProgressBar::with_draw_target(Some(history.spec.steps_per_epoch), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let spec = &history.spec;
        let samples =
            launch.begun.plan.data.as_ref().map_or(0, |data| data.train_samples - data.validation_samples);
        eprintln!(
            "run {}: {} on {} ({samples} to train on, {} to {} on, {} to test), batch {} in {}, {} of {}",
            launch.begun.folder.name(),
            recipe.model.name,
            recipe.data.name,
            spec.eval_samples,
            if spec.select.split.as_str() == "val" { "validate" } else { "select" },
            spec.test_samples,
            recipe.batch,
            counted(spec.shards, "shard"),
            counted(spec.epochs, "epoch"),
            counted(spec.steps_per_epoch, "step"),
        );
        tell_who_may_join(launch);
        Self {
            bar,
            epochs: spec.epochs,
            steps_per_epoch: spec.steps_per_epoch,
            batch: recipe.batch,
            started: Instant::now(),
            start: None,
            learning_ms: history.rows.iter().map(|row| row.train_ms + row.eval_ms).sum(),
            best: history.best().cloned(),
            run_path: launch.begun.folder.path().to_owned(),
            membership: Membership::new(launch.begun.folder.name(), &history.members),
            waiting: Waiting::default(),
        }
    }

    /// Tells of everything until the run ends.
    pub(super) async fn listen(mut self, views: Views) {
        let Views { mut notices, mut local, driver } = views;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What the run says of a worker comes before what becomes of its slot.
                biased;
                notice = notices.recv() => match notice {
                    Ok(Notice::Entry(entry)) => self.entry(&entry),
                    Ok(Notice::Progress { worker, progress }) => self.progress(&worker, &progress),
                    Ok(Notice::Disconnected { .. }) => {}
                    // Progress that was missed is not missed; entries are in events.jsonl.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
                Some(news) = local.recv() => self.news(&news),
                _ = looks.tick() => {
                    // None once the run is over.
                    if let Some(status) = driver.status().await
                        && let Some(line) = self.waiting.look(&status)
                    {
                        self.note(&line);
                    }
                }
            }
        }
        self.bar.finish_and_clear();
    }

    fn news(&self, news: &LocalNews) {
        self.note(&match news {
            LocalNews::Restarting { worker, how, after, restart, of } => {
                format!("{worker} is started again in {} ms ({restart} of {of}): {how}", after.as_millis())
            }
            LocalNews::GivenUp { worker, how, restarts } => {
                format!(
                    "{worker} is not started again, after {}; the others go on: {how}",
                    counted(*restarts, "restart")
                )
            }
        });
    }

    fn progress(&mut self, worker: &WorkerName, progress: &lockstep_core::Progress) {
        // Members step together; one of them speaks for all.
        if !self.membership.speaks(worker) {
            return;
        }
        let Position { epoch, step } = progress.position;
        self.start.get_or_insert(step.0);
        let in_epoch = step.0 - u64::from(epoch.0) * self.steps_per_epoch;
        self.bar.set_prefix(format!("epoch {}/{}", epoch.0 + 1, self.epochs));
        self.bar.set_position(in_epoch);
        self.bar.set_message(format!(
            "loss {:.4} acc {:.2} % {:.0} img/s left {}",
            progress.train.loss(),
            100.0 * progress.train.accuracy(),
            f64::from(self.batch) / progress.step_ms * 1e3,
            self.left(step.0).map_or_else(|| "?".into(), duration),
        ));
    }

    /// Time to the last epoch's end, by the mean pace of this life of the run.
    fn left(&self, step: u64) -> Option<Duration> {
        let done = step.checked_sub(self.start?).filter(|done| *done > 0)?;
        let todo = (u64::from(self.epochs) * self.steps_per_epoch).saturating_sub(step);
        Some(self.started.elapsed().mul_f64(todo as f64 / done as f64))
    }

    fn entry(&mut self, entry: &Entry) {
        for line in self.membership.lines(entry) {
            self.note(&line);
        }
        match entry {
            Entry::GenerationBegan { position, .. } => {
                self.started = Instant::now();
                self.start = Some(position.step.0);
            }
            Entry::EpochEnded(row) => self.epoch(row),
            Entry::StopRequested => self.note("stopping after this step; once more aborts"),
            Entry::Tested { metrics, .. } => {
                let best = self.best.as_ref().map_or(0, |row| row.epoch.0 + 1);
                self.say(&format!(
                    "test         loss {:.4}  acc {:6.2} % ({}/{})  with the best model, of epoch {best}",
                    metrics.loss(),
                    100.0 * metrics.accuracy(),
                    metrics.correct,
                    metrics.count
                ));
            }
            Entry::Ended { outcome: Outcome::Done { early } } => self.done(*early),
            _ => {}
        }
    }

    fn epoch(&mut self, row: &EpochRow) {
        let epoch =
            format!("{:>width$}/{}", row.epoch.0 + 1, self.epochs, width = self.epochs.to_string().len());
        let rate = row.train.count as f64 / (row.train_ms.max(1) as f64 / 1e3);
        self.say(&format!(
            "epoch {epoch}  train  loss {:.4}  acc {:6.2} % ({}/{})  lr {:.3e}  {rate:.0} img/s",
            row.train.loss(),
            100.0 * row.train.accuracy(),
            row.train.correct,
            row.train.count,
            row.learning_rate,
        ));
        let left = match self.left(row.step.0) {
            Some(left) if row.epoch.0 + 1 < self.epochs => format!("  left {}", duration(left)),
            _ => String::new(),
        };
        self.say(&format!(
            "epoch {epoch}  {:<5}  loss {:.4}  acc {:6.2} % ({}/{}){left}{}",
            row.split.as_str(),
            row.eval.loss(),
            100.0 * row.eval.accuracy(),
            row.eval.correct,
            row.eval.count,
            if row.improved { "  ★ best" } else { "" },
        ));
        if let Some(ema) = row.ema {
            self.say(&format!(
                "epoch {epoch}  {:<5}  loss {:.4}  acc {:6.2} % ({}/{})  with the weights' running average",
                row.split.as_str(),
                ema.loss(),
                100.0 * ema.accuracy(),
                ema.correct,
                ema.count,
            ));
        }
        if row.ledger.dropped > 0 && row.epoch.0 == 0 {
            self.note(&format!(
                "{} samples of each epoch are left over: too few for a step",
                row.ledger.dropped
            ));
        }
        if row.improved {
            self.best = Some(row.clone());
        }
        if let Some(step) = row.restored {
            self.note(&format!("the best weights, of step {step}, were loaded back"));
        }
        self.learning_ms += row.train_ms + row.eval_ms;
    }

    fn done(&self, early: bool) {
        if early {
            self.say("stopped early: no improvement within the patience");
        }
        if let Some(best) = &self.best {
            self.say(&format!(
                "best         epoch {}  {}/acc_top1 {:.2} %",
                best.epoch.0 + 1,
                best.split.as_str(),
                100.0 * best.eval.accuracy()
            ));
        }
        let learning = duration(Duration::from_millis(self.learning_ms));
        self.say(&format!("learning time {learning}; results are in {}", self.run_path.display()));
    }

    /// A result, to stdout.
    fn say(&self, line: &str) {
        // A reader that is gone (`| head`) does not end the run: its files tell the same.
        self.bar.suspend(|| drop(writeln!(io::stdout(), "{line}")));
    }

    /// Something to know, to stderr.
    fn note(&self, line: &str) {
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }
}

/// Where the run has room for more workers than are started here.
fn tell_who_may_join(launch: &Launch) {
    let plan = &launch.workers;
    let bounds = plan.bounds;
    if bounds.start < bounds.max {
        eprintln!(
            "{} of at most {} here; more may join: lockstep-worker join {} --name worker-{} --cache {}",
            counted(bounds.start, "worker"),
            bounds.max,
            plan.url,
            bounds.start,
            plan.cache.display()
        );
    }
}
