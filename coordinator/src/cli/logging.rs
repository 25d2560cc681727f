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
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use self::runs::RunLogs;
use super::{CliError, code};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// What is logged: error, warn, info, debug, trace, or a filter like `lockstep_coordinator=debug`; `json`, or `json:` before
    /// it, logs a JSON object per line
    #[arg(long, value_name = "LEVEL", env = "LOCKSTEP_LOG", default_value = "info")]
    log: String,
}

impl LogArgs {
    /// As given, for the workers.
    pub(super) fn level(&self) -> String {
        self.log.clone()
    }

    /// Checks the level, so that a typing error is told before anything starts.
    pub(super) fn format(&self) -> Result<LogFormat, CliError> {
        let (json, directives) = match self.log.split_once(':') {
            _ if self.log == "json" => (true, "info"),
            Some(("json", directives)) => (true, directives),
            _ => (false, self.log.as_str()),
        };
        // What is tried again is told by who tries.
        let quiet = if directives.contains("object_store") { "" } else { ",object_store=warn" };
        let directives = format!("{directives}{quiet}");
        match EnvFilter::try_new(&directives) {
            Ok(_) => Ok(LogFormat { json, directives }),
            Err(error) => Err(CliError::new(code::USAGE, format!("--log {}: {error}", self.log))
                .hint("levels are error, warn, info, debug and trace")),
        }
    }
}

/// What to log, and how.
#[derive(Debug)]
pub(super) struct LogFormat {
    json: bool,
    directives: String,
}

impl LogFormat {
    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.directives)
    }

    fn layer<S, W>(&self, to: W) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let layer = fmt::layer().with_ansi(false).with_writer(to);
        let layer = if self.json { layer.json().boxed() } else { layer.boxed() };
        layer.with_filter(self.filter())
    }
}

/// Starts logging to stderr, and to the logs of the runs in `home`.
pub(super) fn start_serving(format: &LogFormat, home: &Path) {
    let layers = tracing_subscriber::registry()
        .with(RunLogs::new(home).with_filter(format.filter()))
        .with(format.layer(io::stderr));
    // A second start in one process (tests) keeps the first one's subscriber.
    drop(layers.try_init());
}

/// Starts logging to `file` and, warnings only, to stderr.
pub(super) fn start(format: &LogFormat, file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let to_stderr = fmt::layer().event_format(ForPeople).with_ansi(false).with_writer(io::stderr);
    let to_stderr = to_stderr.with_filter(LevelFilter::WARN);
    // A second run in one process (tests) keeps the first one's subscriber.
    let to_file = format.layer(std::sync::Mutex::new(file));
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
    fn json_is_asked_for_alone_or_before_the_filter() {
        let read = |log: &str| LogArgs { log: log.to_owned() }.format();
        for (log, json, directives) in [
            ("info", false, "info,object_store=warn"),
            ("json", true, "info,object_store=warn"),
            ("json:debug", true, "debug,object_store=warn"),
            ("warn,object_store=debug", false, "warn,object_store=debug"),
        ] {
            let format = read(log).unwrap();
            assert_eq!((format.json, &*format.directives), (json, directives), "{log}");
        }
        assert!(read("json:loud=loud").is_err());
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
