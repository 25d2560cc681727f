//! `lockstep train`: everything is checked before anything is made, so that bad input leaves nothing behind.

use std::path::Path;

use clap::Args;
use lockstep_core::{FailureKind, Origin, Outcome, Reject, Run, WorkerBounds};

use super::cluster::ClusterArgs;
use super::console::Console;
use super::home::{Home, HomeArgs};
use super::logging::{self, LogArgs};
use super::sources::SourceArgs;
use super::{CliError, code, inputs};
use crate::convert;
use crate::data::ResolvedData;
use crate::driver::now;
use crate::freezing;
use crate::launch::{Aborted, Ended, Launch, LocalPlan, StopSignal, launch};
use crate::local::{BinaryError, WorkerBinary};
use crate::plot::{self, Picture, Tile};
use crate::recipe::{Loaded, Recipe};
use crate::run_folder::{RunFacts, RunFolder};

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
    let filter = args.log.filter()?;
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

    let data = inputs::resolve_data(&recipe, &home)?;
    let weights_digest = inputs::resolve_weights(&recipe, data.classes.len(), &home)?;
    let samples = inputs::sample_counts(&recipe, &data)?;
    let spec = convert::run_spec(&recipe, samples, bounds).map_err(|error| inputs::plan_error(&error))?;
    let origin = Origin {
        recipe: recipe.to_toml(),
        data_digest: data.digest.clone(),
        train_samples: samples.train,
        test_samples: samples.test,
        weights_digest,
        classes: data.classes.clone(),
    };
    let plan = convert::plan(&name, &recipe, samples, &spec, &origin);
    show_what_trains(&recipe, data.classes.len());

    let folder = RunFolder::create(&home.path, &name)?;
    let cannot = |error: std::io::Error| {
        CliError::from(anyhow::Error::from(error).context("writing the run's folder"))
    };
    folder.write_recipe(&origin.recipe).map_err(cannot)?;
    logging::start(filter, &folder.log("coordinator")).map_err(cannot)?;
    draw_samples(&folder, &data);
    let journal = home.journal()?;
    let facts = facts(&binary, &recipe, &origin, bounds);
    let (run, effects) = Run::create(now(), spec, origin);
    let local = LocalPlan {
        bounds,
        needs: workers.needs(),
        max_restarts: recipe.max_restarts,
        binary,
        url: worker_url,
        cache: home.cache,
        log_level: args.log.level(),
        arguments: args.cluster.worker_arguments,
        survivors: Vec::new(),
    };
    let launch =
        Launch { run, effects, folder, journal, plan, facts, blobs: home.blobs, listener, workers: local };
    start(launch, &recipe)
}

/// Runs it, tells how it went, and gives the exit code.
pub(super) fn start(start: Launch, recipe: &Recipe) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let name = start.folder.name().to_owned();
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

fn default_name(recipe: &Recipe) -> String {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    format!("{now}-{}-{}", recipe.model.name, recipe.data.name)
}

fn refuse_existing(home: &Home, name: &str) -> Result<(), CliError> {
    let path = RunFolder::path_of(&home.path, name)?;
    if path.exists() {
        return Err(crate::run_folder::FolderError::Exists { name: name.to_owned(), path }.into());
    }
    Ok(())
}

pub(super) fn facts(
    binary: &WorkerBinary,
    recipe: &Recipe,
    origin: &Origin,
    workers: WorkerBounds,
) -> RunFacts {
    RunFacts {
        lockstep_version: env!("CARGO_PKG_VERSION"),
        libtorch_version: binary.libtorch_version.clone(),
        data: recipe.data.name.to_string(),
        data_digest: origin.data_digest.clone(),
        weights_digest: origin.weights_digest.clone(),
        classes: origin.classes.clone(),
        shards: recipe.shards,
        workers: workers.start,
        workers_min: workers.min,
        workers_max: workers.max,
        command: std::env::args().collect(),
    }
}

/// The table of stages, for the person who is about to wait.
pub(super) fn show_what_trains(recipe: &Recipe, classes: usize) {
    eprint!("{}", freezing::table(&recipe.into(), classes as u32, &recipe.phases()));
}

/// A look at the data; a run does not fail for want of a picture.
fn draw_samples(folder: &RunFolder, data: &ResolvedData) {
    const PICTURES: usize = 40;
    let drawn = data.first_pictures(PICTURES).map_err(anyhow::Error::from).and_then(|(images, labels)| {
        let plots = folder.path().join("plots");
        std::fs::create_dir_all(&plots)?;
        let named = |(picture, label): (Picture, &usize)| Tile::named(vec![picture], &data.classes[*label]);
        let tiles: Vec<Tile> =
            Picture::all(data.image_size, &images).into_iter().zip(&labels).map(named).collect();
        let title = format!("{}: the first of {} training samples", data.name, data.train);
        plot::write_gallery(&plots.join("samples.png"), &title, &tiles)
    });
    if let Err(error) = drawn {
        tracing::warn!(%error, "the sample pictures could not be drawn");
    }
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
