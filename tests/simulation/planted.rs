//! Bugs planted on purpose, one at a time: the checks are worth something only if they find these.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The journal says that entries are durable before they are.
    ForgetfulJournal,
    /// What is to be told is told before what it rests on is recorded.
    ReplyBeforeRecord,
    /// A coordinator that was taken over from goes on writing to the journal.
    UnlockedHome,
    /// The store says that a checkpoint is stored when its last byte has yet to come.
    HastyStore,
    /// A checkpoint is deleted before that is recorded.
    HastyDeletion,
    /// A verdict that is lost on the way is not given again.
    VerdictNotRepeated,
    /// A worker follows whatever coordinator it is connected with, and does not say which one it knows.
    NoFencing,
    /// An epoch's report that is lost on the way is not sent again.
    ReportNotRepeated,
    /// A worker that wants to leave says that it has no replica.
    LeavingStateForgotten,
    /// Rank 0 saves what it had before the verdict's restore.
    SaveBeforeRestore,
    /// A member steps on when only one part is missing.
    StepWithoutTheLast,
    /// A member adds its own gradients first, whatever their place.
    SumFromOneself,
    /// A member updates its replica when the gradients are there, though the step's exchanges are not over.
    UpdateBeforeTrailer,
    /// Who takes shards over in a later generation starts one too late.
    TakeOverOffByOne,
    /// A newcomer takes the oldest checkpoint instead of its peer's state.
    NewcomerFromCheckpoint,
    /// A newcomer gets the replica, but not the best model's checkpoint that has yet to be stored.
    KeptNotTransferred,
    /// A member that is told to pause now goes on from the step that it did not finish.
    CancelledStepCounts,
}

impl Planted {
    pub(crate) const ALL: [Self; 17] = [
        Self::ForgetfulJournal,
        Self::ReplyBeforeRecord,
        Self::UnlockedHome,
        Self::HastyStore,
        Self::HastyDeletion,
        Self::VerdictNotRepeated,
        Self::NoFencing,
        Self::ReportNotRepeated,
        Self::LeavingStateForgotten,
        Self::SaveBeforeRestore,
        Self::StepWithoutTheLast,
        Self::SumFromOneself,
        Self::UpdateBeforeTrailer,
        Self::TakeOverOffByOne,
        Self::NewcomerFromCheckpoint,
        Self::KeptNotTransferred,
        Self::CancelledStepCounts,
    ];
}
