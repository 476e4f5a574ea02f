//! Which transports there are: the document that clients ask their homeserver for, served in the place
//! of one that does not know it.
//!
//! Owns its paths, form and errors. Tells everybody the same, as the well-known file does, so a token
//! has to be there and is not looked at: whose it is only the homeserver could say. (MSC4143)

use crate::settled::Settled;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde::Serialize;
use serde_json::json;

/// As clients ask today, and as they will. (MSC4143, unstable prefix and stable path)
pub const PATHS: [&str; 2] = [
    "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
    "/_matrix/client/v1/rtc/transports",
];

/// One transport.
#[derive(Serialize)]
struct Transport<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    livekit_service_url: &'a str,
}

fn transports(urls: &[String]) -> Vec<Transport<'_>> {
    // Clients append a path to it.
    let plain = urls.iter().map(|url| url.trim_end_matches('/'));
    plain
        .map(|livekit_service_url| Transport {
            kind: "livekit",
            livekit_service_url,
        })
        .collect()
}

/// The document itself.
#[must_use]
pub fn document(urls: &[String]) -> String {
    json!({ "rtc_transports": transports(urls) }).to_string()
}

/// What belongs into `/.well-known/matrix/client` beside `m.homeserver`, for older clients.
#[must_use]
pub fn well_known(urls: &[String]) -> String {
    format!(
        "{:#}\n",
        json!({ "org.matrix.msc4143.rtc_foci": transports(urls) })
    )
}

/// The endpoint, for as many transports as the operator named; for none it says so in the words that
/// lead clients to the well-known file.
pub fn router(settled: Settled) -> Router {
    let mut router = Router::new();
    for path in PATHS {
        router = router.route(path, any(answer));
    }
    router.with_state(settled)
}

async fn answer(State(settled): State<Settled>, method: Method, headers: HeaderMap) -> Response {
    match method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => {
            let allowed = [
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, OPTIONS"),
                (
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    "Authorization, Content-Type, X-Requested-With",
                ),
            ];
            return (StatusCode::OK, allowed).into_response();
        }
        _ => {
            return refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "M_UNRECOGNIZED",
                "Unrecognized request",
            );
        }
    }
    let urls = &settled.config().transports;
    if urls.is_empty() {
        return refused(
            StatusCode::NOT_FOUND,
            "M_NOT_FOUND",
            "No RTC transports are configured",
        );
    }
    let bearer = headers.get(header::AUTHORIZATION);
    if !bearer.is_some_and(|value| value.as_bytes().starts_with(b"Bearer ")) {
        return refused(
            StatusCode::UNAUTHORIZED,
            "M_MISSING_TOKEN",
            "Missing access token",
        );
    }
    json_body(StatusCode::OK, document(urls))
}

fn refused(status: StatusCode, errcode: &str, error: &str) -> Response {
    json_body(
        status,
        json!({ "errcode": errcode, "error": error }).to_string(),
    )
}

fn json_body(status: StatusCode, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::Value;
    use tower::ServiceExt as _;

    const URL: &str = "https://rtc.example.org/livekit/jwt";

    async fn ask(urls: &[&str], method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Body::empty()).expect("a request");
        let config = Config {
            transports: urls,
            ..Config::default()
        };
        let settled = Settled::fixed(config).expect("good");
        let response = router(settled).oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 4096).await.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_client_is_told_the_transports_on_both_paths() {
        let expected = json!({"rtc_transports": [
            {"type": "livekit", "livekit_service_url": URL},
            {"type": "livekit", "livekit_service_url": "https://b.example"},
        ]});
        // A slash at the end would double the one that clients write.
        let urls = [&format!("{URL}/"), "https://b.example"];
        for path in PATHS {
            let told = ask(&urls, "GET", path, Some("Bearer syt_x")).await;
            assert_eq!(told, (200, expected.clone()), "{path}");
        }
        assert_eq!(ask(&urls, "OPTIONS", PATHS[0], None).await.0, 200);
    }

    #[tokio::test]
    async fn errors_are_those_that_clients_understand() {
        let code = |(status, body): (u16, Value)| (status, body["errcode"].clone());
        for token in [None, Some("Basic x"), Some("")] {
            let told = ask(&[URL], "GET", PATHS[0], token).await;
            assert_eq!(code(told), (401, json!("M_MISSING_TOKEN")), "{token:?}");
        }
        let told = ask(&[], "GET", PATHS[0], Some("Bearer x")).await;
        assert_eq!(code(told), (404, json!("M_NOT_FOUND")));
        let told = ask(&[URL], "POST", PATHS[0], Some("Bearer x")).await;
        assert_eq!(code(told), (405, json!("M_UNRECOGNIZED")));
    }

    #[test]
    fn older_clients_find_the_same_in_the_well_known_file() {
        let text = well_known(&[URL.to_owned()]);
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let foci = &read["org.matrix.msc4143.rtc_foci"];
        assert_eq!(
            *foci,
            json!([{"type": "livekit", "livekit_service_url": URL}])
        );
    }
}
