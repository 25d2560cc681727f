//! What a person sees of a run while it goes: a bar on a terminal, one line for training and one for evaluation per
//! epoch everywhere.

mod words;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockstep_core::{Entry, EpochRow, Outcome, Position, WorkerName};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::data::DataProgress;
use crate::download::DownloadProgress;
use crate::driver::Notice;
use crate::launch::Launch;
use crate::recipe::Recipe;

pub(super) use words::{counted, duration};

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
}

impl Console {
    pub(super) fn new(launch: &Launch, recipe: &Recipe) -> Self {
        let history = launch.run.history();
        let bar =
            ProgressBar::with_draw_target(Some(history.spec.steps_per_epoch), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let spec = &history.spec;
        let samples =
            launch.plan.data.as_ref().map_or(0, |data| data.train_samples - data.validation_samples);
        eprintln!(
            "run {}: {} on {} ({samples} to train on, {} to {} on, {} to test), batch {} in {}, {} of {}",
            launch.folder.name(),
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
        Self {
            bar,
            epochs: spec.epochs,
            steps_per_epoch: spec.steps_per_epoch,
            batch: recipe.batch,
            started: Instant::now(),
            start: None,
            learning_ms: history.rows.iter().map(|row| row.train_ms + row.eval_ms).sum(),
            best: history.best().cloned(),
            run_path: launch.folder.path().to_owned(),
        }
    }

    /// Tells of everything until the run ends.
    pub(super) async fn listen(mut self, mut notices: broadcast::Receiver<Notice>) {
        loop {
            match notices.recv().await {
                Ok(Notice::Entry(entry)) => self.entry(&entry),
                Ok(Notice::Progress { worker, progress }) => self.progress(&worker, &progress),
                // Progress that was missed is not missed; entries are in events.jsonl.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
        self.bar.finish_and_clear();
    }

    fn progress(&self, worker: &WorkerName, progress: &lockstep_core::Progress) {
        // Members step together; one of them speaks for all.
        if worker.0 != "worker-0" {
            return;
        }
        let Position { epoch, step } = progress.position;
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
        match entry {
            Entry::GenerationBegan { generation, members, position } => {
                self.started = Instant::now();
                self.start = Some(position.step.0);
                let devices: Vec<&str> = members.iter().map(|member| member.device.as_str()).collect();
                self.note(&format!(
                    "generation {generation}: {} ({})",
                    counted(members.len() as u64, "worker"),
                    devices.join(", ")
                ));
            }
            Entry::EpochEnded(row) => self.epoch(row),
            Entry::WorkerLost { worker, reason, .. } => self.note(&format!("lost {worker}: {reason}")),
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
            Entry::Ended { .. }
            | Entry::Created { .. }
            | Entry::Resumed { .. }
            | Entry::CheckpointStored(_)
            | Entry::CheckpointDeleted { .. } => {}
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

/// A download's progress bar; where no terminal is, a line at its beginning.
#[derive(Debug, Default)]
pub(super) struct DownloadBar {
    bar: std::sync::Mutex<Option<ProgressBar>>,
}

impl DownloadProgress for DownloadBar {
    fn begin(&self, name: &str, bytes_total: Option<u64>, bytes_done: u64) {
        let bar = ProgressBar::with_draw_target(bytes_total, ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.set_position(bytes_done);
        if bar.is_hidden() {
            eprintln!("downloading {name}");
        }
        if let Ok(mut held) = self.bar.lock() {
            *held = Some(bar);
        }
    }

    fn advance(&self, bytes_done: u64) {
        if let Ok(held) = self.bar.lock()
            && let Some(bar) = &*held
        {
            bar.set_position(bytes_done);
        }
    }

    fn end(&self) {
        if let Ok(mut held) = self.bar.lock()
            && let Some(bar) = held.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl DataProgress for DownloadBar {
    fn begin_pictures(&self, work: &str, pictures_total: u64) {
        let bar = ProgressBar::with_draw_target(Some(pictures_total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(work.to_owned());
        if bar.is_hidden() {
            eprintln!("{work}: {pictures_total}");
        }
        if let Ok(mut held) = self.bar.lock() {
            *held = Some(bar);
        }
    }

    fn advance_pictures(&self, pictures_done: u64) {
        self.advance(pictures_done);
    }

    fn end_pictures(&self) {
        self.end();
    }
}
