//! QUIC endpoints, identity and streams: the only user of quinn.
//!
//! ```text
//! ClusterCa ──issue──▶ Identity ──▶ Endpoint ──connect──▶ Connection ──open_stream──▶ FrameSender
//!                                      │                      │                       FrameReceiver
//!                                      └─listen─▶ Listener ───┘ accept                     │
//!                                                                 call, serve_calls ◀──────┘
//! ```
//!
//! - Every process has a certificate of its cluster's own authority that says who it is:
//!   `spiffe://ringfleet/<cluster>/<role>/<name>`. Both sides show theirs, and a connection exists
//!   for its users only when each has accepted the other (C11): a listener yields no
//!   [`Connection`], and reads no byte of a stream, before the peer's role was admitted for the
//!   protocol; a dialler holds no [`Connection`] before the listener has said so.
//! - Frames of a stream arrive whole and in order (C3); a broken connection is reported to both
//!   ends, and what is to be sent again is decided above (`ringfleet-proto`).
//! - Every window, queue, frame and handshake has a limit (C9): see [`LinkConfig`]. A call ends by
//!   its deadline (C4).
//!
//! A dial, and what ends it:
//! ```text
//! dialler                                     listener
//!   Initial ────────────────────────────────▶  too many handshakes: refused      Busy
//!                                              no common protocol: alert         Protocol
//!   judges chain, validity,  ◀──────────────── certificate
//!   cluster, role, name: PeerCertificate
//!   certificate ────────────────────────────▶  judges chain, validity: alert     OwnCertificate
//!                                              judges cluster, role: close       NotAllowed
//!   Connection  ◀───────────────────────────── welcome ─▶ Listener::accept
//! ```
//!
//! Deliberately absent: reconnecting (who dials again, and when, differs between agents, clients and
//! coordinators), session tickets and 0-RTT, revocation lists (certificates are short-lived and
//! renewed by [`Endpoint::renew_identity`]), names of DNS, and QUIC datagrams.

mod alpn;
mod call;
mod config;
mod connect_error;
mod connection;
mod endpoint;
mod frames;
mod identity;
mod lane_endpoint;
mod lanes;
mod peer;
mod random;
mod role;
mod runtime;
mod tls;

pub use alpn::Alpn;
pub use call::CallError;
pub use config::{FRAME_BYTES_MAX, LinkConfig, MTU_BYTES_ETHERNET, MTU_BYTES_LOOPBACK, MTU_BYTES_MIN};
pub use connect_error::ConnectError;
pub use connection::{CloseReason, Connection, LinkStats, code};
pub use endpoint::{BindError, Endpoint, EndpointStats, Listener};
pub use frames::{FrameError, FrameReceiver, FrameSender};
pub use identity::{ClusterCa, Identity, IdentityError, Validity, file};
pub use lanes::{Lanes, LanesError};
pub use peer::{BadName, NAME_BYTES_MAX, PeerId, check_name};
pub use role::{Role, RoleSet};
pub use tls::{CertificateFault, Expect};
