//! `lockstep status`: how a run is going, or went, from the journal and from what its coordinator wrote last.
//!
//! Of this machine's runs nobody is asked and nothing is locked, so it works while the run goes, after it, and when its
//! coordinator is gone. A standing coordinator's runs are told of by it, in the same words.

mod account;
mod text;

use clap::Args;

pub(super) use self::account::Account;
#[cfg(test)]
pub(super) use self::account::tests::journal_text;
pub(super) use self::text::{clock, rows, table};
use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code, remote, resume};
use crate::credentials::client::RemoteArgs;
use crate::run_folder::{FolderError, RunFolder};

const HELP: &str = "\
Where a coordinator is named (--coordinator, LOCKSTEP_COORDINATOR or ~/.config/lockstep/config.toml) the run is one of its
own, and has to be named. --home is about the runs of this machine, whatever is named elsewhere.

JSON: a coordinator's run has what a run of this machine has, as far as it has begun, and \"run\", a RUN as in
`lockstep ps --json`.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct StatusArgs {
    /// The run; default: of this machine's, the one worked on last
    run: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: &StatusArgs) -> Result<u8, CliError> {
    if let Some(coordinator) = remote::chosen(&args.remote, &args.home)? {
        return remote::status(&coordinator, args.run.as_deref(), args.json);
    }
    let home = args.home.open()?;
    let journal = home.journal()?;
    let name = match &args.run {
        Some(name) => name.clone(),
        None => resume::newest(&journal, &home)?,
    };
    let folder = RunFolder::path_of(&home.path, &name)?;
    let entries =
        journal.entries_with_times(&name).map_err(|error| CliError::new(code::DATA, error.to_string()))?;
    if entries.is_empty() && !folder.is_dir() {
        let known = journal.runs().map_err(anyhow::Error::from)?;
        let error = CliError::from(FolderError::Missing { name, home: home.path });
        return Err(error.hint(match known[..] {
            [] => "start one with `lockstep train`, or name another home with --home".to_owned(),
            _ => format!("the runs there are {}", known.join(", ")),
        }));
    }
    let Some(account) = Account::new(&name, &folder, entries) else {
        return Err(CliError::new(code::DATA, format!("the journal knows nothing of run {name}"))
            .hint("the run did not get to its start: train again under another --name"));
    };
    if args.json {
        let json = serde_json::to_string_pretty(&account).map_err(anyhow::Error::from)?;
        print(&format!("{json}\n"))?;
    } else {
        print(&table(&account, &[]))?;
    }
    Ok(0)
}
