//! From a recipe to a run that can be driven: the same way for `train`, for `resume`, and for a coordinator that takes
//! runs from its queue.
//!
//! A new run is a [`Draft`] first: data, weights and counts are found and checked before anything is made, so that bad
//! input leaves nothing behind. One that goes on is an [`Again`]. Both become [`Begun`]. Whoever asks says who is told
//! on the way ([`Tell`]), and how many workers there are to be; everything else is the recipe's, so that a run is the same
//! whoever started it.
//!
//! Everything here blocks (files, downloads, hashing): async callers hand it to a blocking thread.

mod again;
mod draft;
mod error;
mod inputs;

use lockstep_core::{Effect, Run};
use lockstep_proto::v1 as pb;

use crate::data::DataProgress;
use crate::download::NoProgress;
use crate::run_folder::{RunFacts, RunFolder};

pub use self::again::{Again, history};
pub use self::draft::{Draft, default_name};
pub use self::error::{Fault, PrepareError};
pub use self::inputs::{bring_back_data, resolve_data, sample_counts};

/// A run that has its folder, and whose first effects are still to be carried out.
#[derive(Debug)]
pub struct Begun {
    pub run: Run,
    /// From the run's creation or take-over.
    pub effects: Vec<Effect>,
    pub folder: RunFolder,
    pub plan: pb::Plan,
    pub facts: RunFacts,
}

#[cfg(test)]
impl Begun {
    /// One whose workers are told nothing but the run's name.
    pub(crate) fn bare(run: Run, effects: Vec<Effect>, folder: RunFolder) -> Self {
        let plan = pb::Plan { run: folder.name().to_owned(), ..pb::Plan::default() };
        Self { run, effects, folder, plan, facts: RunFacts::default() }
    }
}

/// What of a run's facts is this machine's and not the recipe's.
#[derive(Debug, Clone, Default)]
pub struct Started {
    /// Of the first workers.
    pub libtorch_version: String,
    /// As typed.
    pub command: Vec<String>,
}

/// Who is told what there is to know while inputs are found.
pub trait Tell {
    /// A sentence.
    fn note(&self, line: &str);
    fn progress(&self) -> &dyn DataProgress;
}

/// Writes it to the log, where nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct TellLog;

impl Tell for TellLog {
    fn note(&self, line: &str) {
        tracing::info!("{line}");
    }

    fn progress(&self) -> &dyn DataProgress {
        &NoProgress
    }
}
