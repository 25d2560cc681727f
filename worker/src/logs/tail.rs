//! The newest lines, on their way to a coordinator that keeps them.
//!
//! Whoever logs never waits: there is room for so much, and when it is full the oldest lines go, as the last words before
//! an error are worth the most. How many are missing is said where they would have been. Lines from before this worker knows
//! whether anybody wants them wait here too.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;

/// Some thousand lines: more than a worker says in a minute at its most talkative.
const ROOM_BYTES: usize = 256 << 10;
/// The contract's limit on a message, less what says that lines are missing.
const BATCH_BYTES: usize = (64 << 10) - 128;
/// What is longer is no line for people.
const LINE_BYTES: usize = 8 << 10;

/// Clones share the lines.
#[derive(Debug, Clone, Default)]
pub struct LogTail {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    /// None: not known yet.
    are_wanted: Option<bool>,
    /// Each with its line feed.
    waiting: VecDeque<String>,
    bytes: usize,
    /// How many have gone before the first that waits.
    missing: u64,
    are_json: bool,
}

impl Lines {
    /// Says that lines are missing, as they would.
    fn gap(&self) -> String {
        let text = format!("{} line(s) of this worker's log are missing here", self.missing);
        if self.are_json {
            format!(
                "{}\n",
                json!({ "level": "WARN", "fields": { "message": text }, "target": module_path!() })
            )
        } else {
            format!("{text}\n")
        }
    }
}

impl LogTail {
    /// Whether the coordinator wants them.
    pub fn keep(&self, are_wanted: bool) {
        let mut lines = self.lines();
        lines.are_wanted = Some(are_wanted);
        if !are_wanted {
            (lines.waiting, lines.bytes, lines.missing) = (VecDeque::new(), 0, 0);
        }
        self.shared.filled.notify_one();
    }

    /// The lines are JSON.
    pub(super) fn speak_json(&self) {
        self.lines().are_json = true;
    }

    /// The next lines for the coordinator, if there are any and it wants them.
    #[must_use]
    pub fn take(&self) -> Option<String> {
        let mut lines = self.lines();
        if lines.are_wanted != Some(true) || lines.waiting.is_empty() {
            return None;
        }
        let mut batch = String::new();
        if lines.missing > 0 {
            batch = lines.gap();
            lines.missing = 0;
        }
        while lines.waiting.front().is_some_and(|line| batch.len() + line.len() <= BATCH_BYTES)
            && let Some(line) = lines.waiting.pop_front()
        {
            lines.bytes -= line.len();
            batch.push_str(&line);
        }
        Some(batch)
    }

    /// Completes when there may be something to take.
    pub async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    fn push(&self, line: &str) {
        let mut lines = self.lines();
        if lines.are_wanted == Some(false) {
            return;
        }
        let line = whole(line);
        lines.bytes += line.len();
        lines.waiting.push_back(line);
        while lines.bytes > ROOM_BYTES
            && let Some(oldest) = lines.waiting.pop_front()
        {
            lines.bytes -= oldest.len();
            lines.missing += 1;
        }
        drop(lines);
        self.shared.filled.notify_one();
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a bearable length, with its line feed.
fn whole(line: &str) -> String {
    let line = line.trim_end_matches('\n');
    match line.char_indices().find(|(at, _)| *at >= LINE_BYTES) {
        Some((at, _)) => format!("{}…\n", &line[..at]),
        None => format!("{line}\n"),
    }
}

impl<'a> MakeWriter<'a> for LogTail {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for LogTail {
    /// A whole event, as the formatter writes them.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tail: &LogTail) -> String {
        let batches: Vec<String> = std::iter::from_fn(|| tail.take()).collect();
        assert!(batches.iter().all(|batch| batch.len() <= 64 << 10 && batch.ends_with('\n')));
        batches.concat()
    }

    #[test]
    fn lines_wait_until_it_is_known_whether_they_are_wanted() {
        let tail = LogTail::default();
        tail.push("early\n");
        assert_eq!(tail.take(), None);
        tail.keep(true);
        tail.push("late\n");
        assert_eq!(tail.take().as_deref(), Some("early\nlate\n"));
        assert_eq!(tail.take(), None);
        tail.push("dropped\n");
        tail.keep(false);
        tail.push("dropped as well\n");
        tail.keep(true);
        assert_eq!(tail.take(), None);
    }

    #[test]
    fn the_newest_lines_stay_and_how_many_are_missing_is_said_once() {
        let tail = LogTail::default();
        tail.keep(true);
        let lines = |count: usize| (0..count).map(|at| format!("{at:099}\n")).collect::<Vec<_>>();
        let kept = ROOM_BYTES / 100;
        lines(kept + 7).iter().for_each(|line| tail.push(line));
        let expected = lines(kept + 7)[7..].concat();
        assert!(all(&tail) == format!("7 line(s) of this worker's log are missing here\n{expected}"));
        tail.push("more\n");
        assert_eq!(all(&tail), "more\n");
        tail.speak_json();
        lines(kept + 1).iter().for_each(|line| tail.push(line));
        let told = all(&tail);
        let gap: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
        assert_eq!(gap["fields"]["message"], "1 line(s) of this worker's log are missing here");
    }

    #[test]
    fn a_line_has_an_end() {
        let tail = LogTail::default();
        tail.keep(true);
        tail.push(&"ä".repeat(LINE_BYTES));
        tail.push("two\nlines");
        let expected = format!("{}…\ntwo\nlines\n", "ä".repeat(LINE_BYTES / 2));
        assert!(all(&tail) == expected);
    }
}
