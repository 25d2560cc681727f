//! What somebody wants trained, checked as far as it can be without a look at data: the recipe, the name, the needs.

use std::path::Path;

use lockstep_core::{Requirements, RunName, Term, Time};

use super::Refusal;
use super::record::{Record, Stage};
use crate::driver::now;
use crate::prepare::default_name;
use crate::recipe::{Loaded, Recipe, Weights};
use crate::run_folder::RunFolder;

/// More than any sensible number of devices, fewer than a slip of the finger.
const WORKERS_MAX: u32 = 1024;

/// Names made here that may be tried: runs of one second.
const NAMES_MAX: u32 = 1000;

/// As it came.
#[derive(Debug, Clone)]
pub struct Submission {
    /// TOML.
    pub recipe: String,
    pub name: Option<String>,
    pub priority: i32,
    /// 0 workers: as many as the recipe has shards at the most, one at the least.
    pub requirements: Requirements,
    pub submitter: String,
}

/// As it goes into the queue.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) record: Record,
    /// The name was made here: another one will do as well.
    pub(super) named: bool,
    pub(super) warnings: Vec<String>,
}

impl Checked {
    pub(super) fn new(submission: Submission) -> Result<Self, Refusal> {
        let Submission { recipe, name, priority, requirements, submitter } = submission;
        let asked = requirements.max_workers.max(requirements.min_workers);
        refuse_too_many(asked)?;
        let loaded = Recipe::load_text(&recipe, "the recipe", asked);
        let Loaded { recipe, mut warnings, .. } = loaded.map_err(Refusal::recipe)?;
        refuse_relative(&recipe)?;
        let requirements = needs(requirements, &recipe, &mut warnings)?;
        let named = name.is_some();
        let name = name.unwrap_or_else(|| default_name(&recipe));
        RunFolder::path_of(Path::new(""), &name).map_err(|error| Refusal::invalid(error.to_string()))?;
        let record = Record {
            run: RunName(name),
            stage: Stage::Queued,
            recipe: recipe.to_toml(),
            priority,
            requirements,
            submitter,
            epochs: recipe.epochs,
            term: Term(0),
            stopping: false,
            submitted_at_ms: now(),
            started_at_ms: Time(0),
            ended_at_ms: Time(0),
            end: None,
        };
        Ok(Self { record, named, warnings })
    }

    /// The names to try, one after the other.
    pub(super) fn names(&self) -> impl Iterator<Item = RunName> + use<> {
        let (first, most) = (self.record.run.clone(), if self.named { 1 } else { NAMES_MAX });
        (1..=most).map(move |number| match number {
            1 => first.clone(),
            number => RunName(format!("{first}-{number}")),
        })
    }
}

/// The bounds within which the run works, with more shards than workers never idle.
pub(super) fn needs(
    asked: Requirements,
    recipe: &Recipe,
    warnings: &mut Vec<String>,
) -> Result<Requirements, Refusal> {
    let shards = recipe.shards;
    let Requirements { min_workers, max_workers, .. } = asked;
    refuse_too_many(min_workers.max(max_workers))?;
    if max_workers != 0 && min_workers > max_workers {
        return Err(Refusal::invalid(format!("at least {min_workers} workers and at most {max_workers}")));
    }
    let most = if max_workers == 0 { shards.max(min_workers) } else { max_workers };
    if most > shards {
        warnings.push(format!(
            "{most} workers for {shards} shard{}: the run takes no more than have work",
            if shards == 1 { "" } else { "s" }
        ));
    }
    let max_workers = most.min(shards);
    Ok(Requirements { min_workers: min_workers.clamp(1, max_workers), max_workers, ..asked })
}

fn refuse_too_many(workers: u32) -> Result<(), Refusal> {
    if workers <= WORKERS_MAX {
        return Ok(());
    }
    Err(Refusal::invalid(format!("a run has at most {WORKERS_MAX} workers")))
}

/// Paths are the coordinator's, whose current folder nobody means.
fn refuse_relative(recipe: &Recipe) -> Result<(), Refusal> {
    let weights = match &recipe.model.weights {
        Weights::File(path) => Some(("model.weights", path)),
        _ => None,
    };
    let data = recipe.data.path.as_ref().map(|path| ("data.path", path));
    for (key, path) in data.into_iter().chain(weights) {
        if !path.is_absolute() {
            return Err(Refusal::Invalid {
                message: format!(
                    "`{key}` is `{}`, and the coordinator does not know where that begins",
                    path.display()
                ),
                hint: Some("give the whole path, as it is on the coordinator's machine".to_owned()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Requirements = Requirements { min_workers: 0, max_workers: 0, device: None, memory_bytes: 0 };

    fn check(recipe: &str, requirements: Requirements) -> Result<Checked, Refusal> {
        let (name, submitter) = (Some("a".to_owned()), "someone".to_owned());
        Checked::new(Submission { recipe: recipe.to_owned(), name, priority: 1, requirements, submitter })
    }

    fn workers(min_workers: u32, max_workers: u32) -> Requirements {
        Requirements { min_workers, max_workers, ..ANY }
    }

    #[test]
    fn a_submission_becomes_a_run_whose_recipe_is_complete() {
        let checked = check("data.name = \"shapes\"\nshards = 4\n", workers(2, 4)).unwrap();
        assert_eq!(checked.record.requirements, workers(2, 4));
        assert!(checked.record.recipe.contains("epochs = 100"), "{}", checked.record.recipe);
        assert_eq!((checked.record.epochs, checked.record.submitter.as_str()), (100, "someone"));
        assert_eq!(checked.names().count(), 1, "nobody else gets a name that somebody chose");
    }

    #[test]
    fn what_is_not_said_follows_from_the_rest() {
        let needs = |recipe: &str, asked| check(recipe, asked).unwrap().record.requirements;
        assert_eq!(needs("data.name = \"shapes\"\nshards = 4\n", ANY), workers(1, 4));
        assert_eq!(needs("data.name = \"shapes\"\n", ANY), workers(1, 1));
        // As `train` does: as many shards as workers.
        let checked = check("data.name = \"shapes\"\n", workers(0, 3)).unwrap();
        assert_eq!(checked.record.requirements, workers(1, 3));
        assert!(checked.record.recipe.contains("shards = 3"), "{}", checked.record.recipe);
        let checked = check("data.name = \"shapes\"\nshards = 2\n", workers(3, 4)).unwrap();
        assert_eq!(checked.record.requirements, workers(2, 2));
        let warned = checked.warnings.iter().any(|warning| warning.starts_with("4 workers for 2 shards"));
        assert!(warned, "{:?}", checked.warnings);
    }

    #[test]
    fn a_wrong_recipe_is_refused_with_its_line_and_the_nearest_key() {
        let Err(Refusal::Invalid { message, hint }) = check("data.name = \"shapes\"\nepoch = 4\n", ANY)
        else {
            panic!("it is taken")
        };
        assert_eq!(message, "unknown key `epoch` in the recipe, line 2");
        assert!(hint.is_some_and(|hint| hint.contains("epochs")));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (recipe, asked, said) in [
            ("data.name = \"folder\"\ndata.path = \"pets\"\n", ANY, "`data.path` is `pets`"),
            ("data.name = \"shapes\"\nmodel.weights = \"w.pth\"\n", ANY, "`model.weights` is `w.pth`"),
            ("data.name = \"shapes\"\n", workers(3, 2), "at least 3 workers and at most 2"),
            ("data.name = \"shapes\"\n", workers(0, 9999), "at most 1024 workers"),
        ] {
            let Err(Refusal::Invalid { message, .. }) = check(recipe, asked) else { panic!("{recipe}") };
            assert!(message.contains(said), "{message}");
        }
        let submission = |name: &str| Submission {
            recipe: "data.name = \"shapes\"\n".to_owned(),
            name: Some(name.to_owned()),
            priority: 0,
            requirements: ANY,
            submitter: String::new(),
        };
        for name in ["..", "a/b", "", ".hidden"] {
            assert!(matches!(Checked::new(submission(name)), Err(Refusal::Invalid { .. })), "{name}");
        }
    }
}
