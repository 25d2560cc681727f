//! `lockstep submit`: a recipe is resolved here, so that its errors name this machine's file and line, and queued there.

use clap::Args;

use super::needs::NeedsArgs;
use super::watch::{self, Screen};
use super::{ask, words};
use crate::cli::cluster::Workers;
use crate::cli::sources::SourceArgs;
use crate::cli::stdout::print;
use crate::cli::{CliError, code};
use crate::client::{Requirements, RunClient, Submission, Submitted};
use crate::credentials::client::RemoteArgs;
use crate::recipe::{Loaded, Recipe, Weights};
use crate::run_folder::RunFolder;

/// What `shards` is where neither the recipe nor --workers tells, as in `lockstep recipe check`.
const SHARDS: u32 = 2;

const HELP: &str = "\
Paths: data.path and model.weights are whole paths on the coordinator's machine, where the data is read. A relative one is
refused: it would mean another file there than here.

Without --detach the run is watched to its end, and the exit code is the run's: 0 done, 1, 3 or 4 failed, 143 stopped.
Ctrl-C ends the watching (130), not the run.

With --detach the run's name goes to standard output; with --json {\"run\": NAME, \"warnings\": […], \"waits_for\": \"…\"}.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct SubmitArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Name of the run [default: the coordinator chooses one]
    #[arg(long)]
    name: Option<String>,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Runs of a higher one come first
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Workers: N, or A..B to begin with as few as A and take as many as B when they are free [default: 1 up to the
    /// recipe's shards]
    #[arg(long, value_name = "N|A..B")]
    workers: Option<String>,
    #[command(flatten)]
    needs: NeedsArgs,
    /// For programs
    #[arg(long, requires = "detach")]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(in crate::cli) fn run(args: SubmitArgs) -> Result<u8, CliError> {
    let remote = args.remote.resolve()?;
    let (detach, json) = (args.detach, args.json);
    let (submission, warnings) = prepared(args)?;
    ask(&remote, async |client| {
        let submitted = submit(&client, submission).await?;
        for warning in all_of(&warnings, &submitted.warnings) {
            eprintln!("warning: {warning}");
        }
        if json {
            let json = serde_json::to_string(&Submitted {
                warnings: all_of(&warnings, &submitted.warnings),
                ..submitted
            });
            print(&(json.map_err(anyhow::Error::from)? + "\n"))?;
            return Ok(0);
        }
        let name = words::one_line(&submitted.run);
        if !detach {
            eprintln!("submitted as {name} to {}", client.url());
            return watch::to_exit_code(&client, &submitted.run, &mut Screen::of_process(false)).await;
        }
        if !submitted.waits_for.is_empty() {
            eprintln!("{}", words::one_line(&submitted.waits_for));
        }
        eprintln!("`lockstep watch {name}` shows how it goes");
        print(&format!("{name}\n"))?;
        Ok(0)
    })
}

/// What is to be submitted, and what there is to know about it.
pub(super) fn prepared(args: SubmitArgs) -> Result<(Submission, Vec<String>), CliError> {
    if let Some(name) = &args.name {
        RunFolder::path_of("".as_ref(), name)?;
    }
    let workers = args.workers.as_deref().map(Workers::parse).transpose()?;
    let sources = args.source.sources(workers.map_or(SHARDS, Workers::max));
    let loaded = Recipe::load_for_elsewhere(&sources)?;
    refuse_relative(&loaded)?;
    let Loaded { recipe, mut warnings, .. } = loaded;
    let at_most = Requirements { min_workers: 1, max_workers: recipe.shards, ..Requirements::default() };
    let mut requirements = args.needs.over(workers, at_most)?;
    if requirements.max_workers > recipe.shards {
        warnings.push(format!(
            "up to {} workers for {} shards: {} of them have work, so no more are asked for",
            requirements.max_workers, recipe.shards, recipe.shards
        ));
        requirements.max_workers = recipe.shards;
        requirements.min_workers = requirements.min_workers.min(recipe.shards);
    }
    let (name, priority) = (args.name, args.priority);
    Ok((Submission { recipe: recipe.to_toml(), name, priority, requirements }, warnings))
}

/// A person writes a path with their own folder in mind, and it is read elsewhere.
fn refuse_relative(Loaded { recipe, origins, .. }: &Loaded) -> Result<(), CliError> {
    let weights = match &recipe.model.weights {
        Weights::File(path) => Some(path),
        _ => None,
    };
    for (key, path) in [("data.path", recipe.data.path.as_ref()), ("model.weights", weights)] {
        let Some(path) = path.filter(|path| path.is_relative()) else { continue };
        let place = origins.get(key).map_or_else(String::new, |origin| format!(" ({})", origin.brief()));
        return Err(CliError::new(
            code::USAGE,
            format!("{key} is the relative path {}{place}, and the coordinator is elsewhere", path.display()),
        )
        .hint("give the whole path, as it is on the coordinator's machine"));
    }
    Ok(())
}

pub(super) async fn submit(client: &RunClient, submission: Submission) -> Result<Submitted, CliError> {
    let name = submission.name.clone();
    client.submit(submission).await.map_err(|error| {
        let taken = super::refusal::is_taken(&error);
        match (CliError::from(error), name) {
            (error, Some(name)) if taken && error.hint.is_none() => CliError { code: code::USAGE, ..error }
                .hint(format!("choose another --name, or go on with it by `lockstep resume {name}`")),
            (error, _) => error,
        }
    })
}

/// Both lists, each sentence once: the coordinator has read the recipe too.
fn all_of(here: &[String], there: &[String]) -> Vec<String> {
    let news = there.iter().map(|warning| words::one_line(warning)).filter(|warning| !here.contains(warning));
    here.iter().cloned().chain(news).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        submit: SubmitArgs,
    }

    fn of(line: &str) -> Result<(Submission, Vec<String>), CliError> {
        let program = Program::try_parse_from(std::iter::once("submit").chain(line.split_whitespace()));
        prepared(program.unwrap().submit)
    }

    #[test]
    fn a_recipe_is_resolved_here() {
        let (submission, _) = of(
            "--set data.name=shapes --set epochs=3 --workers 2..4 --priority -1 --device cuda --memory 16GiB",
        )
        .unwrap();
        let recipe = Recipe::from_toml_str(&submission.recipe, "what is sent").unwrap();
        assert_eq!((recipe.epochs, recipe.shards), (3, 4), "a run is sliced for as many as may take part");
        assert_eq!((submission.priority, submission.name), (-1, None));
        let requirements = submission.requirements;
        assert_eq!((requirements.min_workers, requirements.max_workers), (2, 4));
        assert_eq!(requirements.device_kind.as_deref(), Some("cuda"));
        assert_eq!(requirements.memory_bytes, Some(16 << 30));
    }

    #[test]
    fn nobody_said_how_many_workers_so_the_shards_do() {
        let (submission, _) = of("--set data.name=shapes --set shards=6").unwrap();
        let Requirements { min_workers, max_workers, device_kind, memory_bytes } = submission.requirements;
        assert_eq!((min_workers, max_workers, device_kind, memory_bytes), (1, 6, None, None));
    }

    #[test]
    fn workers_that_would_have_nothing_to_do_are_not_asked_for() {
        let (submission, warnings) = of("--set data.name=shapes --set shards=2 --workers 3..4").unwrap();
        let Requirements { min_workers, max_workers, .. } = submission.requirements;
        assert_eq!((min_workers, max_workers), (2, 2));
        assert!(warnings.iter().any(|warning| warning.starts_with("up to 4 workers for 2 shards")));
    }

    #[test]
    fn a_whole_path_stays_as_it_is_and_a_relative_one_is_refused() {
        let (submission, _) =
            of("--set data.name=cifar10 --set data.path=/data/cifar --set model.weights=/w/r50.pth").unwrap();
        assert!(submission.recipe.contains("path = \"/data/cifar\""), "{}", submission.recipe);
        for (set, key) in [("data.path=my/cifar", "data.path"), ("model.weights=r50.pth", "model.weights")] {
            let error = of(&format!("--set data.name=cifar10 --set {set}")).unwrap_err();
            assert_eq!(error.code, code::USAGE);
            assert!(error.message.starts_with(&format!("{key} is the relative path")), "{error}");
            assert!(error.message.contains("(--set)") && error.hint.is_some(), "{error}");
        }
    }

    #[test]
    fn wrong_input_is_told_before_anybody_is_asked() {
        for (line, said) in [
            ("--set data.name=cifr10", "`data.name` must be"),
            ("--set data.name=shapes --workers 0", "no run works without workers"),
            ("--set data.name=shapes --memory 16", "is not a size of memory"),
            ("--set data.name=shapes --name ../x", "cannot be a run's name"),
            ("no-such.toml", "cannot read the recipe no-such.toml"),
        ] {
            let error = of(line).unwrap_err();
            assert!(error.code == code::USAGE && error.message.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn the_coordinators_warnings_add_to_those_from_here() {
        let here = ["a".to_owned(), "b".to_owned()];
        assert_eq!(all_of(&here, &["b".to_owned(), "c\n".to_owned()]), ["a", "b", "c"]);
    }
}
