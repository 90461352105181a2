//! Connections between two processes that know each other.

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{ConnectionError, VarInt};
use ringfleet_env::{Env, LaneConnection, LaneEnd};

use crate::{Alpn, FrameReceiver, FrameSender, PeerId};

/// Codes with which this crate closes connections and streams. Users take codes from
/// [`code::USER_MIN`] on.
pub mod code {
    /// The connection is not needed any more.
    pub const NORMAL: u32 = 0;
    /// The listener does not talk to this peer.
    pub const REFUSED: u32 = 1;
    /// The process is shutting down.
    pub const SHUTDOWN: u32 = 2;
    /// A request was given up at its deadline.
    pub const DEADLINE: u32 = 3;
    /// A request could not be read.
    pub const BAD_REQUEST: u32 = 4;
    /// The first code that users may take.
    pub const USER_MIN: u32 = 16;
}

/// The longest reason that is kept of what a peer wrote.
const REASON_BYTES_MAX: usize = 256;

/// A connection. Cloning gives another handle to the same one; it is closed when the last handle and
/// the last stream are dropped.
#[derive(Clone)]
pub struct Connection {
    inner: Inner,
    about: Arc<About>,
}

/// What carries it.
#[derive(Clone)]
pub(crate) enum Inner {
    /// QUIC.
    Quic(quinn::Connection),
    /// A simulator's lanes.
    Lanes(Arc<dyn LaneConnection>),
}

struct About {
    env: Env,
    peer: PeerId,
    alpn: Alpn,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} over {} at {})", self.peer(), self.alpn(), self.remote_addr())
    }
}

impl Connection {
    pub(crate) fn new(env: Env, inner: Inner, peer: PeerId, alpn: Alpn) -> Self {
        Self { inner, about: Arc::new(About { env, peer, alpn }) }
    }

    /// Who the other side has proven to be.
    pub fn peer(&self) -> &PeerId {
        &self.about.peer
    }

    /// The protocol spoken.
    pub fn alpn(&self) -> Alpn {
        self.about.alpn
    }

    /// Where the other side is.
    pub fn remote_addr(&self) -> SocketAddr {
        match &self.inner {
            Inner::Quic(inner) => inner.remote_address(),
            Inner::Lanes(inner) => inner.remote_addr(),
        }
    }

    pub(crate) fn env(&self) -> &Env {
        &self.about.env
    }

    /// Opens a stream. Waits, without a deadline of its own, while the peer has its limit of streams
    /// open. The peer sees the stream when the first frame is sent.
    pub async fn open_stream(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        match &self.inner {
            Inner::Quic(inner) => {
                let (send, recv) = inner.open_bi().await?;
                Ok((FrameSender::new(send), FrameReceiver::new(recv)))
            }
            Inner::Lanes(inner) => {
                let (send, recv) = poll_fn(|cx| inner.clone().poll_open(cx)).await?;
                Ok((FrameSender::of_lane(send), FrameReceiver::of_lane(recv)))
            }
        }
    }

    /// Waits for a stream that the peer opened.
    pub async fn accept_stream(&self) -> Result<(FrameSender, FrameReceiver), CloseReason> {
        match &self.inner {
            Inner::Quic(inner) => {
                let (send, recv) = inner.accept_bi().await?;
                Ok((FrameSender::new(send), FrameReceiver::new(recv)))
            }
            Inner::Lanes(inner) => {
                let (send, recv) = poll_fn(|cx| inner.clone().poll_accept(cx)).await?;
                Ok((FrameSender::of_lane(send), FrameReceiver::of_lane(recv)))
            }
        }
    }

    /// Closes at once; what was not acknowledged may be lost. The peer is told code and reason if
    /// the endpoint lives long enough to send them ([`Endpoint::wait_idle`](crate::Endpoint::wait_idle)).
    pub fn close(&self, code: u32, reason: &str) {
        match &self.inner {
            Inner::Quic(inner) => inner.close(VarInt::from_u32(code), reason.as_bytes()),
            Inner::Lanes(inner) => inner.close(code, reason),
        }
    }

    /// Waits until it is closed, by whichever side.
    pub async fn closed(&self) -> CloseReason {
        match &self.inner {
            Inner::Quic(inner) => inner.closed().await.into(),
            Inner::Lanes(inner) => poll_fn(|cx| inner.poll_closed(cx)).await.into(),
        }
    }

    /// Why it is closed; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match &self.inner {
            Inner::Quic(inner) => inner.close_reason().map(CloseReason::from),
            Inner::Lanes(inner) => inner.end().map(CloseReason::from),
        }
    }

    /// Whether both handles are of the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.about, &other.about)
    }

    /// What it did so far; lanes of a simulator count nothing.
    pub fn stats(&self) -> LinkStats {
        let Inner::Quic(inner) = &self.inner else { return LinkStats::default() };
        let stats = inner.stats();
        LinkStats {
            rtt: stats.path.rtt,
            mtu_bytes: stats.path.current_mtu,
            congestion_window_bytes: stats.path.cwnd,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            send_calls: stats.udp_tx.ios,
        }
    }
}

/// What a connection did so far, and how its path looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Measured round trip time.
    pub rtt: Duration,
    /// Bytes in a datagram at present.
    pub mtu_bytes: u16,
    /// Bytes that may be under way at present.
    pub congestion_window_bytes: u64,
    /// Bytes sent, in UDP payloads.
    pub sent_bytes: u64,
    /// Bytes received, in UDP payloads.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that were lost and sent again.
    pub lost_packets: u64,
    /// System calls that sent them.
    pub send_calls: u64,
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed on this side")]
    Local,
    /// The peer closed it.
    #[error("closed by the peer with code {code}: {reason}")]
    Peer {
        /// A code of [`code`].
        code: u64,
        /// What the peer wrote.
        reason: String,
    },
    /// Nothing was heard of the peer for the idle timeout.
    #[error("nothing was heard of the peer for too long")]
    TimedOut,
    /// The peer does not know the connection any more: it was restarted.
    #[error("the peer was restarted")]
    PeerRestarted,
    /// The transport gave it up.
    #[error("transport: {0}")]
    Transport(String),
}

/// Text from outside as it may stand in one line of a log.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_BYTES_MAX)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl From<ConnectionError> for CloseReason {
    fn from(e: ConnectionError) -> Self {
        match e {
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::ApplicationClosed(close) => {
                Self::Peer { code: close.error_code.into_inner(), reason: one_line(&close.reason) }
            }
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::PeerRestarted,
            e => Self::Transport(one_line(e.to_string().as_bytes())),
        }
    }
}

impl From<LaneEnd> for CloseReason {
    fn from(end: LaneEnd) -> Self {
        match end {
            LaneEnd::Local => Self::Local,
            LaneEnd::Peer { code, reason } => Self::Peer { code: u64::from(code), reason: one_line(reason.as_bytes()) },
            LaneEnd::TimedOut => Self::TimedOut,
            LaneEnd::Reset => Self::PeerRestarted,
        }
    }
}
