//! `/livez`, `/readyz`, `/metrics` over HTTP.
//!
//! Served on the membership's thread, so that load on the message path never looks like death to whoever watches.
//!
//! C9: nobody has to prove who he is here, so what anybody can take is bounded: [`CONNECTIONS_MAX`] connections, one more is closed at
//! once and counted; [`REQUEST_BYTES_MAX`] for one request, and [`REQUEST_LIMIT`] for it to come, however slowly, and for the next one
//! on the same connection. A connection that passes either is closed.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get,
};
use ringfleet_env::{Env, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::NodeError;
use crate::shared::Shared;

/// Connections at a time. A scraper, the probes of an orchestrator and some people need a handful.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of one request. All that is asked for here is a path.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;
/// How long a request may take to come, from the connection's begin or the answer before. Longer than scrapers' intervals.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// How long the listener rests when a connection could not be accepted, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound health port.
#[derive(Debug)]
pub struct HealthPort {
    env: Env,
    /// Absent in an environment without TCP: a simulator's.
    listener: Option<std::net::TcpListener>,
    addr: SocketAddr,
    limit: Duration,
}

impl HealthPort {
    /// Opens the port.
    ///
    /// # Errors
    /// [`NodeError::Http`] if it is taken or not permitted.
    pub fn open(env: &Env, addr: SocketAddr) -> Result<Self, NodeError> {
        let wrap = |source| NodeError::Http { addr, source };
        let limit = REQUEST_LIMIT;
        match env.listen_tcp(addr) {
            Ok(listener) => {
                let addr = listener.local_addr().map_err(wrap)?;
                Ok(Self { env: env.clone(), listener: Some(listener), addr, limit })
            }
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Self { env: env.clone(), listener: None, addr, limit })
            }
            Err(error) => Err(wrap(error)),
        }
    }

    /// With another [`REQUEST_LIMIT`], for tests.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the task is dropped.
    pub async fn serve(self, shared: Arc<Shared>) {
        let Some(listener) = self.listener else { return };
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "health port cannot be served");
                return;
            }
        };
        let refused = shared.http_refused.clone();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let listener = Bounded { env: self.env, listener, connections, limit: self.limit, refused };
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(shared);
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health port has failed");
        }
    }
}

/// The process lives and its loop has turned recently.
async fn livez(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match shared.not_live() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// The node is a member, holds its lease, and has put its view into effect.
async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match shared.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match crate::metrics::render(&shared.snapshot()) {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], format!("{error}\n")),
    }
}

/// A listener that keeps to the bounds of this port.
struct Bounded {
    env: Env,
    listener: tokio::net::TcpListener,
    connections: Arc<Semaphore>,
    limit: Duration,
    refused: Arc<AtomicU64>,
}

impl axum::serve::Listener for Bounded {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Limited, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => match self.connections.clone().try_acquire_owned() {
                    Ok(slot) => {
                        let timer = self.env.timer(self.env.now() + self.limit);
                        let (env, limit, refused) = (self.env.clone(), self.limit, self.refused.clone());
                        return (Limited { env, stream, timer, limit, read_bytes: 0, refused, _slot: slot }, addr);
                    }
                    Err(_) => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                },
                Err(error) => {
                    tracing::debug!(%error, "a connection to the health port could not be accepted");
                    self.env.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose requests are bounded in bytes and time.
struct Limited {
    env: Env,
    stream: TcpStream,
    timer: Pin<Box<dyn Timer>>,
    limit: Duration,
    /// Read since the last answer.
    read_bytes: usize,
    refused: Arc<AtomicU64>,
    _slot: OwnedSemaphorePermit,
}

impl Limited {
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

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.timer.as_mut().poll(cx).is_ready() {
            // Silence between two requests is nobody's fault; a request that does not end is.
            let quiet = self.read_bytes == 0;
            return Poll::Ready(if quiet { Ok(()) } else { Err(self.refuse("the request takes too long")) });
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read_bytes += buffer.filled().len() - before;
        if self.read_bytes > REQUEST_BYTES_MAX {
            return Poll::Ready(Err(self.refuse("the request is too long")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Limited {
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
