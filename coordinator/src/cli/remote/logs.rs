//! `lockstep logs`: what a run's coordinator and workers said.

use std::io::{self, Write};

use clap::Args;

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
    ask(&args.remote.resolve()?, async |client| logs(&client, args, &mut io::stdout()).await)
}

/// Copies the lines to `out` as they come; a reader that has seen enough ends it.
pub(super) async fn logs(client: &RunClient, args: &LogsArgs, out: &mut impl Write) -> Result<u8, CliError> {
    let request = LogRequest {
        run: args.run.clone(),
        worker: args.worker.clone(),
        follow: args.follow,
        tail: args.tail,
    };
    let mut lines = match client.logs(request).await {
        Ok(lines) => lines,
        Err(error) => return Err(unknown(client, args, error).await),
    };
    loop {
        // A stream may be opened before the run has been looked for, so what it is about may be unknown here too.
        let chunk = match lines.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(0),
            Err(error) => return Err(unknown(client, args, error).await),
        };
        let text = shown(&chunk, args.worker.is_none());
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => {
                return Err(CliError::new(code::FAILED, format!("cannot write the log: {error}")));
            }
        }
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
        let chunk = LogChunk { source: "worker-1".into(), lines: "a\tb\n\u{1b}[31mred\r\n".into() };
        assert_eq!(shown(&chunk, true), "worker-1     | a\tb\nworker-1     | [31mred\n");
        assert_eq!(shown(&chunk, false), "a\tb\n[31mred\n");
    }
}
