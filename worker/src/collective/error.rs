//! What can go wrong between members, told apart so that the session knows whether to wait for a new
//! generation (a lost peer), to stop (cancelled) or to give up (everything else).

use std::io;

use super::frame::Header;

/// Why a collective operation did not finish. After any of these but [`Self::Length`],
/// [`Self::InvalidGroup`] and [`Self::PayloadTooLarge`] with the own rank, the mesh is closed.
#[derive(Debug, thiserror::Error)]
pub enum CollectiveError {
    /// [`super::Cancel::cancel`] was called.
    #[error("the exchange was cancelled")]
    Cancelled,
    /// The connection to a member ended. When a member dies the others close their connections too, so the
    /// rank is the first one noticed here, not always the culprit.
    #[error("lost the connection to rank {rank}")]
    PeerLost { rank: usize, source: io::Error },
    /// A member is in another operation than this one: a bug, or replicas that are no longer in step.
    #[error("rank {peer} is out of step: expected {expected}, found {found}")]
    Protocol { peer: usize, expected: Header, found: Header },
    /// A payload beyond what the protocol allows, announced by a member or offered by the caller.
    #[error("a payload of {bytes} bytes from rank {rank} is larger than the {limit_bytes} allowed")]
    PayloadTooLarge { rank: usize, bytes: u64, limit_bytes: u64 },
    /// What arrived is not what was sent.
    #[error("what rank {rank} sent is damaged: {reason}")]
    Damaged { rank: usize, reason: &'static str },
    /// The members did not all connect in time.
    #[error("no connection with ranks {missing:?} within {timeout_ms} ms")]
    ConnectTimeout { missing: Vec<usize>, timeout_ms: u64, last: Option<io::Error> },
    /// The caller's buffers do not fit the group.
    #[error("{what}: expected {expected}, found {found}")]
    Length { what: &'static str, expected: usize, found: usize },
    /// The shard blocks or the membership contradict themselves.
    #[error("invalid group: {0}")]
    InvalidGroup(&'static str),
    /// An earlier operation failed, so the connections are closed.
    #[error("the connections were closed by an earlier failure")]
    Closed,
    /// The devices' own way failed.
    #[error("{what} failed on the device: {reason}")]
    Device { what: &'static str, reason: String },
    /// This machine refused a thread or a socket option.
    #[error("the operating system refused {what}")]
    System { what: &'static str, source: io::Error },
}
