//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceName;

/// A worker of Lockstep: one process, one device, one replica.
#[derive(Debug, Parser)]
#[command(name = "lockstep-worker", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is logged to stderr: a level, or directives such as `info,lockstep_worker::session=debug`
    #[arg(long, global = true, env = "LOCKSTEP_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: String,
}

const EXIT_CODES: &str = "Exit codes: 0 finished, 1 the run failed, 2 wrong usage, 3 data or weights missing or \
    damaged, 4 cluster trouble, 130 and 143 stopped by a signal";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a coordinator's run and train until it is over
    Join(JoinArgs),
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
    /// The coordinator's address, http://HOST:PORT
    pub(crate) url: String,
    /// The device to compute on: cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// This worker's name, unique among the run's workers
    #[arg(long)]
    pub(crate) name: String,
    /// Where data sets and weights are kept between runs
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: PathBuf,
    /// Where to listen for the other workers; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub(crate) listen: String,
    /// The host name or address under which the other workers reach this one, if it is another
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise: Option<String>,
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

    #[test]
    fn a_local_worker_needs_a_name_and_a_cache_only() {
        let cli = Cli::parse_from([
            "lockstep-worker",
            "join",
            "http://[::1]:1",
            "--name",
            "worker-0",
            "--cache",
            "c",
        ]);
        let Command::Join(join) = cli.command else { panic!("another command") };
        assert_eq!((join.device, join.listen.as_str()), (DeviceName::Cpu, "127.0.0.1:0"));
    }
}
