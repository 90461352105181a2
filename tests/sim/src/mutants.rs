//! What the simulator must find: mutants of the machines, each of which breaks a promise that the code relies on.
//!
//! A simulator that finds nothing says something only if it would have found something. With a mutant the ground under the shipped
//! code is wrong, and the code cannot keep the contract; a run that does not notice would not notice a bug of the same kind.

/// A mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Disks say that they have synced, and have not: as code would that skips a sync.
    ForgetfulDisk,
    /// A machine that loses power comes back with its disk as it once was: as code would that forgets votes and records.
    OldDisk,
    /// The monotonic clock stands still while a process is paused: as a lease would that is a countdown instead of an instant.
    StoppedClock,
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::ForgetfulDisk, Self::OldDisk, Self::StoppedClock];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ForgetfulDisk => "forgetful-disk",
            Self::OldDisk => "old-disk",
            Self::StoppedClock => "stopped-clock",
        }
    }

    /// The scenario that is to find it.
    #[must_use]
    pub const fn scenario(self) -> &'static str {
        match self {
            Self::ForgetfulDisk | Self::OldDisk => "crashes",
            Self::StoppedClock => "leases",
        }
    }

    /// The mutant of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}
