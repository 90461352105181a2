//! `/livez`, `/readyz`, `/metrics` over HTTP.
//!
//! Served on the membership's thread, so that load on the message path never looks like death to whoever watches.
//!
//! C9: nobody has to prove who he is here, so what anybody can take is bounded ([`BoundedTcp`]), and refusals are counted.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get,
};
use ringfleet_env::{BoundedStream, BoundedTcp, Env};
pub use ringfleet_env::{
    HTTP_CONNECTIONS_MAX as CONNECTIONS_MAX, HTTP_REQUEST_BYTES_MAX as REQUEST_BYTES_MAX,
    HTTP_REQUEST_LIMIT as REQUEST_LIMIT,
};

use crate::error::NodeError;
use crate::shared::Shared;

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
        let listener = match BoundedTcp::new(&self.env, listener, self.limit, shared.http_refused.clone()) {
            Ok(listener) => Bounded(listener),
            Err(error) => {
                tracing::error!(%error, "health port cannot be served");
                return;
            }
        };
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

/// The bounded listener, as axum wants it.
struct Bounded(BoundedTcp);

impl axum::serve::Listener for Bounded {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
