//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::client::{Access, ClientError, Credentials};
use crate::device::DeviceName;
use crate::logs::{LogSettings, LogTail};
use crate::session::{self, Advertised, Settings};
use crate::stand_by;

/// A worker of Lockstep: one process, one device, one replica.
#[derive(Debug, Parser)]
#[command(name = "lockstep-worker", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is logged to stderr: a level, or directives such as `info,lockstep_worker::session=debug`; `json`, or `json:` before
    /// them, has the lines in JSON
    #[arg(long, global = true, env = "LOCKSTEP_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: LogSettings,
}

const EXIT_CODES: &str = "Exit codes: 0 finished, 1 the run failed, 2 wrong usage, 3 data or weights missing or \
    damaged, 4 cluster trouble, 130 and 143 stopped by a signal";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a coordinator: take part in its run until that is over, or wait in its pool and take part in one run after another
    Join(Box<JoinArgs>),
    /// List the devices that libtorch can use here
    Devices(OutputArgs),
    /// Print the versions of this worker and its libtorch
    Version(OutputArgs),
    /// Compute a model's logits for pictures; called by lockstep
    #[command(hide = true)]
    Infer(JobArgs),
    /// Augment pictures as training would; called by lockstep
    #[command(hide = true)]
    Augment(JobArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The coordinator's address, https://HOST:PORT or, where it listens on loopback only, http://HOST:PORT
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
    /// The device to compute on: cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// This worker's name, unique among the run's workers [default: the host's name and the process's number]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where data sets and weights are kept between runs; a coordinator on this machine and its workers share it [default:
    /// cache below LOCKSTEP_HOME or ./lockstep-home]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Where to listen for the other workers; port 0 takes a free one [default: a free port of loopback where the coordinator
    /// is there too, else of all of this machine's addresses]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// The address under which the other workers reach this one, if it is another; with a port where that is mapped
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Option<Advertised>,
    /// How long to go on without a coordinator before giving up
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) patience: u64,
    /// After SIGTERM or SIGINT: how long to wait for a step boundary to leave at; a second signal ends at once
    #[arg(long, alias = "grace", default_value_t = 30, value_name = "SECONDS")]
    pub(crate) drain_timeout: u64,
    /// How often this worker has failed since it last did well, if it has waited in a pool before; it tells itself when it
    /// begins again
    #[arg(long, hide = true, env = stand_by::VARIABLE, value_name = "FAILURES")]
    pub(crate) stand_by: Option<u32>,
}

/// For https://.
#[derive(Debug, Args)]
pub(crate) struct CredentialArgs {
    /// The authority that the coordinator's certificate is from, PEM
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CA")]
    ca: Option<PathBuf>,
    /// This worker's certificate, PEM
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// A file with a token to join with, where this worker has no certificate
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl From<CredentialArgs> for Credentials {
    fn from(CredentialArgs { ca, cert, key, token_file }: CredentialArgs) -> Self {
        Self { ca, identity: cert.zip(key), token_file }
    }
}

impl JoinArgs {
    /// `home` is LOCKSTEP_HOME's value, where it is set.
    ///
    /// # Errors
    /// What is wrong with the address or the credentials.
    pub(crate) fn settings(self, home: Option<PathBuf>, logs: LogTail) -> Result<Settings, ClientError> {
        let Self {
            url,
            credentials,
            device,
            name,
            cache,
            listen,
            advertise,
            patience,
            drain_timeout,
            stand_by,
        } = self;
        let of_this_process = || format!("{}-{}", session::host_name(), std::process::id());
        let in_home = || home.unwrap_or_else(|| PathBuf::from("lockstep-home")).join("cache");
        Ok(Settings {
            coordinator: Access::new(&url, credentials.into())?,
            name: name.unwrap_or_else(of_this_process),
            device,
            cache: cache.unwrap_or_else(in_home),
            listen,
            advertise,
            patience: Duration::from_secs(patience),
            drain_timeout: Duration::from_secs(drain_timeout),
            logs,
            stands_by: stand_by.is_some(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// What to do, a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) job: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn join(args: &[&str]) -> JoinArgs {
        let cli = Cli::parse_from(["lockstep-worker", "join", "http://[::1]:1"].iter().chain(args));
        let Command::Join(join) = cli.command else { panic!("another command") };
        *join
    }

    #[test]
    fn a_worker_needs_the_coordinators_address_only() {
        let settings = join(&[]).settings(None, LogTail::default()).unwrap();
        assert_eq!((settings.device, settings.listen), (DeviceName::Cpu, None));
        assert_eq!(settings.cache, PathBuf::from("lockstep-home/cache"));
        assert!(settings.name.ends_with(&format!("-{}", std::process::id())), "{}", settings.name);
        assert_eq!((settings.patience.as_secs(), settings.drain_timeout.as_secs()), (60, 30));
        assert_eq!(
            join(&[]).settings(Some("/srv".into()), LogTail::default()).unwrap().cache,
            PathBuf::from("/srv/cache")
        );
    }

    #[test]
    fn what_is_said_wins_over_the_defaults() {
        let args = [
            "--name",
            "gpu-3",
            "--cache",
            "c",
            "--advertise",
            "gpu-3:7000",
            "--patience",
            "5",
            "--drain-timeout",
            "1",
        ];
        let settings = join(&args).settings(Some("/srv".into()), LogTail::default()).unwrap();
        assert_eq!((settings.name.as_str(), settings.cache), ("gpu-3", PathBuf::from("c")));
        assert_eq!(settings.advertise, Some("gpu-3:7000".parse().unwrap()));
        assert_eq!((settings.patience.as_secs(), settings.drain_timeout.as_secs()), (5, 1));
        // Its former name.
        let settings = join(&["--grace", "2"]).settings(None, LogTail::default()).unwrap();
        assert_eq!(settings.drain_timeout.as_secs(), 2);
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let parsed = |args: &[&str]| {
            Cli::try_parse_from(["lockstep-worker", "join", "http://127.0.0.1:1"].iter().chain(args)).is_ok()
        };
        assert!(parsed(&["--cert", "a.pem", "--key", "a.key"]));
        assert!(!parsed(&["--cert", "a.pem"]) && !parsed(&["--key", "a.key"]));
    }
}
