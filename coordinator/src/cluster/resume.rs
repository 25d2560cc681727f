//! A run that is over goes back into the queue. One that never got to its beginning begins again.

use lockstep_core::{Term, Time};

use super::Refusal;
use super::commands::{Resume, Shared};
use super::record::{Record, Stage};
use super::submission::needs;
use crate::driver::now;
use crate::journal::Journal;
use crate::prepare::{self, Again, PrepareError, TellLog};
use crate::recipe::Recipe;

/// Checks that there is something to do, and writes it down. This blocks.
pub(super) fn requeue(shared: &Shared, resume: Resume) -> Result<Record, Refusal> {
    let Resume { run, epochs, priority, requirements } = resume;
    let unknown = || Refusal::UnknownRun { run: run.to_string() };
    let record = shared.archive.get(&run)?.ok_or_else(unknown)?;
    if !record.stage.is_over() {
        return Err(not_over(&record));
    }
    let journal = Journal::open(&shared.home.join("journal.db"))?;
    let (recipe, term) = match prepare::history(&journal, &run.0) {
        Ok(history) => {
            let term = history.term;
            let again = Again::new(&run.0, history, epochs, &TellLog);
            (again.map_err(|error| Refusal::resume(&error))?.recipe().clone(), term)
        }
        Err(PrepareError::Unknown { .. }) => (fresh(&record, epochs)?, Term(0)),
        Err(error) => return Err(Refusal::resume(&error)),
    };
    let requirements = match requirements {
        Some(asked) => needs(asked, &recipe, &mut Vec::new())?,
        None => record.requirements,
    };
    let record = Record {
        stage: Stage::Queued,
        recipe: recipe.to_toml(),
        priority,
        requirements,
        epochs: recipe.epochs,
        term,
        stopping: false,
        submitted_at_ms: now(),
        started_at_ms: Time(0),
        ended_at_ms: Time(0),
        end: None,
        ..record
    };
    // Somebody else may have been quicker.
    if shared.register.requeue(&record)? { Ok(record) } else { Err(not_over(&record)) }
}

/// It has no history: all is as it was, but for the number of epochs, if one is given.
fn fresh(record: &Record, epochs: Option<u32>) -> Result<Recipe, Refusal> {
    let recipe = Recipe::from_toml_str(&record.recipe, "the run's recipe").map_err(Refusal::recipe)?;
    let epochs = epochs.unwrap_or(recipe.epochs);
    let recipe = Recipe { epochs, ..recipe };
    Recipe::from_toml_str(&recipe.to_toml(), "the run's recipe").map_err(Refusal::recipe)?;
    Ok(recipe)
}

fn not_over(record: &Record) -> Refusal {
    let state = if record.stage == Stage::Queued { "in the queue" } else { "running" };
    Refusal::NotOver { run: record.run.to_string(), state }
}
