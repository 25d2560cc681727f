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
use super::link::{Event, Joined, Joiner, Link};
use super::presence::{Fetcher, Presence};
use super::readiness::{get_ready, setup};
use super::reports::Reports;
use super::speaker::Speaker;
use super::thread::{Body, TrainerThread};
use super::uploads::Uploads;
use super::{SessionError, Settings, StopSignal};
use crate::client::{BeginOrder, Bulk, Order, Outgoing, Welcome};
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
    signals: mpsc::Receiver<StopSignal>,
    leaving: Option<Leaving>,
    trainer: TrainerThread,
    followed: Followed,
    courier: Courier,
    speaker: Speaker,
    reports: Reports,
    kept: Kept,
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
        (joiner, joined): (Joiner, Joined),
        signals: mpsc::Receiver<StopSignal>,
        body: Body,
    ) -> Result<Self, SessionError> {
        let (Welcome { plan, lease, .. }, outgoing, incoming) = joined;
        let wake = Arc::new(Notify::new());
        let (reports, uploads, kept) = (Reports::new(Arc::clone(&wake)), Uploads::default(), Kept::default());
        let pulse = Pulse::new({
            let wake = Arc::clone(&wake);
            move || wake.notify_one()
        });
        let setup = setup(settings, &plan, &pulse, &kept);
        let trainer = TrainerThread::spawn(body, setup, reports.clone(), uploads.clone())?;
        let (is_attached, attached) = watch::channel(true);
        let (bulk, presence) = (Bulk::new(&settings.url)?, Presence::new(attached));
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
            wake,
            listener: None,
            fetcher,
            uploads,
            plan,
        })
    }

    /// Takes part until the coordinator says that it is over. It is told of what goes wrong here.
    pub(super) async fn run(mut self) -> Result<(), SessionError> {
        self.speaker.speak();
        match self.converse().await {
            Err(error) if error.is_for_the_coordinator() => {
                self.last_word(&error).await;
                Err(error)
            }
            Err(error @ SessionError::NoWayBack { .. }) => match self.leaving {
                // There was nobody to be let go by.
                Some(Leaving { signal, .. }) => Err(SessionError::Stopped(signal)),
                None => Err(error),
            },
            result => result,
        }
    }

    async fn converse(&mut self) -> Result<(), SessionError> {
        let (uploads, plan, fetcher) = (self.uploads.clone(), self.plan.clone(), self.fetcher.clone());
        let sending = uploads.send(&fetcher.bulk, &plan.run, &self.settings.name, fetcher.presence.clone());
        let ready = get_ready(self.settings, &plan, &fetcher);
        tokio::pin!(sending, ready);
        loop {
            tokio::select! {
                event = self.link.next() => match event? {
                    Event::Order(Order::Finish { reason }) => return self.finished(&reason),
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
            Order::Stored { step } => self.kept.release(step),
            // The loop ends with it.
            Order::Finish { .. } => {}
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
        let grace = self.settings.grace;
        info!(
            ?signal,
            grace_s = grace.as_secs(),
            "leaving at the next boundary; a second signal ends at once"
        );
        self.leaving = Some(Leaving { signal, deadline: Instant::now() + grace });
        self.speaker.is_leaving = true;
        self.speaker.speak();
        Ok(())
    }

    fn finished(&self, reason: &str) -> Result<(), SessionError> {
        info!(reason, "the session is over");
        match self.leaving {
            Some(Leaving { signal, .. }) => Err(SessionError::Stopped(signal)),
            None => Ok(()),
        }
    }

    fn overdue(&self) -> SessionError {
        let signal = self.leaving.map_or(StopSignal::Terminate, |leaving| leaving.signal);
        warn!(
            grace_s = self.settings.grace.as_secs(),
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
                    Ok(Event::Order(Order::Finish { .. })) | Err(_) => return,
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
