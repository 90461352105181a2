//! C2 one effective incarnation: a shard is executed by one incarnation at a time, and after its successor never by a predecessor.
//!
//! The check knows every residence that the log ever gave (shard, epoch, incarnation), and sees every handling with the incarnation whose
//! device did it. An incarnation may execute a shard only in an epoch that the log gave to it, and these epochs never go back: once
//! anybody has executed epoch e, nobody executes a lower one, however long he was paused or cut off, and no earlier incarnation of the
//! same node, whose devices may still run in the same process. And the log gives an incarnation once.

use std::collections::BTreeMap;

use super::Violation;
/// A shard: set and index.
pub type Shard = (u16, u16);

/// What was seen.
#[derive(Debug, Default)]
pub struct Residence {
    /// Epochs of each shard, and whose they are.
    given: BTreeMap<Shard, BTreeMap<u64, u64>>,
    /// The start of a node that each incarnation is.
    starts: BTreeMap<u64, (String, u128)>,
    /// The highest epoch that was certainly executed.
    executed: BTreeMap<Shard, u64>,
    handlings: u64,
}

impl Residence {
    /// The log has admitted a start of a node, told by its name and random number, as an incarnation.
    ///
    /// # Errors
    /// What broke.
    pub fn admit(&mut self, incarnation: u64, name: &str, boot: u128) -> Result<(), Violation> {
        let start = self.starts.entry(incarnation).or_insert_with(|| (name.to_owned(), boot));
        if (start.0.as_str(), start.1) != (name, boot) {
            return Err(format!("C2: incarnation {incarnation} was given to {} and again to {name}", start.0));
        }
        Ok(())
    }

    /// The log has given an epoch of a shard to an incarnation.
    ///
    /// # Errors
    /// What broke.
    pub fn give(&mut self, shard: Shard, epoch: u64, incarnation: u64) -> Result<(), Violation> {
        let epochs = self.given.entry(shard).or_default();
        match epochs.insert(epoch, incarnation) {
            Some(other) if other != incarnation => {
                Err(format!("C2: epoch {epoch} of shard {shard:?} was given to incarnations {other} and {incarnation}"))
            }
            _ => Ok(()),
        }
    }

    /// A handler of a shard has run on a device of an incarnation.
    ///
    /// # Errors
    /// What broke.
    pub fn execute(&mut self, shard: Shard, incarnation: u64) -> Result<(), Violation> {
        self.handlings += 1;
        let executed = self.executed.entry(shard).or_default();
        let Some(epochs) = self.given.get(&shard) else {
            return Err(format!(
                "C2: incarnation {incarnation} executes shard {shard:?}, which was never given to anybody"
            ));
        };
        let own = epochs.range(*executed..).find(|(_, owner)| **owner == incarnation);
        match own {
            Some((epoch, _)) => {
                *executed = *epoch;
                Ok(())
            }
            None => Err(format!(
                "C2: incarnation {incarnation} executes shard {shard:?} after epoch {executed} was executed; the epochs were {epochs:?}"
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

    const A: u64 = 65;
    const B: u64 = 66;
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
        assert!(zombie.execute(SHARD, A).unwrap_err().starts_with("C2: incarnation 65 executes"));
        let mut stranger = moved();
        assert!(stranger.execute(SHARD, 70).is_err());
        assert!(stranger.execute((9, 9), A).unwrap_err().contains("never given"));
        assert!(moved().give(SHARD, 2, A).unwrap_err().contains("given to incarnations 66 and 65"));
        let mut reused = Residence::default();
        reused.admit(A, "n1", 1).unwrap();
        reused.admit(A, "n1", 1).unwrap();
        assert!(reused.admit(A, "n1", 2).unwrap_err().contains("again to n1"));
    }
}
