//! `lockstep workers`: who has joined a coordinator.

use clap::Args;
use serde_json::json;

use super::table::Table;
use super::{ask, words};
use crate::cli::CliError;
use crate::cli::stdout::print;
use crate::client::PoolWorker;
use crate::credentials::client::RemoteArgs;

pub(super) const HELP: &str = "\
States: free · busy · returning (its run gives it back at the next step) · draining (leaves at the next step) · away (its
connection broke, and its run waits for it)

JSON: {\"workers\": [WORKER…]}. A WORKER has name, state, run (null: none), device (\"cpu\" or \"cuda:N\"), memory_bytes,
host, joined_at_ms (since 1970, UTC) and libtorch_version.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct WorkersArgs {
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: &WorkersArgs) -> Result<u8, CliError> {
    let workers = ask(&args.remote.resolve()?, async |client| Ok(client.workers().await?))?;
    print(&if args.json { json_text(&workers) } else { table(&workers) })?;
    if workers.is_empty() && !args.json {
        eprintln!("note: nobody has joined; `lockstep-worker join URL` on each machine with a device does");
    }
    Ok(0)
}

pub(super) fn json_text(workers: &[PoolWorker]) -> String {
    format!("{:#}\n", json!({ "workers": workers }))
}

pub(super) fn table(workers: &[PoolWorker]) -> String {
    let mut table = Table::new(&["NAME", "STATE", "RUN", "DEVICE", "MEMORY", "HOST", "AGE", "LIBTORCH"]);
    for worker in workers {
        let said = [&*worker.name, worker.run.as_deref().unwrap_or("-"), &*worker.device, &*worker.host];
        let [name, run, device, host] = said.map(words::one_line);
        table.row([
            name,
            worker.state.as_str().to_owned(),
            run,
            device,
            words::memory(worker.memory_bytes),
            host,
            words::age(worker.joined_at_ms),
            words::one_line(&worker.libtorch_version),
        ]);
    }
    table.text()
}
