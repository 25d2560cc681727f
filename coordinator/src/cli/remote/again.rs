//! A coordinator that is restarted comes back in a while, and its runs have gone on: whoever follows one connects again. Only
//! a coordinator that stays away ends it, and one that never answered is not waited for.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::refusal;
use crate::cli::CliError;
use crate::cli::console::duration;
use crate::client::RunClient;
use crate::credentials::client::RemoteError;

/// How long a coordinator that was there may be away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between two tries.
    pub(super) every: Duration,
    pub(super) tries: u32,
}

/// Ten minutes: what a machine takes to start again, and a person to notice.
impl Default for Patience {
    fn default() -> Self {
        Self { every: Duration::from_secs(2), tries: 300 }
    }
}

/// A connection that ended too early.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether anything came over it.
    pub(super) heard: bool,
    pub(super) error: RemoteError,
}

impl Broken {
    pub(super) fn new(heard: bool, error: RemoteError) -> Self {
        Self { heard, error }
    }

    /// It ended as if all were said.
    pub(super) fn closed(client: &RunClient, heard: bool) -> Self {
        let why = "it has closed the connection".into();
        Self { heard, error: RemoteError::Unreachable { url: client.url(), why } }
    }
}

/// What is left of the patience with one coordinator.
#[derive(Debug)]
pub(super) struct Again {
    patience: Patience,
    /// None until something was heard.
    tries: Option<u32>,
    pauses: Interval,
}

impl Again {
    pub(super) async fn new(patience: Patience) -> Self {
        let mut pauses = interval(patience.every);
        pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pauses.tick().await; // the first one comes at once
        Self { patience, tries: None, pauses }
    }

    /// The coordinator again, as soon as it answers; `verb` is what a person types to go on later, and `tell` says why
    /// nothing comes.
    pub(super) async fn connect(
        &mut self,
        client: &RunClient,
        (verb, run): (&str, &str),
        broken: Broken,
        tell: impl FnOnce(&str),
    ) -> Result<RunClient, CliError> {
        let Broken { heard, mut error } = broken;
        if heard && refusal::is_passing(&error) {
            let patience = duration(self.patience.every * self.patience.tries);
            tell(&format!("{error}; trying again for {patience}"));
            self.tries = Some(self.patience.tries);
        }
        let Some(tries) = &mut self.tries else { return Err(refusal::of_run(client, run, error).await) };
        while refusal::is_passing(&error) && *tries > 0 {
            *tries -= 1;
            self.pauses.tick().await;
            match client.again().await {
                Ok(client) => return Ok(client),
                Err(again) => error = again,
            }
        }
        let is_away = refusal::is_passing(&error);
        let error = refusal::of_run(client, run, error).await;
        let goes_on = format!("the run may go on all the same: `lockstep {verb} {run}` when it is back");
        Err(if is_away { error.hint(goes_on) } else { error })
    }
}
