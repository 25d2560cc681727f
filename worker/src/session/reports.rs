//! What the trainer has said and the coordinator may not have heard. The trainer leaves a report here and goes on; the
//! session says it, and says it again until it is answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::client::Outgoing;
use crate::trainer::{EpochReport, EvalReport, PrefixTold, Progress, Started};

/// Reports by kind, the newest of each. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    owed: Arc<Mutex<Owed>>,
    /// There is something to say.
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Owed {
    /// Worth nothing when it is late.
    progress: Option<Progress>,
    /// Stays, as nothing answers it; said again after every return.
    started: Option<Said<Started>>,
    /// Likewise.
    prefix: Option<Said<PrefixTold>>,
    epoch: Option<Said<EpochReport>>,
    eval: Option<Said<EvalReport>>,
    /// What belongs to an earlier generation is of no interest any more.
    generation: u64,
}

#[derive(Debug)]
struct Said<R> {
    report: R,
    /// Within the present connection.
    at: Option<Instant>,
}

impl<R: Clone> Said<R> {
    fn new(report: R) -> Option<Self> {
        Some(Self { report, at: None })
    }

    /// The report, when it is to be said now: for the first time, or again after `again`.
    fn due(said: &mut Option<Self>, now: Instant, again: Option<Duration>) -> Option<R> {
        let said = said.as_mut()?;
        let is_due = said.at.is_none_or(|at| again.is_some_and(|again| now.duration_since(at) >= again));
        is_due.then(|| {
            said.at = Some(now);
            said.report.clone()
        })
    }
}

impl Reports {
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self { owed: Arc::default(), wake }
    }

    pub(super) fn progress(&self, progress: Progress) {
        self.owed().progress = Some(progress);
        self.wake.notify_one();
    }

    pub(super) fn started(&self, started: Started) {
        self.owed().started = Said::new(started);
        self.wake.notify_one();
    }

    pub(super) fn prefix(&self, told: PrefixTold) {
        self.owed().prefix = Said::new(told);
        self.wake.notify_one();
    }

    pub(super) fn epoch(&self, report: EpochReport) {
        let mut owed = self.owed();
        if report.generation >= owed.generation {
            owed.epoch = Said::new(report);
            self.wake.notify_one();
        }
    }

    pub(super) fn eval(&self, report: EvalReport) {
        let mut owed = self.owed();
        if report.generation >= owed.generation {
            owed.eval = Said::new(report);
            self.wake.notify_one();
        }
    }

    /// Another generation is under way, or is to come.
    pub(super) fn enter(&self, generation: u64) {
        let mut owed = self.owed();
        owed.generation = generation;
        owed.epoch.take_if(|said| said.report.generation < generation);
        owed.eval.take_if(|said| said.report.generation < generation);
    }

    /// The epoch's report is answered.
    pub(super) fn judged(&self, epoch: u32) {
        self.owed().epoch.take_if(|said| said.report.epoch <= epoch);
    }

    /// Whatever was evaluated before is answered.
    pub(super) fn evaluated(&self) {
        self.owed().eval = None;
    }

    /// The coordinator asks again for what it was told.
    pub(super) fn say_evaluation_again(&self) {
        if let Some(said) = &mut self.owed().eval {
            said.at = None;
        }
    }

    /// The connection is a new one; the coordinator may be too.
    pub(super) fn say_again(&self) {
        let mut owed = self.owed();
        owed.progress = None;
        owed.started.as_mut().into_iter().for_each(|said| said.at = None);
        owed.prefix.as_mut().into_iter().for_each(|said| said.at = None);
        owed.epoch.as_mut().into_iter().for_each(|said| said.at = None);
        owed.eval.as_mut().into_iter().for_each(|said| said.at = None);
    }

    /// Says what is to be said now; what was said longer ago than `again` and has no answer, once more.
    pub(super) fn say(&self, outgoing: &Outgoing, again: Duration) {
        let (now, mut owed) = (Instant::now(), self.owed());
        if let Some(started) = Said::due(&mut owed.started, now, None) {
            outgoing.started(started);
        }
        if let Some(told) = Said::due(&mut owed.prefix, now, None) {
            outgoing.prefix(told);
        }
        if let Some(report) = Said::due(&mut owed.epoch, now, Some(again)) {
            outgoing.epoch_report(report);
        }
        if let Some(report) = Said::due(&mut owed.eval, now, Some(again)) {
            outgoing.eval_report(report);
        }
        if let Some(progress) = owed.progress.take() {
            outgoing.progress(progress);
        }
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Split;

    fn report(generation: u64) -> EvalReport {
        EvalReport { generation, split: Split::Test, blocks: Vec::new(), eval_ms: 1 }
    }

    #[test]
    fn an_unanswered_report_is_due_again_and_an_answered_one_never() {
        let reports = Reports::new(Arc::default());
        let due = |later: u64| {
            let now = Instant::now() + Duration::from_secs(later);
            Said::due(&mut reports.owed().eval, now, Some(Duration::from_secs(3))).is_some()
        };
        reports.eval(report(4));
        assert!(due(0) && !due(2) && due(4), "at once, not yet, again");
        reports.say_again();
        assert!(due(4), "after a return");
        reports.enter(4);
        reports.say_evaluation_again();
        assert!(due(4), "when it is asked for");
        reports.enter(5);
        assert!(!due(100), "its generation is over");
        reports.eval(report(4));
        assert!(!due(100), "it came too late");
    }
}
