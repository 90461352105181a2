//! The built binary, as a user runs it: clusters of real processes on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_input;
mod clock;
mod devices;
mod faults;
mod fence;
mod log;
mod overload;
mod roles;
mod support;
