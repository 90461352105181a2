//! The protocols spoken over links.

use std::fmt;

/// What a connection is for. The versions of each protocol are agreed on in its own first frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Envelopes: node to node and client to node.
    Data,
    /// Requests to a coordinator, and between coordinators.
    Control,
}

impl Alpn {
    /// The name in the handshake.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "ringfleet-data",
            Self::Control => "ringfleet-control",
        }
    }

    pub(crate) const fn as_bytes(self) -> &'static [u8] {
        self.as_str().as_bytes()
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
