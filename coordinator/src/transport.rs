//! How coordinators reach each other: one call, one reply, over links or, in tests, over memory.

use crate::config::Peer;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a call has no reply. The Raft group sends again whatever was lost, so it does not matter whether the request
/// arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer cannot be reached now.
    #[error("coordinator `{peer}` cannot be reached: {reason}")]
    Unreachable {
        /// Whom.
        peer: String,
        /// Why.
        reason: String,
    },
    /// No reply in time.
    #[error("no reply from coordinator `{peer}` within {limit:?}")]
    Late {
        /// Whose.
        peer: String,
        /// The time that was given.
        limit: Duration,
    },
}

/// Calls to other coordinators.
pub trait Transport: Send + Sync + Debug + 'static {
    /// These are the members from now on: connections to them, and to whom this coordinator was started with, are kept.
    fn follow(&self, members: &[Peer]);

    /// Sends `request` to `peer` and waits for its reply, for at most `limit`.
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        request: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>>;
}
