//! A run's and a worker's state as a person reads it in a table's cell or a line.

use std::time::Duration;

use crate::cli::console::duration;
use crate::client::{Requirements, RunState, RunSummary};
use crate::driver::now;

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// `queued #2`, `running`.
pub(super) fn state(run: &RunSummary) -> String {
    match run.queue_position {
        Some(position) => format!("{} #{position}", run.state.as_str()),
        None => run.state.as_str().to_owned(),
    }
}

/// `34 %, 3m 07s left`.
pub(super) fn progress(run: &RunSummary) -> String {
    let Some(share) = run.progress() else { return NOTHING.into() };
    // A run that lacks its last step is not all done.
    let share = format!("{:.0} %", (100.0 * share).floor());
    match left(run) {
        Some(left) => format!("{share}, {left} left"),
        None => share,
    }
}

/// `3m 07s`, of a run that goes on.
pub(super) fn left(run: &RunSummary) -> Option<String> {
    let goes_on = run.state == RunState::Running;
    run.left_ms.filter(|_| goes_on).map(|left_ms| duration(Duration::from_millis(left_ms)))
}

pub(super) fn best(run: &RunSummary) -> String {
    run.best_accuracy.map_or_else(|| NOTHING.into(), |best| format!("{:.2} %", 100.0 * best))
}

/// Those that it has, and those that it asks for: `0/2`, `3/2..8`.
pub(super) fn workers(run: &RunSummary) -> String {
    if run.state.is_over() {
        return NOTHING.into();
    }
    format!("{}/{}", run.workers.len(), bounds(&run.requirements))
}

/// `2`, `2..8`.
pub(super) fn bounds(requirements: &Requirements) -> String {
    match (requirements.min_workers, requirements.max_workers) {
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min}..{max}"),
    }
}

/// `2..8 cuda workers of at least 16 GiB`.
pub(super) fn asked_for(requirements: &Requirements) -> String {
    let kind = requirements.device_kind.as_ref().map_or_else(String::new, |kind| format!("{kind} "));
    let noun = if requirements.max_workers == 1 { "worker" } else { "workers" };
    let each =
        requirements.memory_bytes.map_or_else(String::new, |bytes| format!(" of at least {}", memory(bytes)));
    one_line(&format!("{} {kind}{noun}{each}", bounds(requirements)))
}

/// Why it is not at work: what it waits for, or what ended it.
pub(super) fn why(run: &RunSummary) -> String {
    one_line(if run.waits_for.is_empty() { &run.reason } else { &run.waits_for })
}

/// Since a time that is told by the coordinator's clock, which may be ahead of this one.
pub(super) fn age(at_ms: u64) -> String {
    duration(Duration::from_millis(now().0.saturating_sub(at_ms)))
}

/// `16 GiB`, `1.5 GiB`, `512 MiB`.
pub(super) fn memory(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >> shift > 0);
    let Some((unit, shift)) = unit else { return format!("{bytes} B") };
    let number = format!("{:.1}", bytes as f64 / (1_u64 << shift) as f64);
    format!("{} {unit}", number.trim_end_matches(".0"))
}

/// Words of others in one line, without what would steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_not_steer_the_terminal() {
        assert_eq!(one_line("worker lost:\n\u{1b}[2Jout of\tmemory\r\n"), "worker lost: [2Jout of memory");
    }

    #[test]
    fn memory_reads_as_people_say_it() {
        for (bytes, words) in [
            (0, "0 B"),
            (1 << 29, "512 MiB"),
            (16 << 30, "16 GiB"),
            (3 << 29, "1.5 GiB"),
            (85_520_809_984, "79.6 GiB"),
        ] {
            assert_eq!(memory(bytes), words);
        }
    }

    #[test]
    fn what_a_run_asks_for_reads_as_a_sentence_part() {
        let any = Requirements { min_workers: 1, max_workers: 1, device_kind: None, memory_bytes: None };
        assert_eq!(asked_for(&any), "1 worker");
        let much = Requirements {
            min_workers: 2,
            max_workers: 8,
            device_kind: Some("cuda".into()),
            memory_bytes: Some(16 << 30),
        };
        assert_eq!(asked_for(&much), "2..8 cuda workers of at least 16 GiB");
    }
}
