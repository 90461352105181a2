//! Why a dial failed, in one line.

use std::{net::SocketAddr, time::Duration};

use quinn::{ConnectionError, TransportErrorCode};

use crate::{
    Alpn, CertificateFault, Expect,
    connection::{code, one_line},
    tls::FaultSlot,
};

/// Why a dial failed. Each text names the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing came back: nobody listens there, or the way is cut.
    #[error("no answer from {addr} within {limit:?}")]
    NoAnswer {
        /// The address dialled.
        addr: SocketAddr,
        /// The time that was given.
        limit: Duration,
    },
    /// Somebody answered, but the handshake was not over in time.
    #[error("handshake with {addr} not finished within {limit:?}")]
    Unfinished {
        /// The address dialled.
        addr: SocketAddr,
        /// The time that was given.
        limit: Duration,
    },
    /// The address cannot be reached from this endpoint.
    #[error("cannot dial {addr}: {reason}")]
    BadAddress {
        /// The address dialled.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// This side refused the listener.
    #[error("refused {addr}, expected {expected}: its certificate {fault}")]
    PeerCertificate {
        /// The address dialled.
        addr: SocketAddr,
        /// Who was expected there.
        expected: String,
        /// What is wrong with the certificate it showed.
        fault: CertificateFault,
    },
    /// The listener refused this side's certificate inside the handshake.
    #[error("{addr} refused the own certificate, which for it {fault}")]
    OwnCertificate {
        /// The address dialled.
        addr: SocketAddr,
        /// What the listener holds against it.
        fault: CertificateFault,
    },
    /// The listener does not talk to this identity.
    #[error("{addr} refused this process: {reason}")]
    NotAllowed {
        /// The address dialled.
        addr: SocketAddr,
        /// What the listener wrote.
        reason: String,
    },
    /// The listener does not speak this protocol, or not this version of QUIC.
    #[error("{addr} does not speak {alpn}")]
    Protocol {
        /// The address dialled.
        addr: SocketAddr,
        /// The protocol asked for.
        alpn: Alpn,
    },
    /// The listener has too many handshakes under way, or does not listen now.
    #[error("{addr} takes no connections now")]
    Busy {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// This endpoint was closed.
    #[error("cannot dial {addr}: the endpoint is closed")]
    EndpointClosed {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// The transport failed in another way.
    #[error("connection to {addr} failed: {reason}")]
    Transport {
        /// The address dialled.
        addr: SocketAddr,
        /// What it said.
        reason: String,
    },
}

impl ConnectError {
    /// Whether dialling again, without anybody changing anything, may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Unfinished { .. } | Self::Busy { .. } | Self::Transport { .. })
    }
}

/// What is known about one dial, to word its failure.
pub(crate) struct Dial<'a> {
    pub addr: SocketAddr,
    pub limit: Duration,
    pub alpn: Alpn,
    pub expect: &'a Expect,
    pub fault: &'a FaultSlot,
}

impl Dial<'_> {
    pub(crate) fn before_start(&self, e: quinn::ConnectError) -> ConnectError {
        let addr = self.addr;
        match e {
            quinn::ConnectError::EndpointStopping => ConnectError::EndpointClosed { addr },
            e => ConnectError::BadAddress { addr, reason: e.to_string() },
        }
    }

    pub(crate) fn late(&self, answered: bool) -> ConnectError {
        let (addr, limit) = (self.addr, self.limit);
        if answered { ConnectError::Unfinished { addr, limit } } else { ConnectError::NoAnswer { addr, limit } }
    }

    pub(crate) fn failed(&self, e: ConnectionError, answered: bool) -> ConnectError {
        let addr = self.addr;
        if let Some(fault) = self.fault.take() {
            return ConnectError::PeerCertificate { addr, expected: self.expect.to_string(), fault };
        }
        match e {
            ConnectionError::ConnectionClosed(close) => {
                self.closed_by_transport(close.error_code, &one_line(&close.reason))
            }
            ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == u64::from(code::REFUSED) => {
                ConnectError::NotAllowed { addr, reason: one_line(&close.reason) }
            }
            ConnectionError::VersionMismatch => ConnectError::Protocol { addr, alpn: self.alpn },
            ConnectionError::TimedOut => self.late(answered),
            ConnectionError::LocallyClosed => ConnectError::EndpointClosed { addr },
            e => ConnectError::Transport { addr, reason: one_line(e.to_string().as_bytes()) },
        }
    }

    fn closed_by_transport(&self, error: TransportErrorCode, reason: &str) -> ConnectError {
        let addr = self.addr;
        // Quinn numbers the alerts of TLS from 0x100 on (RFC 9001, 4.8; RFC 8446, 6.2).
        let own = |fault| ConnectError::OwnCertificate { addr, fault };
        match u64::from(error) {
            0x2 => ConnectError::Busy { addr },
            0x178 => ConnectError::Protocol { addr, alpn: self.alpn },
            // unknown_ca, and decrypt_error: signed by another key of an authority of the same name.
            0x130 | 0x133 => own(CertificateFault::UnknownCa),
            0x12d if reason.contains("NotValidYet") || reason.contains("not valid yet") => {
                own(CertificateFault::NotYetValid)
            }
            0x12d => own(CertificateFault::Expired),
            // bad, unsupported, revoked, unknown certificate, access denied, certificate required.
            0x12a..=0x12c | 0x12e | 0x131 | 0x174 => own(CertificateFault::Unusable(reason.to_owned())),
            _ => ConnectError::Transport { addr, reason: format!("{error}: {reason}") },
        }
    }
}
