//! `lockstep resume` where a coordinator is named: the run goes back into its queue.

use super::needs::NeedsArgs;
use super::watch::{self, Screen};
use super::{ask, named, refusal, words};
use crate::cli::CliError;
use crate::cli::cluster::Workers;
use crate::cli::stdout::print;
use crate::client::{RunClient, RunSummary};
use crate::credentials::client::Remote;

/// What is to be different from before.
#[derive(Debug, Default)]
pub(in crate::cli) struct RemoteResume {
    pub(in crate::cli) epochs: Option<u32>,
    pub(in crate::cli) workers: Option<Workers>,
    pub(in crate::cli) needs: NeedsArgs,
    pub(in crate::cli) priority: Option<i32>,
}

pub(in crate::cli) fn run(
    remote: &Remote,
    run: Option<&str>,
    asked: &RemoteResume,
    detach: bool,
) -> Result<u8, CliError> {
    let run = named(run)?;
    ask(remote, async |client| {
        let summary = resumed(&client, run, asked).await?;
        let name = words::one_line(&summary.name);
        eprintln!("run {name} is back in the queue of {}", client.url());
        if !detach {
            return watch::to_exit_code(&client, run, &mut Screen::of_process(false)).await;
        }
        if !summary.waits_for.is_empty() {
            eprintln!("{}", words::one_line(&summary.waits_for));
        }
        print(&format!("{name}\n"))?;
        Ok(0)
    })
}

/// The run, in the queue again.
pub(super) async fn resumed(
    client: &RunClient,
    run: &str,
    asked: &RemoteResume,
) -> Result<RunSummary, CliError> {
    let before = match client.run(run).await {
        Ok(before) => before,
        Err(error) => return Err(refusal::of_run(client, run, error).await),
    };
    let priority = asked.priority.unwrap_or(before.priority);
    let others = asked.workers.is_some() || !asked.needs.is_empty();
    let requirements =
        others.then(|| asked.needs.over(asked.workers, before.requirements.clone())).transpose()?;
    match client.resume(run, asked.epochs, priority, requirements).await {
        Ok(summary) => Ok(summary),
        Err(error) => Err(refusal::of_run(client, run, error).await),
    }
}
