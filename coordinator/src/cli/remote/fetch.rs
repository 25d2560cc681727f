//! `lockstep fetch`: what came of a run, copied from its coordinator.
//!
//! Every file is written aside, verified and renamed, so that what bears its name is whole, and a fetch that broke is
//! simply made again: checkpoints that are here and verify are not copied twice. While a run goes on its files change
//! under the copy; then the list is read anew.

mod download;
mod expected;
mod place;

use std::path::{Path, PathBuf};

use clap::Args;

use self::download::{Copied, Trouble};
use self::expected::Expectations;
use self::place::{BEST, Kind, Place};
use super::{ask, refusal, words};
use crate::cli::console::{DownloadBar, counted};
use crate::cli::stdout::print;
use crate::cli::{CliError, code};
use crate::client::RunClient;
use crate::credentials::client::RemoteArgs;
use crate::download::DownloadProgress;
use crate::durable;
use crate::run_folder::RunFolder;

/// A run that goes on replaces a checkpoint every few seconds at most; it does not do so under every try.
const TRIES: u32 = 3;

const HELP: &str = "\
Fetched are the tables, the recipe, the plots, the evaluations and the best model (best.safetensors), into the folder RUN or
--to DIR. Its path goes to standard output.

Checkpoints and the best model are compared with the digests of their manifests, all else with its size. What is here
already and verifies is not fetched again, so the same command goes on where an earlier one broke. With --all --to
HOME/runs/RUN, `eval`, `predict` and `export` find the run by its name.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct FetchArgs {
    /// The run
    run: String,
    /// The best model alone
    #[arg(long)]
    best: bool,
    /// Checkpoints and logs, too
    #[arg(long, conflicts_with = "best")]
    all: bool,
    /// Where to; made where it is missing [default: a folder of the run's name]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What has been done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) path: PathBuf,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that were here, whole.
    pub(super) kept: u64,
}

pub(in crate::cli) fn run(args: &FetchArgs) -> Result<u8, CliError> {
    let fetched =
        ask(&args.remote.resolve()?, async |client| fetch(&client, args, &DownloadBar::default()).await)?;
    let kept = match fetched.kept {
        0 => String::new(),
        kept => format!("; {} there already", counted(kept, "file")),
    };
    eprintln!("{}, {}{kept}", counted(fetched.files, "file"), words::memory(fetched.bytes));
    print(&format!("{}\n", fetched.path.display()))?;
    Ok(0)
}

pub(super) async fn fetch(
    client: &RunClient,
    args: &FetchArgs,
    progress: &dyn DownloadProgress,
) -> Result<Fetched, CliError> {
    RunFolder::path_of(Path::new(""), &args.run)?;
    let folder = args.to.clone().unwrap_or_else(|| args.run.clone().into());
    let mut fetched = Fetched::default();
    for tries_left in (0..TRIES).rev() {
        match pass(client, args, &folder, progress, &mut fetched).await {
            Ok(()) => {
                fetched.path = if args.best { folder.join(BEST) } else { folder };
                return Ok(fetched);
            }
            Err(Trouble::Changed { .. }) if tries_left > 0 => {}
            Err(trouble) => return Err(told(client, &args.run, trouble).await),
        }
    }
    Err(CliError::new(code::DATA, format!("run {} changed under every try", args.run)))
}

/// Copies all that is listed now, and is not here.
async fn pass(
    client: &RunClient,
    args: &FetchArgs,
    folder: &Path,
    progress: &dyn DownloadProgress,
    fetched: &mut Fetched,
) -> Result<(), Trouble> {
    // Before the list: what was over then does not change after it.
    let is_over = client.run(&args.run).await?.state.is_over();
    let listed = client.files(&args.run).await?;
    let listed = listed.iter().map(Place::of).collect::<Result<Vec<Place>, _>>()?;
    let mut wanted: Vec<&Place> = listed.iter().filter(|place| is_wanted(args, place)).collect();
    if args.best && wanted.is_empty() {
        return Err(Trouble::NoBest);
    }
    // A checkpoint is one once its manifest is there.
    wanted.sort_by_key(|place| place.kind == Kind::Manifest);
    let expectations = Expectations::read(client, &args.run, &listed, &wanted, is_over).await?;
    for folder in expectations.damaged.iter().filter(|_| args.all) {
        eprintln!("warning: checkpoint {folder} is damaged there, or of another release, and is left out");
    }
    (fetched.kept, fetched.files) = (0, 0);
    for place in wanted.into_iter().filter(|place| !expectations.is_damaged(place)) {
        match download::copy(client, &args.run, place, folder, &expectations.of(place), progress).await? {
            Copied::Here => fetched.kept += 1,
            Copied::Fetched { bytes } => fetched.bytes += bytes,
        }
        fetched.files += 1;
    }
    if args.all {
        point(folder, &expectations).map_err(|source| Trouble::Io { path: folder.to_owned(), source })?;
    }
    Ok(())
}

fn is_wanted(args: &FetchArgs, place: &Place) -> bool {
    match place.kind {
        Kind::Best => true,
        Kind::Pointer | Kind::Hidden => false,
        Kind::Manifest | Kind::Checkpoint | Kind::Rest => args.all,
        Kind::Other => !args.best,
    }
}

/// `last` and `best`, as in the run's folder there.
fn point(folder: &Path, expectations: &Expectations) -> std::io::Result<()> {
    let checkpoints = folder.join("checkpoints");
    let digest = match std::fs::File::open(folder.join(BEST)) {
        Ok(file) => Some(download::digest(file)?.0),
        Err(_) => None,
    };
    let best = digest.and_then(|digest| expectations.checkpoint_of(&digest));
    for (pointer, target) in [("last", expectations.newest()), ("best", best)] {
        if let Some(target) = target {
            durable::point(&checkpoints.join(pointer), target)?;
        }
    }
    Ok(())
}

async fn told(client: &RunClient, run: &str, trouble: Trouble) -> CliError {
    match trouble {
        Trouble::Remote(error) => {
            let again = refusal::is_passing(&error);
            let error = refusal::of_run(client, run, error).await;
            if again { error.hint("the same command goes on where this one broke") } else { error }
        }
        Trouble::Io { path, source } => {
            CliError::new(code::FAILED, format!("cannot write {}: {source}", path.display()))
        }
        Trouble::NoBest => CliError::new(code::DATA, format!("run {run} has no best model yet"))
            .hint("there is one after its first epoch"),
        Trouble::Path { path } => CliError::new(
            code::DATA,
            format!(
                "the coordinator lists a file `{}`, which could lie outside the folder",
                words::one_line(&path)
            ),
        ),
        Trouble::Changed { path, how } => {
            CliError::new(code::DATA, format!("{} of run {run} {how}", words::one_line(&path)))
                .hint("the same command tries again; what is here already is kept")
        }
    }
}
