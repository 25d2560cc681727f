//! A run that goes on: from where its workers are, if some of them live, else from its newest checkpoint that is whole.

use std::collections::BTreeSet;

use lockstep_core::{History, Outcome, Run, WorkerBounds, WorkerName};

use super::inputs::bring_back;
use super::{Begun, PrepareError, Started, Tell};
use crate::convert::{self, SampleCounts};
use crate::driver::now;
use crate::home::Home;
use crate::journal::Journal;
use crate::recipe::Recipe;
use crate::run_folder::{RunFacts, RunFolder};

/// A run that can go on.
#[derive(Debug)]
pub struct Again {
    name: String,
    history: History,
    /// For as many epochs as it is to have now.
    recipe: Recipe,
    samples: SampleCounts,
}

/// What the journal knows of a run.
pub fn history(journal: &Journal, name: &str) -> Result<History, PrepareError> {
    let entries = journal.entries(name)?;
    History::from_entries(entries).ok_or_else(|| PrepareError::Unknown { name: name.to_owned() })
}

impl Again {
    /// Goes on with it, to `epochs` in all, else to as many as before.
    pub fn new(
        name: &str,
        history: History,
        epochs: Option<u32>,
        tell: &dyn Tell,
    ) -> Result<Self, PrepareError> {
        let recipe = Recipe::from_toml_str(&history.origin.recipe, "the run's recipe")?;
        let epochs = epochs_to_do(&history, epochs, name)?;
        let samples = SampleCounts::new(&recipe, history.origin.train_samples, history.origin.test_samples)?;
        let recipe = with_epochs(recipe, epochs, tell)?;
        Ok(Self { name: name.to_owned(), history, recipe, samples })
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// The data set and weights that the run began with lie whole in the cache, or are made again.
    pub fn bring_inputs(&self, home: &Home, tell: &dyn Tell) -> Result<(), PrepareError> {
        bring_back(&self.history.origin, &self.recipe, home, tell)
    }

    /// Whether they lie there, without a look at their bytes: enough where workers have them already, and whoever fetches
    /// them checks what comes.
    pub fn has_inputs(&self, home: &Home) -> bool {
        self.history.origin.digests().all(|digest| home.blobs.contains(digest))
    }

    /// Lets the first workers take so long to come and to get ready.
    #[must_use]
    pub fn with_join_timeout(mut self, join_timeout_ms: u64) -> Self {
        self.history.spec.join_timeout_ms = join_timeout_ms;
        self
    }

    /// The run, in the hands of a new coordinator. `expected` are the members that may come back.
    pub fn begin(
        self,
        folder: RunFolder,
        workers: WorkerBounds,
        expected: BTreeSet<WorkerName>,
        started: Started,
    ) -> Result<Begun, PrepareError> {
        let Self { name, history, recipe, samples } = self;
        folder.write_recipe(&recipe.to_toml()).map_err(PrepareError::Write)?;
        let origin = history.origin.clone();
        let facts = RunFacts::new(&recipe, &origin, workers, started);
        let (run, effects) = Run::take_over(now(), history, workers, recipe.epochs, expected);
        let plan = convert::plan(&name, &recipe, samples, &run.history().spec, &origin);
        Ok(Begun { run, effects, folder, plan, facts })
    }
}

/// The epochs to train to, if anything is left to do.
fn epochs_to_do(history: &History, asked: Option<u32>, name: &str) -> Result<u32, PrepareError> {
    let name = name.to_owned();
    let counted = |epochs: u32| format!("{epochs} epoch{}", if epochs == 1 { "" } else { "s" });
    let rows = history.rows.len() as u32;
    match asked {
        Some(epochs) if epochs < rows => Err(PrepareError::Beyond { name, done: counted(rows) }),
        Some(epochs) => Ok(epochs),
        None if matches!(history.outcome, Some(Outcome::Done { .. })) => {
            let longer = history.spec.epochs * 2;
            Err(PrepareError::NothingLeft { name, done: counted(rows), longer })
        }
        None => Ok(history.spec.epochs),
    }
}

/// The recipe for another number of epochs, if it can be one: a warm-up has to end before the run. A schedule that spans
/// the run takes another course from here on.
fn with_epochs(recipe: Recipe, epochs: u32, tell: &dyn Tell) -> Result<Recipe, PrepareError> {
    if epochs != recipe.epochs && recipe.schedule.spans_the_run() {
        tell.note(&format!(
            "warning: schedule.name = \"{}\" follows the run's length: from here on the learning rate is that of {epochs} \
             epochs, so the weights differ from those of a run that was meant to have so many from the start",
            recipe.schedule.name
        ));
    }
    let recipe = Recipe { epochs, ..recipe };
    Recipe::from_toml_str(&recipe.to_toml(), "the run's recipe")?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::{Fault, TellLog};
    use crate::recipe::Sources;

    #[test]
    fn a_number_of_epochs_that_the_recipe_does_not_allow_is_refused_before_anything_is_written() {
        let sets = ["data.name=shapes", "epochs=9", "schedule.warmup_epochs=4"].map(str::to_owned).to_vec();
        let recipe = || Recipe::load(&Sources { sets: sets.clone(), ..Sources::default() }).unwrap().recipe;
        assert_eq!(with_epochs(recipe(), 5, &TellLog).unwrap().epochs, 5);
        let error = with_epochs(recipe(), 4, &TellLog).unwrap_err();
        assert_eq!(error.fault(), Fault::Usage);
        assert!(error.to_string().contains("`schedule.warmup_epochs` must be below epochs, 4"), "{error}");
    }
}
