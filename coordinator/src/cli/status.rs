//! `lockstep status`: how a run is going, or went, from the journal and from what its coordinator wrote last.
//!
//! Nobody is asked and nothing is locked, so it works while the run goes, after it, and when its coordinator is gone.

mod account;
mod text;

use clap::Args;

use self::account::Account;
use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code, resume};
use crate::run_folder::{FolderError, RunFolder};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The run; default: the one worked on last
    run: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
}

pub(super) fn run(args: &StatusArgs) -> Result<u8, CliError> {
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
        print(&text::table(&account))?;
    }
    Ok(0)
}
