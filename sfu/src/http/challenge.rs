//! The page by which an authority sees that a host is ours. (RFC 8555 §8.3)
//!
//! Owns its path. What is on it is `certificates`' matter. Mounted by `server`.

use crate::certificates::Certificates;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page of each token.
pub fn router(certificates: Certificates) -> Router {
    Router::new()
        .route("/.well-known/acme-challenge/{token}", get(page))
        .with_state(certificates)
}

async fn page(State(certificates): State<Certificates>, Path(token): Path<String>) -> Response {
    match certificates.page(&token) {
        Some(text) => ([(header::CONTENT_TYPE, "application/octet-stream")], text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
