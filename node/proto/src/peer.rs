//! Who is at the other end, and over what.

use std::fmt;

use ringfleet_abi::{Incarnation, NodeId, SessionId};

/// A link as the shell calls it: one data connection. Never reused within one [`crate::NodeProto`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// The two ordered byte streams that a data connection has per direction.
///
/// A receiver that has no room stops reading `Data` and the transport then stops the sender, while acknowledgements and
/// replies still flow: were both on one stream, two nodes with full buffers would wait for each other's acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// `Deliver` frames and nothing else.
    Data,
    /// Everything else.
    Answers,
}

/// Who sends messages: the owner of channels and of their sequences (C3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// All actors of one start of a node.
    Node(Incarnation),
    /// A client.
    Client(SessionId),
}

impl Source {
    /// Whether this is a client session.
    #[must_use]
    pub const fn is_client(self) -> bool {
        matches!(self, Source::Client(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Node(incarnation) => write!(f, "incarnation {incarnation}"),
            Source::Client(session) => write!(f, "session {session}"),
        }
    }
}

/// Who is at the other end of a link, as its certificate and its Hello say. The shell has checked both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    /// A node.
    Node {
        /// Its id.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A client with an open session.
    Client {
        /// The session.
        session: SessionId,
    },
}

impl PeerIdentity {
    /// The source whose messages may come over the link (C11).
    #[must_use]
    pub const fn source(self) -> Source {
        match self {
            PeerIdentity::Node { incarnation, .. } => Source::Node(incarnation),
            PeerIdentity::Client { session } => Source::Client(session),
        }
    }
}

/// Why the protocol closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum CloseReason {
    /// Another link to the same peer has come up.
    Replaced = 0,
    /// The peer's incarnation is fenced.
    Fenced = 1,
    /// A frame waited too long for the view that its sender has seen.
    ViewTimeout = 2,
    /// The peer left the cluster or this process ends.
    Leaving = 3,
    /// The peer sent something that the protocol does not allow.
    ProtocolError = 4,
}

impl CloseReason {
    /// The word used in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::Replaced => "replaced",
            CloseReason::Fenced => "fenced",
            CloseReason::ViewTimeout => "view_timeout",
            CloseReason::Leaving => "leaving",
            CloseReason::ProtocolError => "protocol_error",
        }
    }

    /// The entry with this code.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0 => CloseReason::Replaced,
            1 => CloseReason::Fenced,
            2 => CloseReason::ViewTimeout,
            3 => CloseReason::Leaving,
            4 => CloseReason::ProtocolError,
            _ => return None,
        })
    }
}
