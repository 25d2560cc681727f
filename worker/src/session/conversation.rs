//! The session's loop: the coordinator's orders go to the trainer, the trainer's state and reports to the coordinator, until
//! either is done.
//!
//! It never waits for anything long itself. What takes time is the [`Courier`]'s, the [`Uploads`]' or the trainer thread's;
//! that the connection breaks and is made again is the [`Link`]'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::courier::{Courier, Errand};
use super::followed::{Evaluation, Followed};
use super::joiner::{Joiner, Welcomed};
use super::link::{Event, Link};
use super::presence::{Fetcher, Presence};
use super::readiness::{get_ready, setup};
use super::reports::Reports;
use super::speaker::Speaker;
use super::thread::{Body, TrainerThread};
use super::uploads::Uploads;
use super::{Over, SessionError, Settings, StopSignal};
use crate::client::{BeginOrder, Bulk, FinishOrder, Order, Outgoing, Welcome};
use crate::collective::Listener;
use crate::plan::Plan;
use crate::trainer::{Kept, Pulse};

/// How long to wait for the coordinator to take the last word in.
const LAST_WORD: Duration = Duration::from_secs(5);

/// One worker's session with a run, across all of its connections.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    settings: &'a Settings,
    plan: Plan,
    link: Link,
    is_attached: watch::Sender<bool>,
    signals: &'a mut mpsc::Receiver<StopSignal>,
    leaving: Option<Leaving>,
    trainer: TrainerThread,
    followed: Followed,
    courier: Courier,
    speaker: Speaker,
    reports: Reports,
    kept: Kept,
    /// The run's newest checkpoint that was heard of.
    stored: Option<u64>,
    /// There is something to say.
    wake: Arc<Notify>,
    listener: Option<Arc<Listener>>,
    /// For what goes beside the session.
    fetcher: Fetcher,
    uploads: Uploads,
}

/// The worker was asked to go.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    signal: StopSignal,
    /// Whoever does not let it go by then is not waited for.
    deadline: Instant,
}

impl<'a> Conversation<'a> {
    /// Begins with what was joined.
    pub(super) fn new(
        settings: &'a Settings,
        joiner: Joiner,
        welcomed: Welcomed,
        signals: &'a mut mpsc::Receiver<StopSignal>,
        body: Body,
    ) -> Result<Self, SessionError> {
        let Welcomed { welcome: Welcome { plan, lease, .. }, outgoing, incoming } = welcomed;
        let wake = Arc::new(Notify::new());
        let (reports, uploads, kept) = (Reports::new(Arc::clone(&wake)), Uploads::default(), Kept::default());
        let pulse = Pulse::new({
            let wake = Arc::clone(&wake);
            move || wake.notify_one()
        });
        let setup = setup(settings, &plan, &pulse, &kept);
        let trainer = TrainerThread::spawn(body, setup, reports.clone(), uploads.clone())?;
        let (is_attached, attached) = watch::channel(true);
        let (bulk, presence) = (Bulk::new(&settings.coordinator)?, Presence::new(attached));
        let fetcher = Fetcher { bulk, presence, patience: settings.patience };
        Ok(Self {
            settings,
            link: Link::new(joiner, plan.run.clone(), incoming),
            is_attached,
            signals,
            leaving: None,
            trainer,
            followed: Followed::default(),
            courier: Courier::new(fetcher.clone(), plan.run.clone()),
            speaker: Speaker::new(pulse, reports.clone(), outgoing, lease),
            reports,
            kept,
            stored: None,
            wake,
            listener: None,
            fetcher,
            uploads,
            plan,
        })
    }

    /// Takes part until the coordinator says that it is over. It is told of what goes wrong here.
    pub(super) async fn run(&mut self) -> Result<Over, SessionError> {
        self.speaker.speak();
        let error = match (self.converse().await, self.leaving) {
            (Ok(over), None) => return Ok(over),
            // Without a way back there was nobody to be let go by.
            (
                Ok(_) | Err(SessionError::NoWayBack { .. } | SessionError::LetGo { .. }),
                Some(Leaving { signal, .. }),
            ) => SessionError::Stopped(signal),
            (Err(error), _) => error,
        };
        if matches!(error, SessionError::Stopped(_)) {
            self.farewell();
        }
        error.log();
        if error.is_for_the_coordinator() {
            self.last_word(&error).await;
        }
        Err(error)
    }

    /// Waits until the trainer has let go of its device, but not for long: what it has open, a process that takes the place
    /// of this one would find open too.
    pub(super) async fn rest(self) {
        if timeout(LAST_WORD, self.trainer.end()).await.is_err() {
            debug!("the trainer is still at work");
        }
    }

    async fn converse(&mut self) -> Result<Over, SessionError> {
        let (uploads, plan, fetcher) = (self.uploads.clone(), self.plan.clone(), self.fetcher.clone());
        let sending = uploads.send(&fetcher.bulk, &plan.run, &self.settings.name, fetcher.presence.clone());
        let ready = get_ready(self.settings, &plan, &fetcher);
        tokio::pin!(sending, ready);
        loop {
            tokio::select! {
                event = self.link.next() => match event? {
                    Event::Order(Order::Finish(finish)) => return Ok(Self::finished(&finish)),
                    Event::Order(order) => self.follow(order)?,
                    Event::Detached => {
                        self.is_attached.send_replace(false);
                        self.speaker.detach();
                    }
                    Event::Attached(welcome, outgoing) => self.attached(*welcome, outgoing)?,
                },
                command = self.courier.next() => self.trainer.command(command?)?,
                readiness = &mut ready, if self.listener.is_none() => {
                    let (listener, address) = readiness?;
                    info!(address, "ready");
                    (self.listener, self.speaker.address) = (Some(listener), address);
                    self.speaker.speak();
                }
                () = &mut sending => {}
                error = self.trainer.ended() => return Err(error),
                Some(signal) = self.signals.recv() => self.leave(signal)?,
                () = reached(self.leaving.map(|leaving| leaving.deadline)) => return Err(self.overdue()),
                () = self.wake.notified() => self.speaker.speak(),
                () = sleep_until(self.speaker.due()) => self.speaker.speak(),
            }
        }
    }

    fn follow(&mut self, order: Order) -> Result<(), SessionError> {
        match order {
            Order::Prepare { generation, now } => self.prepare(generation, now),
            Order::Begin(order) => self.begin(order),
            Order::Verdict(order) => {
                if self.followed.verdict(&order) {
                    self.reports.judged(order.epoch);
                    self.courier.carry(Errand::Verdict(order));
                }
            }
            Order::Evaluate(order) => match self.followed.evaluate(order) {
                Evaluation::Compute => {
                    self.reports.evaluated();
                    self.courier.carry(Errand::Evaluate(order));
                }
                Evaluation::Report => self.reports.say_evaluation_again(),
                Evaluation::Nothing => {}
            },
            Order::Stored { step } => {
                self.kept.release(step);
                self.stored = self.stored.max(Some(step));
            }
            // The loop ends with it.
            Order::Finish(_) => {}
        }
        // Whoever says something again has missed the answer.
        self.speaker.speak();
        Ok(())
    }

    fn prepare(&mut self, generation: u64, now: bool) {
        let Some(pause) = self.followed.prepare(generation, now) else { return };
        if pause.is_new {
            debug!(generation, now, "asked to pause");
            self.reports.enter(generation);
        }
        if pause.now {
            self.trainer.cancel();
            self.courier.drop_all_but_prepare();
        } else {
            // What is on its way to the trainer is carried out first: all members are to pause at the same boundary.
            self.trainer.pause();
        }
        if pause.is_new {
            self.courier.carry(Errand::Prepare { generation });
        }
    }

    fn begin(&mut self, order: BeginOrder) {
        let Some(listener) = self.listener.clone() else {
            // It is said again.
            return warn!(generation = order.generation, "asked to begin before it was ready");
        };
        if order.generation > self.followed.begun() && !self.followed.is_prepared(order.generation) {
            self.prepare(order.generation, true);
        }
        if self.followed.begin(order.generation) {
            self.reports.enter(order.generation);
            let names = order.peers.iter().map(|peer| peer.name.clone()).collect();
            self.speaker.members = (order.generation, names);
            let controls = self.trainer.begin();
            self.courier.carry(Errand::Begin { order, controls, listener });
        }
    }

    /// A trainer holds its plan for life, so a run that goes on by another one needs another worker.
    fn attached(&mut self, welcome: Welcome, outgoing: Outgoing) -> Result<(), SessionError> {
        self.speaker.attach(outgoing, welcome.lease);
        if welcome.plan.run != self.plan.run {
            let (before, now) = (self.plan.run.clone(), welcome.plan.run);
            return Err(SessionError::OtherRun { before, now });
        }
        if welcome.plan != self.plan {
            return Err(SessionError::OtherPlan { run: welcome.plan.run });
        }
        self.is_attached.send_replace(true);
        Ok(())
    }

    /// The first signal is a wish, the second an order.
    fn leave(&mut self, signal: StopSignal) -> Result<(), SessionError> {
        if self.leaving.is_some() {
            return Err(SessionError::Stopped(signal));
        }
        let drain_timeout = self.settings.drain_timeout;
        info!(
            ?signal,
            drain_timeout_s = drain_timeout.as_secs(),
            "leaving at the next boundary; a second signal ends at once"
        );
        self.leaving = Some(Leaving { signal, deadline: Instant::now() + drain_timeout });
        self.speaker.is_leaving = true;
        self.speaker.speak();
        Ok(())
    }

    fn finished(finish: &FinishOrder) -> Over {
        info!(reason = finish.reason, "the session is over");
        Over::by(finish)
    }

    /// For whoever has stopped this worker, and perhaps all of them: what is left of the run's work.
    fn farewell(&self) {
        let run = &self.plan.run;
        let at = self
            .speaker
            .step()
            .map_or_else(|| "before its first step".to_owned(), |step| format!("at step {step}"));
        match self.stored {
            Some(step) => info!("left {run} {at}; its newest checkpoint is that of step {step}"),
            None => info!("left {run} {at}; none of its checkpoints was stored while this worker was there"),
        }
    }

    fn overdue(&self) -> SessionError {
        let signal = self.leaving.map_or(StopSignal::Terminate, |leaving| leaving.signal);
        warn!(
            drain_timeout_s = self.settings.drain_timeout.as_secs(),
            "the coordinator has not let go; leaving all the same"
        );
        SessionError::Stopped(signal)
    }

    /// Tells the coordinator why this worker ends, also if it has to come back for that. The end of the session is the
    /// receipt.
    async fn last_word(&mut self, error: &SessionError) {
        let told = async {
            let mut is_said = false;
            loop {
                if let Some(outgoing) = self.speaker.outgoing() {
                    outgoing.failed(error.to_string(), error.kind());
                    is_said = true;
                }
                match self.link.next().await {
                    Ok(Event::Order(Order::Finish(_))) | Err(_) => return,
                    Ok(Event::Detached) if is_said => return,
                    Ok(Event::Detached) => self.speaker.detach(),
                    Ok(Event::Attached(welcome, outgoing)) => self.speaker.attach(outgoing, welcome.lease),
                    Ok(Event::Order(_)) => {}
                }
            }
        };
        tokio::select! {
            _ = timeout(LAST_WORD, told) => {}
            Some(_) = self.signals.recv() => {}
        }
    }
}

/// For ever without a deadline.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
