//! Looks again and again: whose lease is over, who is stuck, who is slow, and who has not followed what it was told.

use super::pace::median;
use super::receipt::Reason;
use super::{Forming, Phase, Run, Stage, TICK_MS, Training, Worker};
use crate::{Activity, Cause, Entry, FailureKind, Generation, Progress, Reject, Time, WorkerName};

/// A broken session may come back within this time.
const COMEBACK_MS: u64 = 1000;
/// An order that was not followed by then is given again.
const AGAIN_MS: u64 = 500;
/// Of the lease: a worker that others wait for and that is silent for so long is stuck. Its heartbeats come six times as
/// often.
const SILENCE: (u64, u64) = (2, 5);
/// Median steps that a member that is heard of may take for one step, and the least that it is granted.
const HUNG_STEPS: f64 = 20.0;
const HUNG_MS: u64 = 10_000;
/// The same before a pace is known: first steps load and warm up.
const HUNG_FIRST_MS: u64 = 120_000;
/// Median steps that others wait before anybody is called stuck.
const STALL_STEPS: f64 = 2.0;
/// A member is a straggler when it takes so many times the others' time, in so many reports in a row.
const STRAGGLER_FACTOR: f64 = 1.5;
const STRAGGLER_REPORTS: u32 = 10;
/// Each report is compared with those of all others.
const STRAGGLER_MEMBERS_MAX: usize = 64;

/// A worker that has to go.
struct Overdue {
    worker: WorkerName,
    reason: String,
    since: Time,
}

impl Run {
    pub(super) fn on_tick(&mut self, now: Time) {
        if now < self.next_tick || matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.forgive_own_absence(now);
        self.next_tick = Time(now.0 + TICK_MS);
        for Overdue { worker, reason, since } in self.overdue(now) {
            self.lose(now, &worker, reason, since);
        }
        match &self.phase {
            Phase::Returning { deadline, .. } if now >= *deadline => self.settle(now),
            Phase::Gathering(gathering) if gathering.deadline.is_some_and(|deadline| now >= deadline) => {
                self.reconsider(now);
                self.give_up_gathering();
            }
            Phase::Forming(_) => self.press(now),
            Phase::Training(_) => self.look_for_stuck(now),
            _ => {}
        }
        self.tell_again(now);
        self.reconsider(now);
    }

    /// When this process itself was stopped for a while, the silence was not the workers'.
    fn forgive_own_absence(&mut self, now: Time) {
        let absent_ms = now.0.saturating_sub(self.next_tick.0);
        if absent_ms > self.history.spec.lease_ms / 3 {
            for worker in self.workers.values_mut() {
                worker.heard = Time(worker.heard.0 + absent_ms).min(now);
                worker.detached = worker.detached.map(|since| Time(since.0 + absent_ms).min(now));
            }
        }
    }

    /// Workers that were not heard of within their lease, or did not come back.
    fn overdue(&self, now: Time) -> Vec<Overdue> {
        let lease_ms = self.history.spec.lease_ms;
        let returning = matches!(self.phase, Phase::Returning { .. });
        let overdue = |(name, worker): (&WorkerName, &Worker)| {
            let silent_ms = now.0.saturating_sub(worker.heard.0);
            let away_ms = worker.detached.map_or(0, |since| now.0.saturating_sub(since.0));
            let reason = if silent_ms >= lease_ms {
                format!("nothing was heard of it for {:.1} s", silent_ms as f64 / 1e3)
            } else if away_ms >= COMEBACK_MS.min(lease_ms) && !returning {
                "its connection broke and it did not come back".to_owned()
            } else {
                return None;
            };
            Some(Overdue { worker: name.clone(), reason, since: worker.heard })
        };
        self.workers.iter().filter_map(overdue).collect()
    }

    /// The first workers did not come in time.
    fn give_up_gathering(&mut self) {
        if !matches!(self.phase, Phase::Gathering(_)) {
            return;
        }
        let spec = &self.history.spec;
        let (wanted, seconds) = (spec.workers.min.max(1), spec.join_timeout_ms / 1000);
        let have = self.workers.values().filter(|worker| worker.is_ready()).count();
        let reason = format!("{have} of at least {wanted} workers joined and got ready within {seconds} s");
        self.fail(reason, FailureKind::Cluster);
    }

    /// Those that do not pause are stuck; newcomers are asked as well.
    fn press(&mut self, now: Time) {
        self.ask_newcomers(now);
        let Phase::Forming(Forming { now: at_once, waiting, since, .. }) = &self.phase else { return };
        if !at_once {
            return self.look_for_stuck(now);
        }
        let (silence_ms, limit_ms) = (self.silence_ms(), self.hung_ms());
        let pressed_ms = now.0.saturating_sub(since.0);
        let stuck: Vec<Overdue> = waiting
            .iter()
            .filter_map(|name| {
                let worker = self.workers.get(name)?;
                let silent_ms = now.0.saturating_sub(worker.heard.0);
                let reason = if silent_ms > silence_ms {
                    format!("it is stuck: all are to pause, and nothing was heard of it for {silent_ms} ms")
                } else if pressed_ms > limit_ms {
                    format!("it is stuck: it has not paused within {pressed_ms} ms")
                } else {
                    return None;
                };
                Some(Overdue { worker: name.clone(), reason, since: worker.heard })
            })
            .collect();
        stuck
            .into_iter()
            .for_each(|Overdue { worker, reason, since }| self.lose(now, &worker, reason, since));
    }

    fn silence_ms(&self) -> u64 {
        self.history.spec.lease_ms * SILENCE.0 / SILENCE.1
    }

    /// How long a step may take a member that is heard of.
    fn hung_ms(&self) -> u64 {
        match self.pace.median_ms() {
            Some(step_ms) => HUNG_MS.max(2 * self.history.spec.lease_ms).max((HUNG_STEPS * step_ms) as u64),
            None => HUNG_FIRST_MS,
        }
    }

    /// How long a member that is heard of may be at one thing.
    fn patience_ms(&self, activity: &Activity) -> u64 {
        match activity {
            // Its replica's state may be large, or a block of pictures, and what a step takes says nothing of either.
            Activity::Forming | Activity::Caching => HUNG_FIRST_MS,
            _ => self.hung_ms(),
        }
    }

    /// Follows who waits for whom to the one that does not wait.
    fn look_for_stuck(&mut self, now: Time) {
        let silence_ms = self.silence_ms();
        let stall_ms = silence_ms.max((STALL_STEPS * self.pace.median_ms().unwrap_or_default()) as u64);
        let Some((waiter, culprit, waited_ms)) = self.stalled(now, stall_ms) else { return };
        // Whoever it waits for will not make another step: it cannot come to a boundary by itself.
        let unheeded = matches!(&self.phase, Phase::Forming(forming) if !forming.waiting.contains(&culprit));
        let Some(worker) = self.workers.get(&culprit).filter(|_| !unheeded) else {
            return self.pause_at_once(now);
        };
        let (silent_ms, since) = (now.0.saturating_sub(worker.heard.0), worker.heard);
        let heartbeat = &worker.heartbeat;
        let at_it_ms = heartbeat.since_ms + silent_ms;
        if silent_ms > silence_ms {
            let reason =
                format!("it is stuck: {waiter} waits for it since {waited_ms} ms, silent for {silent_ms} ms");
            self.lose(now, &culprit, reason, since);
        } else if matches!(heartbeat.activity, Activity::Exchanging { .. }) {
            // All wait in a circle, so a connection swallows what is sent.
            if waited_ms > self.hung_ms().min(2 * stall_ms + self.history.spec.lease_ms) {
                if matches!(self.phase, Phase::Forming(_)) {
                    return self.pause_at_once(now);
                }
                let text = format!("{waiter} and {culprit} wait for each other since {waited_ms} ms");
                let since = Time(now.0.saturating_sub(waited_ms));
                self.form(now, Reason { cause: Cause::Link, culprit: Some(culprit), text, since }, true);
            }
        } else if at_it_ms > self.patience_ms(&heartbeat.activity) {
            let reason =
                format!("it is stuck: {waiter} waits for it, it has been at one step for {at_it_ms} ms");
            self.lose(now, &culprit, reason, since);
        }
    }

    /// The boundary that all were to pause at does not come.
    fn pause_at_once(&mut self, now: Time) {
        if let Phase::Forming(forming) = &mut self.phase
            && !forming.now
        {
            (forming.now, forming.since) = (true, now);
            self.ask_again(now);
        }
    }

    /// A member that waits for longer than `stall_ms`, whom it waits for in the end, and how long.
    fn stalled(&self, now: Time, stall_ms: u64) -> Option<(WorkerName, WorkerName, u64)> {
        // What others are at is left over from generations of former days.
        let counts = |name: &WorkerName, worker: &Worker| match &self.phase {
            Phase::Training(Training { generation, members, .. }) => {
                worker.heartbeat.generation == *generation && members.contains(name)
            }
            Phase::Forming(forming) => forming.waiting.contains(name),
            _ => false,
        };
        self.workers.iter().filter(|(name, worker)| counts(name, worker)).find_map(|(name, worker)| {
            let Activity::Exchanging { waiting_on } = &worker.heartbeat.activity else { return None };
            let waited_ms = worker.heartbeat.since_ms + now.0.saturating_sub(worker.heard.0);
            let fresh = now.0.saturating_sub(worker.heard.0) <= self.silence_ms();
            if !fresh || waited_ms <= stall_ms {
                return None;
            }
            let mut culprit = waiting_on;
            for _ in 0..self.workers.len() {
                let Some(next) = self.workers.get(culprit) else { break };
                let silent = now.0.saturating_sub(next.heard.0) > self.silence_ms();
                match &next.heartbeat.activity {
                    Activity::Exchanging { waiting_on } if !silent => culprit = waiting_on,
                    _ => break,
                }
            }
            Some((name.clone(), culprit.clone(), waited_ms))
        })
    }

    /// Gives orders again that were not followed.
    fn tell_again(&mut self, now: Time) {
        let due = |worker: &Worker| worker.detached.is_none() && now.0 >= worker.told.0 + AGAIN_MS;
        match &self.phase {
            Phase::Forming(Forming { waiting, .. })
                if waiting.iter().filter_map(|name| self.workers.get(name)).any(due) =>
            {
                self.ask_again(now);
            }
            Phase::Training(training) => {
                let owed: Vec<(WorkerName, Owed)> = training
                    .members
                    .iter()
                    .filter_map(|name| {
                        let worker = self.workers.get(name).filter(|worker| due(worker))?;
                        Some((name.clone(), self.owed(training, name, worker)?))
                    })
                    .collect();
                for (worker, owed) in owed {
                    match owed {
                        Owed::Begin => self.tell_begin(now, Some(&worker)),
                        Owed::Verdict => self.tell_verdict(now, &worker),
                        Owed::Evaluate => self.tell_evaluate(now, worker),
                    }
                }
            }
            _ => {}
        }
    }

    /// What a member does not seem to have heard.
    fn owed(&self, training: &Training, name: &WorkerName, worker: &Worker) -> Option<Owed> {
        let heartbeat = &worker.heartbeat;
        if heartbeat.generation < training.generation {
            return Some(Owed::Begin);
        }
        let judged = self.history.rows.last().map(|row| row.epoch);
        let behind = heartbeat.position.is_some_and(|position| Some(position.epoch) == judged);
        match (&heartbeat.activity, &training.stage) {
            (Activity::AwaitingVerdict, _) if behind => Some(Owed::Verdict),
            (Activity::Holding, Stage::Testing(reports)) if !reports.contains_key(name) => {
                Some(Owed::Evaluate)
            }
            _ => None,
        }
    }

    pub(super) fn on_progressed(
        &mut self,
        now: Time,
        worker: WorkerName,
        generation: Generation,
        progress: Progress,
    ) -> Result<(), Reject> {
        self.member_of(&worker, generation)?;
        self.hear(now, &worker);
        self.furthest = self.furthest.max(progress.position);
        self.pace.take(progress.step_ms);
        let Some(known) = self.workers.get_mut(&worker) else { return Ok(()) };
        known.progress = progress;
        self.look_for_straggler(&worker);
        Ok(())
    }

    /// Compares a member's own time for a shard with the others'.
    fn look_for_straggler(&mut self, worker: &WorkerName) {
        // A run of so many is watched by other means than pairs of members.
        if self.history.members.len() > STRAGGLER_MEMBERS_MAX {
            return;
        }
        let own = |name: &WorkerName| {
            let shards = self.history.members.iter().find(|member| member.worker == *name)?.shards;
            let Progress { step_ms, exchange_ms, .. } = self.workers.get(name)?.progress;
            let known = shards.1 > shards.0 && step_ms > 0.0;
            known.then(|| (step_ms - exchange_ms) / f64::from(shards.1 - shards.0))
        };
        let Some(shard_ms) = own(worker) else { return };
        let names = self.history.members.iter().map(|member| &member.worker);
        let others: Vec<f64> = names.filter(|name| *name != worker).filter_map(own).collect();
        let others_ms = median(others.iter().copied());
        let generation = self.history.generation;
        let Some(known) = self.workers.get_mut(worker) else { return };
        if others.is_empty() || shard_ms <= STRAGGLER_FACTOR * others_ms {
            known.slow = 0;
            return;
        }
        known.slow = known.slow.saturating_add(1);
        if known.slow == STRAGGLER_REPORTS {
            let worker = worker.clone();
            self.record(Entry::Straggler { worker, generation, shard_ms, others_ms });
        }
    }
}

/// An order to give again.
enum Owed {
    Begin,
    Verdict,
    Evaluate,
}
