//! Every decoder of bytes from outside: an error, never a panic, with bounded memory, and what is decoded can be written again.
//!
//! Each test is a fuzz target. As `cargo test` it feeds what is in its corpus (`__fuzz__/<test>/corpus`, and `crashes`, what was once
//! found), then random input for [`FUZZ_MS`], or as long as `BOLERO_RANDOM_TEST_TIME_MS` says. A failure prints the seed that
//! reproduces it (`BOLERO_RANDOM_SEED`) and the smallest input that it could find. docs/testing.md says how to run one for longer.
//!
//! Random bytes do not get past a magic or a digest. So the input is a plan ([`feed`]): which valid message to begin with, and what to
//! change in it; formats with a digest are sealed again after the change.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod control;
mod coordinator;
mod device;
mod node;
mod text;
mod wire;

use std::time::Duration;

/// How long each target gets.
pub const FUZZ_MS: Duration = Duration::from_secs(5);

/// Runs a target: `$plan` is the input.
macro_rules! fuzz {
    (|$plan:ident| $body:expr) => {
        bolero::check!().with_test_time($crate::FUZZ_MS).with_max_len(512).for_each(|$plan: &[u8]| $body)
    };
}
pub(crate) use fuzz;

/// Values that are wrong in interesting ways.
const EXTREMES: [u32; 8] = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0xffff, 64];

/// One of `seeds` with the changes that `plan` says, or what is left of the plan as it stands.
///
/// ```text
///   plan: which seed, then 4 bytes for each change: what, where (2), value
/// ```
pub fn feed(seeds: &[Vec<u8>], plan: &[u8]) -> Vec<u8> {
    let Some((&which, changes)) = plan.split_first() else { return Vec::new() };
    let Some(seed) = seeds.get(usize::from(which) % (seeds.len() + 1)) else { return changes.to_vec() };
    let mut bytes = seed.clone();
    for &[what, low, high, value] in changes.as_chunks().0 {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
        match what % 8 {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 => bytes.extend_from_within(at..(at + usize::from(value)).min(bytes.len())),
            5 => {
                let from = usize::from(value) * bytes.len() / 256;
                let count = 8.min(bytes.len() - at).min(bytes.len() - from);
                bytes.copy_within(from..from + count, at);
            }
            _ => {
                let extreme = EXTREMES[usize::from(value) % EXTREMES.len()].to_le_bytes();
                for (byte, extreme) in bytes[at..].iter_mut().zip(extreme) {
                    *byte = extreme;
                }
            }
        }
    }
    bytes
}

/// Does `decode` and asserts that it asked for at most `per_byte` bytes of memory for each byte of input, and a little more.
pub fn bounded<T>(bytes: &[u8], per_byte: u64, decode: impl FnOnce() -> T) -> T {
    // The YAML scanner begins with buffers of 64 KiB.
    const A_LITTLE: u64 = 128 << 10;
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(decode()));
    let most = bytes.len() as u64 * per_byte + if per_byte == 0 { 0 } else { A_LITTLE };
    assert!(used.bytes_total <= most, "{} bytes of memory for {} bytes of input", used.bytes_total, bytes.len());
    result.unwrap()
}
