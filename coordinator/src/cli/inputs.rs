//! What a run takes in, found while a person watches; and what they are told when a run cannot begin.

use lockstep_core::Origin;

use super::console::DownloadBar;
use super::{CliError, code};
use crate::convert::SampleCounts;
use crate::data::{DataProgress, ResolvedData};
use crate::home::Home;
use crate::prepare::{self, Fault, PrepareError, Tell};
use crate::recipe::Recipe;

/// Notes go to stderr, and downloads have bars.
#[derive(Debug, Default)]
pub(super) struct TellPerson {
    bar: DownloadBar,
}

impl Tell for TellPerson {
    fn note(&self, line: &str) {
        eprintln!("{line}");
    }

    fn progress(&self) -> &dyn DataProgress {
        &self.bar
    }
}

pub(super) fn resolve_data(recipe: &Recipe, home: &Home) -> Result<ResolvedData, CliError> {
    Ok(prepare::resolve_data(recipe, home, &TellPerson::default())?)
}

pub(super) fn bring_back_data(
    origin: &Origin,
    recipe: &Recipe,
    home: &Home,
    instead: &str,
) -> Result<(), CliError> {
    Ok(prepare::bring_back_data(origin, recipe, home, instead, &TellPerson::default())?)
}

pub(super) fn sample_counts(recipe: &Recipe, data: &ResolvedData) -> Result<SampleCounts, CliError> {
    Ok(prepare::sample_counts(recipe, data).map_err(PrepareError::from)?)
}

impl From<PrepareError> for CliError {
    fn from(error: PrepareError) -> Self {
        let code = match error.fault() {
            Fault::Usage => code::USAGE,
            Fault::Data => code::DATA,
            Fault::System => code::FAILED,
        };
        match error {
            // Their words depend on what a command line can do about them.
            PrepareError::Folder(error) => error.into(),
            error => Self { message: error.to_string(), hint: error.hint(), code },
        }
    }
}
