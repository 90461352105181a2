//! Health and metrics over HTTP.
//!
//! `/livez`: the process runs and its log can be written. `/readyz`: it also knows a leader. `/metrics`: Prometheus.
//!
//! C9: nobody has to prove who he is here, so what anybody can take is bounded ([`BoundedTcp`]), and refusals are counted.

use crate::service::Service;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use ringfleet_env::{BoundedStream, BoundedTcp, Env, HTTP_REQUEST_LIMIT, TaskHandle};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Serves until the handle is dropped.
///
/// # Errors
/// When the port cannot be had.
pub fn serve(env: &Env, addr: SocketAddr, service: Arc<Service>) -> io::Result<(SocketAddr, TaskHandle)> {
    let listener =
        BoundedTcp::new(env, env.listen_tcp(addr)?, HTTP_REQUEST_LIMIT, service.metrics.http_refused.clone())?;
    let bound = listener.local_addr()?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(service);
    let task = env.spawn("http", async move {
        if let Err(e) = axum::serve(Bounded(listener), routes).await {
            tracing::error!(error = %e, "health and metrics are no longer served");
        }
    });
    Ok((bound, task.abort_on_drop()))
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

async fn livez(State(service): State<Arc<Service>>) -> (StatusCode, String) {
    match service.group.leadership().failure {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
    }
}

async fn readyz(State(service): State<Arc<Service>>) -> (StatusCode, String) {
    let leadership = service.group.leadership();
    match (leadership.failure, leadership.leader) {
        (Some(failure), _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
        (None, Some(leader)) => (StatusCode::OK, format!("ok, {} leads\n", leader.name)),
        (None, None) => {
            let why = service.group.waiting().unwrap_or_else(|| "no leader is known".to_owned());
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let now_ns = service.env.monotonic_ns();
    match service.metrics.render(&service.group, &service.leases, now_ns) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], format!("{e}\n")),
    }
}
