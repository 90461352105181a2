//! Connections of ordered lanes, as a simulator provides them in the place of datagrams.
//!
//! Below these traits nothing is encrypted, cut into packets or acknowledged: whole pieces of a lane arrive in order, late or, when
//! the connection is lost, not at all. A simulator that offers them runs everything above the links much faster than over datagrams.
//! No socket of the operating system is one.

use std::{
    fmt::Debug,
    io::IoSlice,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// What one side of a connection says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHello {
    /// Who it is. The simulator passes it on unchanged: nobody can pose as somebody else.
    pub identity: String,
    /// The protocol that a dialler asks for; empty for a listener.
    pub protocol: String,
    /// What it bears.
    pub limits: LaneLimits,
}

/// The bounds of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// A connection that hears nothing for this long is closed.
    pub idle_timeout: Duration,
    /// A silent connection sends a sign of life this often.
    pub keep_alive: Duration,
    /// Lanes the peer may have open at a time.
    pub lanes_max: u32,
    /// Bytes of one lane under way to, or unread on, the receiving side.
    pub lane_bytes_max: usize,
    /// The same for all lanes of one direction together.
    pub connection_bytes_max: usize,
    /// Dials that wait for their listener.
    pub arrivals_max: usize,
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneEnd {
    /// This side closed it.
    Local,
    /// The peer closed it.
    Peer {
        /// Its code.
        code: u32,
        /// Its words.
        reason: String,
    },
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer has given it up and said so.
    Reset,
}

/// Why nothing can be written to or read from a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneError {
    /// The peer gave this direction up.
    Stopped {
        /// Its code.
        code: u32,
    },
    /// This side has closed this direction before.
    Closed,
    /// The connection is over.
    Lost(LaneEnd),
}

/// Both directions of a lane.
pub type Lane = (Box<dyn LaneWriter>, Box<dyn LaneReader>);

/// What stands in the place of a UDP socket.
pub trait LaneSocket: Send + Sync + Debug {
    /// The address it is bound to.
    fn local_addr(&self) -> SocketAddr;

    /// Begins to dial; [`LaneConnection::poll_established`] says when it is done.
    fn dial(&self, to: SocketAddr, hello: LaneHello) -> Arc<dyn LaneConnection>;

    /// Takes dials from now on, or none any more.
    fn listen(&self, hello: Option<LaneHello>);

    /// The next dial; `None` when the socket was closed.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<dyn LaneConnection>>>;

    /// Closes all connections, now and in future.
    fn close(&self, code: u32, reason: &str);

    /// Connections that are open or being dialled.
    fn open_connections(&self) -> usize;
}

/// One side of a connection. It is closed when the last handle and the last lane are dropped.
pub trait LaneConnection: Send + Sync + Debug {
    /// Waits, on the side that has dialled, until the listener has admitted it.
    fn poll_established(&self, cx: &mut Context<'_>) -> Poll<Result<(), LaneEnd>>;

    /// Lets the dialler in, on the side that listens.
    fn admit(&self);

    /// What the other side says of itself, once it is known: to a listener at once, to a dialler when it is admitted.
    fn peer(&self) -> Option<LaneHello>;

    /// Where the other side is.
    fn remote_addr(&self) -> SocketAddr;

    /// Opens a lane; waits while the peer has its limit of lanes open.
    fn poll_open(self: Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Lane, LaneEnd>>;

    /// Waits for a lane that the peer has opened.
    fn poll_accept(self: Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<Lane, LaneEnd>>;

    /// Closes at once.
    fn close(&self, code: u32, reason: &str);

    /// Waits until it is over.
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<LaneEnd>;

    /// Why it is over; `None` while it is not.
    fn end(&self) -> Option<LaneEnd>;
}

/// The sending half of a lane. Dropping it finishes it.
pub trait LaneWriter: Send + Sync + Debug {
    /// Takes as much as the windows allow, at least a byte, and says how much.
    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize, LaneError>>;

    /// Nothing more comes.
    fn finish(&mut self) -> Result<(), LaneError>;

    /// Gives up: what is under way is dropped.
    fn reset(&mut self, code: u32);

    /// Waits until the peer has everything of a finished lane, or gave it up.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneError>>;
}

/// The receiving half of a lane. Dropping it gives it up.
pub trait LaneReader: Send + Sync + Debug {
    /// Everything that has arrived; `None` at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, LaneError>>;

    /// Gives up: the sender is told.
    fn stop(&mut self, code: u32);
}
