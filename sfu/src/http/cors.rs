//! Cross-origin headers on every answer, errors and 404 included: browsers hide an answer without
//! them, and clients then take the server for unreachable. (LK: signalling §0 rule 1, §1.1)
//!
//! Owns those headers and the preflight. Called by `http/router` as its outermost layer.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const METHODS: HeaderValue = HeaderValue::from_static("OPTIONS, HEAD, GET, POST, PATCH, DELETE");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// A day, the longest that browsers remember.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("86400");

/// Answers preflights and adds the headers to every other answer.
pub async fn allow_any_origin(request: Request, next: Next) -> Response {
    let asked = request.headers();
    let origin = asked.get(header::ORIGIN).cloned();
    let preflight = request.method() == Method::OPTIONS
        && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = if preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(ANY));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.unwrap_or(ANY));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    vary(headers, [header::ORIGIN]);
    if preflight {
        vary(
            headers,
            [
                header::ACCESS_CONTROL_REQUEST_METHOD,
                header::ACCESS_CONTROL_REQUEST_HEADERS,
            ],
        );
    }
    response
}

/// A cache must not hand one origin's answer to another.
fn vary<const N: usize>(headers: &mut HeaderMap, on: [HeaderName; N]) {
    for name in on {
        headers.append(header::VARY, HeaderValue::from(name));
    }
}
