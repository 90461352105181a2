//! Actor types whose handlers were written by a generator (`generator.rs`, run by `build.rs` with a fixed seed): random expressions,
//! control flow, arrays and helpers, in the subset of Rust that runs on devices. A test compares what they do natively, as programs in
//! the interpreter, and as device code compiled for the host.
#![allow(unused, unused_comparisons, clippy::all, clippy::pedantic, missing_docs, reason = "nobody wrote this text")]

include!(concat!(env!("OUT_DIR"), "/programs.rs"));
