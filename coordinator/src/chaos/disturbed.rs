//! The disturbed run: waits for each fault's time, has it carried out, and waits until the run has healed.
//!
//! Waits are for what the run's own files say, each with a limit that grows with the machine's pace, which the
//! undisturbed run has shown.

use std::time::{Duration, Instant};

use lockstep_core::Outcome;
use tokio::time::{Interval, MissedTickBehavior};

use super::cluster::{Cluster, Orders, describe};
use super::follow::{Follower, Mark, Seen};
use super::proxy::Proxy;
use super::schedule::Fault;
use super::{Calm, ChaosError, POLL, Settings, Struck, millis};

/// How long a fault's consequences may take to show before it counts as not healed; a step's time counts besides.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_STEPS: u32 = 20;

/// How long nothing at all may happen; twice the undisturbed run's time, where that is longer.
const STANDSTILL: Duration = Duration::from_secs(300);

/// How long workers that died have to be back, before guests come in their stead.
const RETURN: Duration = Duration::from_secs(5);

/// With fewer, a fault that hits one would leave nobody.
const WORKERS_MIN: u32 = 2;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Met,
    Late,
    /// The run is done.
    Ended,
}

pub(super) struct Disturbed<'a> {
    pub(super) cluster: Cluster,
    pub(super) follower: Follower,
    pub(super) proxy: Proxy,
    pub(super) workers_max: u32,
    pub(super) patience: Duration,
    workers: u32,
    steps: u64,
    tell: &'a (dyn Fn(&str) + Sync),
    started: Instant,
    poll: Interval,
    struck: Vec<(Struck, Mark)>,
    done: bool,
    /// When something last happened, and what there was to see then.
    stirred: (Instant, (Mark, bool)),
    standstill: Duration,
}

impl<'a> Disturbed<'a> {
    pub(super) fn start(
        orders: Orders,
        follower: Follower,
        proxy: Proxy,
        calm: &Calm,
        settings: &Settings,
        tell: &'a (dyn Fn(&str) + Sync),
    ) -> Result<Self, ChaosError> {
        let calm_took = Duration::from_millis(calm.ms);
        let step = calm_took / u32::try_from(calm.steps.max(1)).unwrap_or(u32::MAX);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mark = follower.seen().mark();
        Ok(Self {
            cluster: Cluster::train(orders)?,
            follower,
            proxy,
            workers_max: settings.workers_max,
            patience: PATIENCE + step * PATIENCE_STEPS,
            workers: settings.workers,
            steps: calm.steps,
            tell,
            started: Instant::now(),
            poll,
            struck: Vec::new(),
            done: false,
            stirred: (Instant::now(), (mark, false)),
            standstill: STANDSTILL.max(calm_took * 2),
        })
    }

    /// The whole run: what happened, and how long it took in milliseconds.
    pub(super) async fn through(mut self, faults: &[Fault]) -> Result<(Vec<Struck>, u64), ChaosError> {
        self.until(None, Seen::has_started).await?;
        self.keep(self.workers, Duration::ZERO).await?;
        for (index, fault) in faults.iter().enumerate() {
            let (at, steps) = (fault.step(self.steps), self.steps);
            let waited = self.until(None, |seen| seen.step >= at).await?;
            // In a run that has made its last step, a fault would only disturb what comes after training.
            if waited == Waited::Ended || self.seen().step >= steps {
                break;
            }
            self.one(index, *fault).await?;
            self.keep(WORKERS_MIN.max(self.workers.saturating_sub(1)), RETURN).await?;
        }
        self.until(None, |_| false).await?;
        let took = millis(self.started);
        Ok((self.with_receipts(), took))
    }

    /// One fault, and how the run heals of it.
    async fn one(&mut self, index: usize, fault: Fault) -> Result<(), ChaosError> {
        let mark = self.seen().mark();
        let at_ms = millis(self.started);
        let Some(struck) = self.strike(fault, mark).await? else { return Ok(()) };
        let step = mark.step;
        self.say(&format!("fault {} at step {step}: {fault}, {}", index + 1, struck.target));
        let sign = struck.sign;
        self.struck.push((
            Struck {
                fault,
                target: struck.target,
                pid: struck.pid,
                step,
                at_ms,
                healed_ms: None,
                receipts: Vec::new(),
            },
            mark,
        ));
        let patience = self.patience;
        let waited = self
            .until_with(Some(patience), |seen, cluster| {
                seen.has_started() && seen.step > step && sign.shows(&mark, seen) && all_live(seen, cluster)
            })
            .await?;
        let healed_ms = (waited != Waited::Late).then(|| millis(self.started) - at_ms);
        match healed_ms {
            Some(ms) => self.say(&format!("fault {}: healed after {:.1} s", index + 1, ms as f64 / 1e3)),
            None => self.say(&format!("fault {}: not seen to heal in {} s", index + 1, patience.as_secs())),
        }
        if let Some((struck, _)) = self.struck.last_mut() {
            struck.healed_ms = healed_ms;
        }
        Ok(())
    }

    /// Sees to it that at least so many workers take part, with guests where nobody else comes within `grace`.
    async fn keep(&mut self, workers: u32, mut grace: Duration) -> Result<(), ChaosError> {
        let enough = move |seen: &Seen| seen.members.len() >= workers as usize && seen.has_started();
        // A guest may be killed, or be refused because the one it was to stand in for is back: as many tries as guests.
        for _ in 0..workers {
            if self.until(Some(grace), enough).await? != Waited::Late {
                break;
            }
            let missing = (workers as usize).saturating_sub(self.seen().members.len());
            for _ in 0..missing {
                let guest = self.cluster.join()?;
                self.say(&format!("{guest} joins, because fewer than {workers} workers take part"));
            }
            grace = self.patience;
        }
        Ok(())
    }

    pub(super) async fn until(
        &mut self,
        patience: Option<Duration>,
        condition: impl Fn(&Seen) -> bool,
    ) -> Result<Waited, ChaosError> {
        self.until_with(patience, |seen, _| condition(seen)).await
    }

    /// Waits for a condition, at most so long where a patience is given, and never beyond the run's end.
    async fn until_with(
        &mut self,
        patience: Option<Duration>,
        condition: impl Fn(&Seen, &Cluster) -> bool,
    ) -> Result<Waited, ChaosError> {
        let begin = Instant::now();
        loop {
            self.poll.tick().await;
            // Before the look: what a run writes down last is there when its process has ended.
            let ended = self.cluster.ended();
            let seen = self.follower.look();
            let is_done = matches!(seen.outcome, Some(Outcome::Done { .. }));
            match ended {
                _ if self.done => return Ok(Waited::Ended),
                Some(status) if status.success() && is_done => {
                    self.done = true;
                    return Ok(Waited::Ended);
                }
                Some(status) => {
                    let (after, said) = (self.after(), self.cluster.said());
                    return Err(ChaosError::Disturbed { how: describe(status), after, said });
                }
                None => {}
            }
            if condition(seen, &self.cluster) {
                return Ok(Waited::Met);
            }
            let now_seen = (seen.mark(), seen.outcome.is_some());
            if now_seen != self.stirred.1 {
                self.stirred = (Instant::now(), now_seen);
            }
            if self.stirred.0.elapsed() > self.standstill {
                let seconds = self.standstill.as_secs();
                return Err(ChaosError::Standstill { step: now_seen.0.step, seconds, after: self.after() });
            }
            if patience.is_some_and(|patience| begin.elapsed() > patience) {
                return Ok(Waited::Late);
            }
        }
    }

    pub(super) fn seen(&self) -> &Seen {
        self.follower.seen()
    }

    /// The run was done when its coordinator was to be killed.
    pub(super) fn is_done(&mut self) {
        self.done = true;
    }

    fn say(&self, line: &str) {
        (self.tell)(line);
    }

    /// The last fault, in words.
    fn after(&self) -> String {
        match self.struck.last() {
            Some((struck, _)) => {
                let number = self.struck.len();
                format!("after fault {number}, {} of {} at step {}", struck.fault, struck.target, struck.step)
            }
            None => "before any fault".to_owned(),
        }
    }

    /// A receipt belongs to the last fault before it.
    fn with_receipts(self) -> Vec<Struck> {
        let receipts = &self.follower.seen().receipts;
        let ends = self.struck.iter().skip(1).map(|(_, mark)| mark.receipts).chain([receipts.len()]);
        let windows: Vec<_> = self.struck.iter().map(|(_, mark)| mark.receipts).zip(ends).collect();
        let structs = self.struck.into_iter().zip(windows);
        structs
            .map(|((struck, _), (begin, end))| Struck { receipts: receipts[begin..end].to_vec(), ..struck })
            .collect()
    }
}

/// Every member of the newest generation has its process.
fn all_live(seen: &Seen, cluster: &Cluster) -> bool {
    let living: Vec<u32> = cluster.workers().iter().map(|worker| worker.pid).collect();
    seen.members.values().all(|pid| living.contains(pid))
}
