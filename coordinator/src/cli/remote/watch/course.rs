//! A run's course in lines: one for every change that a person would want to know of.

use super::words;
use crate::cli::console::{counted, duration};
use crate::client::{RunState, RunSummary};

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Course {
    headline: String,
    epoch: Option<u32>,
}

impl Course {
    /// What is new; with a line for each epoch, where no live line shows it.
    pub(super) fn lines(&mut self, run: &RunSummary, with_epochs: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let headline = headline(run);
        if headline != self.headline {
            lines.push(headline.clone());
            self.headline = headline;
        }
        // The first look at a run tells of no epoch: it did not end now.
        let ended = self.epoch.replace(run.epoch).is_some_and(|before| before < run.epoch);
        if ended && with_epochs && !run.state.is_over() {
            lines.push(epoch(run));
        }
        lines
    }
}

/// What the run is at, without what changes all the time.
fn headline(run: &RunSummary) -> String {
    let name = &run.name;
    let at = format!("at step {} of {}", run.step, run.steps_total);
    let waits = match &*run.waits_for {
        "" => String::new(),
        waits => format!(": {waits}"),
    };
    words::one_line(&match run.state {
        RunState::Queued | RunState::Unknown => format!("{name}: {}{waits}", words::state(run)),
        RunState::Preparing => format!("{name}: preparing: its data and weights are being looked at"),
        RunState::Running if run.workers.is_empty() => format!("{name}: running without workers{waits}"),
        RunState::Running => format!("{name}: running on {}{waits}", run.workers.join(", ")),
        RunState::Stopping => format!("{name}: stopping at its next step, with a checkpoint"),
        RunState::Done => format!("{name}: done{}{}", took(run), best(run)),
        RunState::Stopped => format!("{name}: stopped {at}{}", took(run)),
        // Why is told by the error that follows.
        RunState::Failed => format!("{name}: failed {at}{}", took(run)),
    })
}

fn epoch(run: &RunSummary) -> String {
    let left = words::left(run).map_or_else(String::new, |left| format!(", {left} left"));
    let name = &run.name;
    words::one_line(&format!("{name}: {} of {}{}{left}", counted(run.epoch, "epoch"), run.epochs, best(run)))
}

fn best(run: &RunSummary) -> String {
    run.best_accuracy.map_or_else(String::new, |_| format!(", best {}", words::best(run)))
}

fn took(run: &RunSummary) -> String {
    let took = run.ended_at_ms.zip(run.started_at_ms).map(|(ended, started)| ended.saturating_sub(started));
    took.map_or_else(String::new, |ms| format!(" after {}", duration(std::time::Duration::from_millis(ms))))
}
