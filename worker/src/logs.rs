//! What this worker logs: to stderr, as stdout is for data, and into a [`LogTail`] for a coordinator that keeps its workers'
//! logs.

mod tail;

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{self, FormatFields, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

pub use self::tail::LogTail;

/// What to log, and how: a filter's directives, behind `json:` where the lines are for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    directives: String,
    is_json: bool,
}

impl FromStr for LogSettings {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (directives, is_json) = match text.split_once(':') {
            _ if text == "json" => ("info", true),
            Some(("json", directives)) => (directives, true),
            _ => (text, false),
        };
        EnvFilter::try_new(directives)?;
        Ok(Self { directives: directives.to_owned(), is_json })
    }
}

/// Starts logging, once for the process.
pub(crate) fn start(settings: &LogSettings, tail: &LogTail) {
    let LogSettings { directives, is_json } = settings;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::registry()
        .with(EnvFilter::new(directives))
        .with(written(*is_json, colour, io::stderr))
        .with(for_coordinator(*is_json, tail))
        .init();
}

/// What sends lines has lines of its own to log for everything that it sends: those would never come to an end.
fn for_coordinator<S>(is_json: bool, tail: &LogTail) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_own = |of: &Metadata<'_>| of.target().starts_with(env!("CARGO_CRATE_NAME"));
    let layer: Box<dyn Layer<S> + Send + Sync> = if is_json {
        tail.speak_json();
        written(true, false, tail.clone())
    } else {
        // With its own words on spans: those of another layer may be coloured.
        fmt::layer()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(Plain::default())
            .with_writer(tail.clone())
            .boxed()
    };
    layer.with_filter(filter_fn(is_own))
}

fn written<S, W>(is_json: bool, colour: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(colour && !is_json).with_writer(to);
    if is_json { layer.json().boxed() } else { layer.with_target(false).boxed() }
}

/// The usual words under another name.
#[derive(Debug, Default)]
struct Plain(DefaultFields);

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, info_span, subscriber};

    use super::*;

    #[test]
    fn json_is_asked_for_alone_or_before_the_directives() {
        let read = |text: &str| text.parse().map(|LogSettings { directives, is_json }| (directives, is_json));
        for (text, directives, is_json) in [
            ("info", "info", false),
            ("json", "info", true),
            ("json:debug", "debug", true),
            ("warn,lockstep_worker::session=debug", "warn,lockstep_worker::session=debug", false),
        ] {
            assert_eq!(read(text).unwrap(), (directives.to_owned(), is_json), "{text}");
        }
        for text in ["json:info,a=b=c", "a=loud"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    fn logged(is_json: bool) -> String {
        let tail = LogTail::default();
        tail.keep(true);
        let layers = tracing_subscriber::registry()
            .with(EnvFilter::new("info"))
            .with(written(is_json, true, io::sink))
            .with(for_coordinator(is_json, &tail));
        subscriber::with_default(layers, || {
            let _span = info_span!("session", run = "a").entered();
            info!(step = 3, "said");
            debug!("not at this level");
            info!(target: "h2::codec", "sends a frame");
        });
        tail.take().unwrap_or_default()
    }

    #[test]
    fn the_coordinator_gets_this_workers_own_lines_without_colours() {
        let lines = logged(false);
        assert!(lines.ends_with("INFO session{run=\"a\"}: said step=3\n"), "{lines:?}");
        assert_eq!(lines.lines().count(), 1);
    }

    #[test]
    fn the_coordinator_gets_json_where_stderr_does() {
        let lines = logged(true);
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["fields"]["message"], &line["fields"]["step"]), (&"said".into(), &3.into()));
    }
}
