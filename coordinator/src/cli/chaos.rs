//! `lockstep chaos`: a recipe twice, undisturbed and under real faults, and whether the weights are the same.

mod table;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::home::HomeArgs;
use super::sources::SourceArgs;
use super::{CliError, code, stdout};
use crate::chaos::{self, ChaosError, Report, Schedule, Settings};
use crate::home::Home;
use crate::launch::StopSignal;
use crate::local::WorkerBinary;
use crate::recipe::{Loaded, Recipe};
use crate::run_folder::RunFolder;

/// A worker's restarts are not what is tried here.
const RESTARTS_MIN: u32 = 1000;

/// Far more than any run has steps to spread them over sensibly.
const FAULTS_MAX: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct ChaosArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Worker processes, at least 2: somebody has to go on when one dies
    #[arg(long, value_name = "N", default_value_t = 3)]
    workers: u32,
    /// Faults in the disturbed run
    #[arg(long, value_name = "K", default_value_t = 8)]
    faults: u32,
    /// What the faults are drawn from: the same seed and number give the same schedule
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The runs are called NAME-calm and NAME-chaos; default: chaos, date and time
    #[arg(long)]
    name: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
}

pub(super) fn run(args: ChaosArgs) -> Result<u8, CliError> {
    check(&args)?;
    let (workers, json) = (args.workers, args.json);
    let name = args.name.unwrap_or_else(|| jiff::Zoned::now().strftime("chaos-%Y%m%d-%H%M%S").to_string());
    let recipe_arguments = arguments(&args.source);
    let Loaded { recipe, warnings, .. } = Recipe::load(&args.source.sources(workers))?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if recipe.shards < workers {
        return Err(CliError::new(
            code::USAGE,
            format!("{workers} workers for {} shards: some of them would have nothing to do", recipe.shards),
        )
        .hint(format!("use --set shards={workers} or fewer workers")));
    }
    let binary = WorkerBinary::find()?;
    let home = args.home.open()?;
    refuse_existing(&home, &name)?;
    let settings = Settings {
        program: std::env::current_exe().map_err(anyhow::Error::from)?,
        worker: binary.path,
        home: home.path,
        recipe: with_settings(recipe_arguments, &recipe),
        workers,
        workers_max: recipe.shards.min(workers + 1),
        schedule: Schedule::draw(args.seed, args.faults),
        name,
    };
    let report = carry_out(&settings)?;
    if json {
        let text = serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?;
        stdout::print(&format!("{text}\n"))?;
    } else {
        stdout::print(&table::text(&report))?;
    }
    judge(&report)
}

fn check(args: &ChaosArgs) -> Result<(), CliError> {
    let usage = |message: String, hint: &str| Err(CliError::new(code::USAGE, message).hint(hint));
    if args.workers < 2 {
        let message =
            format!("--workers {}: nobody is left to go on when the only worker dies", args.workers);
        return usage(message, "at least 2, for example --workers 3");
    }
    if args.faults == 0 || args.faults > FAULTS_MAX {
        return usage(
            format!("--faults {}: from 1 to {FAULTS_MAX}", args.faults),
            "8 have every kind of fault once",
        );
    }
    Ok(())
}

/// The recipe and its changes, for `lockstep train`.
fn arguments(source: &SourceArgs) -> Vec<String> {
    let file = source.recipe.iter().map(|path| path.to_string_lossy().into_owned());
    let sets = source.sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
    file.chain(sets).collect()
}

/// Both runs are sliced alike, whatever the number of workers; what dies is always started again.
fn with_settings(mut arguments: Vec<String>, recipe: &Recipe) -> Vec<String> {
    let restarts = recipe.max_restarts.max(RESTARTS_MIN);
    for set in [format!("shards={}", recipe.shards), format!("max_restarts={restarts}")] {
        arguments.extend(["--set".to_owned(), set]);
    }
    arguments
}

fn refuse_existing(home: &Home, name: &str) -> Result<(), CliError> {
    for run in ["calm", "chaos"].map(|kind| format!("{name}-{kind}")) {
        let path = RunFolder::path_of(&home.path, &run)?;
        if path.exists() {
            let message = format!("a run named {run} exists already in {}", path.display());
            return Err(CliError::new(code::USAGE, message).hint("choose another --name"));
        }
    }
    Ok(())
}

/// Runs it, and ends all that it started when a signal comes.
fn carry_out(settings: &Settings) -> Result<Report, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let name = &settings.name;
    let report = runtime.block_on(async {
        let stop = |source| ChaosError::System { what: "listen for signals", source };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(stop)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(stop)?;
        tokio::select! {
            report = chaos::run(settings, &|line| eprintln!("{line}")) => report,
            _ = interrupt.recv() => Err(ChaosError::Stopped(StopSignal::Interrupt)),
            _ = terminate.recv() => Err(ChaosError::Stopped(StopSignal::Terminate)),
        }
    });
    report.map_err(|error| told(error, name))
}

fn told(error: ChaosError, name: &str) -> CliError {
    let message = error.to_string();
    match error {
        ChaosError::Exists { .. } => CliError::new(code::USAGE, message).hint("choose another --name"),
        ChaosError::Calm { code, said, .. } => {
            CliError::new(code, format!("{message}; the end of what it said:{said}"))
                .hint("make `lockstep train` with this recipe work first")
        }
        ChaosError::Disturbed { said, .. } => {
            CliError::new(code::FAILED, format!("{message}; the end of what it said:{said}"))
                .hint(format!("its logs are in runs/{name}-chaos/logs and chaos/{name} of the home folder"))
        }
        ChaosError::Standstill { .. } => CliError::new(code::FAILED, message)
            .hint(format!("its logs are in runs/{name}-chaos/logs and chaos/{name} of the home folder")),
        ChaosError::Stopped(signal) => {
            let code = match signal {
                StopSignal::Interrupt => code::INTERRUPTED,
                StopSignal::Terminate => code::TERMINATED,
            };
            CliError::new(code, "stopped; all that was started has been ended")
                .hint(format!("what the runs {name}-calm and {name}-chaos had done is in their folders"))
        }
        ChaosError::Io { .. } | ChaosError::System { .. } => CliError::new(code::FAILED, message),
    }
}

/// The exit code: the runs are equal, and all faults had their time.
fn judge(report: &Report) -> Result<u8, CliError> {
    let (name, happened) = (&report.name, report.faults.len() as u32);
    if let Some((file, difference)) =
        report.files.iter().find_map(|file| Some((&file.file, file.difference.as_ref()?)))
    {
        return Err(CliError::new(code::FAILED, format!("the runs differ: {file}: {difference}")).hint(
            format!("this must not happen: keep runs/{name}-calm, runs/{name}-chaos and chaos/{name}"),
        ));
    }
    if happened < report.faults_planned {
        let message = format!("only {happened} of {} faults fitted into the run", report.faults_planned);
        return Err(CliError::new(code::CLUSTER, message).hint("use more epochs, or fewer faults"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
