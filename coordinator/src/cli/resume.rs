//! `lockstep resume`: a run of this machine here, one of a standing coordinator there. Here: find the run and whoever of its
//! workers lives, and go on: with them where they are, else from the newest checkpoint that is whole.

use std::collections::BTreeSet;

use clap::Args;
use lockstep_core::{History, MemberEntry, RunName, WorkerName};

use super::cluster::{ClusterArgs, Workers};
use super::home::HomeArgs;
use super::inputs::TellPerson;
use super::logging::LogArgs;
use super::remote::{self, NeedsArgs, RemoteResume};
use super::train;
use super::{CliError, code};
use crate::cluster::Past;
use crate::credentials::client::RemoteArgs;
use crate::home::{Home, HomeError};
use crate::journal::Journal;
use crate::launch::{Launch, LocalPlan};
use crate::local::{Survivor, WorkerBinary};
use crate::prepare::{self, Again};
use crate::run_folder::{RunFolder, Serving};

const HELP: &str = "\
Where a coordinator is named (--coordinator, LOCKSTEP_COORDINATOR or ~/.config/lockstep/config.toml) the run is one of its
own, has to be named, and goes back into the queue; what is not said stays as it was. --home is about the runs of this
machine, whatever is named elsewhere.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ResumeArgs {
    /// The run; default: of this machine's, the one worked on last
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
    /// At a coordinator: do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// At a coordinator: runs of a higher one come first [default: as before]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    priority: Option<i32>,
    #[command(flatten)]
    needs: NeedsArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl ResumeArgs {
    /// What only a coordinator can do something with.
    fn refuse_what_needs_a_coordinator(&self) -> Result<(), CliError> {
        let said = [
            ("--detach", self.detach),
            ("--priority", self.priority.is_some()),
            ("--device or --memory", !self.needs.is_empty()),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            None => Ok(()),
            Some((flag, _)) => Err(CliError::new(
                code::USAGE,
                format!("{flag} is for a coordinator's queue, and none is named"),
            )
            .hint("name one with --coordinator URL, or leave it out to go on here")),
        }
    }
}

pub(super) fn run(args: ResumeArgs) -> Result<u8, CliError> {
    if let Some(coordinator) = remote::chosen(&args.remote, &args.home)? {
        args.cluster.refuse_what_is_local()?;
        let asked = RemoteResume {
            epochs: args.epochs,
            workers: args.cluster.asked_for()?,
            needs: args.needs,
            priority: args.priority,
        };
        return remote::resume(&coordinator, args.run.as_deref(), &asked, args.detach);
    }
    args.refuse_what_needs_a_coordinator()?;
    let format = args.log.format()?;
    let home = args.home.open()?;
    let journal = home.journal()?;
    let name = match args.run {
        Some(name) => name,
        None => newest(&journal, &home)?,
    };
    refuse_what_is_a_clusters(&home, &name)?;
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
    train::start_logging(&format, &folder)?;

    again.bring_inputs(&home, &tell)?;
    let survivors = survivors(before.as_ref(), &worker_url, workers);
    let expected = expected(history, before.as_ref(), &survivors);
    train::show_what_trains(&recipe, history.origin.classes.len());
    let begun = again.begin(folder, bounds, expected.clone(), train::started(&binary))?;
    let local = LocalPlan {
        bounds,
        needs: workers.needs(),
        max_restarts: recipe.max_restarts,
        binary,
        url: worker_url,
        cache: home.cache.clone(),
        log_level: args.log.level(),
        arguments: args.cluster.worker_arguments,
        survivors,
    };
    train::start(Launch { begun, home, expected, listener, workers: local }, &recipe)
}

/// What a coordinator of this home has in its queue is not taken from it.
fn refuse_what_is_a_clusters(home: &Home, name: &str) -> Result<(), CliError> {
    let Err(served @ HomeError::Served { .. }) = home.claim() else { return Ok(()) };
    if !Past::open(home)?.is_a_clusters(&RunName(name.to_owned()))? {
        return Ok(());
    }
    Err(CliError::new(code::CLUSTER, format!("run {name} is in the hands of a coordinator: {served}")).hint(
        format!("ask that one (`lockstep watch {name} --coordinator URL`), or stop the run there first"),
    ))
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
