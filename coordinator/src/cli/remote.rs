//! The verbs that ask a standing coordinator: `submit`, `ps`, `watch`, `logs`, `stop`, `workers`, `drain`, `fetch`, and
//! `status` and `resume` where a coordinator is named.
//!
//! Each verb is a function of a connected client and its arguments that gives what is to be printed; only [`ask`] and
//! the `run` functions know of sockets, signals and this process's streams, so tests speak with a coordinator of their own.

mod again;
mod drain;
mod fetch;
mod logs;
mod needs;
mod ps;
mod refusal;
mod resume;
mod status;
mod stop;
mod submit;
mod table;
mod watch;
mod words;
mod workers;

#[cfg(test)]
mod tests;

use std::env;

use super::home::HomeArgs;
use super::{CliError, code};
use crate::client::RunClient;
use crate::credentials::client::{Remote, RemoteArgs};

pub(super) use self::drain::DrainArgs;
pub(super) use self::fetch::FetchArgs;
pub(super) use self::logs::LogsArgs;
pub(super) use self::needs::NeedsArgs;
pub(super) use self::ps::PsArgs;
pub(super) use self::resume::RemoteResume;
pub(super) use self::stop::StopArgs;
pub(super) use self::submit::SubmitArgs;
pub(super) use self::watch::WatchArgs;
pub(super) use self::workers::WorkersArgs;

pub(super) use self::drain::run as drain;
pub(super) use self::fetch::run as fetch;
pub(super) use self::logs::run as logs;
pub(super) use self::ps::run as ps;
pub(super) use self::resume::run as resume;
pub(super) use self::status::run as status;
pub(super) use self::stop::run as stop;
pub(super) use self::submit::run as submit;
pub(super) use self::watch::run as watch;
pub(super) use self::workers::run as workers;

/// Does `work` with the coordinator, on this thread.
fn ask<T>(remote: &Remote, work: impl AsyncFnOnce(RunClient) -> Result<T, CliError>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(anyhow::Error::from)?;
    runtime.block_on(async { work(RunClient::connect(remote).await?).await })
}

/// The coordinator that a verb asks which works on this machine's own runs too: none for those. A `--home` says that
/// this machine is meant, whatever coordinator the environment or the configuration names.
pub(super) fn chosen(remote: &RemoteArgs, home: &HomeArgs) -> Result<Option<Remote>, CliError> {
    if !home.is_named() {
        return Ok(remote.find()?);
    }
    let in_environment = env::var("LOCKSTEP_COORDINATOR").ok();
    if remote.coordinator.is_some() && remote.coordinator != in_environment {
        return Err(CliError::new(
            code::USAGE,
            "--home is about this machine, and --coordinator about another",
        )
        .hint("leave one of them out"));
    }
    Ok(None)
}

/// The run that a verb is about. Many people's runs are there, so none is the newest.
fn named(run: Option<&str>) -> Result<&str, CliError> {
    run.ok_or_else(|| {
        CliError::new(code::USAGE, "which run? A coordinator has those of many people")
            .hint("`lockstep ps --all` lists them; `--home DIR` is about the runs of this machine")
    })
}

/// Of several things that are done one after the other, the first error is what the command ends with; the others are
/// told at once.
fn first(result: Result<u8, CliError>, error: CliError) -> Result<u8, CliError> {
    if result.is_ok() {
        return Err(error);
    }
    eprintln!("{error}");
    result
}
