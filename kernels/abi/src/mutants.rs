//! Deliberate bugs, to show that the simulator finds them. No build has any unless it asks for the feature `mutants`.
//!
//! A mutant is a few lines at the place whose promise it breaks, behind `if is_on(Mutant::...)`. Without the feature [`is_on`] is the
//! constant `false`, and the compiler drops those lines; a test of the repository shows that no crate turns the feature on by default.
//! With it, the one simulation that runs on a thread says which mutant its cluster has (`set`).

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// The log says that it is durable, and the file was not synced.
    SkipSync,
    /// A vote is kept in memory and never written.
    VoteInMemory,
    /// An append counts before it is durable.
    AppendEarly,
    /// A vote that did not arrive counts as granted: a quorum minus one elects.
    QuorumMinusOne,
    /// Whoever believes that it leads answers without asking the others.
    ReadWithoutIndex,
    /// A renewal is granted without leadership having been confirmed since it came.
    RenewUnconfirmed,
    /// A node is declared lost as soon as half of its lease is over.
    LeaseMarginZero,
    /// A shard's next residence has the epoch of the last one.
    EpochNotRaised,
    /// A node that comes back gets the incarnation that it had.
    IncarnationReused,
    /// The number of a session is given again.
    SessionReused,
    /// A command that was executed is executed again when its client asks again.
    OperationForgotten,
    /// A release counts whatever residence it is of.
    ReleaseOfAnotherEpoch,
    /// A lease is counted from the answer to its renewal, not from the question.
    LeaseFromAnswer,
    /// Neither agent nor workers look at the end of their lease.
    NoFence,
    /// Workers do not look at the end of their lease.
    NoFenceInDevice,
    /// A worker says that its routes are flushed as soon as it has adopted them.
    FlushedEarly,
    /// A message overtakes the spill when the ring has room again.
    SpillOvertaken,
    /// Two messages of one batch are handled in the wrong order.
    BatchReordered,
    /// A handling's stamp does not follow the stamp of its message.
    HlcNotRaised,
    /// An actor's stamp does not follow its last one.
    HlcForgotten,
    /// The release of a shard is reported before every clock is past its stamps.
    HandoverEarly,
    /// The release of a shard is reported while messages of it are under way.
    ReleaseEarly,
    /// Whatever comes twice is taken twice.
    DuplicateFilterOff,
    /// A message is taken although one before it is missing.
    GapAccepted,
    /// A message is acknowledged as handled when it is accepted.
    AckBeforeHandled,
    /// What was lost with a channel is not reported.
    LossUntold,
    /// A channel that breaks sends again what may have been executed.
    ExecutedSentAgain,
    /// After a link came up again the kept messages of a channel are sent in another order.
    ResentOutOfOrder,
    /// What a receiver has accepted does not free the window to it.
    CreditLeak,
    /// After `Busy` a channel never sends again.
    BusyForEver,
    /// What goes back to its sender is not counted.
    TakenBackUncounted,
    /// An ask ends later than its deadline.
    AskLate,
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::SkipSync,
        Self::VoteInMemory,
        Self::AppendEarly,
        Self::QuorumMinusOne,
        Self::ReadWithoutIndex,
        Self::RenewUnconfirmed,
        Self::LeaseMarginZero,
        Self::EpochNotRaised,
        Self::IncarnationReused,
        Self::SessionReused,
        Self::OperationForgotten,
        Self::ReleaseOfAnotherEpoch,
        Self::LeaseFromAnswer,
        Self::NoFence,
        Self::NoFenceInDevice,
        Self::FlushedEarly,
        Self::SpillOvertaken,
        Self::BatchReordered,
        Self::HlcNotRaised,
        Self::HlcForgotten,
        Self::HandoverEarly,
        Self::ReleaseEarly,
        Self::DuplicateFilterOff,
        Self::GapAccepted,
        Self::AckBeforeHandled,
        Self::LossUntold,
        Self::ExecutedSentAgain,
        Self::ResentOutOfOrder,
        Self::CreditLeak,
        Self::BusyForEver,
        Self::TakenBackUncounted,
        Self::AskLate,
    ];
}

// The switch is a thread's: runs of the simulator go on beside each other. What ships has neither.
#[cfg(feature = "mutants")]
extern crate std;

/// Whether this mutant is on.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(not(feature = "mutants"))]
const _: () = assert!(!is_on(Mutant::SkipSync), "a build without the feature has no mutant");

#[cfg(feature = "mutants")]
std::thread_local! {
    static ON: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}

/// Whether this mutant is on, on this thread.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// From now on what runs on this thread has this mutant, or none.
#[cfg(feature = "mutants")]
pub fn set(mutant: Option<Mutant>) {
    ON.set(mutant);
}
