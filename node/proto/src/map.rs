//! Hash maps keyed by small integers, for paths that are taken once per frame or run.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ringfleet_abi::hash::mix64;

/// Hashes integer keys with [`mix64`]. Keys are ids that the cluster gave out, so nobody can choose colliding ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix64(self.0.rotate_left(5) ^ value);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

/// A map from an id.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;
