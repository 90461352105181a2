//! What happened, as a hash and, where asked for, as lines of JSON.
//!
//! Every step of the executor, every packet with its contents, every change of a disk and every fault goes into the hash with its
//! virtual time: two runs of one seed with one hash did the same.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events that are kept for the report of a failure.
const KEPT: usize = 400;

#[derive(Default)]
struct State {
    hash: u64,
    steps: u64,
    last: VecDeque<String>,
    out: Option<Box<dyn Write + Send>>,
    every_step: bool,
}

/// The trace of one run.
#[derive(Default)]
pub struct Trace(Mutex<State>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}

fn mix(hash: u64, x: u64) -> u64 {
    (hash ^ x).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
}

impl Trace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on every noted event is also written, one JSON object a line; with `every_step` also every counted one.
    pub fn write_to(&self, out: Box<dyn Write + Send>, every_step: bool) {
        let mut state = self.lock();
        state.out = Some(out);
        state.every_step = every_step;
    }

    /// Numbers that go into the hash alone. `what` names them where every step is written.
    pub fn count(&self, what: &str, numbers: &[u64]) {
        let mut state = self.lock();
        state.steps += 1;
        if state.every_step
            && let Some(out) = &mut state.out
        {
            let _ = writeln!(out, "{{\"step\":\"{what}\",\"numbers\":{numbers:?}}}");
        }
        state.hash = numbers.iter().fold(state.hash, |hash, x| mix(hash, *x));
    }

    /// An event worth reading: at a time, of a kind, with fields.
    pub fn note(&self, now_ns: u64, kind: &str, fields: &[(&str, &str)]) {
        let mut line =
            format!("{{\"t\":{}.{:06},\"event\":\"{kind}\"", now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000);
        for (name, value) in fields {
            let value = serde_json::Value::from(*value);
            let _ = write!(line, ",\"{name}\":{value}");
        }
        line.push('}');
        let mut state = self.lock();
        state.hash = line.bytes().fold(mix(state.hash, now_ns), |hash, byte| mix(hash, u64::from(byte)));
        if let Some(out) = &mut state.out {
            // A trace that cannot be written is no reason to end the run; the hash is what counts.
            let _ = writeln!(out, "{line}");
        }
        if state.last.len() == KEPT {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// Whether events are written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.lock().out.is_some()
    }

    /// A step of leases and fences, for `fence_trace`: written where events are, and no part of the hash.
    pub fn step(&self, now_ns: u64, step: &str, host: &str, fields: &[(&str, u64)]) {
        let mut state = self.lock();
        let Some(out) = &mut state.out else { return };
        let (s, us) = (now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000);
        let mut line = format!("{{\"t\":{s}.{us:06},\"event\":\"fence\",\"step\":\"{step}\",\"host\":\"{host}\"");
        for (name, value) in fields {
            let _ = write!(line, ",\"{name}\":{value}");
        }
        let _ = writeln!(out, "{line}}}");
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// Steps counted so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The last events.
    #[must_use]
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let state = self.lock();
        state.last.iter().skip(state.last.len().saturating_sub(lines)).cloned().collect()
    }
}
