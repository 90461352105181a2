//! The tell rate of Ringfleet's CPU device beside `kameo` and `ractor`, in one run:
//! `cargo run --release --manifest-path tests/peers/Cargo.toml [ACTORS [THREADS]]`.
//!
//! The same work for all: every actor has 64 bytes of state and starts with one message in flight; handling a message
//! reads and writes the state and tells an actor chosen at random, a given number of times. Peers run on tokio with as
//! many threads as Ringfleet has workers, with unbounded mailboxes and the cheapest send that they have. The time is
//! from the first message pushed to the last handled; afterwards every actor is asked how often it was told, and the
//! sum must be what was sent.

mod kameo_hop;
mod ractor_hop;
mod ringfleet_hop;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringfleet_env::{Clock, SystemClock};

/// What all tell each other: 32 bytes, as much as a Ringfleet envelope carries.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// How often it will be told on.
    pub left: u64,
    /// How many actors there are.
    pub actors: u64,
    /// Random.
    pub salt: u64,
    /// What the sender has handled.
    pub trail: u64,
}

/// What every actor of a peer has: 64 bytes, all of them read and written by every token.
#[derive(Debug, Default)]
pub struct HopState {
    random: u64,
    hops: u64,
    words: [u64; 6],
}

impl HopState {
    /// Handles a token: whom to tell next, and what.
    pub fn hop(&mut self, token: &Token) -> Option<(usize, Token)> {
        let mixed = (self.random ^ token.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.random = mixed ^ mixed.rotate_left(29);
        self.hops += 1;
        self.words[0] ^= token.salt;
        self.words[1] = self.words[1].wrapping_add(token.trail);
        self.words[2] ^= self.words[0];
        self.words[3] = self.words[3].wrapping_add(self.words[1]);
        self.words[4] ^= self.words[2];
        self.words[5] = self.words[5].wrapping_add(self.words[3]);
        let left = token.left.checked_sub(1)?;
        let to = ((self.random >> 32) * token.actors) >> 32;
        Some((to as usize, Token { left, actors: token.actors, salt: self.random, trail: self.hops }))
    }

    /// How often it was told.
    pub fn hops(&self) -> u64 {
        self.hops
    }
}

/// What one contestant did.
pub struct Outcome {
    /// Messages handled, as the actors themselves say.
    pub handled: u64,
    /// From the first push to the last handling.
    pub elapsed_ns: u64,
}

/// Lets this many actors tell on this often, on this many threads.
type Run = fn(u64, u64, u16) -> Outcome;

/// Tokens of a peer that have come to their end.
pub static FINISHED: AtomicU64 = AtomicU64::new(0);

/// Waits until all tokens of a peer have come to their end.
pub fn wait_for_tokens(tokens: u64) {
    while FINISHED.load(Ordering::Acquire) < tokens {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The time of the machine.
pub fn now_ns() -> u64 {
    SystemClock.monotonic_ns()
}

/// The runtime of the peers.
pub fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_time().build().expect("a runtime")
}

/// Actors of a peer by their number.
pub type Directory<R> = OnceLock<Vec<R>>;

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let actors = args.next().unwrap_or(100_000);
    let threads = args.next().unwrap_or(2) as u16;
    println!("{actors} actors of 64 bytes, one message in flight each, random targets, {threads} threads");
    println!("{:<24} {:>14} {:>12} {:>12}", "", "messages", "seconds", "M tells/s");
    let mut rates = Vec::new();
    let contestants: [(&str, u64, Run); 3] = [
        ("ringfleet cpu device", 200, ringfleet_hop::run),
        ("kameo 0.22.2", 20, kameo_hop::run),
        ("ractor 0.16.5", 20, ractor_hop::run),
    ];
    for (name, hops, run) in contestants {
        let outcome = run(actors, hops, threads);
        let expected = actors * (hops + 1);
        assert_eq!(outcome.handled, expected, "{name}: every message is handled once");
        let rate = expected as f64 * 1e3 / outcome.elapsed_ns as f64;
        println!("{name:<24} {expected:>14} {:>12.3} {rate:>12.3}", outcome.elapsed_ns as f64 / 1e9);
        rates.push(rate);
    }
    println!("ringfleet / kameo {:.1}, ringfleet / ractor {:.1}", rates[0] / rates[1], rates[0] / rates[2]);
}
