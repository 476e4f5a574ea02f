//! The routes of the main port and what every request passes on its way to them.
//!
//! Owns paths, prefixes, limits and the order of the layers. Decides nothing about a join. A
//! function from state to router, so that tests call it without a socket. Called by `server`.
//! (LK: signalling §1.1, §1.2, operation §1)

use super::front::Front;
use super::{cors, websocket};
use crate::auth;
use crate::rooms::unix_ms;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use jwt_service::routes::webhook;
use std::sync::Arc;

/// Prefixes that are always served: Element Call's deployments put the SFU and the authorization
/// service below them.
const PREFIXES: [&str; 4] = [
    "/livekit/sfu",
    "/livekit/jwt",
    "/livekit-server",
    "/livekit-jwt-service",
];

/// All routes; `others` are served beside ours and pass the same layers. `own` judge tokens and bodies by
/// themselves: theirs are no access tokens.
pub fn router(front: Arc<Front>, others: Router, own: Router) -> Router {
    let body_limit = match front.max_body_bytes {
        0 => DefaultBodyLimit::disable(),
        most => DefaultBodyLimit::max(most),
    };
    let routes = Router::new()
        .route("/", any(health))
        .route("/rtc", any(websocket::connect_legacy))
        .route("/rtc/validate", any(websocket::validate_legacy))
        .route("/rtc/v1", any(websocket::connect))
        .route("/rtc/v1/validate", any(websocket::validate))
        .with_state(Arc::clone(&front))
        .merge(others)
        .fallback(not_found)
        .layer(body_limit);
    // A router rewrites no path before it has routed: hence one around the other. The layer added
    // last is the first to see a request.
    let routes = Router::new()
        .fallback_service(routes)
        .layer(from_fn_with_state(Arc::clone(&front), check_token))
        .layer(from_fn_with_state(Arc::clone(&front), limit_body));
    Router::new()
        .fallback_service(own.fallback_service(routes))
        .layer(from_fn_with_state(front, rewrite_path))
        .layer(from_fn(cors::allow_any_origin))
}

/// `GET /`: a browser's probe and a proxy's health check.
async fn health(State(front): State<Arc<Front>>) -> Response {
    if front.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Shutting Down").into_response();
    }
    if !front.workers.ready() {
        let text = "Not Ready\nmedia threads do not answer";
        return (StatusCode::NOT_ACCEPTABLE, text).into_response();
    }
    "OK".into_response()
}

/// Clients tell by this text and status that a signalling version is missing.
pub(super) async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found").into_response()
}

async fn rewrite_path(
    State(front): State<Arc<Front>>,
    mut request: Request,
    next: Next,
) -> Response {
    rewrite(&mut request, &front.prefixes);
    next.run(request).await
}

/// Takes away a known prefix, and one slash of two at the beginning (base URLs that end in one).
pub(super) fn rewrite(request: &mut Request, configured: &[String]) {
    let path = request.uri().path();
    let shorter = shortened(path, configured);
    if shorter != path
        && let Some(uri) = with_path(request.uri(), shorter)
    {
        *request.uri_mut() = uri;
    }
}

fn shortened<'a>(path: &'a str, configured: &[String]) -> &'a str {
    let path = without_double_slash(path);
    let configured = configured.iter().map(|prefix| prefix.trim_end_matches('/'));
    for prefix in PREFIXES.into_iter().chain(configured) {
        match path.strip_prefix(prefix) {
            _ if prefix.is_empty() => {}
            Some("") => return "/",
            Some(rest) if rest.starts_with('/') => return without_double_slash(rest),
            _ => {}
        }
    }
    path
}

fn without_double_slash(path: &str) -> &str {
    match path.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// A body that says it is too long is not read; one that lies is cut off when it is.
async fn limit_body(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    if front.max_body_bytes > 0 && declared > front.max_body_bytes as u64 {
        return (StatusCode::PAYLOAD_TOO_LARGE, "request body too large").into_response();
    }
    next.run(request).await
}

/// A token that is there must be valid, whatever the path; handlers judge one that is missing, and
/// find the verified claims among the request's extensions. The token of a webhook is no participant's.
async fn check_token(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if request.uri().path() == webhook::PATH {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    match auth::authenticate(&front.keys, &parts, unix_ms() / 1000) {
        Ok(Some(claims)) => {
            parts.extensions.insert(claims);
        }
        Ok(None) => {}
        Err(error) => return (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
    next.run(Request::from_parts(parts, body)).await
}

#[cfg(test)]
mod tests;
