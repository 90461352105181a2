//! Quinn's runtime made of an [`Env`].
//!
//! Quinn takes its time, timers, tasks and socket from here, so a simulated environment drives the
//! real protocol code. Sockets of the operating system are left to quinn's own wrapper, which knows
//! segmentation offload and ECN.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use quinn::{
    AsyncTimer, AsyncUdpSocket, Runtime, TimeSource, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use ringfleet_env::{Datagram, DatagramMeta, DatagramSocket, Env, Instant, Timer, UdpBinding, std_epoch};

/// Datagrams fetched from a simulated socket at a time.
const RECEIVE_BATCH: usize = 32;

/// What quinn runs on.
#[derive(Debug, Clone)]
pub(crate) struct EnvRuntime {
    env: Env,
    /// The two names of one moment, by which times are translated.
    epoch: std::time::Instant,
    start: Instant,
}

impl EnvRuntime {
    pub(crate) fn new(env: Env) -> Self {
        let start = env.now();
        Self { env, epoch: std_epoch(), start }
    }

    fn ours(&self, time: std::time::Instant) -> Instant {
        self.start + time.saturating_duration_since(self.epoch)
    }

    /// A socket as quinn wants it.
    pub(crate) fn socket(binding: UdpBinding) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        match binding {
            UdpBinding::Os(socket) => quinn::TokioRuntime.wrap_udp_socket(socket),
            UdpBinding::Simulated(socket) => Ok(Arc::new(SimulatedSocket(socket))),
            UdpBinding::Lanes(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Runtime for EnvRuntime {
    fn new_timer(&self, time: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        let timer = self.env.timer(self.ours(time));
        Box::pin(EnvTimer { timer, runtime: self.clone() })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.env.spawn("quic", future).detach();
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Self::socket(UdpBinding::Os(socket))
    }

    fn now(&self) -> std::time::Instant {
        self.epoch + self.env.now().saturating_since(self.start)
    }
}

struct EnvTimer {
    timer: Pin<Box<dyn Timer>>,
    runtime: EnvRuntime,
}

impl fmt::Debug for EnvTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timer.fmt(f)
    }
}

impl AsyncTimer for EnvTimer {
    fn reset(mut self: Pin<&mut Self>, time: std::time::Instant) {
        let deadline = self.runtime.ours(time);
        self.timer.as_mut().reset(deadline);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

/// Wall time for quinn's address validation tokens.
#[derive(Debug)]
pub(crate) struct EnvWallTime(pub(crate) Env);

impl TimeSource for EnvWallTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.wall_ms())
    }
}

/// A simulated socket as quinn wants it: one datagram a send, always writable.
#[derive(Debug)]
struct SimulatedSocket(Arc<dyn DatagramSocket>);

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for SimulatedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(bytes) {
            self.0.send(Datagram {
                destination: transmit.destination,
                contents,
                ecn: transmit.ecn.map(|ecn| ecn as u8),
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut received = [DatagramMeta { source: nobody, bytes: 0, ecn: None, destination_ip: None }; RECEIVE_BATCH];
        let room = buffers.len().min(meta.len()).min(RECEIVE_BATCH);
        let count = ready!(self.0.poll_recv(cx, &mut buffers[..room], &mut received[..room]))?;
        for (meta, received) in meta.iter_mut().zip(&received[..count]) {
            *meta = RecvMeta::default();
            meta.addr = received.source;
            meta.len = received.bytes;
            meta.stride = received.bytes;
            meta.ecn = received.ecn.and_then(EcnCodepoint::from_bits);
            meta.dst_ip = received.destination_ip;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
