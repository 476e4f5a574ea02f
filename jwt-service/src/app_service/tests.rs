//! Tokens that a homeserver's clients and other homeservers ask for.

mod leaving;
mod logging;

use super::*;
use crate::config::{AppService, Config, FullAccess, Homeserver as Configured};
use crate::limits::Rates;
use crate::members::Issued;
use crate::settled::Settled;
use crate::stand_in::homeserver::{Asked, Homeserver, Reply};
use crate::stand_in::rooms::Rooms;
use crate::stand_in::service;
use crate::stand_in::watch::Remembered;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bearer::Token;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tower::ServiceExt as _;

const URL: &str = "wss://rtc.example.com/livekit/sfu";
const SHOWN: &str = "Bearer hs-secret";
const ALICE: &str = "@alice:example.com";
const ROOM: &str = "!room:example.com";
/// The hash of `ROOM` and `m.call#ROOM`.
const ALIAS: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";
/// The hash of Alice and `memberABC`.
const IDENTITY: &str = "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs";

struct World {
    router: Router,
    service: Arc<Service>,
    rooms: Arc<Rooms>,
    watch: Arc<Remembered>,
    homeserver: Homeserver,
}

struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn refuses(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.body["errcode"]), (status, &json!(code)));
    }

    /// The claims of the token.
    #[track_caller]
    fn claims(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        let jwt = self.body["jwt"].as_str().expect("a token");
        let payload = jwt.split('.').nth(1).expect("three parts");
        let payload = BASE64_STANDARD_NO_PAD.decode(payload).expect("base64");
        serde_json::from_slice(&payload).expect("JSON")
    }
}

/// Whoever is asked for is joined.
fn all_joined(asked: &Asked) -> Reply {
    assert!(asked.path.contains("/is_joined?"), "{}", asked.path);
    Reply::body(r#"{"joined":true}"#)
}

fn nobody_joined(_: &Asked) -> Reply {
    Reply::body(r#"{"joined":false}"#)
}

impl World {
    async fn new(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Config::default(), reply).await
    }

    async fn with(config: Config, reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::sweeping(Duration::from_secs(60), config, reply).await
    }

    /// One that asks for everybody this often.
    async fn sweeping(
        membership_interval: Duration,
        config: Config,
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let homeserver = Homeserver::start(None, reply).await;
        let config = Config {
            url: Some(URL.into()),
            full_access: FullAccess::Servers(Vec::new()),
            client_apis: vec![Configured {
                name: "example.com".into(),
                url: format!("http://{}/base", homeserver.address),
            }],
            app_service: Some(AppService {
                server: "example.com".into(),
                hs_token: Token::new("hs-secret".into()),
                as_token: Token::new("as-secret".into()),
                membership_interval,
            }),
            ..config
        };
        let settled = Settled::fixed(config).expect("good");
        let watch = Arc::<Remembered>::default();
        let rooms = Arc::<Rooms>::default();
        let service = service::service(settled, service::keys(), &rooms, &watch);
        Self {
            router: router(&service).expect("an application service"),
            service,
            rooms,
            watch,
            homeserver,
        }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let answer = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 100_000).await.expect("a body");
        Answer {
            status: parts.status.as_u16(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    /// A client's request for a token, passed on for this user.
    async fn token(&self, user: &str, body: &Value) -> Answer {
        let headers = [("authorization", SHOWN), (USER, user)];
        self.send("POST", CLIENT_TOKEN, &headers, &body.to_string())
            .await
    }

    /// Another homeserver's request, passed on.
    async fn federated(&self, origin: &str, body: &Value) -> Answer {
        let headers = [("authorization", SHOWN), (ORIGIN, origin)];
        self.send("POST", FEDERATION_TOKEN, &headers, &body.to_string())
            .await
    }

    /// A transaction in which one user's membership changes.
    async fn turns(&self, id: &str, user: &str, membership: &str) {
        let event = json!({ "type": "m.room.member", "room_id": ROOM, "state_key": user,
            "content": { "membership": membership } });
        let body = json!({ "events": [event] }).to_string();
        let path = format!("/_matrix/app/v1/transactions/{id}");
        let answer = self
            .send("PUT", &path, &[("authorization", SHOWN)], &body)
            .await;
        assert_eq!((answer.status, answer.body), (200, json!({})));
    }
}

fn wanted() -> Value {
    json!({ "url": URL, "room_id": ROOM, "slot_id": "m.call#ROOM", "member_id": "memberABC" })
}

fn with(name: &str, value: &str) -> Value {
    let mut body = wanted();
    body[name] = json!(value);
    body
}

#[tokio::test]
async fn a_client_gets_the_token_of_a_member() {
    let world = World::new(all_joined).await;
    let claims = world.token(ALICE, &wanted()).await.claims();
    assert_eq!(claims["sub"], IDENTITY);
    assert_eq!(claims["video"]["room"], ALIAS);
    assert_eq!(claims["video"]["canPublish"], true);
    assert_eq!(world.rooms.made(), [ALIAS]);
    let asked = world.homeserver.asked();
    let rooms = "/base/_matrix/client/unstable/io.element.msc4502/rooms";
    assert_eq!(
        asked[0].path,
        format!("{rooms}/%21room%3Aexample.com/is_joined?mxid=%40alice%3Aexample.com")
    );
    assert_eq!(asked[0].header("authorization"), "Bearer as-secret");
    // Our own name changes nothing, and the answer is believed for a while.
    let own = world
        .token(ALICE, &with("server_name", "example.com"))
        .await;
    assert_eq!(own.claims()["sub"], IDENTITY);
    assert_eq!(world.homeserver.asked().len(), 1);
    let counted = world.watch.all();
    let expected = [
        "membership joined",
        "signed ok",
        "room ok",
        "proxied_get_token issued",
    ];
    assert_eq!(counted[..4], expected);
}

#[tokio::test]
async fn nothing_is_done_without_the_homeserver_s_token() {
    let world = World::new(all_joined).await;
    let paths = [
        ("POST", CLIENT_TOKEN),
        ("POST", FEDERATION_TOKEN),
        ("POST", "/_matrix/app/v1/ping"),
        ("PUT", "/_matrix/app/v1/transactions/1"),
        ("GET", "/_matrix/app/v1/users/@a:b"),
        ("GET", "/_matrix/app/v2/anything"),
    ];
    for (method, path) in paths {
        let body = wanted().to_string();
        let headers = [(USER, ALICE), (ORIGIN, "b.example")];
        let answer = world.send(method, path, &headers, &body).await;
        answer.refuses(401, "M_MISSING_TOKEN");
        for other in ["Bearer as-secret", "Bearer hs-secre", "Bearer hs-secretx"] {
            let headers = [
                ("authorization", other),
                (USER, ALICE),
                (ORIGIN, "b.example"),
            ];
            let answer = world.send(method, path, &headers, &body).await;
            answer.refuses(401, "M_UNKNOWN_TOKEN");
        }
    }
    assert!(world.homeserver.asked().is_empty() && world.rooms.made().is_empty());
}

#[tokio::test]
async fn what_a_client_cannot_ask_is_told() {
    let world = World::new(all_joined).await;
    world
        .token("", &wanted())
        .await
        .refuses(401, "M_UNAUTHORIZED");
    world
        .token("alice", &wanted())
        .await
        .refuses(400, "M_INVALID_PARAM");
    let other = with("url", "wss://rtc.example.com/livekit/sfu/");
    world
        .token(ALICE, &other)
        .await
        .refuses(400, "M_INVALID_PARAM");
    world
        .token(ALICE, &with("room_id", ""))
        .await
        .refuses(400, "M_BAD_JSON");
    world
        .token(ALICE, &json!("x"))
        .await
        .refuses(400, "M_NOT_JSON");
    let no_room = with("room_id", "#alias:example.com");
    world
        .token(ALICE, &no_room)
        .await
        .refuses(403, "M_FORBIDDEN");
    for (method, status) in [("OPTIONS", 200), ("GET", 405), ("PUT", 405)] {
        assert_eq!(
            world.send(method, CLIENT_TOKEN, &[], "").await.status,
            status
        );
    }
    assert!(world.homeserver.asked().is_empty());
}

#[tokio::test]
async fn who_is_not_in_the_room_gets_no_token() {
    let world = World::new(nobody_joined).await;
    let answer = world.token(ALICE, &wanted()).await;
    answer.refuses(403, "M_FORBIDDEN");
    assert_eq!(
        answer.body["error"],
        "The requesting user is not a member of the room"
    );
    assert!(world.rooms.made().is_empty());
}

#[tokio::test]
async fn what_the_homeserver_calls_no_id_is_in_no_room() {
    let body = r#"{"errcode":"M_INVALID_PARAM"}"#;
    let world = World::new(|_| Reply::Says(400, String::new(), body.into())).await;
    world
        .token(ALICE, &wanted())
        .await
        .refuses(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_homeserver_that_does_not_say_holds_nobody_up_and_that_is_counted() {
    for reply in [
        Reply::Says(500, String::new(), "{}".into()),
        Reply::Says(403, String::new(), r#"{"errcode":"M_FORBIDDEN"}"#.into()),
        Reply::Says(404, String::new(), r#"{"errcode":"M_UNRECOGNIZED"}"#.into()),
        Reply::body("<html>"),
        Reply::Says(400, String::new(), "<html>".into()),
        Reply::Says(400, String::new(), r#"{"errcode":"M_UNKNOWN"}"#.into()),
    ] {
        let world = World::new(move |_| reply.clone()).await;
        assert_eq!(world.token(ALICE, &wanted()).await.status, 200);
        assert_eq!(world.watch.all()[0], "membership unknown");
        // But nobody who is known to have left.
        world.turns("1", ALICE, "leave").await;
        world
            .token(ALICE, &wanted())
            .await
            .refuses(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn another_homeserver_s_user_sees_and_hears_only() {
    let world = World::new(all_joined).await;
    let bob = with("user_id", "@bob:b.example");
    let claims = world.federated("b.example", &bob).await.claims();
    assert_eq!(claims["video"]["canPublish"], false);
    assert_eq!(claims["video"]["room"], ALIAS);
    assert_eq!(world.rooms.made(), [ALIAS]);
    let asked: Vec<_> = world
        .homeserver
        .asked()
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert!(
        asked[0].ends_with("is_joined?server_name=example.com"),
        "{asked:?}"
    );
    assert!(
        asked[1].ends_with("is_joined?mxid=%40bob%3Ab.example"),
        "{asked:?}"
    );
    world
        .federated("c.example", &bob)
        .await
        .refuses(403, "M_FORBIDDEN");
    world
        .federated("", &bob)
        .await
        .refuses(401, "M_UNAUTHORIZED");
    let nobody = with("user_id", "bob");
    world
        .federated("b.example", &nobody)
        .await
        .refuses(400, "M_INVALID_PARAM");
    world
        .federated("b.example", &wanted())
        .await
        .refuses(400, "M_BAD_JSON");
    let world = World::new(nobody_joined).await;
    let answer = world.federated("b.example", &bob).await;
    answer.refuses(403, "M_FORBIDDEN");
    assert_eq!(
        answer.body["error"],
        "This server is not joined to the room"
    );
    let config = Config {
        restricted: Restricted::Refuse,
        ..Config::default()
    };
    let world = World::with(config, all_joined).await;
    world
        .federated("b.example", &bob)
        .await
        .refuses(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_homeserver_or_user_that_asks_too_often_is_told_to_wait() {
    let rates = Rates {
        server: 1,
        user: 2,
        ..Rates::DEFAULT
    };
    let config = Config {
        rates,
        ..Config::default()
    };
    let world = World::with(config, all_joined).await;
    let bob = with("user_id", "@bob:b.example");
    world.federated("b.example", &bob).await.claims();
    let other = with("user_id", "@other:b.example");
    world
        .federated("b.example", &other)
        .await
        .refuses(429, "M_LIMIT_EXCEEDED");
    let asked = world.homeserver.asked().len();
    world.token(ALICE, &wanted()).await.claims();
    world.token(ALICE, &wanted()).await.claims();
    world
        .token(ALICE, &wanted())
        .await
        .refuses(429, "M_LIMIT_EXCEEDED");
    assert_eq!(world.homeserver.asked().len(), asked + 1);
}

#[tokio::test]
async fn the_token_of_another_homeserver_s_sfu_is_asked_for_by_ours() {
    let reply = |asked: &Asked| {
        if asked.path.contains("is_joined") {
            return all_joined(asked);
        }
        assert!(asked.path.ends_with(FEDERATION_PROXY), "{}", asked.path);
        assert_eq!(asked.header("authorization"), "Bearer as-secret");
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        assert_eq!(
            (&body["method"], &body["path"]),
            (&json!("POST"), &json!(FEDERATION_TOKEN))
        );
        assert_eq!(body["body"]["user_id"], ALICE);
        assert_eq!(body["body"]["url"], "wss://b.example");
        Reply::body(match body["destination"].as_str() {
            Some("b.example") => r#"{"status":200,"content":{"jwt":"x.y.z"}}"#,
            Some("c.example") => r#"{"status":403,"content":{"errcode":"M_FORBIDDEN"}}"#,
            Some("d.example") => r#"{"status":400,"content":{"errcode":"M_INVALID_PARAM"}}"#,
            _ => r#"{"status":500,"content":{}}"#,
        })
    };
    let world = World::new(reply).await;
    let mut body = with("url", "wss://b.example");
    body["server_name"] = json!("b.example");
    let answer = world.token(ALICE, &body).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({ "jwt": "x.y.z" }))
    );
    assert!(world.rooms.made().is_empty());
    for (server, status, code) in [
        ("c.example", 403, "M_FORBIDDEN"),
        ("d.example", 400, "M_INVALID_PARAM"),
        ("e.example", 502, "M_UNKNOWN"),
        ("no server", 400, "M_INVALID_PARAM"),
    ] {
        body["server_name"] = json!(server);
        world.token(ALICE, &body).await.refuses(status, code);
    }
}
