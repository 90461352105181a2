//! Bounds of the state (C9). What the wire bounds stands in `ringfleet_proto::control::limits`.

/// Outcomes kept for retries. The oldest is forgotten; a retry that comes later than this many operations is executed anew.
pub const OPERATIONS_KEPT: usize = 4096;
/// Sessions kept. The oldest is forgotten, and a node that asks for it answers its client `session_expired`.
pub const SESSIONS_KEPT: usize = 65_536;
/// Members that are gone and still remembered. The one that went first is forgotten; its id is not given again.
pub const GONE_KEPT: usize = 256;
/// The shortest lease: below it a busy machine would lose its nodes.
pub const LEASE_MS_MIN: u32 = 500;
/// The longest lease: above it a dead node's shards would be away too long.
pub const LEASE_MS_MAX: u32 = 600_000;
/// The lease if nothing else is configured.
pub const LEASE_MS_DEFAULT: u32 = 3_000;

const _: () = assert!(LEASE_MS_MIN <= LEASE_MS_DEFAULT && LEASE_MS_DEFAULT <= LEASE_MS_MAX);
const _: () = assert!(GONE_KEPT < ringfleet_proto::control::limits::MEMBERS_MAX);
