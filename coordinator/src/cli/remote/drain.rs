//! `lockstep drain`: workers leave, at once or at the next step boundary of their run.

use clap::Args;

use super::{ask, refusal, words};
use crate::cli::CliError;
use crate::cli::stdout::print;
use crate::client::{PoolWorker, RunClient};
use crate::credentials::client::RemoteArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct DrainArgs {
    /// Workers, by name
    #[arg(required = true, value_name = "WORKER")]
    workers: Vec<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: &DrainArgs) -> Result<u8, CliError> {
    ask(&args.remote.resolve()?, async |client| {
        let mut result = Ok(0);
        for worker in &args.workers {
            match drained(&client, worker).await {
                Ok(line) => print(&(line + "\n"))?,
                Err(error) => result = super::first(result, error),
            }
        }
        result
    })
}

/// What becomes of the worker, in a line.
pub(super) async fn drained(client: &RunClient, worker: &str) -> Result<String, CliError> {
    match client.drain(worker).await {
        Ok(PoolWorker { name, run: Some(run), .. }) => Ok(words::one_line(&format!(
            "{name} leaves run {run} at its next step, and then the cluster; nothing is lost"
        ))),
        Ok(PoolWorker { name, run: None, .. }) => {
            Ok(words::one_line(&format!("{name} was free, and leaves now")))
        }
        Err(error) => Err(refusal::of_worker(client, worker, error).await),
    }
}
