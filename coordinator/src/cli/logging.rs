//! Logs of the coordinator: warnings to stderr, everything asked for to the run's log file.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::Args;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use super::{CliError, code};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// What goes to the run's logs: error, warn, info, debug, trace, or a filter like `lockstep_coordinator=debug`
    #[arg(long, value_name = "LEVEL", env = "LOCKSTEP_LOG", default_value = "info")]
    log: String,
}

impl LogArgs {
    /// As given, for the workers.
    pub(super) fn level(&self) -> String {
        self.log.clone()
    }

    /// Checks the level, so that a typing error is told before anything starts.
    pub(super) fn filter(&self) -> Result<EnvFilter, CliError> {
        EnvFilter::try_new(&self.log).map_err(|error| {
            CliError::new(code::USAGE, format!("--log {}: {error}", self.log))
                .hint("levels are error, warn, info, debug and trace")
        })
    }
}

/// Starts logging to `file` and, warnings only, to stderr.
pub(super) fn start(filter: EnvFilter, file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let to_file = fmt::layer().with_ansi(false).with_writer(std::sync::Mutex::new(file)).with_filter(filter);
    let colors =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let to_stderr = fmt::layer().without_time().with_target(false).with_ansi(colors).with_writer(io::stderr);
    let to_stderr = to_stderr.with_filter(LevelFilter::WARN);
    // A second run in one process (tests) keeps the first one's subscriber.
    drop(tracing_subscriber::registry().with(to_file).with(to_stderr).try_init());
    Ok(())
}
