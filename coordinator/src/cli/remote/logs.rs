//! `lockstep logs`: what a run's coordinator and workers said.

use std::collections::HashMap;
use std::io::{self, Write};

use clap::Args;

use super::again::{Again, Broken, Patience};
use super::{ask, refusal};
use crate::cli::{CliError, code};
use crate::client::{LogChunk, LogRequest, RunClient};
use crate::credentials::client::{RemoteArgs, RemoteError};

/// What a source's name is padded to, so that lines begin in one column.
const SOURCE_WIDTH: usize = 12;

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// The run
    run: String,
    /// Go on until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// Of this worker alone, or `coordinator` [default: all, each line after its source's name]
    #[arg(short, long, value_name = "WORKER")]
    worker: Option<String>,
    /// Begin with the last so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: &LogsArgs) -> Result<u8, CliError> {
    ask(&args.remote.resolve()?, async |client| {
        logs(&client, args, Patience::default(), &mut io::stdout()).await
    })
}

/// Copies the lines to `out` as they come; a reader that has seen enough ends it. Who follows goes on where it was when the
/// coordinator was away.
pub(super) async fn logs(
    client: &RunClient,
    args: &LogsArgs,
    patience: Patience,
    out: &mut impl Write,
) -> Result<u8, CliError> {
    let (mut client, mut again) = (client.clone(), Again::new(patience).await);
    let mut request = LogRequest {
        run: args.run.clone(),
        worker: args.worker.clone(),
        follow: args.follow,
        tail: args.tail,
        after: HashMap::new(),
    };
    loop {
        let broken = match copy(&client, &mut request, out).await {
            Ok(()) => return Ok(0),
            Err(Stopped::Unwritten(error)) => {
                return Err(CliError::new(code::FAILED, format!("cannot write the log: {error}")));
            }
            Err(Stopped::Broken(broken)) => broken,
        };
        if !args.follow || refusal::is_unknown(&broken.error) {
            return Err(unknown(&client, args, broken.error).await);
        }
        let tell = |told: &str| eprintln!("{told}");
        client = again.connect(&client, ("logs --follow", &args.run), broken, tell).await?;
    }
}

/// Why no more comes.
enum Stopped {
    Broken(Broken),
    Unwritten(io::Error),
}

/// One connection's worth of lines. What came is noted in `request`, for the next one.
async fn copy(client: &RunClient, request: &mut LogRequest, out: &mut impl Write) -> Result<(), Stopped> {
    // Who answers is there; but one that answers and says nothing, again and again, is not.
    let mut heard = request.after.is_empty();
    let broken = |heard, error| Stopped::Broken(Broken::new(heard, error));
    let mut lines = client.logs(request.clone()).await.map_err(|error| broken(false, error))?;
    loop {
        // A stream may be opened before the run has been looked for, so what it is about may be unknown here too.
        let chunk = match lines.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) if !request.follow => return Ok(()),
            // Its end is the run's, or the coordinator's.
            Ok(None) => match client.run(&request.run).await {
                Ok(run) if run.state.is_over() => return Ok(()),
                Ok(_) => return Err(Stopped::Broken(Broken::closed(client, heard))),
                Err(error) => return Err(broken(heard, error)),
            },
            Err(error) => return Err(broken(heard, error)),
        };
        heard = true;
        let text = shown(&chunk, request.worker.is_none());
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Stopped::Unwritten(error)),
        }
        request.after.insert(chunk.source, chunk.read_bytes);
    }
}

/// What is unknown may be the run or its worker.
async fn unknown(client: &RunClient, args: &LogsArgs, error: RemoteError) -> CliError {
    if !refusal::is_unknown(&error) || args.worker.is_none() || client.run(&args.run).await.is_err() {
        return refusal::of_run(client, &args.run, error).await;
    }
    CliError::from(error)
        .hint(format!("`lockstep logs {}` without --worker shows those that have a log", args.run))
}

/// Lines without what would steer a terminal: workers write them.
fn shown(chunk: &LogChunk, with_source: bool) -> String {
    let mut text = String::with_capacity(chunk.lines.len());
    for line in chunk.lines.lines() {
        if with_source {
            text.push_str(&format!("{:<SOURCE_WIDTH$} | ", super::words::one_line(&chunk.source)));
        }
        text.extend(line.chars().filter(|c| *c == '\t' || !c.is_control()));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_bear_their_source_and_steer_no_terminal() {
        let chunk =
            LogChunk { source: "worker-1".into(), lines: "a\tb\n\u{1b}[31mred\r\n".into(), read_bytes: 14 };
        assert_eq!(shown(&chunk, true), "worker-1     | a\tb\nworker-1     | [31mred\n");
        assert_eq!(shown(&chunk, false), "a\tb\n[31mred\n");
    }
}
