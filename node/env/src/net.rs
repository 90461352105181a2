//! Sockets.

use std::{
    fmt::Debug,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use crate::{BoxFuture, LaneSocket};

/// Opens sockets.
pub trait Net: Send + Sync + Debug {
    /// Binds a UDP socket. Port 0 takes a free one.
    fn bind_udp(&self, addr: SocketAddr) -> io::Result<UdpBinding>;

    /// Binds a TCP listener, non-blocking (for `tokio::net::TcpListener::from_std`): health and
    /// metrics pages only; everything else is QUIC. A simulator has none and says `Unsupported`.
    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<std::net::TcpListener>;

    /// The addresses of `host:port`; an answer has at least one.
    fn resolve(&self, host_port: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// A bound UDP socket: of the operating system, or one that a simulator implements.
///
/// They are told apart because the QUIC library drives the first kind itself, with segmentation
/// offload and ECN, which no trait here has to repeat.
#[derive(Debug)]
pub enum UdpBinding {
    /// A socket of the operating system, non-blocking.
    Os(std::net::UdpSocket),
    /// A simulated socket.
    Simulated(Arc<dyn DatagramSocket>),
    /// A simulated socket of whole connections, without datagrams.
    Lanes(Arc<dyn LaneSocket>),
}

/// A datagram socket as a simulator implements it. It never refuses to send: what does not fit in
/// a simulated network is lost there, as on a real one.
pub trait DatagramSocket: Send + Sync + Debug {
    /// Sends one datagram.
    fn send(&self, datagram: Datagram<'_>) -> io::Result<()>;

    /// Receives datagrams, one into each buffer, and says how many. Registers the task to be woken
    /// when there is none.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [DatagramMeta],
    ) -> Poll<io::Result<usize>>;

    /// The address it is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A datagram to send.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Where to.
    pub destination: SocketAddr,
    /// What.
    pub contents: &'a [u8],
    /// The two ECN bits of the IP header.
    pub ecn: Option<u8>,
}

/// What is known of a received datagram.
#[derive(Debug, Clone, Copy)]
pub struct DatagramMeta {
    /// Where it came from.
    pub source: SocketAddr,
    /// Its bytes in the buffer.
    pub bytes: usize,
    /// The two ECN bits of its IP header.
    pub ecn: Option<u8>,
    /// The local address it was sent to.
    pub destination_ip: Option<IpAddr>,
}
