//! What the simulator must find: mutants of the machines and of the code, each of which breaks a promise that the rest relies on.
//!
//! A simulator that finds nothing says something only if it would have found something. With a mutant the ground under the shipped
//! code is wrong, or a few lines of it are, and the contract cannot be kept; a run that does not notice would not notice a bug of the
//! same kind. Mutants of the code are in builds with the feature `mutants` only (`ringfleet_abi::mutants`).

use ringfleet_abi::mutants::Mutant as Code;

/// A mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Disks say that they have synced, and have not: as code would that skips a sync.
    ForgetfulDisk,
    /// A machine that loses power comes back with its disk as it once was: as code would that forgets votes and records.
    OldDisk,
    /// The monotonic clock stands still while a process is paused: as a lease would that is a countdown instead of an instant.
    StoppedClock,
    /// A bug in the shipped code.
    Code(Code),
}

/// A row of the list.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The mutant.
    pub mutant: Mutant,
    /// Its name on the command line.
    pub name: &'static str,
    /// The clause of the contract that it breaks first.
    pub clause: &'static str,
    /// The scenario that is to find it.
    pub scenario: &'static str,
    /// Virtual seconds of faults in that scenario.
    pub seconds: u64,
    /// Seeds within which it must be found.
    pub seeds: u64,
}

const fn machine(
    mutant: Mutant,
    name: &'static str,
    clause: &'static str,
    scenario: &'static str,
    seeds: u64,
) -> Entry {
    Entry { mutant, name, clause, scenario, seconds: 30, seeds }
}

const fn code(
    mutant: Code,
    name: &'static str,
    clause: &'static str,
    scenario: &'static str,
    seconds: u64,
    seeds: u64,
) -> Entry {
    Entry { mutant: Mutant::Code(mutant), name, clause, scenario, seconds, seeds }
}

/// All of them.
pub const MUTANTS: &[Entry] = &[
    machine(Mutant::ForgetfulDisk, "forgetful-disk", "C1", "crashes", 5),
    machine(Mutant::OldDisk, "old-disk", "C1", "crashes", 5),
    machine(Mutant::StoppedClock, "stopped-clock", "C2", "leases", 10),
    code(Code::SkipSync, "skip-sync", "C1", "crashes", 30, 5),
    code(Code::VoteInMemory, "vote-in-memory", "C1", "elections", 60, 60),
    code(Code::AppendEarly, "append-early", "C1", "blackouts", 60, 40),
    code(Code::QuorumMinusOne, "quorum-minus-one", "C1", "coordinators", 30, 10),
    code(Code::ReadWithoutIndex, "read-without-index", "C1", "coordinators", 30, 10),
    code(Code::RenewUnconfirmed, "renew-unconfirmed", "C2", "splits", 60, 30),
    code(Code::LeaseMarginZero, "lease-margin-zero", "C2", "leases", 30, 10),
    code(Code::EpochNotRaised, "epoch-not-raised", "C2", "leases", 30, 5),
    code(Code::IncarnationReused, "incarnation-reused", "C2", "leases", 30, 5),
    code(Code::SessionReused, "session-reused", "C1", "coordinators", 30, 5),
    code(Code::OperationForgotten, "operation-forgotten", "C4", "retries", 60, 20),
    code(Code::ReleaseOfAnotherEpoch, "release-of-another-epoch", "C2", "moves", 15, 20),
    code(Code::LeaseFromAnswer, "lease-from-answer", "C2", "zombies", 60, 40),
    code(Code::NoFence, "no-fence", "C2", "zombies", 30, 10),
    code(Code::NoFenceInDevice, "no-fence-in-device", "C2", "zombies", 60, 40),
    code(Code::FlushedEarly, "flushed-early", "C7", "moves", 15, 20),
    code(Code::SpillOvertaken, "spill-overtaken", "C3", "bursts", 15, 10),
    code(Code::BatchReordered, "batch-reordered", "C3", "peace", 5, 2),
    code(Code::HlcNotRaised, "hlc-not-raised", "C6", "peace", 5, 2),
    code(Code::HlcForgotten, "hlc-forgotten", "C6", "peace", 5, 2),
    code(Code::HandoverEarly, "handover-early", "C6", "moves", 15, 20),
    code(Code::ReleaseEarly, "release-early", "C3", "restless", 30, 10),
    code(Code::DuplicateFilterOff, "duplicate-filter-off", "C3", "links", 60, 10),
    code(Code::GapAccepted, "gap-accepted", "C3", "bursts", 15, 10),
    code(Code::AckBeforeHandled, "ack-before-handled", "C3", "bursts", 15, 10),
    code(Code::LossUntold, "loss-untold", "C3", "leases", 30, 10),
    code(Code::ExecutedSentAgain, "executed-sent-again", "C3", "leases", 30, 20),
    code(Code::ResentOutOfOrder, "resent-out-of-order", "C3", "links", 60, 10),
    code(Code::CreditLeak, "credit-leak", "C9", "bursts", 15, 5),
    code(Code::BusyForEver, "busy-for-ever", "C10", "bursts", 15, 5),
    code(Code::TakenBackUncounted, "taken-back-uncounted", "C7", "bursts", 15, 10),
    code(Code::AskLate, "ask-late", "C4", "leases", 30, 5),
];

impl Mutant {
    /// Its row.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        MUTANTS.iter().find(|entry| entry.mutant == self).unwrap_or(&MUTANTS[0])
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The mutant of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        MUTANTS.iter().find(|entry| entry.name == name).map(|entry| entry.mutant)
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_built(self) -> bool {
        cfg!(feature = "mutants") || !matches!(self, Self::Code(_))
    }

    /// From now on the code on this thread is that of this mutant, or as it ships.
    pub fn put_on(mutant: Option<Self>) {
        #[cfg(feature = "mutants")]
        ringfleet_abi::mutants::set(match mutant {
            Some(Self::Code(code)) => Some(code),
            _ => None,
        });
        #[cfg(not(feature = "mutants"))]
        assert!(mutant.is_none_or(Self::is_built), "a mutant of the code in a build without any");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::by_name;

    #[test]
    fn every_mutant_has_one_row_with_a_scenario_that_exists() {
        for code in Code::ALL {
            assert_eq!(MUTANTS.iter().filter(|entry| entry.mutant == Mutant::Code(*code)).count(), 1, "{code:?}");
        }
        for entry in MUTANTS {
            assert!(by_name(entry.scenario).is_some(), "{}", entry.name);
            assert_eq!(Mutant::by_name(entry.name), Some(entry.mutant));
            assert_eq!(entry.mutant.name(), entry.name);
        }
    }
}
