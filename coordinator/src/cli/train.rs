//! `lockstep train`: everything is checked before anything is made, so that bad input leaves nothing behind.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use lockstep_core::{FailureKind, Outcome, Reject};

use super::cluster::ClusterArgs;
use super::console::Console;
use super::home::HomeArgs;
use super::inputs::TellPerson;
use super::logging::{self, LogArgs, LogFormat};
use super::sources::SourceArgs;
use super::{CliError, code};
use crate::freezing;
use crate::home::Home;
use crate::launch::{Aborted, Ended, Launch, LocalPlan, StopSignal, launch};
use crate::local::{BinaryError, WorkerBinary};
use crate::prepare::{Draft, Started, default_name};
use crate::recipe::{Loaded, Recipe};
use crate::run_folder::RunFolder;

#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Name of the run; default: date, model and data
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: TrainArgs) -> Result<u8, CliError> {
    let format = args.log.format()?;
    if let Some(name) = &args.name {
        RunFolder::path_of(Path::new(""), name)?;
    }
    let binary = WorkerBinary::find()?;
    let workers = args.cluster.workers(&binary)?;
    let Loaded { recipe, warnings, .. } = Recipe::load(&args.source.sources(workers.max()))?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let workers = workers.none_idle(recipe.shards);
    let bounds = workers.bounds(&binary, recipe.threads);
    let listener = args.cluster.listen(None)?;
    let worker_url = args.cluster.worker_url(&listener)?;
    let home = args.home.open()?;
    let name = args.name.unwrap_or_else(|| default_name(&recipe));
    refuse_existing(&home, &name)?;

    let draft = Draft::new(&name, recipe, bounds, &home, &TellPerson::default())?;
    let recipe = draft.recipe().clone();
    show_what_trains(&recipe, draft.classes());

    let folder = draft.make_folder(&home)?;
    start_logging(&format, &folder)?;
    let begun = draft.begin(folder, started(&binary));
    let local = LocalPlan {
        bounds,
        needs: workers.needs(),
        max_restarts: recipe.max_restarts,
        binary,
        url: worker_url,
        cache: home.cache.clone(),
        log_level: args.log.level(),
        arguments: args.cluster.worker_arguments,
        survivors: Vec::new(),
    };
    start(Launch { begun, home, expected: BTreeSet::new(), listener, workers: local }, &recipe)
}

/// Runs it, tells how it went, and gives the exit code.
pub(super) fn start(start: Launch, recipe: &Recipe) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let name = start.begun.folder.name().to_owned();
    let console = Console::new(&start, recipe);
    let ended = runtime.block_on(launch(start, |views| tokio::spawn(console.listen(views))));
    match ended {
        Ok(ended) => conclude(&ended),
        Err(error) => match error.downcast_ref::<Aborted>() {
            Some(Aborted(signal)) => Err(CliError::new(exit_code(*signal), "aborted, without a checkpoint")
                .hint(format!("`lockstep resume {name}` goes on from the last one"))),
            None if matches!(error.downcast_ref(), Some(Reject::Fenced { .. })) => {
                Err(CliError::new(code::CLUSTER, format!("{error:#}"))
                    .hint(format!("`lockstep status {name}` tells how the run goes there")))
            }
            None => {
                Err(CliError::from(error)
                    .hint(format!("when that is mended, `lockstep resume {name}` goes on")))
            }
        },
    }
}

fn conclude(ended: &Ended) -> Result<u8, CliError> {
    let name = ended.folder.name();
    match &ended.outcome {
        Outcome::Done { .. } => Ok(0),
        Outcome::Stopped { position } => {
            eprintln!("stopped at step {}; `lockstep resume {name}` goes on from there", position.step);
            Ok(ended.signal.map_or(0, exit_code))
        }
        Outcome::Failed { reason, kind } => {
            for exit in ended.exits.iter().filter(|exit| exit.went_wrong()) {
                eprintln!("{} ended ({}); the end of {}:", exit.name, exit.describe(), exit.log.display());
                exit.last_lines().lines().for_each(|line| eprintln!("  | {line}"));
            }
            let code = match kind {
                FailureKind::Run => code::FAILED,
                FailureKind::Data => code::DATA,
                FailureKind::Cluster | FailureKind::Worker => code::CLUSTER,
            };
            Err(CliError::new(code, format!("run {name} failed: {reason}"))
                .hint(format!("when that is mended, `lockstep resume {name}` goes on")))
        }
    }
}

fn exit_code(signal: StopSignal) -> u8 {
    match signal {
        StopSignal::Interrupt => code::INTERRUPTED,
        StopSignal::Terminate => code::TERMINATED,
    }
}

fn refuse_existing(home: &Home, name: &str) -> Result<(), CliError> {
    let path = RunFolder::path_of(&home.path, name)?;
    if path.exists() {
        return Err(crate::run_folder::FolderError::Exists { name: name.to_owned(), path }.into());
    }
    Ok(())
}

/// What is to be told of this machine beside the recipe.
pub(super) fn started(binary: &WorkerBinary) -> Started {
    Started { libtorch_version: binary.libtorch_version.clone(), command: std::env::args().collect() }
}

/// To the run's own log.
pub(super) fn start_logging(format: &LogFormat, folder: &RunFolder) -> Result<(), CliError> {
    logging::start(format, &folder.log("coordinator"))
        .map_err(|error| anyhow::Error::from(error).context("writing the run's folder").into())
}

/// The table of stages, for the person who is about to wait.
pub(super) fn show_what_trains(recipe: &Recipe, classes: usize) {
    eprint!("{}", freezing::table(&recipe.into(), classes as u32, &recipe.phases()));
}

impl From<BinaryError> for CliError {
    fn from(error: BinaryError) -> Self {
        let hint = match &error {
            BinaryError::Missing { .. } => {
                "build it with `cargo build --release`, or name it in LOCKSTEP_WORKER"
            }
            BinaryError::Start { .. } => "`deploy/libtorch.sh` puts the libtorch that it needs in place",
        };
        Self::new(code::CLUSTER, error.to_string()).hint(hint)
    }
}
