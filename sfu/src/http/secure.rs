//! What is the same page and yet another one over TLS.
//!
//! Owns the answer to those who speak plain HTTP to the port of TLS, and what a request is told that
//! came over it. Mounted by `server`.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

const PROTOCOL: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The port that URLs leave out.
const HTTPS: u16 = 443;

/// `router` for requests that came over TLS: they are told so, as by a proxy that had ended it, for
/// answers with URLs in them. What a proxy in front says of itself stays.
pub fn over_tls(router: Router) -> Router {
    router.layer(from_fn(|mut request: Request, next: Next| {
        let headers = request.headers_mut();
        let protocol = headers.entry(PROTOCOL);
        protocol.or_insert(HeaderValue::from_static("https"));
        next.run(request)
    }))
}

/// For plain HTTP on the port of TLS: the same place by https at `port`, if `redirect`, else a refusal.
pub fn plainly(redirect: bool, port: u16) -> Router {
    Router::new().fallback(move |request: Request| async move {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let target = host.filter(|_| redirect);
        let target = target.and_then(|host| secure_url(host, request.uri(), port));
        let target = target.and_then(|url| HeaderValue::try_from(url).ok());
        answer(target)
    })
}

fn answer(target: Option<HeaderValue>) -> Response {
    // The port is for something else: no further request is waited for.
    let close = (header::CONNECTION, HeaderValue::from_static("close"));
    match target {
        Some(target) => {
            let headers = [close, (header::LOCATION, target)];
            (StatusCode::PERMANENT_REDIRECT, headers).into_response()
        }
        None => {
            let text = "this port speaks https";
            (StatusCode::BAD_REQUEST, [close], text).into_response()
        }
    }
}

/// The same by https. `None` for a host that is none.
fn secure_url(host: &str, uri: &Uri, port: u16) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, rest) = host.split_at(end);
    let sound = host.bytes().all(plain) && (rest.is_empty() || rest.starts_with(':'));
    if name.is_empty() || host.len() > 261 || !sound {
        return None;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    Some(match port {
        HTTPS => format!("https://{name}{path}"),
        port => format!("https://{name}:{port}{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::any;
    use tower::ServiceExt as _;

    async fn asked(router: Router, uri: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("an answer")
    }

    #[tokio::test]
    async fn plain_http_is_sent_to_the_same_place_by_https() {
        for (host, port, target) in [
            ("a.example", 443, "https://a.example/x?y=1"),
            ("a.example:80", 443, "https://a.example/x?y=1"),
            ("a.example:7443", 7443, "https://a.example:7443/x?y=1"),
            ("[::1]:80", 7443, "https://[::1]:7443/x?y=1"),
        ] {
            let answer = asked(plainly(true, port), "/x?y=1", &[("host", host)]).await;
            assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
            assert_eq!(answer.headers()[header::LOCATION], target);
            assert_eq!(answer.headers()[header::CONNECTION], "close");
        }
    }

    #[tokio::test]
    async fn without_a_host_or_where_it_is_not_wanted_plain_http_is_refused() {
        for (redirect, headers) in [
            (true, &[][..]),
            (true, &[("host", "a b")]),
            (true, &[("host", "a]b")]),
            (true, &[("host", ":80")]),
            (true, &[("host", "a.example/@b")]),
            (false, &[("host", "a.example")]),
        ] {
            let answer = asked(plainly(redirect, 443), "/", headers).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{headers:?}");
            assert!(!answer.headers().contains_key(header::LOCATION));
        }
    }

    #[tokio::test]
    async fn a_request_over_tls_is_told_so_unless_a_proxy_has_spoken() {
        let echo = Router::new().route(
            "/",
            any(|request: Request| async move {
                let protocol = request.headers().get(PROTOCOL).cloned();
                [(PROTOCOL, protocol.expect("told"))]
            }),
        );
        let protocol = |headers: &'static [(&str, &str)]| {
            let asked = asked(over_tls(echo.clone()), "/", headers);
            async { asked.await.headers()[PROTOCOL].clone() }
        };
        assert_eq!(protocol(&[]).await, "https");
        assert_eq!(protocol(&[("x-forwarded-proto", "http")]).await, "http");
    }
}
