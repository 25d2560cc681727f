//! What the verbs print and ask, with a coordinator that says what a test has it say.

mod course;
mod fetch;
mod lists;
mod telling;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;

use super::CliError;
use super::again::Patience;
use crate::client::fake::{Coordinator, State};
use crate::client::{RunClient, RunSummary};

/// So long that only a try that fails at once fits often into a test.
const SOON: Patience = Patience { every: Duration::from_millis(1), tries: 3 };

/// What a stream was given.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Parser)]
struct Program<A: clap::Args> {
    #[command(flatten)]
    arguments: A,
}

/// A verb's arguments, as typed.
fn typed<A: clap::Args>(line: &str) -> A {
    Program::<A>::try_parse_from(std::iter::once("verb").chain(line.split_whitespace())).unwrap().arguments
}

async fn with_runs(runs: Vec<RunSummary>) -> (Coordinator, RunClient) {
    start(State { runs, ..State::default() }).await
}

async fn start(state: State) -> (Coordinator, RunClient) {
    let coordinator = Coordinator::start(state).await;
    let client = coordinator.client().await;
    (coordinator, client)
}

/// An error's exit code and text, hint and all.
fn told<T: std::fmt::Debug>(result: Result<T, CliError>) -> (u8, String) {
    let error = result.unwrap_err();
    (error.code, error.to_string())
}
