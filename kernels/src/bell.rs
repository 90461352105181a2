//! What the host writes beside its words when it publishes a single envelope, so that the router fetches news and envelope with one
//! read: twin of `device/bell.cuh`, which says why a check makes that safe.

const SALT: u64 = 0x5249_4e47_464c_4545;
const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xd6e8_feb8_6659_fd93;

#[inline]
const fn part(word: u64, index: u64) -> u64 {
    let mixed = word.wrapping_add(index + 1).wrapping_mul(FIRST);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(SECOND.wrapping_mul(2 * index + 1));
    mixed ^ mixed >> 29
}

/// The check of an envelope's words at this position of the host's ring, for this worker and slot (`dest`).
#[inline]
#[must_use]
pub fn check(position: u32, dest: u32, envelope: &[u64; 8]) -> u64 {
    let first = part(position as u64 | (dest as u64) << 32, 0);
    let words = envelope.iter().zip(1..).map(|(word, index)| part(*word, index));
    words.fold(SALT.wrapping_add(first), u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With parts that are linear in their words these had one check.
    #[test]
    fn words_of_two_ages_do_not_add_up_because_they_are_small() {
        let envelope = |to_key, from_key, first, second| [to_key, from_key, 3, 4, first, second, 7, 8];
        assert_ne!(check(9, 10, &envelope(20, 10, 0, 0)), check(9, 10, &envelope(15, 13, 0, 0)));
        assert_ne!(check(9, 10, &envelope(1, 2, 1000, 500)), check(9, 10, &envelope(1, 2, 1013, 489)));
        // Two neighbouring words of all small values: none of them share a check.
        let mut seen: Vec<u64> = (0..200_u64 * 200).map(|n| check(9, 10, &envelope(n % 200, n / 200, 5, 6))).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 200 * 200);
    }

    #[test]
    fn no_word_can_be_of_another_age() {
        let envelope = [1, 2, 3, 4, 5, 6, 7, 8];
        let whole = check(9, 10, &envelope);
        assert_ne!(check(0, 0, &[0; 8]), 0, "zeroed memory does not add up");
        assert_ne!(check(8, 10, &envelope), whole);
        assert_ne!(check(9, 11, &envelope), whole);
        for at in 0..8 {
            let mut torn = envelope;
            torn[at] = 0;
            assert_ne!(check(9, 10, &torn), whole, "word {at}");
        }
    }
}
