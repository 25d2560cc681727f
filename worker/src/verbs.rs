//! The verbs that need libtorch but no run: `lockstep` calls them with a job file, on the user's behalf.
//!
//! A job is JSON, its answer a safetensors file: both sides can check them by eye, and neither needs the other's code. Built
//! on [`crate::model`], [`crate::data`] and [`crate::device`]; they know no trainer.

mod augment;
mod error;
mod infer;
mod output;
#[cfg(test)]
mod tests;

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use serde::de::DeserializeOwned;

pub(crate) use self::error::VerbError;

/// Logits, and losses where there are labels, of a file's pictures.
pub(crate) fn infer(job: &Path) -> Result<(), VerbError> {
    infer::run(&read(job)?)
}

/// A file's pictures as training would see them.
pub(crate) fn augment(job: &Path) -> Result<(), VerbError> {
    augment::run(&read(job)?)
}

fn read<Job: DeserializeOwned>(path: &Path) -> Result<Job, VerbError> {
    let bytes = fs::read(path).map_err(|source| VerbError::ReadJob { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| VerbError::Job { path: path.to_owned(), source })
}

/// libtorch's, for this process.
fn set_threads(threads: NonZeroU32) {
    tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
}

/// The rows of a job: those that it names, or all.
fn rows(named: Option<&Vec<u32>>, count: u32) -> Vec<u32> {
    named.map_or_else(|| (0..count).collect(), Clone::clone)
}
