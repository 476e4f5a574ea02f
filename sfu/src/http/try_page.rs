//! The page to try a call at `/try`, and the token it asks for. Development mode only: anybody who
//! reaches it may join any room, which is what the published development key allows anyway.
//!
//! Owns the page's files, their headers and what a token of the page grants; it never looks into a
//! room. `server` merges its router beside the signalling.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use proto::token::{Claims, Keys, VideoGrant};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a token of the page is good for joining.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Longest room name, identity and name the page may ask for, in bytes: 64 characters of any
/// script, and far below what a room accepts.
const NAME_BYTES: usize = 256;

/// The files below `/try`: path, content type, content.
const FILES: [(&str, &str, &str); 5] = [
    (
        "/try",
        "text/html; charset=utf-8",
        include_str!("try/index.html"),
    ),
    (
        "/try/try.js",
        "text/javascript; charset=utf-8",
        include_str!("try/try.js"),
    ),
    (
        "/try/call.js",
        "text/javascript; charset=utf-8",
        include_str!("try/call.js"),
    ),
    (
        "/try/panel.js",
        "text/javascript; charset=utf-8",
        include_str!("try/panel.js"),
    ),
    (
        "/try/try.css",
        "text/css; charset=utf-8",
        include_str!("try/try.css"),
    ),
];

/// What a browser is told about all of them. Nothing foreign may run or be asked, no other page may
/// frame this one; a socket is `ws:` because older browsers do not count it to `'self'`.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob: mediastream:; \
         img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), geolocation=()",
    ),
    // A newer server has a newer page, and a token is for one.
    (header::CACHE_CONTROL, "no-store"),
];

/// The routes `/try…`.
pub fn router(keys: Arc<Keys>) -> Router {
    let mut router = Router::new().route("/try/token", post(token));
    for (path, kind, text) in FILES {
        let answer = move || async move { ([(header::CONTENT_TYPE, kind)], text) };
        router = router.route(path, get(answer));
    }
    router.with_state(keys).layer(map_response(guard))
}

async fn guard(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[derive(Debug, Deserialize)]
struct Wanted {
    room: String,
    identity: String,
    /// What the others see; the identity if absent.
    name: Option<String>,
}

async fn token(
    State(keys): State<Arc<Keys>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    if from_elsewhere(&headers) {
        let text = "only the page itself may ask";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let name = wanted.name.unwrap_or_else(|| wanted.identity.clone());
    let names = [&wanted.room, &wanted.identity, &name];
    if names.into_iter().any(|name| !fits(name)) {
        let text = "room, identity and name take 1 to 256 bytes and no control characters";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let claims = Claims {
        identity: wanted.identity,
        name,
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

fn fits(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES && !name.chars().any(char::is_control)
}

/// Does a browser say that another site asks? Our answers are readable to any origin.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::{Method, Request};
    use proto::token::Secret;
    use tower::ServiceExt;

    fn keys() -> Arc<Keys> {
        let pair = (
            "key".to_owned(),
            Secret::new("a secret that is long enough"),
        );
        Arc::new([pair].into_iter().collect())
    }

    async fn ask(method: Method, uri: &str, site: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(site) = site {
            request = request.header("Sec-Fetch-Site", site);
        }
        let request = request.body(Body::empty()).expect("request");
        let answer = router(keys()).oneshot(request).await.expect("answer");
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, 100_000).await.expect("body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        (parts.status, parts.headers, text)
    }

    async fn status_of_token(query: &str) -> StatusCode {
        let (status, _, body) = ask(Method::POST, &format!("/try/token?{query}"), None).await;
        // A refusal hands out nothing that looks like a token.
        assert_eq!(status == StatusCode::OK, body.matches('.').count() == 2);
        status
    }

    #[tokio::test]
    async fn every_file_the_page_names_is_served_with_its_type() {
        let (status, headers, page) = ask(Method::GET, "/try", None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            headers.get(header::CONTENT_TYPE).expect("type"),
            "text/html; charset=utf-8"
        );
        let mut named = 0;
        for (path, kind, text) in FILES.into_iter().skip(1) {
            let (status, headers, body) = ask(Method::GET, path, None).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert_eq!(headers.get(header::CONTENT_TYPE).expect("type"), kind);
            assert_eq!(body, text);
            // Relative, so that it is found below any prefix.
            named += usize::from(page.contains(&format!("\"{}\"", path.trim_start_matches('/'))));
        }
        assert_eq!(named, 2, "one script, one style sheet");
    }

    #[tokio::test]
    async fn the_page_asks_nothing_of_other_sites() {
        for (path, _, text) in FILES {
            assert!(!text.contains("http://"), "{path}");
            let links = text.matches("https://").count();
            assert_eq!(links, text.matches("from https:// or").count(), "{path}");
            assert!(text.lines().count() < 600, "{path}");
        }
        assert!(!FILES[0].2.contains("style=") && !FILES[0].2.contains("onclick="));
    }

    #[tokio::test]
    async fn every_answer_is_guarded() {
        let token = "/try/token?room=a&identity=b";
        for (method, path) in [(Method::GET, "/try"), (Method::POST, token)] {
            let (_, headers, _) = ask(method, path, None).await;
            for (name, value) in HEADERS {
                assert_eq!(headers.get(&name).expect("there"), value);
            }
        }
        assert!(HEADERS[0].1.starts_with("default-src 'self';"));
        assert!(!HEADERS[0].1.contains("unsafe"));
    }

    #[tokio::test]
    async fn a_token_lets_its_bearer_join_the_room_it_names_and_no_other() {
        let uri = "/try/token?room=caf%C3%A9&identity=try-1&name=Ann";
        let (status, _, token) = ask(Method::POST, uri, Some("same-origin")).await;
        assert_eq!(status, StatusCode::OK);
        let claims = keys()
            .verify(&token, now_unix())
            .expect("valid")
            .into_inner();
        assert_eq!((&*claims.identity, &*claims.name), ("try-1", "Ann"));
        assert_eq!(claims.video, Some(VideoGrant::join("café")));
        assert!(keys().verify(&token, now_unix() + 2 * 3600).is_err());
    }

    #[tokio::test]
    async fn a_name_is_the_identity_if_none_is_given() {
        let (_, _, token) = ask(Method::POST, "/try/token?room=a&identity=bo", None).await;
        let claims = keys()
            .verify(&token, now_unix())
            .expect("valid")
            .into_inner();
        assert_eq!(claims.name, "bo");
    }

    #[tokio::test]
    async fn bad_names_are_refused() {
        let most = "x".repeat(NAME_BYTES);
        assert_eq!(
            status_of_token(&format!("room={most}&identity=b")).await,
            StatusCode::OK
        );
        for query in [
            "",
            "room=a",
            "identity=b",
            "room=&identity=b",
            "room=a&identity=",
            "room=a&identity=%20",
            "room=a&identity=b&name=",
            "room=a%0A&identity=b",
            "room=a&identity=b&name=%00",
            &format!("room={most}x&identity=b"),
            &format!("room=a&identity={most}x"),
            &format!("room=a&identity=b&name={most}x"),
        ] {
            assert_eq!(
                status_of_token(query).await,
                StatusCode::BAD_REQUEST,
                "{query}"
            );
        }
    }

    #[tokio::test]
    async fn a_token_is_neither_fetched_nor_handed_to_other_sites() {
        let uri = "/try/token?room=a&identity=b";
        let (status, _, _) = ask(Method::GET, uri, None).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        for site in ["cross-site", "same-site"] {
            let (status, _, body) = ask(Method::POST, uri, Some(site)).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert!(!body.contains("ey"), "{body}");
        }
    }
}
