//! The main port while the server is still starting: it says that it lives, and lets all else wait for
//! the routes.
//!
//! A start may wait for what another process has left behind, and whoever watches over processes is not
//! to end this one for it. Called by `server`.

use crate::http::admin::{self, Readiness};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

#[derive(Clone)]
struct Gate {
    health: Router,
    routes: watch::Receiver<Option<Router>>,
}

/// Passes everything to the routes once they are told.
pub fn router(readiness: Readiness) -> (watch::Sender<Option<Router>>, Router) {
    let (open, routes) = watch::channel(None);
    let gate = Gate {
        health: admin::health(readiness),
        routes,
    };
    (open, Router::new().fallback(pass).with_state(gate))
}

async fn pass(State(mut gate): State<Gate>, request: Request) -> Response {
    let there = gate.routes.borrow().clone();
    let routes = match there {
        Some(routes) => routes,
        None if matches!(request.uri().path(), "/healthz" | "/readyz") => gate.health,
        None => match gate.routes.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(routes)) => routes.clone(),
            // The start has failed, and the process ends.
            _ => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    };
    match TowerToHyperService::new(routes).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, path: &str) -> (u16, String) {
        let request = Request::builder().uri(path).body(Body::empty());
        let request = request.expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1000).await.expect("a body");
        let body = String::from_utf8(body.to_vec()).expect("text");
        (head.status.as_u16(), body)
    }

    #[tokio::test]
    async fn while_it_starts_it_lives_and_requests_wait_for_the_routes() {
        let (open, router) = router(Readiness::default());
        assert_eq!(ask(&router, "/healthz").await, (200, "OK".to_owned()));
        assert_eq!(ask(&router, "/readyz").await.0, 503);
        let waiting = tokio::spawn({
            let router = router.clone();
            async move { ask(&router, "/").await }
        });
        let there = Router::new()
            .route("/", get(|| async { "there" }))
            .route("/healthz", get(|| async { "routes" }));
        open.send_replace(Some(there));
        let answer = waiting.await.expect("answered");
        assert_eq!(answer, (200, "there".to_owned()));
        assert_eq!(ask(&router, "/healthz").await.1, "routes");
    }

    #[tokio::test]
    async fn a_start_that_fails_leaves_nobody_waiting() {
        let (open, router) = router(Readiness::default());
        drop(open);
        assert_eq!(ask(&router, "/rtc").await.0, 503);
    }
}
