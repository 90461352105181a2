//! C2 one effective incarnation: a shard is executed by one node at a time, and after its successor never by a predecessor.
//!
//! The check knows every residence that the log ever gave (shard, epoch, incarnation), and sees every handling with the host it
//! happened on. A host may execute a shard only in an epoch that the log gave to an incarnation of that host, and these epochs never
//! go back: once anybody has executed epoch e, nobody executes a lower one, however long he was paused or cut off.

use std::collections::BTreeMap;

use super::Violation;
use crate::exec::HostId;

/// A shard: set and index.
pub type Shard = (u16, u16);

/// What was seen.
#[derive(Debug, Default)]
pub struct Residence {
    /// Epochs of each shard, and whose they are.
    given: BTreeMap<Shard, BTreeMap<u64, HostId>>,
    /// The highest epoch that was certainly executed.
    executed: BTreeMap<Shard, u64>,
    handlings: u64,
}

impl Residence {
    /// The log has given an epoch of a shard to a host.
    ///
    /// # Errors
    /// What broke.
    pub fn give(&mut self, shard: Shard, epoch: u64, host: HostId) -> Result<(), Violation> {
        let epochs = self.given.entry(shard).or_default();
        match epochs.insert(epoch, host) {
            Some(other) if other != host => {
                Err(format!("C2: epoch {epoch} of shard {shard:?} was given to hosts {} and {}", other.0, host.0))
            }
            _ => Ok(()),
        }
    }

    /// A handler of a shard has run on a host.
    ///
    /// # Errors
    /// What broke.
    pub fn execute(&mut self, shard: Shard, host: HostId) -> Result<(), Violation> {
        self.handlings += 1;
        let executed = self.executed.entry(shard).or_default();
        let Some(epochs) = self.given.get(&shard) else {
            return Err(format!("C2: host {} executes shard {shard:?}, which was never given to anybody", host.0));
        };
        let own = epochs.range(*executed..).find(|(_, owner)| **owner == host);
        match own {
            Some((epoch, _)) => {
                *executed = *epoch;
                Ok(())
            }
            None => Err(format!(
                "C2: host {} executes shard {shard:?} after epoch {executed} was executed; the epochs were {epochs:?}",
                host.0
            )),
        }
    }

    /// Shards whose residences are known.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.given.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: HostId = HostId(65);
    const B: HostId = HostId(66);
    const SHARD: Shard = (1, 3);

    fn moved() -> Residence {
        let mut residence = Residence::default();
        residence.give(SHARD, 1, A).unwrap();
        residence.execute(SHARD, A).unwrap();
        residence.give(SHARD, 2, B).unwrap();
        residence
    }

    #[test]
    fn a_shard_that_moves_and_comes_back_passes() {
        let mut residence = moved();
        // The predecessor may go on until the successor begins.
        residence.execute(SHARD, A).unwrap();
        residence.execute(SHARD, B).unwrap();
        residence.give(SHARD, 3, A).unwrap();
        residence.execute(SHARD, A).unwrap();
    }

    #[test]
    fn damaged_histories_are_flagged() {
        let mut zombie = moved();
        zombie.execute(SHARD, B).unwrap();
        assert!(zombie.execute(SHARD, A).unwrap_err().starts_with("C2: host 65 executes"));
        let mut stranger = moved();
        assert!(stranger.execute(SHARD, HostId(70)).is_err());
        assert!(stranger.execute((9, 9), A).unwrap_err().contains("never given"));
        assert!(moved().give(SHARD, 2, A).unwrap_err().contains("given to hosts 66 and 65"));
    }
}
