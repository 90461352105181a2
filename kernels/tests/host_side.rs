//! The parts of device code that also compile for the host, ring positions and stamps, agree with the contract's own (C3, C6).
//! Needs a C++ compiler; without one the test says so and passes.
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use ringfleet_abi::Hlc;
use ringfleet_abi::limits::HLC_AHEAD_MS_MAX;
use ringfleet_kernels::source::{ABI_HEADER, FILES};

const PROGRAM: &str = r#"
#include <cstdio>
#include <cinttypes>
#include "hlc.cuh"
#include "ring.cuh"
int main() {
    char what;
    unsigned long long a, b, c;
    while (std::scanf(" %c %llu %llu %llu", &what, &a, &b, &c) == 4) {
        u64 out = 0;
        if (what == 'a') out = hlc_after(a, b, c);
        if (what == 'm') out = hlc_from_ms(a);
        if (what == 'l') out = hlc_limit(a);
        if (what == 'r') out = ring_has_room((u32)a, (u32)b, (u32)c);
        if (what == 't') out = ring_published_tail((u32)a, (u32)b, (u32)c);
        std::printf("%" PRIu64 "\n", (uint64_t)out);
    }
}
"#;

fn compile(folder: &Path) -> Option<std::path::PathBuf> {
    for (name, text) in
        FILES.iter().filter(|(name, _)| ["base.cuh", "hlc.cuh", "ring.cuh"].contains(name)).chain([&ABI_HEADER])
    {
        std::fs::write(folder.join(name), text).expect("the folder is writable");
    }
    std::fs::write(folder.join("main.cpp"), PROGRAM).expect("the folder is writable");
    let binary = folder.join("host_side");
    let output = Command::new("c++")
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-o"])
        .arg(&binary)
        .arg(folder.join("main.cpp"))
        .output();
    match output {
        Ok(output) if output.status.success() => Some(binary),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("not run: no C++ compiler: {error}");
            None
        }
    }
}

#[test]
fn device_code_and_contract_agree_on_stamps_and_positions() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("host_side");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let Some(binary) = compile(&folder) else { return };
    let mut input = String::new();
    let mut wanted = Vec::new();
    let mut ask = |what: char, [a, b, c]: [u64; 3], answer: u64| {
        let _ = writeln!(input, "{what} {a} {b} {c}");
        wanted.push(answer);
    };
    let stamps = [0, 1, 65_535, 65_536, 1 << 47, (1 << 62) - 1, u64::MAX - 1, u64::MAX];
    for a in stamps {
        for b in stamps {
            for c in stamps {
                ask('a', [a, b, c], Hlc(a).after(Hlc(b), Hlc(c)).0);
            }
        }
        ask('m', [a, 0, 0], Hlc::from_wall_ms(a).0);
    }
    let now_ms = 1_790_000_000_000;
    ask('l', [now_ms, 0, 0], Hlc::from_wall_ms(now_ms + HLC_AHEAD_MS_MAX + 1).0 - 1);
    // Positions wrap; slot p has room while p - head < slots, and no more than that is ever published.
    for head in [0_u32, 7, u32::MAX - 3] {
        for ahead in 0..40_u32 {
            let (at, slots) = (head.wrapping_add(ahead), 16);
            ask('r', [at.into(), head.into(), slots], u64::from(u64::from(ahead) < slots));
            let tail = head.wrapping_add(ahead.min(16));
            ask('t', [at.into(), head.into(), slots], tail.into());
        }
    }
    let file = folder.join("input");
    std::fs::write(&file, &input).expect("the folder is writable");
    let output = Command::new(binary)
        .stdin(std::fs::File::open(&file).expect("just written"))
        .output()
        .expect("the program runs");
    let got: Vec<u64> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect();
    for ((line, got), wanted) in input.lines().zip(&got).zip(&wanted) {
        assert_eq!(got, wanted, "{line}");
    }
    assert_eq!(got.len(), wanted.len());
}
