use super::*;
use crate::config::{FullAccess, Homeserver as Configured};
use crate::limits::Rates;
use crate::stand_in::homeserver::{Asked as AskedOf, Homeserver, Reply};
use crate::stand_in::rooms::Rooms;
use crate::stand_in::service::{self, keys};
use crate::stand_in::watch::Remembered;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A service, the homeserver it asks, and what they did.
struct World {
    service: Arc<Service>,
    rooms: Arc<Rooms>,
    watch: Arc<Remembered>,
    homeserver: Homeserver,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

/// `good` is Alice's token, everything else nobody's.
fn vouch(asked: &AskedOf) -> Reply {
    if asked.path.contains("/delayed_events/") {
        let status = if asked.path.contains("/forbidden/") {
            401
        } else {
            200
        };
        return Reply::Says(status, String::new(), "{}".into());
    }
    if asked.path.ends_with("access_token=good") {
        Reply::user("@alice:example.com")
    } else {
        let unknown = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"unknown"}"#;
        Reply::Says(401, String::new(), unknown.into())
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Config::default(), Rooms::default(), keys()).await
    }

    async fn with(mut config: Config, rooms: Rooms, keys: Keys) -> Self {
        let homeserver = Homeserver::start(None, vouch).await;
        config.homeservers.push(Configured {
            name: "example.com".into(),
            url: format!("http://{}", homeserver.address),
        });
        let settled = Settled::fixed(config).expect("good");
        let rooms = Arc::new(rooms);
        let watch = Arc::<Remembered>::default();
        let service = service::service(settled, keys, &rooms, &watch);
        Self {
            service,
            rooms,
            watch,
            homeserver,
        }
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "rtc.example.com")
            .body(body.into())
            .expect("a request");
        self.send(request).await
    }

    async fn send(&self, request: Request) -> Answer {
        let router = router(Arc::clone(&self.service));
        let (parts, body) = router
            .oneshot(request)
            .await
            .expect("an answer")
            .into_parts();
        let body = to_bytes(body, 100_000).await.expect("a body");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, body.to_string()).await
    }

    fn made(&self) -> Vec<String> {
        self.rooms.made()
    }
}

impl Answer {
    /// This status and body; and a browser may read it.
    #[track_caller]
    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
        self.is_readable();
    }

    #[track_caller]
    fn is_readable(&self) {
        for (name, value) in HEADERS {
            assert_eq!(self.headers.get(&name), Some(&value), "{name}");
        }
    }

    #[track_caller]
    fn refuses(&self, status: u16, code: &str, text: &str) {
        self.is_readable();
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(self.status, status, "{body}");
        assert_eq!(
            (&body["errcode"], &body["error"]),
            (&json!(code), &json!(text))
        );
    }

    /// URL and claims of the token, decoded as Element Call does.
    #[track_caller]
    fn issued(&self) -> (String, Value) {
        self.is_readable();
        assert_eq!(self.status, 200, "{}", self.body);
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        let jwt = body["jwt"].as_str().expect("a token");
        keys()
            .verify(jwt, unix_s())
            .expect("signed by the first key");
        let payload = jwt.split('.').nth(1).expect("three parts");
        let payload = BASE64_STANDARD_NO_PAD
            .decode(payload)
            .expect("atob decodes it");
        let url = body["url"].as_str().expect("a URL").to_owned();
        (url, serde_json::from_slice(&payload).expect("JSON"))
    }
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn open_id(token: &str) -> Value {
    json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": "example.com",
        "expires_in": 3600,
    })
}

fn older() -> Value {
    json!({ "room": "!room:example.com", "openid_token": open_id("good"), "device_id": "DEVICE" })
}

fn newer() -> Value {
    json!({
        "room_id": "!room:example.com",
        "slot_id": "m.call#ROOM",
        "openid_token": open_id("good"),
        "member": {
            "id": "member-1",
            "claimed_user_id": "@alice:example.com",
            "claimed_device_id": "DEVICE",
        },
    })
}

const ROOM: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";

#[tokio::test]
async fn the_older_endpoint_issues_the_plain_identity() {
    let world = World::new().await;
    let (url, claims) = world.post("/sfu/get", &older()).await.issued();
    assert_eq!(url, "ws://rtc.example.com");
    assert_eq!(claims["sub"], "@alice:example.com:DEVICE");
    assert_eq!(claims["identity"], claims["sub"]);
    assert_eq!(claims["video"]["room"], ROOM);
    assert_eq!(claims["video"]["canPublish"], true);
    let lifetime = claims["exp"].as_u64().zip(claims["iat"].as_u64());
    assert_eq!(lifetime.map(|(exp, iat)| exp - iat), Some(3600));
    assert_eq!(world.made(), [ROOM]);
    let phases = ["lookup ok", "signed ok", "room ok", "sfu_get issued"];
    assert_eq!(world.watch.all(), phases);
}

#[tokio::test]
async fn the_newer_endpoint_issues_the_hashed_identity_in_the_same_room() {
    let world = World::new().await;
    let (_, claims) = world.post("/get_token", &newer()).await.issued();
    assert_eq!(claims["sub"], "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU");
    assert_eq!(claims["video"]["room"], ROOM);
    assert_eq!(world.made(), [ROOM]);
}

#[tokio::test]
async fn the_configured_url_is_told_as_it_is() {
    let url = "wss://sfu.example.com/livekit/sfu/?x";
    let config = Config {
        url: Some(url.into()),
        ..Config::default()
    };
    let world = World::with(config, Rooms::default(), keys()).await;
    assert_eq!(world.post("/sfu/get", &older()).await.issued().0, url);
}

#[tokio::test]
async fn users_of_other_servers_get_a_token_and_no_room() {
    for (restricted, publishes) in [(Restricted::Subscribe, false), (Restricted::Publish, true)] {
        let config = Config {
            full_access: FullAccess::listed(vec!["other.example".into()]),
            restricted,
            ..Config::default()
        };
        let world = World::with(config, Rooms::default(), keys()).await;
        let (_, claims) = world.post("/sfu/get", &older()).await.issued();
        assert_eq!(claims["video"]["canPublish"], publishes);
        assert_eq!(claims["video"]["canSubscribe"], true);
        assert_eq!(claims["video"].get("roomCreate"), None);
        assert_eq!(world.made(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn users_of_other_servers_may_be_refused_altogether() {
    let config = Config {
        full_access: FullAccess::listed(vec!["other.example".into()]),
        restricted: Restricted::Refuse,
        ..Config::default()
    };
    let world = World::with(config, Rooms::default(), keys()).await;
    for (path, body) in [("/sfu/get", older()), ("/get_token", newer())] {
        let answer = world.post(path, &body).await;
        let text = "Users of this homeserver are not served here";
        answer.refuses(403, "M_FORBIDDEN", text);
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_the_operator_says() {
    let config = Config {
        token_lifetime: Duration::from_secs(60),
        ..Config::default()
    };
    let world = World::with(config, Rooms::default(), keys()).await;
    let (_, claims) = world.post("/sfu/get", &older()).await.issued();
    let until = |name: &str| claims[name].as_u64().expect("seconds");
    assert_eq!(until("exp") - until("nbf"), 60);
}

#[tokio::test]
async fn a_token_that_the_homeserver_does_not_know_is_refused() {
    let world = World::new().await;
    let text = "The request could not be authorised.";
    for (path, mut body) in [("/sfu/get", older()), ("/get_token", newer())] {
        body["openid_token"] = open_id("bad");
        let answer = world.post(path, &body).await;
        answer.refuses(401, "M_UNAUTHORIZED", text);
        body["openid_token"] = open_id("good");
        body["openid_token"]["matrix_server_name"] = json!("no server");
        let answer = world.post(path, &body).await;
        answer.refuses(401, "M_UNAUTHORIZED", text);
    }
    assert_eq!(world.made(), Vec::<String>::new());
}

#[tokio::test]
async fn the_claimed_user_must_be_the_token_s() {
    let world = World::new().await;
    let mut body = newer();
    for claimed in [
        "@bob:example.com",
        "@Alice:example.com",
        "@alice:example.com ",
    ] {
        body["member"]["claimed_user_id"] = json!(claimed);
        let answer = world.post("/get_token", &body).await;
        answer.refuses(
            401,
            "M_UNAUTHORIZED",
            "The request could not be authorised.",
        );
    }
    assert_eq!(world.made(), Vec::<String>::new());
}

#[tokio::test]
async fn a_bad_body_is_refused_before_anybody_is_asked() {
    let world = World::new().await;
    for path in ["/sfu/get", "/get_token"] {
        let answer = world.ask(Method::POST, path, "").await;
        answer.refuses(400, "M_NOT_JSON", "Error reading request");
    }
    let empty = json!({});
    let answer = world.post("/sfu/get", &empty).await;
    answer.refuses(400, "M_BAD_JSON", "Missing room parameter");
    let answer = world.post("/get_token", &empty).await;
    let text = "The request body is missing `room_id` or `slot_id`";
    answer.refuses(400, "M_BAD_JSON", text);
    assert_eq!(world.homeserver.asked(), []);
    let counted = world.watch.all();
    assert_eq!(counted[0], "sfu_get not_json");
    assert_eq!(counted[3], "get_token bad_json");
}

#[tokio::test]
async fn who_asks_for_delegation_is_told_to_ask_again_without_it() {
    let world = World::new().await;
    for (path, mut body) in [("/sfu/get", older()), ("/get_token", newer())] {
        body["delay_id"] = json!("syd_x");
        body["delay_timeout"] = json!(3_600_000);
        body["delay_cs_api_url"] = json!("http://localhost:18008");
        let answer = world.post(path, &body).await;
        let text = "Delegation of delayed events is only supported for full access users";
        answer.refuses(400, "M_BAD_JSON", text);
    }
    assert_eq!(world.made(), Vec::<String>::new());
    let answer = world.ask(Method::POST, "/delegate_delayed_leave", "").await;
    answer.refuses(404, "M_UNRECOGNIZED", "Unrecognized request");
}

#[tokio::test]
async fn a_leave_is_taken_over_with_a_token_or_alone_from_full_access_users_only() {
    let server = |full_access| Config {
        delegation: true,
        full_access,
        ..Config::default()
    };
    let everyone = World::with(server(FullAccess::Everyone), Rooms::default(), keys()).await;
    let others = FullAccess::listed(vec!["other.example".into()]);
    let others = World::with(server(others), Rooms::default(), keys()).await;
    let mut body = newer();
    body["delay_id"] = json!("syd_x");
    body["delay_timeout"] = json!("60000");
    everyone.post("/get_token", &body).await.issued();
    let answer = everyone.post("/delegate_delayed_leave", &body).await;
    answer.is(200, "{}");
    let text = "Delegation of delayed events is only supported for full access users";
    let answer = others.post("/get_token", &body).await;
    answer.refuses(400, "M_BAD_JSON", text);
    let answer = others.post("/delegate_delayed_leave", &body).await;
    answer.refuses(403, "M_FORBIDDEN", text);
    // One the homeserver keeps for its owner.
    body["delay_id"] = json!("forbidden");
    everyone
        .post("/get_token", &body)
        .await
        .refuses(400, "M_BAD_JSON", text);
    let answer = everyone.post("/delegate_delayed_leave", &body).await;
    answer.refuses(404, "M_UNRECOGNIZED", "Unrecognized request");
    for (name, value) in [
        ("delay_id", json!("..")),
        ("delay_timeout", json!(0)),
        ("room_id", json!("")),
    ] {
        let mut bad = body.clone();
        bad[name] = value;
        let answer = everyone.post("/delegate_delayed_leave", &bad).await;
        assert_eq!(answer.status, 400, "{name}");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let few = |change: fn(&mut Rates)| {
        let mut rates = Rates::DEFAULT;
        change(&mut rates);
        Config {
            rates,
            ..Config::default()
        }
    };
    let with = |config| World::with(config, Rooms::default(), keys());
    for (world, limit) in [
        (with(few(|rates| rates.user = 2)).await, "limit jwt_user"),
        (
            with(few(|rates| rates.address = 2)).await,
            "limit jwt_address",
        ),
    ] {
        let ask = || async {
            let request = Request::builder()
                .method(Method::POST)
                .uri("/sfu/get")
                .header("Host", "rtc.example.com")
                .header("x-test-address", "192.0.2.7")
                .body(Body::from(older().to_string()))
                .expect("a request");
            world.send(request).await
        };
        for _ in 0..2 {
            assert_eq!(ask().await.status, 200);
        }
        let answer = ask().await;
        assert_eq!(answer.status, 429);
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
        let ms = body["retry_after_ms"].as_u64().expect("a number");
        assert!((20_000..=30_000).contains(&ms), "{ms}");
        let seconds = answer.headers.get(header::RETRY_AFTER).expect("a header");
        let seconds: u64 = seconds.to_str().expect("text").parse().expect("a number");
        assert_eq!(seconds, ms.div_ceil(1000));
        assert!(world.watch.all().contains(&limit.to_owned()));
    }
}

#[tokio::test]
async fn users_of_one_strange_homeserver_do_not_have_it_asked_without_end() {
    let rates = Rates {
        server: 1,
        ..Rates::DEFAULT
    };
    let config = Config {
        rates,
        ..Config::default()
    };
    let world = World::with(config, Rooms::default(), keys()).await;
    let mut body = older();
    // No look-up is made of such a name, yet it counts.
    body["openid_token"]["matrix_server_name"] = json!("strange..example");
    assert_eq!(world.post("/sfu/get", &body).await.status, 401);
    assert_eq!(world.post("/sfu/get", &body).await.status, 429);
    // Those the operator named are not limited so.
    assert_eq!(world.post("/sfu/get", &older()).await.status, 200);
    assert_eq!(world.post("/sfu/get", &older()).await.status, 200);
}

#[tokio::test]
async fn other_methods_are_answered_without_a_body() {
    let world = World::new().await;
    let delegation = World::with(
        Config {
            delegation: true,
            ..Config::default()
        },
        Rooms::default(),
        keys(),
    );
    let delegation = delegation.await;
    for (world, path) in [
        (&world, "/sfu/get"),
        (&world, "/get_token"),
        (&delegation, "/delegate_delayed_leave"),
    ] {
        world.ask(Method::OPTIONS, path, "").await.is(200, "");
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let answer = world.ask(method, path, "").await;
            answer.is(405, "");
            assert_eq!(answer.headers.get(header::ALLOW), None);
        }
    }
}

#[tokio::test]
async fn a_body_has_a_limit_in_size_and_in_time() {
    let world = World::new().await;
    let long = "x".repeat(MAX_BODY_BYTES + 1);
    let answer = world.ask(Method::POST, "/sfu/get", long).await;
    answer.refuses(413, "M_TOO_LARGE", "Request body too large");
    tokio::time::pause();
    let never = Body::new(Never);
    let answer = world.ask(Method::POST, "/sfu/get", never).await;
    answer.refuses(408, "M_UNKNOWN", "Request body did not arrive in time");
}

/// A body that does not come.
struct Never;

impl hyper::body::Body for Never {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn who_meets_a_busy_service_is_told_when_to_come_again() {
    let world = World::new().await;
    let held = world.service.verifier.fill("example.com");
    let answer = world.post("/sfu/get", &older()).await;
    answer.refuses(429, "M_LIMIT_EXCEEDED", "Too many requests");
    assert!(
        answer.body.contains(r#""retry_after_ms":2000"#),
        "{}",
        answer.body
    );
    assert_eq!(answer.headers["retry-after"], "2");
    drop(held);
    world.post("/sfu/get", &older()).await.issued();
}

#[tokio::test]
async fn a_room_that_cannot_be_made_is_no_token() {
    let unable = "Unable to create room on SFU";
    for (refuses, status, text, counted) in [
        (Uncreated::Full, 500, unable, "room full"),
        (Uncreated::Away("tls"), 500, unable, "room tls"),
        (
            Uncreated::Draining,
            503,
            "Service is shutting down",
            "room draining",
        ),
    ] {
        let rooms = Rooms::refusing(refuses);
        let world = World::with(Config::default(), rooms, keys()).await;
        let answer = world.post("/sfu/get", &older()).await;
        answer.refuses(status, "M_UNKNOWN", text);
        assert!(world.watch.all().contains(&counted.to_owned()));
    }
}

#[tokio::test]
async fn without_a_key_or_a_host_there_is_no_token() {
    let world = World::with(Config::default(), Rooms::default(), Keys::default()).await;
    let answer = world.post("/sfu/get", &older()).await;
    answer.refuses(500, "M_UNKNOWN", "Internal Server Error");
    let world = World::new().await;
    let request = Request::post("/sfu/get").body(Body::from(older().to_string()));
    let answer = world.send(request.expect("a request")).await;
    answer.refuses(500, "M_UNKNOWN", "Internal Server Error");
}

#[test]
fn a_foreign_text_is_logged_in_part_and_on_one_line() {
    let long = format!("a\nb{}", "x".repeat(1000));
    let text = logged(Some(&long)).expect("a text");
    assert!(text.starts_with("a\u{fffd}b") && text.chars().count() == MOST_LOGGED);
    assert_eq!(logged(None), None);
}
