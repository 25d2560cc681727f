//! What a coordinator of many runs says of each, in that run's own log: whatever happens inside a span `run` goes to the
//! folder of the run that the span names, as it would if the run had a coordinator of its own.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::run_folder::RunFolder;

/// Writes to `HOME/runs/NAME/logs/coordinator.log`.
#[derive(Debug)]
pub(super) struct RunLogs {
    home: PathBuf,
}

/// The run that a span is about.
struct OfRun(PathBuf);

impl RunLogs {
    pub(super) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }
}

impl<S> Layer<S> for RunLogs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "run" {
            return;
        }
        let mut name = Named::default();
        attributes.record(&mut name);
        if let Some(span) = context.span(id)
            && let Ok(folder) = RunFolder::path_of(&self.home, &name.0)
        {
            span.extensions_mut().insert(OfRun(folder.join("logs").join("coordinator.log")));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(mut scope) = context.event_scope(event) else { return };
        let found = scope.find_map(|span| span.extensions().get::<OfRun>().map(|run| run.0.clone()));
        let Some(path) = found else { return };
        let mut line = Line(String::new());
        let (at, metadata) = (jiff::Timestamp::now(), event.metadata());
        // Writing to a String cannot fail.
        let _ = write!(line.0, "{at} {:>5} {}:", metadata.level(), metadata.target());
        event.record(&mut line);
        line.0.push('\n');
        // A run that has no folder yet, or none any more, has no log; and nobody could be told here.
        let file = OpenOptions::new().create(true).append(true).open(path);
        drop(file.and_then(|mut file| file.write_all(line.0.as_bytes())));
    }
}

/// The value of the field `run`.
#[derive(Default)]
struct Named(String);

impl Visit for Named {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "run" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "run" {
            value.clone_into(&mut self.0);
        }
    }
}

/// The message, then the other fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_of_a_run_is_in_that_runs_log_alone() {
        let home = tempfile::tempdir().unwrap();
        for run in ["a", "b"] {
            std::fs::create_dir_all(home.path().join("runs").join(run).join("logs")).unwrap();
        }
        let subscriber = tracing_subscriber::registry().with(RunLogs::new(home.path()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("of none");
            let name = "a".to_owned();
            tracing::info_span!("run", run = name.as_str()).in_scope(|| {
                tracing::info_span!("inner").in_scope(|| tracing::info!(step = 3, "of a"));
            });
            tracing::info_span!("run", run = %"b").in_scope(|| tracing::warn!("of b"));
            tracing::info_span!("run", run = "../a").in_scope(|| tracing::warn!("of none"));
        });
        let read = |run: &str| {
            std::fs::read_to_string(home.path().join("runs").join(run).join("logs/coordinator.log")).unwrap()
        };
        assert!(read("a").contains(" INFO ") && read("a").ends_with(": of a step=3\n"), "{}", read("a"));
        assert!(read("b").ends_with(": of b\n") && read("b").lines().count() == 1, "{}", read("b"));
    }
}
