//! The HTTP server: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::Metrics;

/// Whether the process lives and is ready.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    stuck: AtomicBool,
}

impl Health {
    /// Says that every policy is known.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Says whether work has stopped, so that only a restart helps.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && self.is_alive()
    }

    fn is_alive(&self) -> bool {
        !self.stuck.load(Ordering::Relaxed)
    }
}

/// The pages.
pub fn router(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    let ready = Arc::clone(&health);
    Router::new()
        .route("/metrics", get(|| async move { page(&metrics) }))
        .route("/healthz", get(|| async move { verdict(health.is_alive(), "stuck") }))
        .route("/readyz", get(|| async move { verdict(ready.is_ready(), "not ready") }))
}

fn page(metrics: &Metrics) -> impl IntoResponse + use<> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.encode())
}

fn verdict(good: bool, otherwise: &'static str) -> (StatusCode, &'static str) {
    if good { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}

/// Serves the pages until `shutdown`.
///
/// # Errors
/// If the server fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}
