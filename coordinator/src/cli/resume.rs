//! `lockstep resume`: find the run and whoever of its workers lives, and go on: with them where they are, else from the
//! newest checkpoint that is whole.

use std::collections::BTreeSet;

use clap::Args;
use lockstep_core::{History, MemberEntry, WorkerName};

use super::cluster::{ClusterArgs, Workers};
use super::home::HomeArgs;
use super::inputs::TellPerson;
use super::logging::LogArgs;
use super::train;
use super::{CliError, code};
use crate::home::Home;
use crate::journal::Journal;
use crate::launch::{Launch, LocalPlan};
use crate::local::{Survivor, WorkerBinary};
use crate::prepare::{self, Again};
use crate::run_folder::{RunFolder, Serving};

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The run; default: the one worked on last
    run: Option<String>,
    /// Train to so many epochs in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: ResumeArgs) -> Result<u8, CliError> {
    let filter = args.log.filter()?;
    let home = args.home.open()?;
    let journal = home.journal()?;
    let name = match args.run {
        Some(name) => name,
        None => newest(&journal, &home)?,
    };
    let folder = RunFolder::open(&home.path, &name)?;
    let tell = TellPerson::default();
    let again = Again::new(&name, prepare::history(&journal, &name)?, args.epochs, &tell)?;
    let (recipe, history) = (again.recipe().clone(), again.history());
    let binary = WorkerBinary::find()?;
    let workers = args.cluster.asked_for()?.unwrap_or_else(|| Workers::of(history.spec.workers));
    let workers = workers.none_idle(history.spec.shards);
    let bounds = workers.bounds(&binary, recipe.threads);
    // There only when that coordinator was killed; the folder's lock says that it is gone.
    let before = Serving::read(folder.path());
    let listener = args.cluster.listen(before.as_ref().map(|before| before.address))?;
    let worker_url = args.cluster.worker_url(&listener)?;
    train::start_logging(filter, &folder)?;

    again.bring_inputs(&home, &tell)?;
    let survivors = survivors(before.as_ref(), &worker_url, workers);
    let expected = expected(history, before.as_ref(), &survivors);
    train::show_what_trains(&recipe, history.origin.classes.len());
    let begun = again.begin(folder, bounds, expected, train::started(&binary))?;
    let local = LocalPlan {
        bounds,
        needs: workers.needs(),
        max_restarts: recipe.max_restarts,
        binary,
        url: worker_url,
        cache: home.cache,
        log_level: args.log.level(),
        arguments: args.cluster.worker_arguments,
        survivors,
    };
    train::start(Launch { begun, journal, blobs: home.blobs, listener, workers: local }, &recipe)
}

pub(super) fn newest(journal: &Journal, home: &Home) -> Result<String, CliError> {
    let runs = journal.runs().map_err(anyhow::Error::from)?;
    runs.into_iter().next().ok_or_else(|| {
        CliError::new(code::USAGE, format!("there is no run in {}", home.path.display()))
            .hint("start one with `lockstep train`, or name another home with --home")
    })
}

/// Workers that an earlier coordinator of the run has left behind, where it was killed. Those that cannot find this
/// one, or that the run has no room for any more, are ended.
fn survivors(before: Option<&Serving>, worker_url: &str, workers: Workers) -> Vec<Survivor> {
    let Some(before) = before else { return Vec::new() };
    let mut names = BTreeSet::new();
    let (kept, ended): (Vec<Survivor>, Vec<Survivor>) =
        Survivor::of(&before.worker_url).into_iter().partition(|survivor| {
            let has_room = names.len() < workers.max() as usize;
            before.worker_url == worker_url && has_room && names.insert(survivor.name.clone())
        });
    ended.iter().for_each(Survivor::kill);
    for (survivors, what) in [(&kept, "goes on"), (&ended, "is ended")] {
        for Survivor { name, pid, .. } in survivors {
            eprintln!("{name} (process {pid}) has outlived its coordinator and {what}");
        }
    }
    kept
}

/// Members that may come back: survivors, and whoever is on another machine.
fn expected(history: &History, before: Option<&Serving>, survivors: &[Survivor]) -> BTreeSet<WorkerName> {
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let may_live = |member: &&MemberEntry| {
        let survives = survivors.iter().any(|survivor| survivor.name == member.worker);
        survives || (before.is_some() && member.host != here.trim_end())
    };
    history.members.iter().filter(may_live).map(|member| member.worker.clone()).collect()
}
