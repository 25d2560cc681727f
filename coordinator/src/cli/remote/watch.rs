//! `lockstep watch`: a run's course until its end, from whatever it is at. `submit` and `resume` watch the same way.
//!
//! A connection that breaks is made again (`again`), and only a coordinator that stays away ends the watching.

mod course;
mod screen;

use std::future::Future;
use std::io::{self, IsTerminal as _};

use clap::Args;
use tokio::signal;

use super::again::{Again, Broken, Patience};
use super::{ask, words};
use crate::cli::{CliError, code};
use crate::client::{FailureKind, RunClient, RunState, RunSummary};
use crate::credentials::client::RemoteArgs;

pub(super) use self::screen::Screen;

const HELP: &str = "\
On a terminal there is a live line and a line for every change; elsewhere there are lines alone, one per epoch too.
The exit code is the run's: 0 done, 1, 3 or 4 failed, 143 stopped. Ctrl-C ends the watching (130), not the run.

JSON: a RUN as in `lockstep ps --json`, in a line, whenever it has changed.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct WatchArgs {
    /// The run
    run: String,
    /// For programs: a line of JSON whenever it has changed
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How the watching ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Watched {
    Over(Box<RunSummary>),
    /// The person has seen enough, and the run goes on.
    Detached,
}

pub(in crate::cli) fn run(args: &WatchArgs) -> Result<u8, CliError> {
    ask(&args.remote.resolve()?, async |client| {
        to_exit_code(&client, &args.run, &mut Screen::of_process(args.json)).await
    })
}

/// Watches the run on this process's streams, until it is over or Ctrl-C.
pub(super) async fn to_exit_code(client: &RunClient, run: &str, screen: &mut Screen) -> Result<u8, CliError> {
    let watched = follow(client, run, screen, Patience::default(), interrupt()).await?;
    conclude(&watched, run)
}

/// Returns when the person who watches has seen enough.
async fn interrupt() {
    if signal::ctrl_c().await.is_err() {
        // Without a handler Ctrl-C ends the process, which is as good.
        std::future::pending::<()>().await;
    }
}

/// Shows the run's course until it is over, or until `enough`.
pub(super) async fn follow(
    client: &RunClient,
    run: &str,
    screen: &mut Screen,
    patience: Patience,
    enough: impl Future<Output = ()>,
) -> Result<Watched, CliError> {
    let watched = tokio::select! {
        () = enough => Ok(Watched::Detached),
        ended = to_the_end(client, run, screen, patience) => ended.map(|run| Watched::Over(Box::new(run))),
    };
    screen.clear();
    watched
}

async fn to_the_end(
    client: &RunClient,
    run: &str,
    screen: &mut Screen,
    patience: Patience,
) -> Result<RunSummary, CliError> {
    let (mut client, mut again) = (client.clone(), Again::new(patience).await);
    loop {
        match listen(&client, run, screen).await {
            Ok(summary) => return Ok(summary),
            Err(broken) => {
                client = again.connect(&client, ("watch", run), broken, |told| screen.note(told)).await?;
            }
        }
    }
}

/// One connection's worth of watching: the run at its end, or whether anything was heard and why nothing more is.
async fn listen(client: &RunClient, run: &str, screen: &mut Screen) -> Result<RunSummary, Broken> {
    let mut watch = client.watch(run).await.map_err(|error| Broken::new(false, error))?;
    let mut seen = false;
    loop {
        match watch.next().await {
            Ok(Some(summary)) => {
                seen = true;
                screen.show(&summary);
                if summary.state.is_over() {
                    return Ok(summary);
                }
            }
            Ok(None) => return Err(Broken::closed(client, seen)),
            Err(error) => return Err(Broken::new(seen, error)),
        }
    }
}

/// The run's exit code, and the last that there is to say.
pub(super) fn conclude(watched: &Watched, run: &str) -> Result<u8, CliError> {
    let summary = match watched {
        Watched::Over(summary) => summary,
        Watched::Detached => {
            eprintln!(
                "detached: run {run} goes on; `lockstep watch {run}` shows it again, `lockstep stop {run}` stops it"
            );
            return Ok(code::INTERRUPTED);
        }
    };
    let reason = words::one_line(&summary.reason);
    match summary.state {
        RunState::Failed => {
            let code = match summary.failure_kind {
                Some(FailureKind::Data) => code::DATA,
                Some(FailureKind::Cluster | FailureKind::Worker) => code::CLUSTER,
                Some(FailureKind::Run) | None => code::FAILED,
            };
            Err(CliError::new(code, format!("run {run} failed: {reason}")).hint(format!(
                "`lockstep logs {run}` tells more; when that is mended, `lockstep resume {run}` goes on"
            )))
        }
        RunState::Stopped => {
            eprintln!("`lockstep resume {run}` goes on from there");
            Ok(code::TERMINATED)
        }
        _ => Ok(0),
    }
}

/// Whether somebody sees a line that is drawn over and over.
fn is_live() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}
