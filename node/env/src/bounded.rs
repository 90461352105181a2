//! A TCP port for small HTTP requests of anybody: `/livez`, `/readyz`, `/metrics`.
//!
//! C9: nobody has to prove who he is here, so what anybody can take is bounded: [`HTTP_CONNECTIONS_MAX`] connections, one more is closed at
//! once and counted; [`HTTP_REQUEST_BYTES_MAX`] for one request, and [`HTTP_REQUEST_LIMIT`] for it to come, however slowly, and for the next
//! one on the same connection. A connection that passes either is closed and counted.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Env, Timer};

/// Connections at a time. A scraper, the probes of an orchestrator and some people need a handful.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Bytes of one request. All that is asked for here is a path.
pub const HTTP_REQUEST_BYTES_MAX: usize = 16 << 10;
/// How long a request may take to come, from the connection's begin or the answer before. Longer than scrapers' intervals.
pub const HTTP_REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// How long the listener rests when a connection could not be accepted, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that keeps to these bounds.
#[derive(Debug)]
pub struct BoundedTcp {
    env: Env,
    listener: TcpListener,
    connections: Arc<Semaphore>,
    limit: Duration,
    refused: Arc<AtomicU64>,
}

impl BoundedTcp {
    /// Bounds a listener. `limit` is [`HTTP_REQUEST_LIMIT`], except in tests; refusals are counted in `refused`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        env: &Env,
        listener: std::net::TcpListener,
        limit: Duration,
        refused: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let connections = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
        Ok(Self { env: env.clone(), listener, connections, limit, refused })
    }

    /// The next connection for which there is room.
    pub async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => match self.connections.clone().try_acquire_owned() {
                    Ok(slot) => {
                        let timer = self.env.timer(self.env.now() + self.limit);
                        let (env, limit, refused) = (self.env.clone(), self.limit, self.refused.clone());
                        return (
                            BoundedStream { env, stream, timer, limit, read_bytes: 0, refused, _slot: slot },
                            addr,
                        );
                    }
                    Err(_) => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                },
                Err(_) => self.env.sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose requests are bounded in bytes and time.
pub struct BoundedStream {
    env: Env,
    stream: TcpStream,
    timer: Pin<Box<dyn Timer>>,
    limit: Duration,
    /// Read since the last answer.
    read_bytes: usize,
    refused: Arc<AtomicU64>,
    _slot: OwnedSemaphorePermit,
}

impl fmt::Debug for BoundedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoundedStream({:?})", self.stream)
    }
}

impl BoundedStream {
    fn refuse(&self, why: &'static str) -> io::Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::TimedOut, why)
    }

    /// An answer goes out: the next request has its own bounds.
    fn answered(&mut self) {
        if self.read_bytes > 0 {
            self.read_bytes = 0;
            self.timer.as_mut().reset(self.env.now() + self.limit);
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            // Silence between two requests is nobody's fault; a request that does not end is.
            let quiet = self.read_bytes == 0;
            return Poll::Ready(if quiet { Ok(()) } else { Err(self.refuse("the request takes too long")) });
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read_bytes += buffer.filled().len() - before;
        if self.read_bytes > HTTP_REQUEST_BYTES_MAX {
            return Poll::Ready(Err(self.refuse("the request is too long")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered();
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(self.refuse("the answer is not read")));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
