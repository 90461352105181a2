//! Writes the generated actor types.

use std::path::PathBuf;

mod generator;

/// Another seed gives other programs.
const SEED: u64 = 0x5eed_0001;
/// Eight handlers each.
const TYPES: usize = 128;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=generator.rs");
    println!("cargo::rerun-if-changed=generator");
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(folder.join("programs.rs"), generator::programs(SEED, TYPES)).expect("the folder is writable");
}
