//! What a run's files tell of it: steps with their times from the workers' logs, receipts and members from its events.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

/// A step that a worker has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) generation: u64,
    pub(crate) step: u64,
    pub(crate) at: Timestamp,
}

/// All steps in a worker's log, in order.
pub(crate) fn steps(run: &Path, worker: &str) -> Vec<Step> {
    let log = fs::read_to_string(run.join(format!("logs/{worker}.log"))).unwrap_or_default();
    let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete.filter_map(step).collect()
}

fn step(line: &str) -> Option<Step> {
    let (head, rest) = line.split_once(": step step=")?;
    Some(Step {
        generation: head.rsplit_once(" generation=")?.1.split(['}', ' ']).next()?.parse().ok()?,
        step: rest.split_whitespace().next()?.parse().ok()?,
        at: line.split_whitespace().next()?.parse().ok()?,
    })
}

/// Milliseconds from each step of a generation to the next one.
pub(crate) fn intervals(steps: &[Step]) -> Vec<f64> {
    let pairs = steps
        .windows(2)
        .filter(|pair| pair[0].generation == pair[1].generation && pair[0].step + 1 == pair[1].step);
    pairs.map(|pair| millis(pair[0].at, pair[1].at)).collect()
}

pub(crate) fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

/// The complete lines of `events.jsonl` of one kind.
pub(crate) fn events(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = complete.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

pub(crate) fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("no {key} in {event}"))
}

/// The newest generation's number and its members by rank.
pub(crate) fn membership(run: &Path) -> Option<(u64, Vec<(String, u32)>)> {
    let began = events(run, "generation_began").pop()?;
    let members = began["members"].as_array()?.iter();
    let members = members.map(|member| {
        (member["worker"].as_str().unwrap().to_owned(), u32::try_from(number(member, "pid")).unwrap())
    });
    Some((number(&began, "generation"), members.collect()))
}
