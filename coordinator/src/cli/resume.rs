//! `lockstep resume`: find the run and whoever of its workers lives, and go on: with them where they are, else from the
//! newest checkpoint that is whole.

use std::collections::BTreeSet;

use clap::Args;
use lockstep_core::{History, MemberEntry, Outcome, Run, WorkerName};

use super::cluster::{ClusterArgs, Workers};
use super::console::counted;
use super::home::{Home, HomeArgs};
use super::logging::{self, LogArgs};
use super::train;
use super::{CliError, code, inputs};
use crate::convert;
use crate::driver::now;
use crate::journal::Journal;
use crate::launch::{Launch, LocalPlan};
use crate::local::{Survivor, WorkerBinary};
use crate::recipe::Recipe;
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
    let history = history(&journal, &name)?;
    let recipe = Recipe::from_toml_str(&history.origin.recipe, "the run's recipe")?;
    let epochs = epochs(&history, args.epochs, &name)?;
    let binary = WorkerBinary::find()?;
    let workers = args.cluster.asked_for()?.unwrap_or_else(|| Workers::of(history.spec.workers));
    let workers = workers.none_idle(history.spec.shards);
    let bounds = workers.bounds(&binary, recipe.threads);
    // There only when that coordinator was killed; the folder's lock says that it is gone.
    let before = Serving::read(folder.path());
    let listener = args.cluster.listen(before.as_ref().map(|before| before.address))?;
    let worker_url = args.cluster.worker_url(&listener)?;
    logging::start(filter, &folder.log("coordinator")).map_err(anyhow::Error::from)?;

    find_data(&history, &recipe, &home)?;
    let samples = match history_samples(&history, &recipe) {
        Ok(samples) => samples,
        Err(error) => return Err(inputs::plan_error(&error)),
    };
    let recipe = with_epochs(recipe, epochs)?;
    folder.write_recipe(&recipe.to_toml()).map_err(anyhow::Error::from)?;
    let facts = train::facts(&binary, &recipe, &history.origin, bounds);
    let origin = history.origin.clone();
    let survivors = survivors(before.as_ref(), &worker_url, workers);
    let expected = expected(&history, before.as_ref(), &survivors);
    let (run, effects) = Run::take_over(now(), history, bounds, epochs, expected);
    let plan = convert::plan(&name, &recipe, samples, &run.history().spec, &origin);
    train::show_what_trains(&recipe, origin.classes.len());
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
    let launch =
        Launch { run, effects, folder, journal, plan, facts, blobs: home.blobs, listener, workers: local };
    train::start(launch, &recipe)
}

pub(super) fn newest(journal: &Journal, home: &Home) -> Result<String, CliError> {
    let runs = journal.runs().map_err(anyhow::Error::from)?;
    runs.into_iter().next().ok_or_else(|| {
        CliError::new(code::USAGE, format!("there is no run in {}", home.path.display()))
            .hint("start one with `lockstep train`, or name another home with --home")
    })
}

pub(super) fn history(journal: &Journal, name: &str) -> Result<History, CliError> {
    let entries = journal.entries(name).map_err(|error| CliError::new(code::DATA, error.to_string()))?;
    History::from_entries(entries).ok_or_else(|| {
        CliError::new(code::DATA, format!("the journal knows nothing of run {name}"))
            .hint("the run did not get to its start: train again under another --name")
    })
}

/// The epochs to train to, if anything is left to do.
fn epochs(history: &History, asked: Option<u32>, name: &str) -> Result<u32, CliError> {
    let done = history.rows.len() as u32;
    let usage = |message: String| CliError::new(code::USAGE, message);
    match asked {
        Some(epochs) if epochs < done => {
            Err(usage(format!("run {name} has {} done already", counted(done, "epoch"))))
        }
        Some(epochs) => Ok(epochs),
        None if matches!(history.outcome, Some(Outcome::Done { .. })) => {
            let longer = history.spec.epochs * 2;
            Err(usage(format!("run {name} is done, with {}", counted(done, "epoch")))
                .hint(format!("train on with `lockstep resume {name} --epochs {longer}`")))
        }
        None => Ok(history.spec.epochs),
    }
}

/// The recipe for another number of epochs, if it can be one: a warm-up has to end before the run. A schedule that spans
/// the run takes another course from here on.
fn with_epochs(recipe: Recipe, epochs: u32) -> Result<Recipe, CliError> {
    if epochs != recipe.epochs && recipe.schedule.spans_the_run() {
        eprintln!(
            "warning: schedule.name = \"{}\" follows the run's length: from here on the learning rate is that of {epochs} \
             epochs, so the weights differ from those of a run that was meant to have so many from the start",
            recipe.schedule.name
        );
    }
    let recipe = Recipe { epochs, ..recipe };
    Recipe::from_toml_str(&recipe.to_toml(), "the run's recipe")?;
    Ok(recipe)
}

/// The data set and weights that the run began with must lie whole in the cache, or be made again with the same digest.
fn find_data(history: &History, recipe: &Recipe, home: &Home) -> Result<(), CliError> {
    let origin = &history.origin;
    inputs::bring_back_data(origin, recipe, home, "start a new run")?;
    if let Some(digest) = &origin.weights_digest
        && !inputs::is_whole(digest, home)?
        && inputs::resolve_weights(recipe, origin.classes.len(), home)?.as_ref() != Some(digest)
    {
        return Err(CliError::new(code::DATA, "the weights file is not what the run began with")
            .hint("bring the old file back, or start a new run"));
    }
    Ok(())
}

/// The same counts as at the run's creation, told from its specification.
fn history_samples(history: &History, recipe: &Recipe) -> Result<convert::SampleCounts, convert::PlanError> {
    convert::SampleCounts::new(recipe, history.origin.train_samples, history.origin.test_samples)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Sources;

    #[test]
    fn a_number_of_epochs_that_the_recipe_does_not_allow_is_refused_before_anything_is_written() {
        let sets = ["data.name=shapes", "epochs=9", "schedule.warmup_epochs=4"].map(str::to_owned).to_vec();
        let recipe = || Recipe::load(&Sources { sets: sets.clone(), ..Sources::default() }).unwrap().recipe;
        assert_eq!(with_epochs(recipe(), 5).unwrap().epochs, 5);
        let error = with_epochs(recipe(), 4).unwrap_err();
        assert_eq!(error.code, code::USAGE);
        assert!(error.message.contains("`schedule.warmup_epochs` must be below epochs, 4"), "{error}");
    }
}
