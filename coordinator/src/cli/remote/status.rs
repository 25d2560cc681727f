//! `lockstep status` where a coordinator is named: what it says of the run, and the account of its folder in the same
//! words as of a run of this machine.

use lockstep_core::{Entry, Time};
use serde_json::{Value, json};

use super::{ask, named, refusal, words};
use crate::cli::CliError;
use crate::cli::status::{self, Account};
use crate::cli::stdout::print;
use crate::client::{RunClient, RunState, RunSummary};
use crate::credentials::client::{Remote, RemoteError};

/// Of a run's `run.json`: its class names and what its workers are at.
const STATUS_BYTES_MAX: usize = 16 << 20;
/// Of a run's `events.jsonl`: more than a year of epochs and changes.
const EVENTS_BYTES_MAX: usize = 256 << 20;

/// A coordinator's run.
#[derive(Debug)]
pub(super) struct RemoteStatus {
    pub(super) run: RunSummary,
    /// None before it has begun.
    account: Option<Account>,
    url: String,
}

pub(in crate::cli) fn run(remote: &Remote, run: Option<&str>, json: bool) -> Result<u8, CliError> {
    let run = named(run)?;
    let status = ask(remote, async |client| status(&client, run).await)?;
    print(&if json { status.json()? } else { status.text() })?;
    Ok(0)
}

pub(super) async fn status(client: &RunClient, run: &str) -> Result<RemoteStatus, CliError> {
    let summary = match client.run(run).await {
        Ok(summary) => summary,
        Err(error) => return Err(refusal::of_run(client, run, error).await),
    };
    let events = file(client, run, "events.jsonl", EVENTS_BYTES_MAX).await?;
    let live = file(client, run, "run.json", STATUS_BYTES_MAX).await?;
    let live = serde_json::from_slice::<Value>(&live).unwrap_or_default();
    let said = (summary.state.as_str(), words::why(&summary));
    let account = Account::as_told(&summary.name, entries(&events), &live["live"], said);
    Ok(RemoteStatus { run: summary, account, url: client.url() })
}

/// A file's content; nothing of one that is not there yet, or too large to be what it should.
async fn file(client: &RunClient, run: &str, path: &str, bytes_max: usize) -> Result<Vec<u8>, CliError> {
    let content = match client.file(run, path).await {
        Ok(content) => content.all(bytes_max).await,
        Err(error) => Err(error),
    };
    match content {
        Ok(content) => Ok(content.unwrap_or_else(|| {
            eprintln!("note: {path} of run {run} is larger than {bytes_max} bytes, and is not read");
            Vec::new()
        })),
        Err(RemoteError::Answer { code: tonic::Code::NotFound, .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The entries of `events.jsonl`. Its last line may be half there, because somebody writes it at this moment; one that a
/// newer coordinator writes and this release does not know is passed over.
fn entries(events: &[u8]) -> Vec<(Time, Entry)> {
    let whole = events.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let entry = |line: &[u8]| {
        let mut line: Value = serde_json::from_slice(line).ok()?;
        let at_ms = line.as_object_mut()?.remove("at_ms")?.as_u64()?;
        Some((Time(at_ms), serde_json::from_value(line).ok()?))
    };
    whole.filter_map(entry).collect()
}

impl RemoteStatus {
    /// The account's fields where there is one, and `run`.
    pub(super) fn json(&self) -> Result<String, CliError> {
        let mut json = match &self.account {
            Some(account) => serde_json::to_value(account).map_err(anyhow::Error::from)?,
            None => {
                let reason = words::why(&self.run);
                json!({ "name": self.run.name, "status": self.run.state.as_str(), "reason": reason })
            }
        };
        json["run"] = serde_json::to_value(&self.run).map_err(anyhow::Error::from)?;
        Ok(format!("{json:#}\n"))
    }

    /// Without what would steer a terminal: workers have a say in it.
    pub(super) fn text(&self) -> String {
        self.raw_text().chars().filter(|c| *c == '\n' || !c.is_control()).collect()
    }

    fn raw_text(&self) -> String {
        let more = self.more();
        if let Some(account) = &self.account {
            return status::table(account, &more);
        }
        let why = words::why(&self.run);
        let status = [self.run.state.as_str(), &why].into_iter().filter(|word| !word.is_empty());
        let head = [("run", self.run.name.clone()), ("status", status.collect::<Vec<_>>().join(", "))];
        status::rows(&head) + &status::rows(&more)
    }

    /// What only a standing coordinator knows.
    fn more(&self) -> [(&'static str, String); 6] {
        let run = &self.run;
        let place = run.queue_position.map(|position| format!("number {position}"));
        let by = if run.submitter.is_empty() { String::new() } else { format!(" by {}", run.submitter) };
        let submitted = status::clock(Time(run.submitted_at_ms));
        let progress = run.progress().filter(|_| run.state != RunState::Done).map(|_| words::progress(run));
        [
            ("progress", progress.unwrap_or_default()),
            ("queue", place.unwrap_or_default()),
            ("asked for", format!("{}, priority {}", words::asked_for(&run.requirements), run.priority)),
            ("has", run.workers.join(", ")),
            ("submitted", format!("{submitted}{by}, {} ago", words::age(run.submitted_at_ms))),
            ("coordinator", self.url.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_half_there_and_one_of_a_newer_release_are_passed_over() {
        let text = b"{\"at_ms\":5,\"event\":\"stop_requested\"}\n{\"at_ms\":6,\"event\":\"of_tomorrow\"}\n\
                     {\"at_ms\":7,\"event\":\"stop_req";
        assert_eq!(entries(text), [(Time(5), Entry::StopRequested)]);
    }
}
