//! Bugs planted on purpose, one at a time: the checks are worth something only if they find these.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The journal says that entries are durable before they are.
    ForgetfulJournal,
    /// The store says that a checkpoint is stored when its last byte has yet to come.
    HastyStore,
    /// A checkpoint is deleted before that is recorded.
    HastyDeletion,
    /// Rank 0 saves what it had before the verdict's restore.
    SaveBeforeRestore,
    /// A member steps on when only one part is missing.
    StepWithoutTheLast,
    /// A member adds its own gradients first, whatever their place.
    SumFromOneself,
}
