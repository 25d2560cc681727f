//! One generation from its first step to its last: epochs, verdicts, halts and holds.
//!
//! ```text
//!   stepping ──epoch's last step──► evaluated, reported ──Verdict──► stepping, or holding
//!      └──────── a raised flag ───► halted ────────────────────────► holding
//! ```
//!
//! All members go through the same states at the same positions, without being told: what decides is the plan, the
//! coordinator's word, which all get alike, and the flag, which rides in the exchange.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::epoch::EpochState;
use super::error::TrainerError;
use super::evaluate::evaluate;
use super::exchange::Peers;
use super::message::{
    Begin, Command, EpochReport, EvalReport, Evaluate, Report, Reporter, Snapshot, Verdict,
};
use super::progress::ProgressMeter;
use super::replica::Replica;
use super::samples::Samples;
use super::step::{Outcome, Stepper};
use super::{checkpoint, memory};
use crate::model::ResNet;
use crate::plan::{Plan, Position};

/// What outlives a generation.
#[derive(Debug)]
pub(super) struct Outside<'a> {
    pub(super) plan: &'a Plan,
    pub(super) samples: &'a Samples,
    pub(super) commands: &'a Receiver<Command>,
    pub(super) reporter: &'a Reporter,
}

/// One member's part in a generation.
#[derive(Debug)]
pub(super) struct Generation<'a> {
    pub(super) outside: Outside<'a>,
    pub(super) number: u64,
    pub(super) halt: Arc<AtomicBool>,
    pub(super) replica: Replica,
    pub(super) peers: Peers,
    pub(super) position: Position,
    pub(super) epoch: EpochState,
    pub(super) hold: bool,
}

/// How a generation ended, when it did not fail.
#[derive(Debug)]
pub(super) enum Ending {
    SessionOver,
    /// The next one begins.
    Succeeded(Box<Begin>),
}

/// Why stepping stopped.
enum Stop {
    EpochEnd { learning_rate: f64, train_ms: u64 },
    Halted,
}

impl Generation<'_> {
    pub(super) fn run(mut self) -> Result<Ending, TrainerError> {
        let plan = self.outside.plan;
        let mut stepper = Stepper::new(plan, &self.replica, &self.peers);
        loop {
            if self.hold {
                match self.outside.commands.recv() {
                    Err(_) => return Ok(Ending::SessionOver),
                    Ok(Command::Begin(begin)) => return Ok(Ending::Succeeded(Box::new(begin))),
                    Ok(Command::Evaluate(order)) if order.generation == self.number => {
                        self.evaluate(&order)?
                    }
                    Ok(other) => self.refuse(&other)?,
                }
                continue;
            }
            match self.step_on(&mut stepper)? {
                Stop::Halted => self.hold = true,
                Stop::EpochEnd { learning_rate, train_ms } => {
                    let ended = self.end_epoch(learning_rate, train_ms)?;
                    // Before a checkpoint may be saved, so that one of this position has the same bytes whoever saves it.
                    if self.replica.enter(plan, self.position.epoch)? {
                        stepper = Stepper::new(plan, &self.replica, &self.peers);
                    }
                    match self.await_verdict(ended)? {
                        Awaited::Verdict(verdict) => self.follow(&verdict)?,
                        Awaited::Ending(ending) => return Ok(ending),
                    }
                }
            }
        }
    }

    /// Steps to the end of the epoch, or to where the members halt.
    fn step_on(&mut self, stepper: &mut Stepper) -> Result<Stop, TrainerError> {
        let plan = self.outside.plan;
        let epoch = self.position.epoch;
        let learning_rate = self.replica.learning_rate(plan.start_of(epoch));
        let order = self.outside.samples.order(epoch);
        let (started, mut meter) = (Instant::now(), ProgressMeter::new());
        let first = plan.start_of(epoch).step;
        let end = plan.start_of(epoch + 1).step;
        while self.position.step < end {
            let samples = self.outside.samples;
            let step = samples.step(&order, self.position.step - first);
            let (replica, peers, position) = (&mut self.replica, &mut self.peers, self.position);
            let Outcome { account, norm } =
                stepper.step(replica, samples, &step, position, peers, &self.halt)?;
            let metrics = self.epoch.record(&account.shards);
            self.position.step += 1;
            self.check_finite("the loss", metrics.loss_sum, position)?;
            self.check_finite("the gradient's norm", norm.unwrap_or_default(), position)?;
            debug!(step = self.position.step, loss = metrics.loss(), "step");
            let waited = self.peers.take_waited();
            if let Some(progress) = meter.step(waited, self.number, self.position, self.epoch.train) {
                debug!(step = progress.position.step, step_ms = progress.step_ms, "stepping");
                self.outside.reporter.report(Report::Progress(progress))?;
            }
            // At the epoch's end the verdict takes the halt's place.
            let halt = account.halt && self.position.step < end;
            if halt || plan.is_checkpoint_due(self.position.step) {
                self.save()?;
            }
            if halt {
                info!(step = self.position.step, "halted");
                let (generation, position) = (self.number, self.position);
                self.outside.reporter.report(Report::Halted { generation, position })?;
                return Ok(Stop::Halted);
            }
        }
        Ok(Stop::EpochEnd { learning_rate, train_ms: millis(started) })
    }

    /// `value` is of the step that came at `position`.
    fn check_finite(&self, what: &'static str, value: f64, position: Position) -> Result<(), TrainerError> {
        if value.is_finite() {
            return Ok(());
        }
        let value = if value.is_nan() { "nan" } else { "infinite" };
        let (step, learning_rate) = (position.step + 1, self.replica.learning_rate(position));
        Err(TrainerError::NotFinite { what, value, step, learning_rate })
    }

    /// Evaluates and reports, moves on to the next epoch's start, and returns the epoch that ended.
    fn end_epoch(&mut self, learning_rate: f64, train_ms: u64) -> Result<u32, TrainerError> {
        let Outside { plan, samples, reporter, .. } = self.outside;
        let started = Instant::now();
        let look = |model: &ResNet| evaluate(model, samples, plan.eval_split, &self.peers);
        let blocks = look(&self.replica.model)?;
        let ema_blocks = self.replica.show_average(look).transpose()?.unwrap_or_default();
        let epoch = self.position.epoch;
        self.position = plan.start_of(epoch + 1);
        let done = std::mem::replace(&mut self.epoch, samples.new_epoch(self.position.epoch));
        let train = done.train;
        info!(
            epoch,
            loss = train.loss(),
            accuracy = train.accuracy(),
            learning_rate,
            train_ms,
            "epoch trained"
        );
        let report = EpochReport {
            generation: self.number,
            epoch,
            position: self.position,
            learning_rate,
            train,
            ledger: done.summary(),
            split: plan.eval_split,
            blocks,
            ema_blocks,
            weights_digest: self.replica.model.weights_digest(),
            train_ms,
            eval_ms: millis(started),
            peak_memory_bytes: memory::peak_bytes(),
        };
        reporter.report(Report::Epoch(report))?;
        Ok(epoch)
    }

    fn await_verdict(&self, epoch: u32) -> Result<Awaited, TrainerError> {
        loop {
            match self.outside.commands.recv() {
                Err(_) => return Ok(Awaited::Ending(Ending::SessionOver)),
                Ok(Command::Begin(begin)) => return Ok(Awaited::Ending(Ending::Succeeded(Box::new(begin)))),
                Ok(Command::Verdict(verdict))
                    if verdict.generation == self.number && verdict.epoch == epoch =>
                {
                    return Ok(Awaited::Verdict(verdict));
                }
                Ok(other) => self.refuse(&other)?,
            }
        }
    }

    fn follow(&mut self, verdict: &Verdict) -> Result<(), TrainerError> {
        if let Some(model_file) = &verdict.restore {
            info!(epoch = verdict.epoch, "went back to the best weights");
            self.replica.restore(model_file)?;
        }
        if verdict.save {
            self.save()?;
        }
        self.hold = verdict.hold;
        Ok(())
    }

    /// Hands over a checkpoint, if this member is the one that does. May wait for an earlier one's upload.
    fn save(&self) -> Result<(), TrainerError> {
        if self.peers.group.rank() != 0 {
            return Ok(());
        }
        let (generation, position) = (self.number, self.position);
        let files = checkpoint::save(&self.replica, position, &self.epoch)?;
        Ok(self.outside.reporter.report(Report::Snapshot(Snapshot { generation, position, files }))?)
    }

    fn evaluate(&mut self, order: &Evaluate) -> Result<(), TrainerError> {
        let started = Instant::now();
        let (generation, split) = (self.number, order.split);
        self.replica.restore(&order.weights)?;
        let blocks = evaluate(&self.replica.model, self.outside.samples, split, &self.peers)?;
        let report = EvalReport { generation, split, blocks, eval_ms: millis(started) };
        Ok(self.outside.reporter.report(Report::Eval(report))?)
    }

    /// What a former generation was told is late and harmless; anything else is a fault of the coordinator's.
    fn refuse(&self, command: &Command) -> Result<(), TrainerError> {
        let (generation, what) = match command {
            Command::Begin(begin) => (begin.generation, "begin"),
            Command::Verdict(verdict) => (verdict.generation, "verdict"),
            Command::Evaluate(order) => (order.generation, "evaluate"),
        };
        if generation == self.number {
            return Err(TrainerError::OutOfPlace { what, step: self.position.step });
        }
        warn!(stale = generation, what, "ignored what was meant for another generation");
        Ok(())
    }
}

/// What came after an epoch's report.
enum Awaited {
    Verdict(Verdict),
    Ending(Ending),
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
