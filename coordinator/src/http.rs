//! Health and metrics over HTTP.
//!
//! `/livez`: the process runs and its log can be written. `/readyz`: it also knows a leader. `/metrics`: Prometheus.

use crate::service::Service;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use ringfleet_env::{Env, TaskHandle};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Serves until the handle is dropped.
///
/// # Errors
/// When the port cannot be had.
pub fn serve(env: &Env, addr: SocketAddr, service: Arc<Service>) -> io::Result<(SocketAddr, TaskHandle)> {
    let listener = env.listen_tcp(addr)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(service);
    let task = env.spawn("http", async move {
        if let Err(e) = axum::serve(listener, routes).await {
            tracing::error!(error = %e, "health and metrics are no longer served");
        }
    });
    Ok((bound, task.abort_on_drop()))
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
