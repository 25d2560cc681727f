//! Why a worker cannot go on, and whose fault that is.

use std::any::Any;
use std::error::Error;

use crate::collective::CollectiveError;
use crate::collective::tree::TreeError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::model::ModelError;

use super::message::SessionGone;
use super::optimizer::OptimizerError;
use super::prefix::Lost;
use super::pulse::Broken;
use super::trailer::MalformedTrailer;

/// Who has to act on a failure; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The run's own.
    Run,
    /// Data or weights are missing or damaged.
    Data,
    /// A peer, the coordinator or the network.
    Cluster,
    /// This process's own: another one may do better.
    Worker,
}

/// Why training ended without the coordinator's word.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    #[error("{what} became {value} in step {step} (learning rate {learning_rate}); a lower one may help")]
    NotFinite { what: &'static str, value: &'static str, step: u64, learning_rate: f64 },
    #[error("every parameter is frozen from epoch {epoch} on: there is nothing to train")]
    NothingTrained { epoch: u32 },
    #[error("lost {worker}: {reason}")]
    PeerLost { worker: String, reason: String },
    #[error("could not connect with {}{reason}", workers.join(", "))]
    PeersMissing { workers: Vec<String>, reason: String },
    #[error("{worker} {reason}")]
    PeerAstray { worker: String, reason: String },
    #[error("this member was said to stand at {expected}, but it stands {found}")]
    Elsewhere { expected: String, found: String },
    #[error("{0}")]
    Collective(CollectiveError),
    #[error(transparent)]
    Trailer(#[from] MalformedTrailer),
    #[error("the shards of a step do not add up: {0}")]
    Tree(#[from] TreeError),
    #[error("{}", with_cause(.0))]
    Data(#[from] DataError),
    #[error("{what}: {source}")]
    Weights { what: &'static str, source: ModelError },
    #[error("the model: {0}")]
    Model(#[source] ModelError),
    #[error("the optimizer: {0}")]
    Optimizer(#[from] OptimizerError),
    #[error("the checkpoint of step {step}: {reason}")]
    Checkpoint { step: u64, reason: String },
    #[error("the plan has {planned} steps per epoch, but the data make {found}")]
    StepsPerEpoch { planned: u64, found: u64 },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("no membership could be made of what the coordinator said: {0}")]
    Group(#[source] CollectiveError),
    #[error(transparent)]
    Activations(#[from] Lost),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("libtorch refused: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
    /// The generation was called off.
    #[error("cancelled")]
    Cancelled,
    /// All members pause, and this one stands at a boundary.
    #[error("paused")]
    Paused,
    #[error(transparent)]
    SessionGone(#[from] SessionGone),
}

/// What a [`TrainerError`] ends.
#[derive(Debug)]
pub(super) enum Ends {
    /// The generation, as it was asked to.
    Quietly,
    /// The generation: the replica stands where it stood, and the next one may do better.
    Generation(Broken),
    /// The trainer: there is nobody to report to.
    Session,
    /// The trainer, for good.
    Trainer,
}

impl TrainerError {
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            // Most likely the device's memory.
            Self::Data(DataError::Tensor(_)) => FailureKind::Worker,
            // What the plan asks for.
            Self::Data(
                DataError::Augmentation { .. }
                | DataError::Normalisation
                | DataError::Size
                | DataError::Sample { .. },
            ) => FailureKind::Run,
            Self::Data(_)
            | Self::Weights { .. }
            | Self::Checkpoint { .. }
            | Self::StepsPerEpoch { .. }
            | Self::Read { .. } => FailureKind::Data,
            Self::PeerLost { .. }
            | Self::PeersMissing { .. }
            | Self::PeerAstray { .. }
            | Self::Elsewhere { .. }
            | Self::Collective(_)
            | Self::Trailer(_) => FailureKind::Cluster,
            Self::Activations(_) | Self::Device(_) | Self::Torch(_) | Self::Model(ModelError::Torch(_)) => {
                FailureKind::Worker
            }
            _ => FailureKind::Run,
        }
    }

    pub(super) fn ends(&self) -> Ends {
        let blames = match self {
            Self::Cancelled | Self::Paused => return Ends::Quietly,
            Self::SessionGone(_) => return Ends::Session,
            Self::PeerLost { worker, .. } | Self::PeerAstray { worker, .. } => vec![worker.clone()],
            Self::PeersMissing { workers, .. } => workers.clone(),
            // The next generation computes them again.
            Self::Collective(_) | Self::Trailer(_) | Self::Elsewhere { .. } | Self::Activations(_) => {
                Vec::new()
            }
            _ => return Ends::Trainer,
        };
        Ends::Generation(Broken { blames, reason: self.to_string() })
    }
}

/// An error and what caused it, in one line.
fn with_cause(error: &DataError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", first_line(cause)),
        None => error.to_string(),
    }
}

/// libtorch's messages carry a stack trace below their first line.
fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What a panic says, in one line.
pub(crate) fn panic_line(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    first_line(&text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("an unknown panic"))
}

/// Tells a collective's error with names instead of ranks; `names` by rank.
pub(super) fn named(error: CollectiveError, names: &[String]) -> TrainerError {
    let name = |rank: usize| names.get(rank).cloned().unwrap_or_else(|| format!("rank {rank}"));
    match error {
        CollectiveError::Cancelled => TrainerError::Cancelled,
        CollectiveError::PeerLost { rank, source } => {
            TrainerError::PeerLost { worker: name(rank), reason: source.to_string() }
        }
        CollectiveError::Protocol { peer: rank, .. }
        | CollectiveError::PayloadTooLarge { rank, .. }
        | CollectiveError::Damaged { rank, .. } => {
            TrainerError::PeerAstray { worker: name(rank), reason: format!("is astray: {error}") }
        }
        CollectiveError::ConnectTimeout { missing, timeout_ms, last } => TrainerError::PeersMissing {
            workers: missing.into_iter().map(name).collect(),
            reason: last.map_or_else(
                || format!(" within {} s", timeout_ms / 1000),
                |last| format!(" within {} s: {last}", timeout_ms / 1000),
            ),
        },
        error => TrainerError::Collective(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        let panic: Box<dyn Any + Send> = Box::new("shapes differ\nException raised from …".to_owned());
        assert_eq!(panic_line(&*panic), "shapes differ");
        let panic: Box<dyn Any + Send> = Box::new(7);
        assert_eq!(panic_line(&*panic), "an unknown panic");
    }

    #[test]
    fn data_are_blamed_for_what_is_wrong_with_them_alone() {
        let trace = tch::TchError::Torch("not enough memory\nException raised from …".to_owned());
        let error = TrainerError::from(DataError::from(trace));
        assert_eq!(
            error.to_string(),
            "libtorch refused the data set's tensors: Internal torch error: not enough memory"
        );
        assert_eq!(error.kind(), FailureKind::Worker);
        let flip = DataError::Augmentation { name: "flip", value: 2.0, expected: "from 0 to 1" };
        assert_eq!(TrainerError::from(flip).kind(), FailureKind::Run);
        let missing = DataError::Missing { tensor: "train.images".to_owned() };
        assert_eq!(TrainerError::from(missing).kind(), FailureKind::Data);
    }

    #[test]
    fn a_lost_peer_is_told_by_name() {
        let names = ["worker-0".to_owned(), "worker-1".to_owned()];
        let source = io::Error::other("connection reset");
        let error = named(CollectiveError::PeerLost { rank: 1, source }, &names);
        assert_eq!(error.to_string(), "lost worker-1: connection reset");
        assert_eq!(error.kind(), FailureKind::Cluster);
        let error = CollectiveError::ConnectTimeout { missing: vec![0, 1], timeout_ms: 30_000, last: None };
        let error = named(error, &names);
        assert_eq!(error.to_string(), "could not connect with worker-0, worker-1 within 30 s");
        let Ends::Generation(Broken { blames, .. }) = error.ends() else { panic!("{:?}", error.ends()) };
        assert_eq!(blames, names);
    }
}
