use super::*;
use crate::config::codecs::Codec;
use crate::metrics::tests::labels;
use crate::room::Settings;
use crate::rooms::{Rooms, Surroundings};
use crate::signal::join::Policy;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method};
use axum::routing::get;
use proto::livekit::{ClientInfo, JoinRequest};
use proto::signal::encode_join_request;
use proto::token::{Claims, Keys, Secret, VideoGrant};
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body));
        // Whatever the answer, a browser may read it.
        assert_eq!(
            self.header("access-control-allow-origin"),
            "https://app.example"
        );
        assert_eq!(self.header("access-control-expose-headers"), "*");
    }
}

fn keys() -> Keys {
    [(
        "key".to_owned(),
        Secret::new("open-sesame-open-sesame-open-sesame"),
    )]
    .into_iter()
    .collect()
}

fn front(draining: bool, auto_create: bool) -> Front {
    let surroundings = Surroundings::on_loopback(Settings::default());
    Front {
        faults: Default::default(),
        rooms: Rooms::start(surroundings.clone()),
        workers: surroundings.workers,
        metrics: surroundings.metrics,
        keys: surroundings.keys,
        policy: watch::channel(Policy {
            codecs: Codec::ALL.to_vec(),
            ice_servers: Vec::new(),
            auto_create,
        })
        .1,
        draining: watch::channel(draining).1,
        prefixes: vec!["/calls/".into(), "/".into()],
        max_message_bytes: proto::signal::MAX_FRAME_BYTES,
        max_body_bytes: 100,
    }
}

/// How far joins have come.
fn states(metrics: &crate::metrics::Metrics) -> Vec<String> {
    labels(metrics, "livekit_participant_join_total", "state")
}

async fn ask(front: Front, method: Method, uri: &str, headers: &[(&str, &str)]) -> Answer {
    let others = Router::new().route("/try", get(|| async { "a page" }));
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("Origin", "https://app.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("request");
    // It judges for itself what it is shown.
    let own = Router::new().route("/_matrix/own", any(|| async { "ours" }));
    let response = router(Arc::new(front), others, own)
        .oneshot(request)
        .await
        .expect("answer");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 10_000).await.expect("body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

async fn get_path(uri: &str) -> Answer {
    ask(front(false, true), Method::GET, uri, &[]).await
}

fn token(grant: Option<VideoGrant>) -> String {
    let claims = Claims {
        identity: "alice".into(),
        video: grant,
        ..Claims::default()
    };
    let now = unix_ms() / 1000;
    keys()
        .sign(&claims, Duration::from_secs(60), now)
        .expect("signed")
}

fn query() -> String {
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            protocol: 17,
            ..Default::default()
        }),
        ..Default::default()
    };
    let param = encode_join_request(&request).replace('=', "%3D");
    format!(
        "join_request={param}&access_token={}",
        token(Some(VideoGrant::join("lobby")))
    )
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

#[tokio::test]
async fn routes_with_tokens_of_their_own_are_asked_before_access_tokens_are_judged() {
    let front = || front(false, true);
    let shown = [("Authorization", "Bearer no access token")];
    for path in ["/_matrix/own", "//livekit/jwt/_matrix/own?access_token=x"] {
        ask(front(), Method::PUT, path, &shown)
            .await
            .is(200, "ours");
    }
    let other = ask(front(), Method::PUT, "/_matrix/other", &shown).await;
    other.is(401, "invalid authorization token");
    let long = [("Content-Length", "1000000")];
    ask(front(), Method::PUT, "/_matrix/own", &long)
        .await
        .is(200, "ours");
}

#[tokio::test]
async fn whoever_was_taken_out_for_good_is_told_so_before_he_connects() {
    let front = front(false, true);
    let until = tokio::time::Instant::now().into_std() + Duration::from_secs(60);
    front.rooms.deny("lobby", "alice", until);
    for path in ["/rtc/v1/validate", "/rtc/validate"] {
        let path = format!("{path}?{}", query());
        let answer = ask(front.clone(), Method::GET, &path, &[]).await;
        answer.is(401, "permissions denied");
    }
    let path = format!("/rtc/v1?{}", query());
    ask(front, Method::GET, &path, &UPGRADE)
        .await
        .is(401, "permissions denied");
}

#[tokio::test]
async fn a_preflight_is_answered_before_anything_else() {
    let headers = [
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization, x-mine"),
        ("Authorization", "nonsense"),
    ];
    let answer = ask(
        front(true, true),
        Method::OPTIONS,
        "/rtc/v1/validate",
        &headers,
    )
    .await;
    answer.is(204, "");
    let methods = answer.header("access-control-allow-methods");
    assert_eq!(methods, "OPTIONS, HEAD, GET, POST, PATCH, DELETE");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "authorization, x-mine"
    );
    assert_eq!(answer.header("access-control-max-age"), "86400");
}

#[tokio::test]
async fn the_root_says_how_the_server_is() {
    get_path("/").await.is(200, "OK");
    let head = ask(front(false, true), Method::HEAD, "/", &[]).await;
    assert_eq!(head.status, 200);
    assert_eq!(
        ask(front(true, true), Method::GET, "/", &[]).await.status,
        503
    );
    let stuck = front(false, true);
    stuck.workers.stop();
    while stuck.workers.ready() {
        tokio::task::yield_now().await;
    }
    let answer = ask(stuck, Method::GET, "/", &[]).await;
    answer.is(406, "Not Ready\nmedia threads do not answer");
}

#[tokio::test]
async fn unknown_paths_and_versions_are_livekits_404() {
    for path in [
        "/nothing",
        "/rtc/",
        "/rtc/v2",
        "/rtc/v1/",
        "///rtc/v1",
        "/livekit/sfux",
    ] {
        let answer = get_path(path).await;
        answer.is(404, "404 page not found");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn every_path_is_served_below_the_prefixes_and_with_a_slash_too_many() {
    let query = query();
    for prefix in [
        "",
        "/",
        "/livekit/sfu",
        "/livekit/jwt",
        "/livekit-jwt-service",
        "/livekit-server",
        "//livekit/sfu",
        "/livekit/sfu/",
        "/calls",
    ] {
        let answer = get_path(&format!("{prefix}/rtc/v1/validate?{query}")).await;
        answer.is(200, "success");
    }
    for path in [
        "/livekit/sfu",
        "/livekit/sfu/",
        "/livekit-server",
        "/calls",
        "//",
    ] {
        get_path(path).await.is(200, "OK");
    }
    get_path("/try").await.is(200, "a page");
    get_path("/livekit/sfu/try").await.is(200, "a page");
}

#[tokio::test]
async fn the_older_path_asks_by_parameters_and_for_nothing_but_a_token() {
    let token = token(Some(VideoGrant::join("lobby")));
    let validate = format!("/rtc/validate?protocol=9&access_token={token}");
    get_path(&validate).await.is(200, "success");
    let answer = get_path("/rtc/validate").await;
    answer.is(401, "no permissions to access the room");
    assert!(!answer.header("access-control-allow-origin").is_empty());
    get_path(&format!("/livekit/sfu{validate}"))
        .await
        .is(200, "success");
    get_path(&format!("/rtc?access_token={token}"))
        .await
        .is(404, "");
}

#[tokio::test]
async fn a_bad_token_is_refused_on_every_path() {
    for path in ["/", "/rtc/v1", "/try", "/nothing"] {
        let answer = get_path(&format!("{path}?access_token=abc")).await;
        answer.is(401, "invalid authorization token");
    }
    let basic = [("Authorization", "Basic abc")];
    let answer = ask(front(false, true), Method::GET, "/rtc/v1", &basic).await;
    answer.is(401, "invalid authorization header. Must start with Bearer ");
    let unsigned = token(None).replace('.', ".x");
    let answer = get_path(&format!("/?access_token={unsigned}")).await;
    assert_eq!(answer.status, 401);
    assert!(!answer.body.contains(&unsigned));
}

#[tokio::test]
async fn validating_judges_like_connecting() {
    let query = query();
    let (request, _) = query.split_once('&').expect("two parameters");
    let cases = [
        (
            format!("{request}x"),
            400,
            "cannot base64 decode wrapped join request",
        ),
        (String::new(), 400, "join_request is required"),
        (request.to_owned(), 401, "no permissions to access the room"),
        (
            format!("{request}&access_token={}", token(None)),
            401,
            "no permissions to access the room",
        ),
        (
            format!("{request}&access_token={}", token(Some(VideoGrant::NONE))),
            401,
            "permissions denied",
        ),
    ];
    for (query, status, body) in cases {
        get_path(&format!("/rtc/v1/validate?{query}"))
            .await
            .is(status, body);
        let front = front(false, true);
        let metrics = front.metrics.clone();
        let answer = ask(front, Method::GET, &format!("/rtc/v1?{query}"), &UPGRADE).await;
        answer.is(status, body);
        assert_eq!(states(&metrics), ["signal_validation_failed"]);
    }
}

#[tokio::test]
async fn without_auto_create_a_missing_room_is_a_404_that_clients_know() {
    let uri = format!("/rtc/v1/validate?{}", query());
    let answer = ask(front(false, false), Method::GET, &uri, &[]).await;
    answer.is(404, "requested room does not exist");
}

#[tokio::test]
async fn a_server_that_goes_down_lets_nobody_in() {
    let uri = format!("/rtc/v1/validate?{}", query());
    let answer = ask(front(true, true), Method::GET, &uri, &[]).await;
    answer.is(503, "server is shutting down");
}

#[tokio::test]
async fn a_plain_request_finds_no_signalling_path() {
    get_path(&format!("/rtc/v1?{}", query())).await.is(404, "");
}

#[tokio::test]
async fn a_half_asked_for_upgrade_joins_no_room() {
    let front = front(false, true);
    let (rooms, metrics) = (front.rooms.clone(), front.metrics.clone());
    let uri = format!("/rtc/v1?{}", query());
    let answer = ask(front, Method::GET, &uri, &UPGRADE[..2]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(states(&metrics), ["signal_upgrade_failed"]);
    assert!(!rooms.exists("lobby").await);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read() {
    let fits = [("Content-Length", "100")];
    assert_eq!(
        ask(front(false, true), Method::POST, "/", &fits)
            .await
            .status,
        200
    );
    let long = [("Content-Length", "101")];
    let answer = ask(front(false, true), Method::POST, "/", &long).await;
    answer.is(413, "request body too large");
    let unlimited = Front {
        max_body_bytes: 0,
        ..front(false, true)
    };
    assert_eq!(ask(unlimited, Method::POST, "/", &long).await.status, 200);
}
