//! `foci jwt`: the authorization service alone, in the place of lk-jwt-service.

use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use tests::alone::Alone;
use tests::homeserver::{Homeserver, NAME, wanted};
use tests::room_service::{RoomService, webhook};
use tests::server::{Answer, Server, free_tcp_port};
use tests::token::{Issued, KEY, SECRET, issued};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the hashes of `!room:example.com` and `m.call#ROOM` are.
const ALIAS: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";
/// What the hash of `["@alice:example.com","D","m-1"]` is.
const ALICE: &str = "C/lcMoFvBF48R87USueAFG3wT7PPYjyijHiaFh+YU6w";

/// A service, the SFU it asks, and the homeserver that vouches for its users.
struct World {
    service: Alone,
    sfu: RoomService,
    homeserver: Homeserver,
    url: String,
}

impl World {
    async fn new() -> Self {
        let sfu = RoomService::start().await;
        let homeserver = Homeserver::start(NAME).await;
        let url = format!("ws://{}/livekit/sfu", sfu.address);
        let service = started(&url, &homeserver, &[]).await;
        Self {
            service,
            sfu,
            homeserver,
            url,
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = "Origin: https://call.example\r\n";
        let body = body.to_string();
        self.service.ask("POST", path, headers, &body).await
    }

    async fn hook(&self, event: &str, sid: &str) {
        let (headers, body) = webhook(event, ALIAS, ALICE, sid);
        let service = &self.service;
        let answer = service.ask("POST", "/sfu_webhook", &headers, &body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert!(!answer.head.to_lowercase().contains("access-control"));
    }
}

/// A service for users of the homeserver, set up by the variables of lk-jwt-service; only where the
/// homeserver is is told by a file's key, since its name leads nowhere here.
async fn started(url: &str, homeserver: &Homeserver, more: &[(&str, &str)]) -> Alone {
    let at = format!("http://{}", homeserver.address);
    let file = format!("matrix: {{ homeservers: {{ \"{NAME}\": \"{at}\" }} }}");
    let apis = format!("{NAME}={at}");
    let mut variables = vec![
        ("LIVEKIT_URL", url),
        ("LIVEKIT_KEY", KEY),
        ("LIVEKIT_SECRET", SECRET),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", NAME),
        ("LIVEKIT_CS_API_URL_OVERRIDES", &apis),
        ("LIVEKIT_CONFIG", &file),
    ];
    variables.extend(more);
    Alone::start(&variables).await
}

fn request() -> Value {
    wanted("alice", "D", "m-1")
}

fn delegating() -> Value {
    let mut body = request();
    body["delay_id"] = json!("delayed-1");
    body["delay_timeout"] = json!(60_000);
    body
}

#[tokio::test]
async fn a_token_is_issued_once_the_room_is_made_on_the_sfu() {
    let mut world = World::new().await;
    for path in ["/get_token", "//livekit/jwt/get_token"] {
        let answer = world.post(path, &request()).await;
        assert!(answer.head.contains("access-control-allow-origin: *"));
        let Issued { url, claims, .. } = issued(&answer);
        assert_eq!(url, world.url);
        assert_eq!(claims["sub"], ALICE);
        assert_eq!(claims["iss"], KEY);
        assert_eq!(claims["video"]["room"], ALIAS);
    }
    let calls = world.sfu.calls("/CreateRoom", 2).await;
    let call = &calls[0];
    let path = "POST /livekit/sfu/twirp/livekit.RoomService/CreateRoom";
    assert_eq!(call.line, path);
    assert_eq!(call.content_type, "application/protobuf");
    let mut bytes = vec![0x0a, 0x2b];
    bytes.extend(ALIAS.as_bytes());
    bytes.extend([0x10, 0xac, 0x02, 0x50, 0x14]);
    assert_eq!(call.body, bytes);
    assert_eq!(call.claims["video"], json!({ "roomCreate": true }));
    assert_eq!(call.claims["iss"], KEY);
    let lifetime = call.claims["exp"].as_u64().zip(call.claims["nbf"].as_u64());
    assert_eq!(lifetime.map(|(exp, nbf)| exp - nbf), Some(6 * 3600));
}

#[tokio::test]
async fn an_sfu_that_is_away_is_told_to_the_client_and_why_to_the_log() {
    let homeserver = Homeserver::start(NAME).await;
    let url = format!("ws://127.0.0.1:{}/x", free_tcp_port());
    let service = started(&url, &homeserver, &[]).await;
    let body = request().to_string();
    let answer = service.ask("POST", "/get_token", "", &body).await;
    let error = r#"{"errcode":"M_UNKNOWN","error":"Unable to create room on SFU"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (500, error));
    service.logs("MatrixRTC token decision").await;
    let log = service.log();
    let api = format!(
        "{}/twirp/livekit.RoomService/CreateRoom",
        url.replace("ws", "http")
    );
    for told in [api.as_str(), "phase=\"connect\"", "refused"] {
        assert!(log.contains(told), "{told}");
    }
}

#[tokio::test]
async fn another_secret_than_the_sfu_s_is_told_by_the_log() {
    let homeserver = Homeserver::start(NAME).await;
    let sfu = RoomService::start().await;
    let other = [("LIVEKIT_SECRET", "another-secret-than-that-of-the-sfu")];
    let url = format!("http://{}", sfu.address);
    let service = started(&url, &homeserver, &other).await;
    let body = request().to_string();
    let answer = service.ask("POST", "/get_token", "", &body).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    service.logs("status 401: unauthenticated").await;
    // A leave is taken over where no room is made; that its participant cannot be found is told too.
    let body = delegating().to_string();
    let path = "/delegate_delayed_leave";
    assert_eq!(service.ask("POST", path, "", &body).await.status, 200);
    service.logs("cannot be asked for participants").await;
}

#[tokio::test]
async fn messages_of_the_sfu_put_a_leave_off_and_send_it() {
    let mut world = World::new().await;
    let claims = issued(&world.post("/get_token", &delegating()).await).claims;
    assert_eq!(claims["sub"], ALICE);
    assert_eq!(world.homeserver.delayed(1).await, ["delayed-1/restart"]);
    // Alice is asked for at once, and is not there yet.
    let calls = world.sfu.calls("/GetParticipant", 1).await;
    let admin = json!({ "roomAdmin": true, "room": ALIAS });
    assert_eq!(calls[0].claims["video"], admin);
    world.sfu.holds(Some("PA_1"));
    world.hook("participant_joined", "PA_1").await;
    assert_eq!(world.homeserver.delayed(2).await[1], "delayed-1/restart");
    // A forged message, and one of a connection before hers.
    let (headers, body) = webhook("participant_left", ALIAS, ALICE, "PA_1");
    let forged = body.replace("RM_1", "RM_2");
    let service = &world.service;
    let answer = service.ask("POST", "/sfu_webhook", &headers, &forged).await;
    assert_eq!(answer.status, 200);
    world.hook("participant_left", "PA_0").await;
    // Another leave of hers replaces the first: she is known to be in the call.
    let mut next = delegating();
    next["delay_id"] = json!("delayed-2");
    let answer = world.post("/delegate_delayed_leave", &next).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(world.homeserver.delayed(4).await[3], "delayed-2/restart");
    world.sfu.holds(None);
    world.hook("participant_left", "PA_1").await;
    assert_eq!(world.homeserver.delayed(5).await[4], "delayed-2/send");
    world.service.logs("delegated leave is over").await;
    let log = world.service.log();
    assert!(log.contains("a webhook is not believed"));
    assert!(
        !log.contains("delayed-") && !log.contains(SECRET),
        "secrets"
    );
}

#[tokio::test]
async fn its_port_answers_what_lk_jwt_service_answers() {
    let world = World::new().await;
    let service = &world.service;
    for (method, path, status, readable) in [
        ("GET", "/healthz", 200, false),
        ("HEAD", "/livekit/jwt/healthz", 200, false),
        ("POST", "/healthz", 405, false),
        ("GET", "/sfu_webhook", 200, false),
        ("OPTIONS", "/sfu/get", 200, true),
        ("GET", "/sfu/get", 405, true),
        ("GET", "/", 404, true),
        ("GET", "/rtc/v1", 404, true),
    ] {
        let answer = service.ask(method, path, "", "").await;
        let head = answer.head.to_lowercase();
        let is_readable = head.contains("access-control-allow-origin: *");
        assert_eq!((answer.status, is_readable), (status, readable), "{path}");
        let body = if status == 404 {
            "404 page not found"
        } else {
            ""
        };
        assert_eq!(answer.body, body, "{method} {path}");
    }
    service.logs("starting Foci").await;
    let log = service.log();
    let start = log.lines().find(|line| line.contains("starting Foci"));
    let start = start.expect("a line of the start");
    for told in [world.url.as_str(), NAME, "skipVerifyTLS=false"] {
        assert!(start.contains(told), "{told}: {start}");
    }
    assert!(!log.contains(SECRET) && !log.contains(KEY), "{log}");
    // All there is to warn of at the start: nothing keeps leaves.
    let (before, _) = log.split_once("starting Foci").expect("a start");
    assert_eq!(before.matches("WARN").count(), 1, "{log}");
}

#[tokio::test]
async fn its_metrics_are_where_the_server_has_them_if_that_is_wanted() {
    let homeserver = Homeserver::start(NAME).await;
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
    let port = metrics.port().to_string();
    let wanted = [("LIVEKIT_PROMETHEUS_PORT", port.as_str())];
    let service = started("ws://127.0.0.1:9", &homeserver, &wanted).await;
    service.ask("POST", "/get_token", "", "{}").await;
    let body = request().to_string();
    assert_eq!(
        service.ask("POST", "/get_token", "", &body).await.status,
        500
    );
    let mut socket = TcpStream::connect(metrics).await.expect("open");
    let head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    socket.write_all(head).await.expect("sent");
    let mut page = String::new();
    socket.read_to_string(&mut page).await.expect("answered");
    for (series, label) in [
        ("foci_jwt_decisions_total", "bad_json"),
        ("foci_jwt_rooms_total", "connect"),
        ("foci_jwt_signatures_total", "ok"),
    ] {
        let of_series = |line: &&str| line.starts_with(series);
        let line = page.lines().find(of_series).expect(series);
        assert!(line.contains(label) && line.ends_with(" 1"), "{line}");
    }
}

#[tokio::test]
async fn the_webhook_beside_the_sfu_of_the_same_process_does_nothing() {
    let server = Server::start().await;
    let (headers, body) = webhook("participant_joined", ALIAS, ALICE, "PA_1");
    for (headers, body) in [(headers.as_str(), body.as_str()), ("", "x")] {
        let answer = server.post("/sfu_webhook", headers, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    server.assert_calm();
}

/// One mistake each, and what is told of it.
const MISTAKES: [(&[(&str, &str)], &str); 13] = [
    (
        &[("LIVEKIT_URL", "")],
        "LIVEKIT_KEY* / LIVEKIT_SECRET* and LIVEKIT_URL must be set",
    ),
    (
        &[("LIVEKIT_SECRET", "")],
        "LIVEKIT_KEY* / LIVEKIT_SECRET* and LIVEKIT_URL must be set",
    ),
    (
        &[("LIVEKIT_KEY_FROM_FILE", "/nowhere")],
        "No such file or directory",
    ),
    (
        &[("LIVEKIT_KEY_FILE", "/nowhere")],
        "No such file or directory",
    ),
    (
        &[("LIVEKIT_KEY_FILE", "/dev/null")],
        "invalid key secret file format!",
    ),
    (
        &[("LIVEKIT_FULL_ACCESS_HOMESERVERS", "")],
        "LIVEKIT_FULL_ACCESS_HOMESERVERS environment variable must be set to the homeserver(s) \
             you intend to serve — see README for guidance",
    ),
    (
        &[("LIVEKIT_JWT_BIND", ":1"), ("LIVEKIT_JWT_PORT", "1")],
        "LIVEKIT_JWT_BIND and LIVEKIT_JWT_PORT must not be set together",
    ),
    (
        &[("LIVEKIT_JWT_BIND", "192.0.2.123:8080")],
        "LIVEKIT_JWT_BIND: cannot listen on 192.0.2.123:8080",
    ),
    (
        &[("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "1.5")],
        "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS must be a non-negative integer, got \"1.5\"",
    ),
    (
        &[("LIVEKIT_CS_API_URL_OVERRIDES", "example.com")],
        "failed parsing LIVEKIT_CS_API_URL_OVERRIDES: invalid entry \"example.com\", expected \
             server_name=url",
    ),
    (
        &[("LIVEKIT_CS_API_URL_OVERRIDES", "example.com=synapse:8008")],
        "failed parsing LIVEKIT_CS_API_URL_OVERRIDES",
    ),
    (
        &[("LIVEKIT_REDIS_URL", "rediss://:hunter2@redis")],
        "LIVEKIT_REDIS_URL: Redis over TLS is not supported",
    ),
    (
        &[("LIVEKIT_URL", "rtc.example.org")],
        "`rtc.example.org` is no ws://, wss://, http:// or https:// URL",
    ),
];

#[test]
fn what_is_wrong_is_told_on_stderr_with_status_1() {
    let good = [
        ("LIVEKIT_URL", "wss://rtc.example.org"),
        ("LIVEKIT_KEY", KEY),
        ("LIVEKIT_SECRET", SECRET),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", NAME),
    ];
    for (more, text) in MISTAKES {
        let ended = Alone::fail(&[], &[&good, more].concat());
        assert_eq!(ended.status, Some(1), "{more:?}: {ended:?}");
        assert!(ended.stderr.contains(text), "{more:?}: {ended:?}");
        let secret = ended.stderr.contains("hunter2") || ended.stderr.contains(SECRET);
        assert!(!secret, "{more:?}: {ended:?}");
    }
    // A file that is wrong is judged as the server's.
    let ended = Alone::fail(&["--config", "/nowhere"], &good);
    assert_eq!(ended.status, Some(78), "{ended:?}");
}

#[tokio::test]
async fn a_signal_ends_it_cleanly_after_what_is_under_way() {
    for signal in ["TERM", "INT"] {
        let mut world = World::new().await;
        let mut socket = TcpStream::connect(world.service.http).await.expect("open");
        let body = request().to_string();
        let length = body.len();
        let head = format!(
            "POST /get_token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        let (first, rest) = body.split_at(10);
        let part = format!("{head}{first}");
        socket.write_all(part.as_bytes()).await.expect("sent");
        // It says so when it reads the body, so the request is under way.
        let mut go_on = *b"HTTP/1.1 100 Continue\r\n\r\n";
        socket.read_exact(&mut go_on).await.expect("told");
        world.service.signal(signal);
        world.service.logs("shutting down").await;
        socket.write_all(rest.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(world.service.ended().await, Some(0));
    }
}
