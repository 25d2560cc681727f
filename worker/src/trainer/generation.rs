//! One member's part in one generation, from where it starts to where it ends: epochs, verdicts and holds.
//!
//! ```text
//!   stepping ──epoch's last step──► evaluated, reported ──Verdict──► stepping, or holding
//! ```
//!
//! All members go through the same states at the same positions, without being told: what decides is the plan, the
//! coordinator's word, which all get alike, and the flag to pause, which rides in the exchange. The generation may end
//! anywhere; what is [`Held`] then stands at a boundary.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use tracing::{debug, info};

use super::error::TrainerError;
use super::evaluate::evaluate;
use super::exchange::Peers;
use super::held::Held;
use super::inputs::Inputs;
use super::memory;
use super::message::{
    Command, EpochReport, EvalReport, Evaluate, Kept, PrefixTold, Report, Reporter, Snapshot, Started,
    Verdict,
};
use super::prefix::{Filled, Prefix};
use super::progress::ProgressMeter;
use super::pulse::{Activity, Pulse};
use super::replica::Replica;
use super::samples::Samples;
use super::step::{Outcome, Stepper};
use crate::model::ResNet;
use crate::plan::{Plan, Position};

/// What outlives a generation.
#[derive(Debug)]
pub(super) struct Outside<'a> {
    pub(super) plan: &'a Plan,
    pub(super) samples: &'a Samples,
    pub(super) commands: &'a Receiver<Command>,
    pub(super) reporter: &'a Reporter,
    pub(super) pulse: &'a Pulse,
    pub(super) kept: &'a Kept,
    pub(super) prefix: &'a mut Prefix,
    /// Members on this machine, this one included.
    pub(super) neighbours: usize,
}

impl Outside<'_> {
    fn inputs(&self, replica: &Replica) -> Inputs<'_> {
        Inputs { samples: self.samples, activations: self.prefix.of(replica) }
    }
}

/// One member's part in a generation.
#[derive(Debug)]
pub(super) struct Generation<'a> {
    pub(super) outside: Outside<'a>,
    pub(super) number: u64,
    pub(super) held: &'a mut Held,
    pub(super) peers: Peers,
    /// See [`super::Begin`].
    pub(super) save: bool,
    pub(super) judged: bool,
    pub(super) hold: bool,
    /// What it took to get here, and when that was; until it is reported.
    pub(super) started: Option<(Started, Instant)>,
    /// The prefix that all members have: how many parts it has, and its digest.
    pub(super) filled: Option<(usize, [u8; 32])>,
    /// What was reported of a split, should it be asked for again.
    pub(super) evaluated: Option<EvalReport>,
}

/// How a generation ended, when nothing failed.
#[derive(Debug)]
pub(super) enum Ending {
    SessionOver,
    /// All members pause after the same step.
    Paused,
    /// By this order, which is not followed yet.
    Superseded(Command),
}

/// What the coordinator has to say to this generation.
enum Word {
    Verdict(Verdict),
    Evaluate(Evaluate),
    Ending(Ending),
}

impl Generation<'_> {
    pub(super) fn run(mut self) -> Result<Ending, TrainerError> {
        let plan = self.outside.plan;
        self.save_first()?;
        let mut stepper = None;
        loop {
            let ending = if self.held.is_unjudged(plan) {
                self.report_ready()?;
                self.end_epoch(&mut stepper)?
            } else if self.hold {
                self.report_ready()?;
                self.hold()?
            } else if self.fill()? == Filled::Paused {
                info!(step = self.held.position.step, "paused");
                Some(Ending::Paused)
            } else {
                let own = match &mut stepper {
                    Some(own) => own,
                    none => none.insert(Stepper::new(plan, &self.held.replica, &mut self.peers)?),
                };
                self.step_on(own)?
            };
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    /// What an earlier generation may have left undone: whoever uploaded then may be gone.
    fn save_first(&self) -> Result<(), TrainerError> {
        if self.peers.group.rank() != 0 {
            return Ok(());
        }
        // First, because without its best model a checkpoint is of no use.
        if let Some(kept) = self.outside.kept.get() {
            self.upload(kept)?;
        }
        if self.save { self.upload(self.snapshot()?) } else { Ok(()) }
    }

    /// There is nothing to step, but all is there.
    fn report_ready(&mut self) -> Result<(), TrainerError> {
        match self.started.take() {
            Some((started, _)) => Ok(self.outside.reporter.report(Report::Started(started))?),
            None => Ok(()),
        }
    }

    /// Makes sure that all members have what the frozen prefix makes of the samples: with the generation's first step, and
    /// when it becomes another one. All members find out alike.
    fn fill(&mut self) -> Result<Filled, TrainerError> {
        let replica = &self.held.replica;
        let wanted = (replica.model.boundary(), replica.frozen_digest());
        if self.filled == Some(wanted) {
            return Ok(Filled::Ready);
        }
        let Outside { plan, samples, pulse, reporter, neighbours, .. } = self.outside;
        let prefix = &mut *self.outside.prefix;
        prefix.open(plan, (samples, replica), neighbours)?;
        if let Some(line) = prefix.news().filter(|_| self.peers.group.rank() == 0) {
            reporter.report(Report::Prefix(PrefixTold { generation: self.number, line }))?;
        }
        let filled = prefix.fill((samples, replica), &mut self.peers, pulse)?;
        if filled == Filled::Ready {
            self.filled = Some(wanted);
        }
        Ok(filled)
    }

    /// Steps to the end of the epoch, or to where the members pause.
    fn step_on(&mut self, stepper: &mut Stepper) -> Result<Option<Ending>, TrainerError> {
        let Outside { plan, samples, reporter, pulse, .. } = self.outside;
        let epoch = self.held.position.epoch;
        let order = samples.order(epoch);
        let first = plan.start_of(epoch).step;
        let inputs = self.outside.inputs(&self.held.replica);
        let mut meter = ProgressMeter::new();
        pulse.at(Activity::Computing);
        while !self.held.is_unjudged(plan) {
            let (began, position) = (Instant::now(), self.held.position);
            let step = samples.step(&order, position.step - first);
            let replica = &mut self.held.replica;
            let Outcome { account, norm } =
                stepper.step(replica, inputs, &step, position, &mut self.peers)?;
            let metrics = self.held.epoch.record(&account.shards);
            self.held.position.step += 1;
            self.held.trained += began.elapsed();
            let now = self.held.position;
            pulse.stands_at(now);
            self.check_finite("the loss", metrics.loss_sum, position)?;
            self.check_finite("the gradient's norm", norm.unwrap_or_default(), position)?;
            debug!(step = now.step, loss = metrics.loss(), "step");
            if let Some((started, formed)) = self.started.take() {
                let first_step_ms = millis(formed);
                reporter.report(Report::Started(Started { first_step_ms, ..started }))?;
            }
            let waited = self.peers.take_waited();
            if let Some(progress) = meter.step(waited, self.number, now, self.held.epoch.train) {
                debug!(step = now.step, step_ms = progress.step_ms, "stepping");
                reporter.report(Report::Progress(progress))?;
            }
            if plan.is_checkpoint_due(now.step) && self.peers.group.rank() == 0 {
                self.upload(self.snapshot()?)?;
            }
            if account.pause {
                info!(step = now.step, "paused");
                return Ok(Some(Ending::Paused));
            }
        }
        Ok(None)
    }

    /// `value` is of the step that came at `position`.
    fn check_finite(&self, what: &'static str, value: f64, position: Position) -> Result<(), TrainerError> {
        if value.is_finite() {
            return Ok(());
        }
        let value = if value.is_nan() { "nan" } else { "infinite" };
        let (step, learning_rate) = (position.step + 1, self.held.replica.learning_rate(position));
        Err(TrainerError::NotFinite { what, value, step, learning_rate })
    }

    /// Evaluates and reports, if that is not done, then waits for the verdict and follows it.
    fn end_epoch(&mut self, stepper: &mut Option<Stepper>) -> Result<Option<Ending>, TrainerError> {
        if !std::mem::take(&mut self.judged) {
            self.report_epoch()?;
        }
        self.outside.pulse.change(|state| state.activity = Activity::AwaitingVerdict);
        loop {
            match self.listen() {
                Word::Verdict(verdict) if verdict.epoch == self.held.position.epoch => {
                    if self.follow(&verdict)? {
                        *stepper = None;
                    }
                    return Ok(None);
                }
                Word::Verdict(_) | Word::Evaluate(_) => debug!("ignored an order that is not due"),
                Word::Ending(ending) => return Ok(Some(ending)),
            }
        }
    }

    fn report_epoch(&mut self) -> Result<(), TrainerError> {
        let Outside { plan, reporter, pulse, .. } = self.outside;
        let (began, epoch) = (Instant::now(), self.held.position.epoch);
        pulse.change(|state| state.activity = Activity::Evaluating);
        let replica = &mut self.held.replica;
        let inputs = self.outside.inputs(replica);
        let look = |model: &ResNet| evaluate(model, inputs, plan.eval_split, &self.peers);
        let blocks = look(&replica.model)?;
        let ema_blocks = replica.show_average(look).transpose()?.unwrap_or_default();
        let (train, learning_rate) = (self.held.epoch.train, replica.learning_rate(plan.start_of(epoch)));
        let train_ms = u64::try_from(self.held.trained.as_millis()).unwrap_or(u64::MAX);
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
            position: plan.start_of(epoch + 1),
            learning_rate,
            train,
            ledger: self.held.epoch.summary(),
            split: plan.eval_split,
            blocks,
            ema_blocks,
            weights_digest: replica.weights_digest(),
            train_ms,
            eval_ms: millis(began),
            peak_memory_bytes: memory::peak_bytes(),
        };
        Ok(reporter.report(Report::Epoch(report))?)
    }

    /// Tells whether other parameters are trained from here on. The position is shown when all is done: whoever sees it
    /// may rely on what is kept.
    fn follow(&mut self, verdict: &Verdict) -> Result<bool, TrainerError> {
        let Outside { plan, samples, pulse, kept, .. } = self.outside;
        let made_anew = self.held.follow(plan, samples, verdict.restore.as_deref())?;
        let uploads = verdict.save && self.peers.group.rank() == 0;
        if verdict.keep || uploads {
            let snapshot = self.snapshot()?;
            if verdict.keep {
                kept.keep(Some(snapshot.clone()));
            }
            if uploads {
                self.upload(snapshot)?;
            }
        }
        self.hold = verdict.hold;
        let position = self.held.position;
        let activity = if verdict.hold { Activity::Holding } else { Activity::Computing };
        pulse.change(|state| (state.position, state.activity) = (Some(position), activity));
        Ok(made_anew)
    }

    /// A copy in memory, which is all that training is held for.
    fn snapshot(&self) -> Result<Snapshot, TrainerError> {
        let files = Arc::new(self.held.save()?);
        Ok(Snapshot { position: self.held.position, files })
    }

    fn upload(&self, snapshot: Snapshot) -> Result<(), TrainerError> {
        Ok(self.outside.reporter.report(Report::Snapshot(snapshot))?)
    }

    /// Waits for what comes when nothing is left to train.
    fn hold(&mut self) -> Result<Option<Ending>, TrainerError> {
        self.outside.pulse.change(|state| state.activity = Activity::Holding);
        match self.listen() {
            Word::Evaluate(order) => self.answer(&order).map(|()| None),
            Word::Verdict(_) => Ok(None),
            Word::Ending(ending) => Ok(Some(ending)),
        }
    }

    fn answer(&mut self, order: &Evaluate) -> Result<(), TrainerError> {
        let report = match self.evaluated.take() {
            Some(report) if report.split == order.split => report,
            _ => self.evaluate(order)?,
        };
        self.evaluated = Some(report.clone());
        Ok(self.outside.reporter.report(Report::Eval(report))?)
    }

    /// With other weights for a while: what is held keeps every bit.
    fn evaluate(&mut self, order: &Evaluate) -> Result<EvalReport, TrainerError> {
        let (began, split) = (Instant::now(), order.split);
        self.outside.pulse.change(|state| state.activity = Activity::Evaluating);
        let replica = &mut self.held.replica;
        let own = replica.model.state();
        replica.restore(&order.weights)?;
        let blocks = evaluate(&replica.model, self.outside.inputs(replica), split, &self.peers);
        replica.put_back(&own)?;
        Ok(EvalReport { generation: self.number, split, blocks: blocks?, eval_ms: millis(began) })
    }

    /// The next order that concerns this generation. What former ones were told comes late and is harmless; what was
    /// followed already is repeated until the coordinator sees it, so it is shown again.
    fn listen(&self) -> Word {
        loop {
            let Ok(command) = self.outside.commands.recv() else { return Word::Ending(Ending::SessionOver) };
            match command {
                Command::Verdict(verdict) if verdict.generation == self.number => {
                    return Word::Verdict(verdict);
                }
                Command::Evaluate(order) if order.generation == self.number => return Word::Evaluate(order),
                command if command.generation() > self.number => {
                    if matches!(command, Command::Begin(_) | Command::Prepare { .. }) {
                        return Word::Ending(Ending::Superseded(command));
                    }
                }
                command => debug!(generation = command.generation(), "ignored an order that was followed"),
            }
            self.outside.pulse.change(|_| {});
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
