//! Handing out parts of a range: the arena's units, and indices of shards.

use std::collections::BTreeMap;

/// What is free of `0..size`. Parts that touch are one part.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn new(size: u64) -> Self {
        Self { free: if size == 0 { BTreeMap::new() } else { BTreeMap::from([(0, size)]) } }
    }

    /// The first free part that is long enough.
    pub(crate) fn take(&mut self, length: u64) -> Option<u64> {
        if length == 0 {
            return None;
        }
        let (&at, &free) = self.free.iter().find(|(_, free)| **free >= length)?;
        self.free.remove(&at);
        if free > length {
            self.free.insert(at + length, free - length);
        }
        Some(at)
    }

    /// Gives a part back.
    pub(crate) fn give_back(&mut self, mut at: u64, mut length: u64) {
        if let Some((&before, &free)) = self.free.range(..at).next_back() {
            assert!(before + free <= at, "C9: a part of a range was given back twice");
            if before + free == at {
                self.free.remove(&before);
                (at, length) = (before, length + free);
            }
        }
        if let Some((&after, &free)) = self.free.range(at..).next() {
            assert!(at + length <= after, "C9: a part of a range was given back twice");
            if at + length == after {
                self.free.remove(&after);
                length += free;
            }
        }
        self.free.insert(at, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_touch_become_one_again() {
        let mut ranges = Ranges::new(10);
        let parts: Vec<_> = [3, 3, 4, 1].map(|length| ranges.take(length)).into();
        assert_eq!(parts, [Some(0), Some(3), Some(6), None]);
        ranges.give_back(0, 3);
        ranges.give_back(6, 4);
        assert_eq!(ranges.take(5), None);
        ranges.give_back(3, 3);
        assert_eq!(ranges.take(10), Some(0));
    }

    #[test]
    #[should_panic(expected = "C9")]
    fn a_part_is_not_given_back_twice() {
        let mut ranges = Ranges::new(10);
        ranges.take(4);
        ranges.give_back(0, 4);
        ranges.give_back(0, 4);
    }
}
