//! What the host writes beside its words when it publishes a single envelope, so that the router fetches news and envelope with one
//! read: twin of `device/bell.cuh`, which says why a check makes that safe.

const SALT: u64 = 0x5249_4e47_464c_4545;
const WEIGHT: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
const fn part(word: u64, index: u64) -> u64 {
    (word ^ word >> 32).wrapping_mul(WEIGHT.wrapping_mul(2 * index + 1))
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

    #[test]
    fn no_word_can_be_of_another_age() {
        let envelope = [1, 2, 3, 4, 5, 6, 7, 8];
        let whole = check(9, 10, &envelope);
        assert_ne!(whole, 0, "zeroed memory does not add up");
        assert_ne!(check(8, 10, &envelope), whole);
        assert_ne!(check(9, 11, &envelope), whole);
        for at in 0..8 {
            let mut torn = envelope;
            torn[at] = 0;
            assert_ne!(check(9, 10, &torn), whole, "word {at}");
        }
    }
}
