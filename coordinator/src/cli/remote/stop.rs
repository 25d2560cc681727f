//! `lockstep stop`: runs stop at a step boundary with a checkpoint, or leave the queue.

use clap::Args;

use super::{ask, refusal, words};
use crate::cli::CliError;
use crate::cli::stdout::print;
use crate::client::{RunClient, RunState};
use crate::credentials::client::RemoteArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct StopArgs {
    /// Runs, by name
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: &StopArgs) -> Result<u8, CliError> {
    ask(&args.remote.resolve()?, async |client| {
        let mut result = Ok(0);
        for run in &args.runs {
            match stopped(&client, run).await {
                Ok(line) => print(&(line + "\n"))?,
                Err(error) => result = super::first(result, error),
            }
        }
        result
    })
}

/// What becomes of the run, in a line.
pub(super) async fn stopped(client: &RunClient, run: &str) -> Result<String, CliError> {
    let summary = match client.stop(run).await {
        Ok(summary) => summary,
        Err(error) => return Err(refusal::of_run(client, run, error).await),
    };
    let name = &summary.name;
    Ok(words::one_line(&match summary.state {
        RunState::Stopped if summary.started_at_ms.is_none() => format!("{name} has left the queue"),
        state if state.is_over() => format!("{name} is over already: {}", state.as_str()),
        RunState::Queued => format!("{name} leaves the queue"),
        _ => format!("{name} stops at its next step, with a checkpoint; `lockstep resume {name}` goes on"),
    }))
}
