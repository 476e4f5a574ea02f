//! The metrics' own port: a scrape on any path, and whether this process lives and is ready.
//!
//! Owns basic authentication of scrapes. `/healthz` and `/readyz` ask for none: they say nothing
//! worth protecting. Mounted by `server`. (LK: server ops §10, §11.5)

use crate::addresses::Recheck;
use crate::config::check::Prometheus;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asked whether a part still runs; it must not wait.
type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// Does this process take new sessions? Shared by all who answer for it.
#[derive(Clone, Default)]
pub struct Readiness {
    serving: Arc<AtomicBool>,
    /// Nobody knows by which address clients would reach us.
    lost: Arc<AtomicBool>,
    /// Of the TURN server, if there is one.
    relay: Arc<OnceLock<Probe>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("is_ready", &self.is_ready())
            .finish()
    }
}

impl Readiness {
    /// Says so from now on.
    pub fn set(&self, ready: bool) {
        self.serving.store(ready, Ordering::Release);
    }

    /// Says that an address is known by which clients reach us, or that none is. Until it is said,
    /// one is.
    pub fn set_reachable(&self, reachable: bool) {
        self.lost.store(!reachable, Ordering::Release);
    }

    /// Clients are told of a TURN server from now on, which this says runs. Only the first one counts.
    pub fn set_relay(&self, runs: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.relay.set(Box::new(runs));
    }

    /// It takes new sessions.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let relayed = || self.relay.get().is_none_or(|runs| runs());
        self.serving.load(Ordering::Acquire) && !self.lost.load(Ordering::Acquire) && relayed()
    }
}

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    /// The whole `Authorization` header to expect.
    authorization: Option<Arc<str>>,
    check: Option<Recheck>,
    rooms: Option<Rooms>,
}

impl Admin {
    /// The answer to whoever does not have the credentials.
    fn refuse(&self, headers: &HeaderMap) -> Option<Response> {
        let given = headers.get(header::AUTHORIZATION);
        let given = given.map(|value| value.as_bytes());
        let wanted = self.authorization.as_ref()?;
        if given.is_some_and(|given| same(given, wanted.as_bytes())) {
            return None;
        }
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"Protected Area\"")];
        Some((StatusCode::UNAUTHORIZED, challenge, "Unauthorized").into_response())
    }
}

/// `/healthz` and `/readyz`, for this port and for the main one.
pub fn health(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "OK" }))
        .route("/readyz", get(ready))
        .with_state(readiness)
}

/// Everything on the metrics port. `check` makes the server look at its addresses again, and `rooms` tell who
/// is there, if it has media.
pub fn router(
    config: &Prometheus,
    metrics: Metrics,
    readiness: Readiness,
    (check, rooms): (Option<Recheck>, Option<Rooms>),
) -> Router {
    let authorization = config.credentials.as_ref().map(|(name, password)| {
        let pair = format!("{name}:{}", password.reveal());
        Arc::from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    });
    let admin = Admin {
        metrics,
        authorization,
        check,
        rooms,
    };
    Router::new()
        .route("/debug/rooms", get(report))
        .route("/addresses/check", post(check_addresses))
        .fallback(get(scrape))
        .with_state(admin)
        .merge(health(readiness))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let (status, body) = if readiness.is_ready() {
        (StatusCode::OK, r#"{"ready":true}"#)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false}"#)
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn scrape(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Some(refused) = admin.refuse(&headers) {
        return refused;
    }
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], admin.metrics.page()).into_response()
}

/// What is found is told in log and metrics.
async fn check_addresses(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Some(refused) = admin.refuse(&headers) {
        return refused;
    }
    let Some(check) = &admin.check else {
        return StatusCode::NOT_FOUND.into_response();
    };
    check.now();
    StatusCode::ACCEPTED.into_response()
}

/// Who is in which room, and by what his media comes. (LK: server ops §11.6) It names people: without a
/// password nobody hears it.
async fn report(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Some(refused) = admin.refuse(&headers) {
        return refused;
    }
    if admin.authorization.is_none() {
        let fix = "it names people: set prometheus.username and prometheus.password\n";
        return (StatusCode::FORBIDDEN, fix).into_response();
    }
    let Some(rooms) = &admin.rooms else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match serde_json::to_string(&rooms.report().await) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a report cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Compares in a time that does not tell where the difference is.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let difference = given
        .iter()
        .zip(wanted)
        .fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == wanted.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Secret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    fn config(credentials: Option<(String, Secret)>) -> Prometheus {
        Prometheus {
            port: 0,
            bind_addresses: vec![],
            credentials,
        }
    }

    fn of(credentials: Option<(String, Secret)>) -> Router {
        let metrics = Metrics::new("n");
        router(
            &config(credentials),
            metrics,
            Readiness::default(),
            (None, None),
        )
    }

    /// The answer to one request, head and body.
    async fn answer(router: Router, path: &str, header: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answered");
        server.abort();
        text
    }

    #[tokio::test]
    async fn any_path_is_a_scrape() {
        for path in ["/", "/metrics", "/a/b"] {
            let router = of(None);
            let text = answer(router, path, "").await;
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            assert!(text.contains("livekit_room_total{node"), "{text}");
        }
    }

    #[tokio::test]
    async fn credentials_are_asked_for_and_health_is_not_behind_them() {
        let of = || of(Some(("u".into(), Secret::new("p".into()))));
        let refused = answer(of(), "/metrics", "").await;
        assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("Protected Area"));
        let wrong = answer(of(), "/metrics", "Authorization: Basic dTpx\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
        let right = answer(of(), "/metrics", "Authorization: Basic dTpw\r\n").await;
        assert!(right.starts_with("HTTP/1.1 200"), "{right}");
        assert!(
            answer(of(), "/healthz", "")
                .await
                .starts_with("HTTP/1.1 200")
        );
    }

    #[tokio::test]
    async fn people_are_named_to_those_with_a_password_only() {
        let open = answer(of(None), "/debug/rooms", "").await;
        assert!(open.starts_with("HTTP/1.1 403"), "{open}");
        let shut = || of(Some(("u".into(), Secret::new("p".into()))));
        let refused = answer(shut(), "/debug/rooms", "").await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        let none = answer(shut(), "/debug/rooms", "Authorization: Basic dTpw\r\n").await;
        assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    }

    #[tokio::test]
    async fn readiness_follows_its_switch() {
        let readiness = Readiness::default();
        let status = |text: String| text.split(' ').nth(1).map(str::to_owned);
        let before = answer(health(readiness.clone()), "/readyz", "").await;
        assert_eq!(status(before).as_deref(), Some("503"));
        readiness.set(true);
        readiness.set_reachable(false);
        let lost = answer(health(readiness.clone()), "/readyz", "").await;
        assert_eq!(status(lost).as_deref(), Some("503"));
        readiness.set_reachable(true);
        let after = answer(health(readiness.clone()), "/readyz", "").await;
        assert_eq!(status(after).as_deref(), Some("200"));
        let runs = Arc::new(AtomicBool::new(true));
        let relay = Arc::clone(&runs);
        readiness.set_relay(move || relay.load(Ordering::Relaxed));
        assert!(readiness.is_ready());
        runs.store(false, Ordering::Relaxed);
        let broken = answer(health(readiness), "/readyz", "").await;
        assert_eq!(status(broken).as_deref(), Some("503"));
    }
}
