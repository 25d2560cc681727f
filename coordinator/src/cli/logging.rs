//! Logs of the coordinator. Of one run: warnings to stderr, everything asked for to the run's log file. Of a cluster:
//! everything to stderr, where whoever runs services collects it, and to each run's file what is about that run.

mod runs;

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use clap::Args;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, fmt};

use self::runs::RunLogs;
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

    /// What a coordinator of many runs logs, and how: `json`, or `json:` before what else is said, is for programs.
    pub(super) fn format(&self) -> Result<LogFormat, CliError> {
        let (json, level) = match self.log.split_once(':') {
            _ if self.log == "json" => (true, "info"),
            Some(("json", level)) => (true, level),
            _ => (false, self.log.as_str()),
        };
        let filter = || parsed(level);
        Ok(LogFormat { json, to_stderr: filter()?, to_runs: filter()? })
    }

    /// Checks the level, so that a typing error is told before anything starts.
    pub(super) fn filter(&self) -> Result<EnvFilter, CliError> {
        parsed(&self.log)
    }
}

fn parsed(level: &str) -> Result<EnvFilter, CliError> {
    EnvFilter::try_new(level).map_err(|error| {
        CliError::new(code::USAGE, format!("--log {level}: {error}"))
            .hint("levels are error, warn, info, debug and trace")
    })
}

/// What a coordinator of many runs logs, and how.
#[derive(Debug)]
pub(super) struct LogFormat {
    json: bool,
    to_stderr: EnvFilter,
    to_runs: EnvFilter,
}

/// Starts logging to stderr, and to the logs of the runs in `home`.
pub(super) fn start_serving(format: LogFormat, home: &Path) {
    let LogFormat { json, to_stderr, to_runs } = format;
    let stderr = fmt::layer().with_ansi(false).with_writer(io::stderr);
    let stderr = if json { stderr.json().boxed() } else { stderr.boxed() };
    let layers = tracing_subscriber::registry()
        .with(RunLogs::new(home).with_filter(to_runs))
        .with(stderr.with_filter(to_stderr));
    // A second start in one process (tests) keeps the first one's subscriber.
    drop(layers.try_init());
}

/// Starts logging to `file` and, warnings only, to stderr.
pub(super) fn start(filter: EnvFilter, file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let to_file = fmt::layer().with_ansi(false).with_writer(std::sync::Mutex::new(file)).with_filter(filter);
    let to_stderr = fmt::layer().event_format(ForPeople).with_ansi(false).with_writer(io::stderr);
    let to_stderr = to_stderr.with_filter(LevelFilter::WARN);
    // A second run in one process (tests) keeps the first one's subscriber.
    drop(tracing_subscriber::registry().with(to_file).with(to_stderr).try_init());
    Ok(())
}

/// Like every other warning on the console: the word and the message, and no spans.
struct ForPeople;

impl<S, N> FormatEvent<S, N> for ForPeople
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "{}: ", if *event.metadata().level() == Level::ERROR { "error" } else { "warning" })?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn warnings_read_like_all_others() {
        let written = Written::default();
        let writer = written.clone();
        let layer = fmt::layer().event_format(ForPeople).with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("run", run = "a").entered();
            tracing::warn!("the checkpoint of step 3 is not used");
            tracing::warn!(step = 4, "it cannot be deleted");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "warning: the checkpoint of step 3 is not used");
        assert_eq!(lines[1], "warning: it cannot be deleted step=4");
    }
}
