//! The home folder, as an argument, and what is told when it or a run's folder in it cannot be used.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, code};
use crate::home::{Home, HomeError};
use crate::journal::JournalError;
use crate::run_folder::FolderError;

#[derive(Debug, Args)]
pub(super) struct HomeArgs {
    // The environment is read by hand: a folder that is named here says that this machine's runs are meant, one in the
    // environment says only where they lie.
    /// Folder of runs, journal and cache [env: LOCKSTEP_HOME] [default: lockstep-home]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

impl HomeArgs {
    /// Opens the home, making it where there is none.
    pub(super) fn open(&self) -> Result<Home, CliError> {
        let home = self.home.clone().or_else(in_environment).unwrap_or_else(|| "lockstep-home".into());
        Ok(Home::open(&home)?)
    }

    /// Whether the command line itself names it.
    pub(super) fn is_named(&self) -> bool {
        self.home.is_some()
    }
}

fn in_environment() -> Option<PathBuf> {
    std::env::var_os("LOCKSTEP_HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        let message = error.to_string();
        match error {
            HomeError::Folder { .. } => {
                Self::new(code::USAGE, message).hint("choose another with --home DIR or LOCKSTEP_HOME")
            }
            HomeError::Cache(_) => Self::new(code::DATA, message),
            HomeError::Served { .. } => {
                Self::new(code::USAGE, message).hint("stop that one, or give this one another --home")
            }
        }
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        Self::new(code::FAILED, error.to_string())
    }
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        let message = error.to_string();
        match error {
            FolderError::Exists { name, .. } => Self::new(code::USAGE, message)
                .hint(format!("go on with it by `lockstep resume {name}`, or choose another --name")),
            FolderError::Locked { name, serving } => {
                let who = serving.map_or_else(String::new, |serving| {
                    format!(" (process {}, at {})", serving.pid, serving.address)
                });
                Self::new(code::USAGE, message).hint(format!(
                    "`lockstep status {name}` tells how it goes; wait for it{who}, or stop it with Ctrl-C there"
                ))
            }
            FolderError::Missing { .. } | FolderError::Name { .. } => Self::new(code::USAGE, message),
            FolderError::Io { .. } => Self::new(code::FAILED, message),
        }
    }
}
