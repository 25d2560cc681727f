//! `lockstep ps`: the runs of a coordinator.

use clap::Args;

use super::table::Table;
use super::{ask, words};
use crate::cli::CliError;
use crate::cli::stdout::print;
use crate::client::{Listing, RunClient, RunState};
use crate::credentials::client::RemoteArgs;

/// The JSON, which does not change under anybody's script.
pub(super) const JSON_HELP: &str = "\
JSON: {\"runs\": [RUN…], \"left_out\": N}. A RUN has
  name, submitter, priority          submitter is \"\" where nobody asked who it was
  state                              queued, preparing, running, stopping, done, stopped or failed
  reason                             why it failed or was stopped, else \"\"
  failure_kind                       of a failed one: run, data, cluster or worker
  waits_for, queue_position          what it waits for, else \"\"; 1 is the next one
  phase                              of a running one: \"training\", …
  workers                            the names of those that it has
  requirements                       min_workers, max_workers, device_kind, memory_bytes
  epoch, epochs, step, steps_total   epoch is 0-based
  best_accuracy                      0 to 1
  left_ms                            as its pace suggests
  submitted_at_ms, started_at_ms, ended_at_ms   since 1970, UTC
What there is not is null.";

#[derive(Debug, Args)]
#[command(after_help = JSON_HELP)]
pub(in crate::cli) struct PsArgs {
    /// Those that are over, too
    #[arg(short, long)]
    all: bool,
    /// At most so many [default: 1000]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: &PsArgs) -> Result<u8, CliError> {
    let listing = ask(&args.remote.resolve()?, async |client| listing(&client, args).await)?;
    print(&if args.json { json(&listing)? } else { table(&listing, args.all) })?;
    if listing.left_out > 0 && !args.json {
        eprintln!("note: {} more are not shown; --limit N shows more", listing.left_out);
    }
    Ok(0)
}

pub(super) async fn listing(client: &RunClient, args: &PsArgs) -> Result<Listing, CliError> {
    let states = if args.all { &[][..] } else { &RunState::LIVE };
    Ok(client.runs(states, args.limit.unwrap_or_default()).await?)
}

pub(super) fn json(listing: &Listing) -> Result<String, CliError> {
    let json = serde_json::to_string_pretty(listing).map_err(anyhow::Error::from)?;
    Ok(json + "\n")
}

pub(super) fn table(listing: &Listing, all: bool) -> String {
    // What is over waits for nothing, and has a reason in its place.
    let why = if all { "WAITS FOR / ENDED BECAUSE" } else { "WAITS FOR" };
    let mut table = Table::new(&["NAME", "STATE", "PROGRESS", "BEST", "WORKERS", "AGE", why]);
    for run in &listing.runs {
        table.row([
            words::one_line(&run.name),
            words::state(run),
            words::progress(run),
            words::best(run),
            words::workers(run),
            words::age(run.submitted_at_ms),
            words::why(run),
        ]);
    }
    table.text()
}
