//! The page to try a call at `/try`, and the token it asks for. Development mode only: anybody who
//! reaches it may join any room, which is what the published development key allows anyway.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use proto::token::{Claims, Keys, VideoGrant};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a token of the page is good for joining.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Longest room name and identity the page may ask for.
const NAME_BYTES: usize = 64;

const HTML: &str = include_str!("try/index.html");
const SCRIPT: &str = include_str!("try/try.js");
const STYLE: &str = include_str!("try/try.css");

/// The routes `/try…`.
pub fn router(keys: Arc<Keys>) -> Router {
    let page = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    Router::new()
        .route("/try", page("text/html; charset=utf-8", HTML))
        .route(
            "/try/try.js",
            page("text/javascript; charset=utf-8", SCRIPT),
        )
        .route("/try/try.css", page("text/css; charset=utf-8", STYLE))
        .route("/try/token", post(token))
        .with_state(keys)
}

#[derive(Debug, Deserialize)]
struct Wanted {
    room: String,
    identity: String,
}

async fn token(State(keys): State<Arc<Keys>>, Query(wanted): Query<Wanted>) -> Response {
    let valid = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES;
    if !valid(&wanted.room) || !valid(&wanted.identity) {
        return (
            StatusCode::BAD_REQUEST,
            "room and identity take 1 to 64 bytes",
        )
            .into_response();
    }
    let claims = Claims {
        identity: wanted.identity.clone(),
        name: wanted.identity,
        video: Some(VideoGrant::join(&wanted.room)),
        ..Claims::default()
    };
    match keys.sign(&claims, TOKEN_LIFETIME, now_unix()) {
        Ok(token) => token.into_response(),
        Err(error) => {
            tracing::error!(%error, "no token for the page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Seconds since 1970.
fn now_unix() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "shell: a token carries wall-clock times"
    )]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
