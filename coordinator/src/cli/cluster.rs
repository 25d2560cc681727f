//! How many workers a run is given, and where they find its coordinator.

use std::net::{SocketAddr, TcpListener};

use clap::Args;
use lockstep_core::WorkerBounds;

use super::{CliError, code};
use crate::local::{Needs, WorkerBinary};

/// More than any sensible number of devices, fewer than a slip of the finger.
const WORKERS_MAX: u32 = 1024;

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Worker processes: N, or A..B to go on with as few as A and to let as many as B take part; default: one per GPU,
    /// else 2
    #[arg(long, value_name = "N|A..B")]
    workers: Option<String>,
    /// Where the coordinator listens, on this machine only; port 0 takes any free one [default: 127.0.0.1:0, on a resume
    /// where the workers look for it]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// What local workers are told instead of the coordinator's address, e.g. a proxy's
    #[arg(long, value_name = "URL", hide = true)]
    worker_url: Option<String>,
    /// A further argument of local workers; may be repeated
    #[arg(long = "worker-arg", value_name = "ARG", hide = true, allow_hyphen_values = true)]
    pub(super) worker_arguments: Vec<String>,
}

/// A number of workers as a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workers {
    Fixed(u32),
    Between { min: u32, max: u32 },
}

impl ClusterArgs {
    /// A listener, before anything else is made. `before` is where workers of an earlier coordinator look for this one.
    pub(super) fn listen(&self, before: Option<SocketAddr>) -> Result<TcpListener, CliError> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        if let (None, Some(before)) = (self.listen, before) {
            match TcpListener::bind(before) {
                Ok(listener) => return Ok(listener),
                Err(error) => eprintln!(
                    "warning: cannot listen on {before} again ({error}), where the run's workers look for it: they are \
                     started anew"
                ),
            }
        }
        let address = self.listen.unwrap_or(any);
        if !address.ip().is_loopback() {
            return Err(CliError::new(
                code::USAGE,
                format!("{address} is not an address of this machine alone"),
            )
            .hint("a local run needs no other: leave --listen out, or use 127.0.0.1:PORT"));
        }
        TcpListener::bind(address).map_err(|error| {
            CliError::new(code::CLUSTER, format!("cannot listen on {address}: {error}"))
                .hint("choose another port with --listen, or leave it out to take any free one")
        })
    }

    /// Where local workers find the coordinator that listens there.
    pub(super) fn worker_url(&self, listener: &TcpListener) -> Result<String, CliError> {
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        Ok(self.worker_url.clone().unwrap_or_else(|| format!("http://{address}")))
    }

    /// What makes no sense where the run is another machine's.
    pub(super) fn refuse_what_is_local(&self) -> Result<(), CliError> {
        if self.listen.is_none() && self.worker_url.is_none() && self.worker_arguments.is_empty() {
            return Ok(());
        }
        Err(CliError::new(
            code::USAGE,
            "--listen is about a run of this machine, and the run is a coordinator's",
        )
        .hint("leave it out; `--home DIR` is about the runs of this machine"))
    }

    pub(super) fn asked_for(&self) -> Result<Option<Workers>, CliError> {
        self.workers.as_deref().map(Workers::parse).transpose()
    }

    /// As many as asked for, else one per GPU, else two.
    pub(super) fn workers(&self, binary: &WorkerBinary) -> Result<Workers, CliError> {
        let one_per_gpu = match binary.gpus().count() as u32 {
            0 => 2,
            gpus => gpus,
        };
        Ok(self.asked_for()?.unwrap_or(Workers::Fixed(one_per_gpu)))
    }
}

impl Workers {
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let usage = |what: String, hint: &str| CliError::new(code::USAGE, what).hint(hint);
        let number = |part: &str| match part.parse::<u32>() {
            Ok(0) => Err(usage(format!("--workers '{text}': no run works without workers"), "at least 1")),
            Ok(number) if number > WORKERS_MAX => Err(usage(
                format!("--workers '{text}': more than {WORKERS_MAX}"),
                "a run has at most so many",
            )),
            Ok(number) => Ok(number),
            Err(_) => Err(usage(
                format!("--workers '{text}' is not a number of workers"),
                "for example --workers 2, or --workers 2..8 for at least 2 and at most 8",
            )),
        };
        let Some((min, max)) = text.split_once("..") else { return number(text).map(Self::Fixed) };
        let (min, max) = (number(min)?, number(max)?);
        if max < min {
            let hint = format!("the smaller number comes first: --workers {max}..{min}");
            return Err(usage(format!("--workers '{text}': {max} is less than {min}"), &hint));
        }
        Ok(Self::Between { min, max })
    }

    /// What a run was given before.
    pub(super) fn of(bounds: WorkerBounds) -> Self {
        let WorkerBounds { min, start, max } = bounds;
        if bounds == WorkerBounds::fixed(start) { Self::Fixed(start) } else { Self::Between { min, max } }
    }

    pub(super) fn min(self) -> u32 {
        match self {
            Self::Fixed(workers) | Self::Between { min: workers, .. } => workers,
        }
    }

    pub(super) fn max(self) -> u32 {
        match self {
            Self::Fixed(workers) => workers,
            Self::Between { max, .. } => max,
        }
    }

    /// More workers than shards would have nothing to do.
    pub(super) fn none_idle(self, shards: u32) -> Self {
        if self.max() <= shards {
            return self;
        }
        let at_most = |workers: u32| workers.min(shards);
        match self {
            Self::Fixed(workers) => {
                eprintln!(
                    "warning: {workers} workers for {shards} shards: {shards} of them have work, so {shards} are started"
                );
                Self::Fixed(at_most(workers))
            }
            Self::Between { min, max } => {
                eprintln!(
                    "warning: up to {max} workers for {shards} shards: {shards} of them have work, so no more may join"
                );
                Self::Between { min: at_most(min), max: at_most(max) }
            }
        }
    }

    /// With as many at the start as the machine has devices for, of workers with so many `threads`.
    pub(super) fn bounds(self, binary: &WorkerBinary, threads: u32) -> WorkerBounds {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let devices = match binary.gpus().count() as u32 {
            0 => cores / threads,
            gpus => gpus,
        };
        self.bounds_for(devices)
    }

    fn bounds_for(self, devices: u32) -> WorkerBounds {
        match self {
            Self::Fixed(workers) => WorkerBounds::fixed(workers),
            Self::Between { min, max } => WorkerBounds { min, start: devices.clamp(min, max), max },
        }
    }

    pub(super) fn needs(self) -> Needs {
        match self {
            Self::Fixed(_) => Needs::EverySlot,
            Self::Between { min, .. } => Needs::AtLeast(min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_two_are_read() {
        assert_eq!(Workers::parse("3"), Ok(Workers::Fixed(3)));
        assert_eq!(Workers::parse("2..8"), Ok(Workers::Between { min: 2, max: 8 }));
        assert_eq!(Workers::parse("2..2"), Ok(Workers::Between { min: 2, max: 2 }));
    }

    #[test]
    fn anything_else_is_refused_with_advice() {
        for (text, said, hint) in [
            ("0", "no run works without workers", "at least 1"),
            ("0..4", "no run works without workers", "at least 1"),
            ("8..2", "2 is less than 8", "--workers 2..8"),
            ("1025", "more than 1024", "at most"),
            ("two", "'two' is not a number of workers", "--workers 2..8"),
            ("2..", "is not a number", "--workers 2..8"),
            ("..4", "is not a number", "--workers 2..8"),
            ("2...4", "is not a number", "--workers 2..8"),
            ("-1", "is not a number", "--workers 2..8"),
            ("", "is not a number", "--workers 2..8"),
        ] {
            let error = Workers::parse(text).unwrap_err();
            assert_eq!(error.code, code::USAGE);
            assert!(error.message.contains(said), "{error}");
            assert!(error.hint.as_ref().is_some_and(|said| said.contains(hint)), "{error}");
        }
    }

    #[test]
    fn an_elastic_run_starts_with_what_the_machine_has_between_the_bounds() {
        let between = Workers::Between { min: 2, max: 8 };
        for (devices, start) in [(0, 2), (1, 2), (4, 4), (99, 8)] {
            assert_eq!(between.bounds_for(devices), WorkerBounds { min: 2, start, max: 8 });
        }
        assert_eq!(Workers::Fixed(3).bounds_for(99), WorkerBounds::fixed(3));
    }

    #[test]
    fn a_resume_finds_what_was_said_before() {
        for workers in [Workers::Fixed(1), Workers::Fixed(4), Workers::Between { min: 2, max: 8 }] {
            assert_eq!(Workers::of(workers.bounds_for(4)), workers);
        }
    }

    #[test]
    fn no_more_workers_than_shards() {
        assert_eq!(Workers::Fixed(4).none_idle(2), Workers::Fixed(2));
        assert_eq!(Workers::Between { min: 3, max: 8 }.none_idle(2), Workers::Between { min: 2, max: 2 });
        assert_eq!(Workers::Between { min: 1, max: 2 }.none_idle(2), Workers::Between { min: 1, max: 2 });
    }
}
