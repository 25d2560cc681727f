//! Where a watched run's course is shown: on a terminal a live line below the lines, elsewhere lines alone, or JSON.
//!
//! Nothing is coloured, so nothing depends on colours or on NO_COLOR.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::course::Course;
use super::{is_live, words};
use crate::client::{RunState, RunSummary};

const TRAINING: &str = "{prefix} {wide_bar} {pos}/{len} {msg}";
const ELSE: &str = "{prefix} {wide_msg}";

/// What a person or a program sees.
pub(in crate::cli::remote) struct Screen {
    course: Course,
    face: Face,
    /// Results.
    out: Box<dyn Write>,
    /// What there is to know.
    notes: Box<dyn Write>,
}

enum Face {
    Lines,
    Live(ProgressBar),
    Json,
}

impl Screen {
    /// This process's streams.
    pub(in crate::cli::remote) fn of_process(json: bool) -> Self {
        let face = match (json, is_live()) {
            (true, _) => Face::Json,
            (false, true) => Face::Live(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())),
            (false, false) => Face::Lines,
        };
        Self::new(face, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn new(face: Face, out: Box<dyn Write>, notes: Box<dyn Write>) -> Self {
        Self { course: Course::default(), face, out, notes }
    }

    /// What a pipe or a file gets.
    #[cfg(test)]
    pub(in crate::cli::remote) fn of_writers(json: bool, out: Box<dyn Write>, notes: Box<dyn Write>) -> Self {
        Self::new(if json { Face::Json } else { Face::Lines }, out, notes)
    }

    pub(super) fn show(&mut self, run: &RunSummary) {
        let lines = match &self.face {
            Face::Json => serde_json::to_string(run).into_iter().collect(),
            Face::Lines => self.course.lines(run, true),
            Face::Live(bar) => {
                draw(bar, run);
                self.course.lines(run, false)
            }
        };
        for line in lines {
            let out = &mut self.out;
            suspended(&self.face, || say(out, &line));
        }
    }

    /// Something about the watching itself.
    pub(super) fn note(&mut self, line: &str) {
        let notes = &mut self.notes;
        suspended(&self.face, || say(notes, line));
    }

    /// Takes the live line away.
    pub(super) fn clear(&mut self) {
        if let Face::Live(bar) = &self.face {
            bar.finish_and_clear();
        }
    }
}

fn suspended(face: &Face, write: impl FnOnce()) {
    match face {
        Face::Live(bar) => bar.suspend(write),
        Face::Lines | Face::Json => write(),
    }
}

/// A reader that is gone (`| head`) does not end the watching: the exit code is still the run's.
fn say(to: &mut dyn Write, line: &str) {
    drop(writeln!(to, "{line}").and_then(|()| to.flush()));
}

fn draw(bar: &ProgressBar, run: &RunSummary) {
    let trains = run.state == RunState::Running && run.steps_total > 0 && run.waits_for.is_empty();
    let template = if trains { TRAINING } else { ELSE };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(words::one_line(&run.name));
    if trains {
        bar.set_length(run.steps_total);
        bar.set_position(run.step);
    }
    bar.set_message(message(run, trains));
    bar.tick();
}

fn message(run: &RunSummary, trains: bool) -> String {
    if !trains {
        let why = words::why(run);
        return if why.is_empty() { words::state(run) } else { format!("{}: {why}", words::state(run)) };
    }
    let epoch = (run.epoch + 1).min(run.epochs);
    let left = words::left(run).unwrap_or_else(|| "?".into());
    let best = run.best_accuracy.map_or_else(String::new, |_| format!(" best {}", words::best(run)));
    let phase = match &*run.phase {
        "" | "training" => String::new(),
        phase => format!(" {}", words::one_line(phase)),
    };
    format!("epoch {epoch}/{}{best} workers {} left {left}{phase}", run.epochs, words::workers(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake;

    #[test]
    fn the_live_line_tells_how_far_and_how_long() {
        let mut run = fake::run("first", RunState::Running);
        (run.epoch, run.epochs, run.best_accuracy, run.left_ms) = (2, 10, Some(0.712), Some(187_000));
        run.workers = vec!["w-1".into(), "w-2".into()];
        assert_eq!(message(&run, true), "epoch 3/10 best 71.20 % workers 2/1..2 left 3m 07s");
        run.phase = "forming a generation".into();
        assert!(message(&run, true).ends_with("left 3m 07s forming a generation"));
        run.waits_for = "waits for worker-3".into();
        assert_eq!(message(&run, false), "running: waits for worker-3");
    }
}
