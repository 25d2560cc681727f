//! Why two runs could not be compared.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::launch::StopSignal;

/// Chaos could not be carried through. Whatever was started has been ended.
#[derive(Debug, Error)]
pub enum ChaosError {
    #[error("a folder {} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    /// The undisturbed run did not get to its end, so there is nothing to compare with.
    #[error("the undisturbed run did not get to its end: {how}")]
    Calm { how: String, code: u8, said: String },
    /// The disturbed run gave up.
    #[error("the disturbed run did not get to its end: {how}, {after}")]
    Disturbed { how: String, after: String, said: String },
    /// The disturbed run neither steps nor ends.
    #[error("the disturbed run has stood still at step {step} for {seconds} s, {after}")]
    Standstill { step: u64, seconds: u64, after: String },
    #[error("stopped by a signal")]
    Stopped(StopSignal),
}

impl ChaosError {
    /// For `map_err`: what was to be done with which file.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// For `map_err`: what was to be done.
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
