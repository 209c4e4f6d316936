//! Health and metrics over HTTP. It refuses to know what they mean to whom.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// For so long after the API server's last answer a process that does not lead counts as ready to lead.
const FRESH: Duration = Duration::from_secs(30);

/// Whether this process could do its work. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    metrics: Metrics,
    answered: Arc<Mutex<Option<Instant>>>,
}

impl Readiness {
    /// Not ready yet.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            answered: Arc::default(),
        }
    }

    /// The API server answered about the Lease.
    pub(crate) fn answered(&self, at: Instant) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Why it is not ready.
    fn check(&self) -> Result<(), &'static str> {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.metrics.is_leading() || answered.is_some_and(|at| at.elapsed() < FRESH) {
            Ok(())
        } else {
            Err("the API server does not answer: see the log\n")
        }
    }
}

/// Binds the address of health and metrics.
///
/// # Errors
/// Those of binding the address.
pub(crate) async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Serves on a bound address for ever.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness) {
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .merge(Router::new().route("/metrics", get(text)).with_state(metrics));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("health and metrics are not served any more: {error}");
    }
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match metrics.text() {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, kind, format!("# {error}\n")),
    }
}
