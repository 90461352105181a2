//! The keys of the application's actors.

use ringfleet_abi::hash::fnv1a64;

/// The key of the aircraft actor that takes the flights without tail number: that of the name `unknown`.
pub const UNKNOWN_AIRCRAFT: u64 = aircraft("unknown");

/// The key of an aircraft: FNV-1a, 64 bits, of its tail number.
#[must_use]
pub const fn aircraft(tail: &str) -> u64 {
    fnv1a64(tail.as_bytes())
}

/// The code of a carrier or an airport as a number, and its key: one to four capital letters or digits, the first in the
/// highest byte that is not 0. `UA` is 0x5541.
#[must_use]
pub fn pack(code: &str) -> Option<u32> {
    let bytes = code.as_bytes();
    let known = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if bytes.is_empty() || bytes.len() > 4 || !bytes.iter().all(known) {
        return None;
    }
    Some(bytes.iter().fold(0, |packed, b| packed << 8 | u32::from(*b)))
}

/// The inverse of [`pack`].
#[must_use]
pub fn unpack(packed: u32) -> String {
    packed.to_be_bytes().iter().filter(|b| **b != 0).map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_packing_and_others_are_refused() {
        for code in ["UA", "9E", "JFK", "A", "ABCD"] {
            assert_eq!(unpack(pack(code).expect("a code")), code);
        }
        for other in ["", "ua", "ABCDE", "A B", "É"] {
            assert_eq!(pack(other), None, "{other}");
        }
    }
}
