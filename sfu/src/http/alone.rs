//! The routes of the authorization service alone: nothing else is on its port.
//!
//! Owns prefixes, health and what stands on a path that nobody serves. A function from routes to
//! router, so that tests call it without a socket. Called by `server`. (LK: jwt-service §1)

use super::{cors, router};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

/// `service` at `/` and below every prefix, the configured ones too.
///
/// Its endpoints set their own cross-origin headers. `/healthz` has none; a path that is not there
/// has them, since a proxy may send clients here that look for the SFU, and only a 404 that they can
/// read makes them go on.
pub fn router(prefixes: &[String], service: Router) -> Router {
    let astray = Router::new()
        .fallback(router::not_found)
        .layer(from_fn(cors::allow_any_origin));
    let routes = service
        .route("/healthz", get(|| async {}))
        .fallback_service(astray);
    // A router rewrites no path before it has routed: hence one around the other.
    let prefixes: Arc<[String]> = prefixes.into();
    Router::new()
        .fallback_service(routes)
        .layer(from_fn_with_state(prefixes, rewrite))
}

async fn rewrite(
    State(prefixes): State<Arc<[String]>>,
    mut request: Request,
    next: Next,
) -> Response {
    router::rewrite(&mut request, &prefixes);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Method;
    use axum::routing::post;
    use tower::ServiceExt as _;

    /// Status, whether a page may read it, and the body.
    async fn ask(method: Method, path: &str) -> (u16, bool, String) {
        let service = Router::new().route("/sfu/get", post(|| async { "token" }));
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).expect("a request");
        let router = router(&["/calls/".to_owned()], service);
        let answer = router.oneshot(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1000).await.expect("a body");
        let readable = head.headers.contains_key("access-control-allow-origin");
        let body = String::from_utf8(body.to_vec()).expect("text");
        (head.status.as_u16(), readable, body)
    }

    #[tokio::test]
    async fn it_is_served_at_the_root_and_below_every_prefix() {
        for path in [
            "/sfu/get",
            "//sfu/get",
            "/livekit/jwt/sfu/get",
            "/livekit/jwt//sfu/get",
            "/livekit-jwt-service/sfu/get?x=y",
            "/calls/sfu/get",
        ] {
            let answer = ask(Method::POST, path).await;
            assert_eq!(answer, (200, false, "token".into()), "{path}");
        }
    }

    #[tokio::test]
    async fn health_is_an_empty_200_for_who_asks_and_405_for_others() {
        for path in ["/healthz", "/livekit/jwt/healthz"] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(ask(method, path).await, (200, false, String::new()));
            }
            for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
                assert_eq!(ask(method, path).await.0, 405, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_404_that_a_page_may_read() {
        for path in ["/", "/rtc/v1", "/sfu/get/", "/healthz/x", "/get_token"] {
            let (status, readable, body) = ask(Method::GET, path).await;
            assert_eq!((status, readable), (404, true), "{path}");
            assert_eq!(body, "404 page not found");
        }
    }
}
