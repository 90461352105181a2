//! The parts of device code that also compile for the host, ring positions, stamps and the bell, agree with the contract's own
//! (C3, C6), and positions carry a ring between two threads without a data race. Needs a C++ compiler; without one the tests say so
//! and pass, unless `RINGFLEET_MUST_RUN` is set.
#![allow(missing_docs)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfleet_abi::hash::mix64;
use ringfleet_abi::limits::{HLC_AHEAD_MS_MAX, RESTARTS_MAX};
use ringfleet_abi::{Hlc, KeySpace, RestartMode};
use ringfleet_kernels::bell;
use ringfleet_kernels::layout::{SetEntry, c_text};
use ringfleet_kernels::source::{ABI_HEADER, FILES};

const PROGRAM: &str = r#"
#include <cstdio>
#include <cinttypes>
#include "bell.cuh"
#include "hlc.cuh"
#include "restarts.cuh"
#include "ring.cuh"
#include "shards.cuh"
int main() {
    char what;
    unsigned long long a, b, c;
    SetEntry set = {};
    u64 window = 0;
    while (std::scanf(" %c %llu %llu %llu", &what, &a, &b, &c) == 4) {
        u64 out = 0;
        if (what == 'a') out = hlc_after(a, b, c);
        if (what == 'm') out = hlc_from_ms(a);
        if (what == 'l') out = hlc_limit(a);
        if (what == 'r') out = ring_has_room((u32)a, (u32)b, (u32)c);
        if (what == 'b') out = a + bell_part(b, (u32)c) - bell_part(0, (u32)c);
        if (what == 'k') set.key_count = a, set.keys_per_shard = b, set.magic = c;
        if (what == 'n') set.dense = a, set.shards = (u16)b;
        if (what == 'h') { u32 shard; out = shard_of(set, a, b, shard) ? shard : ~0ull; }
        if (what == 'p') set.restarts = (u32)a, set.window_ms = (u32)b, window = 0;
        if (what == 'f') out = may_restart(set.restarts, set.window_ms, window, a);
        if (what == 'w') out = window;
        if (what == 's') { out = BELL_SALT; for (u32 i = 0; i < 9; i++) out += bell_part(0, i); }
        if (what == 'g') out = ring_pages((u32)a, (u32)b, (u32)c);
        if (what == 't') out = ring_published_tail((u32)a, (u32)b, (u32)c);
        std::printf("%" PRIu64 "\n", (uint64_t)out);
    }
}
"#;

/// A worker's way of sending (virtual positions, a spill for what has no room, one publication for many) in one thread, the
/// contract's way of receiving in the other. Prints how many messages came in order and how many had gone through the spill.
const TWO_THREADS: &str = r#"
#include <atomic>
#include <cstdio>
#include <deque>
#include <thread>
#include "ring.cuh"
static const u32 SLOTS = 16, FIRST = 0xffffff00u, MESSAGES = 400000;
static Envelope slots[SLOTS];
static std::atomic<u32> tail(FIRST), head(FIRST);
static unsigned long spilled = 0;
static void produce() {
    struct Spilled { u32 at; Envelope message; };
    std::deque<Spilled> spill;
    u32 virtual_tail = FIRST, published = FIRST, sent = 0;
    while (published != FIRST + MESSAGES) {
        const u32 seen = head.load(std::memory_order_acquire);
        // Those that have room now, in any order: here the newest first.
        for (size_t k = spill.size(); k-- > 0;) {
            if (!ring_has_room(spill[k].at, seen, SLOTS)) continue;
            slots[spill[k].at & (SLOTS - 1)] = spill[k].message;
            spill.erase(spill.begin() + (long)k);
        }
        for (u32 burst = 0; burst < 5 && sent < MESSAGES && spill.size() < 40; burst++, sent++) {
            Envelope message = {};
            message.to_key = message.from_key = sent;
            const u32 at = virtual_tail++;
            if (ring_has_room(at, seen, SLOTS)) slots[at & (SLOTS - 1)] = message;
            else { spill.push_back({at, message}); spilled++; }
        }
        published = ring_published_tail(virtual_tail, seen, SLOTS);
        tail.store(published, std::memory_order_release);
        if (!spill.empty()) std::this_thread::yield();
    }
}
static unsigned long consume() {
    u32 at = FIRST, before = FIRST;
    unsigned long good = 0;
    while (at != FIRST + MESSAGES) {
        const u32 end = tail.load(std::memory_order_acquire);
        if (!ring_tail_is_sane(end, before, at, SLOTS)) return 0;
        before = end;
        for (u32 left = ring_ready(end, at); left > 0; left--, at++) {
            const Envelope &message = slots[at & (SLOTS - 1)];
            good += message.to_key == at - FIRST && message.from_key == message.to_key;
        }
        head.store(at, std::memory_order_release);
        std::this_thread::yield();
    }
    return good;
}
int main() {
    unsigned long good = 0;
    std::thread receiver([&] { good = consume(); });
    produce();
    receiver.join();
    std::printf("%lu %lu\n", good, spilled);
}
"#;

fn compile(folder: &Path, program: &str, options: &[&str]) -> Option<PathBuf> {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let wanted = ["base.cuh", "bell.cuh", "hlc.cuh", "restarts.cuh", "ring.cuh", "shards.cuh"];
    for (name, text) in FILES.iter().filter(|(name, _)| wanted.contains(name)).chain([&ABI_HEADER]) {
        std::fs::write(folder.join(name), text).expect("the folder is writable");
    }
    std::fs::write(folder.join("rf_layout.cuh"), c_text()).expect("the folder is writable");
    std::fs::write(folder.join("main.cpp"), program).expect("the folder is writable");
    let binary = folder.join("host_side");
    let output = Command::new("c++")
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-pthread"])
        .args(options)
        .arg("-o")
        .arg(&binary)
        .arg(folder.join("main.cpp"))
        .output();
    match output {
        Ok(output) if output.status.success() => Some(binary),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            not_run(&format!("no C++ compiler: {error}"));
            None
        }
    }
}

/// Says why a test was not run; fails where it must run.
fn not_run(why: &str) {
    assert!(std::env::var_os("RINGFLEET_MUST_RUN").is_none(), "RINGFLEET_MUST_RUN is set: {why}");
    println!("not run: {why}");
}

/// The sum that [`bell::check`] is, up to some word.
fn bell_sum(words: &[u64]) -> u64 {
    let all: [u64; 9] = std::array::from_fn(|at| words.get(at).copied().unwrap_or(0));
    let envelope: [u64; 8] = std::array::from_fn(|at| all[at + 1]);
    bell::check(all[0] as u32, (all[0] >> 32) as u32, &envelope)
}

/// Runs the two threads; the numbers that they print.
fn run_two_threads(binary: &Path) -> Vec<u64> {
    let output = Command::new(binary).output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("data race"), "{errors}");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn positions_carry_a_ring_between_two_threads() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("two_threads");
    let Some(binary) = compile(&folder, TWO_THREADS, &[]) else { return };
    let counts = run_two_threads(&binary);
    assert!(counts[0] == 400_000 && counts[1] > 0, "{counts:?}");
}

/// Compiles with ThreadSanitizer, if the compiler and this machine have it.
fn compile_checked(name: &str, program: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let sanitizer = ["-fsanitize=thread"];
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(folder.join("probe.cpp"), "int main() { return 0; }").expect("the folder is writable");
    let probed = Command::new("c++")
        .args(sanitizer)
        .args(["-o", "probe", "probe.cpp"])
        .current_dir(&folder)
        .output()
        .is_ok_and(|output| output.status.success());
    if !probed || !Command::new(folder.join("probe")).status().is_ok_and(|status| status.success()) {
        not_run("the C++ compiler has no ThreadSanitizer");
        return None;
    }
    compile(&folder, program, &sanitizer)
}

#[test]
fn two_threads_have_no_data_race_on_a_ring() {
    let Some(binary) = compile_checked("two_threads_checked", TWO_THREADS) else { return };
    let counts = run_two_threads(&binary);
    assert!(counts[0] == 400_000 && counts[1] > 0, "{counts:?}");
}

#[test]
fn without_releases_two_threads_have_a_data_race_on_a_ring() {
    let relaxed = TWO_THREADS.replace("memory_order_release", "memory_order_relaxed");
    assert_ne!(relaxed, TWO_THREADS);
    let Some(binary) = compile_checked("two_threads_racing", &relaxed) else { return };
    let output = Command::new(binary).output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("data race"), "the sanitizer sees nothing: {errors}");
}

#[test]
fn device_code_and_contract_agree_on_stamps_and_positions() {
    let mut questions = Questions::default();
    let mut ask = |what: char, words: [u64; 3], answer: u64| questions.ask(what, words, answer);
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
    // Pages count on where positions begin anew.
    for first in [0_u32, 1, 63, 64, 100, u32::MAX - 100, u32::MAX - 31, u32::MAX] {
        for count in [1_u32, 31, 32, 33, 63, 64, 65, 300] {
            let end = first.wrapping_add(count);
            let pages = (u64::from(first) + u64::from(count) - 1) / 64 - u64::from(first) / 64 + 1;
            ask('g', [first.into(), end.into(), 64], pages);
        }
    }
    // The bell's check, added up word by word.
    let envelope: [u64; 8] = std::array::from_fn(|at| mix64(at as u64 + 3));
    let (position, dest) = (u32::MAX - 5, 77_u32);
    ask('s', [0; 3], bell_sum(&[]));
    let mut words = vec![u64::from(position) | u64::from(dest) << 32];
    words.extend(envelope);
    for at in 0..words.len() {
        ask('b', [bell_sum(&words[..at]), words[at], at as u64], bell_sum(&words[..=at]));
    }
    assert_eq!(bell_sum(&words), bell::check(position, dest, &envelope));
    questions.check("host_side");
}

#[test]
fn device_code_finds_the_shards_of_the_contract() {
    let mut questions = Questions::default();
    let dense = |count| KeySpace::Dense { count };
    let mut spaces = vec![(KeySpace::Hashed, 1), (KeySpace::Hashed, 7), (KeySpace::Hashed, 4096)];
    for count in
        [1, 2, 3, 7, 100, 4095, 4096, 4097, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 5 << 40, u64::MAX - 1, u64::MAX]
    {
        spaces.extend([1, 2, 3, 7, 255, 4096].map(|shards| (dense(count), shards)));
    }
    for (keys, shards) in spaces {
        let set = SetEntry::of_keys(keys, shards);
        questions.ask('k', [set.key_count, set.keys_per_shard, set.magic], 0);
        questions.ask('n', [set.dense.into(), set.shards.into(), 0], 0);
        let per_shard = keys.keys_per_shard(shards);
        let edges = (0..u64::from(shards) + 2).map(|shard| shard.wrapping_mul(per_shard));
        let others = [set.key_count, u64::MAX, 1 << 32, 1 << 33].into_iter().chain((0..64).map(mix64));
        for edge in edges.chain(others) {
            for key in [edge.wrapping_sub(1), edge, edge.wrapping_add(1)] {
                let shard = keys.shard_of(shards, key).map_or(u64::MAX, |shard| shard.0.into());
                questions.ask('h', [key, mix64(key), 0], shard);
            }
        }
    }
    questions.check("shards");
}

#[test]
fn device_code_restarts_as_often_as_the_contract() {
    let mut questions = Questions::default();
    let limited = |restarts, window_ms| RestartMode::Limited { restarts, window_ms, parent: 5 };
    let modes = [
        RestartMode::Stop,
        RestartMode::Restart,
        RestartMode::Escalate { parent: 5 },
        limited(1, 1),
        limited(3, 10),
        limited(RESTARTS_MAX, u32::MAX),
    ];
    for (mode, begin_ms) in modes.into_iter().flat_map(|mode| [0, 1_790_000_000_000].map(|ms| (mode, ms))) {
        let budget = mode.budget();
        questions.ask('p', [budget.restarts.into(), budget.window_ms.into(), 0], 0);
        let (mut window, mut ms) = (0, begin_ms);
        for failure in 0..400_u64 {
            // Steps of 0 to 3 ms, now and then one that leads to the edge of a window or over it.
            ms += if failure % 50 == 49 { 8 + failure % 4 } else { mix64(failure) % 4 };
            let stamp = Hlc(ms << 16 | mix64(failure) & 0xffff);
            let restarted = budget.take(&mut window, stamp);
            questions.ask('f', [stamp.0, 0, 0], restarted.into());
            questions.ask('w', [0; 3], window);
        }
    }
    questions.check("restarts");
}

/// What the program is asked, a line each, and what it has to answer.
#[derive(Default)]
struct Questions {
    input: String,
    wanted: Vec<u64>,
}

impl Questions {
    fn ask(&mut self, what: char, [a, b, c]: [u64; 3], answer: u64) {
        let _ = writeln!(self.input, "{what} {a} {b} {c}");
        self.wanted.push(answer);
    }

    fn check(&self, folder: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
        let Some(binary) = compile(&folder, PROGRAM, &[]) else { return };
        let file = folder.join("input");
        std::fs::write(&file, &self.input).expect("the folder is writable");
        let output = Command::new(binary)
            .stdin(std::fs::File::open(&file).expect("just written"))
            .output()
            .expect("the program runs");
        let got: Vec<u64> =
            String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect();
        for ((line, got), wanted) in self.input.lines().zip(&got).zip(&self.wanted) {
            assert_eq!(got, wanted, "{line}");
        }
        assert_eq!(got.len(), self.wanted.len());
    }
}
