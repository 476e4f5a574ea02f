use super::*;
use crate::config::{AppService, Config, FullAccess, Homeserver as Configured};
use crate::delegation::Delegations;
use crate::limits::Limits;
use crate::members::Issued;
use crate::openid::Verifier;
use crate::sfu::Sfu;
use crate::stand_in::homeserver::{Asked, Homeserver, Reply};
use crate::stand_in::rooms::Rooms;
use crate::stand_in::watch::Remembered;
use crate::watch::Watch;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bearer::Token;
use proto::token::{Keys, Secret};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
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
        let config = Arc::new(Config {
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
        });
        let watch = Arc::<Remembered>::default();
        let counted: Arc<dyn Watch> = Arc::<Remembered>::clone(&watch);
        let rooms = Arc::<Rooms>::default();
        let sfu: Arc<dyn Sfu> = Arc::<Rooms>::clone(&rooms);
        let keys: Keys = [("devkey".to_owned(), Secret::new("devsecret"))]
            .into_iter()
            .collect();
        let service = Arc::new(Service {
            verifier: Verifier::new(Arc::clone(&config), Arc::clone(&counted)).expect("set up"),
            limits: Limits::new(config.rates),
            delegations: config
                .delegation
                .then(|| Delegations::start(&config, Arc::clone(&counted)).expect("set up")),
            monitor: Monitor::start(&config, Arc::clone(&sfu), Arc::clone(&counted))
                .expect("set up"),
            config,
            keys: Arc::new(keys),
            sfu,
            watch: counted,
        });
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
    assert_eq!(asked[0].authorization, "Bearer as-secret");
    // Our own name changes nothing, and the answer is believed for a while.
    let own = world
        .token(ALICE, &with("server_name", "example.com"))
        .await;
    assert_eq!(own.claims()["sub"], IDENTITY);
    assert_eq!(world.homeserver.asked().len(), 1);
    let counted = world.watch.all();
    assert_eq!(counted[0], "membership joined");
    assert_eq!(counted[1], "proxied_get_token issued");
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
async fn a_homeserver_that_does_not_say_holds_nobody_up_and_that_is_counted() {
    for reply in [
        Reply::Says(500, String::new(), "{}".into()),
        Reply::Says(403, String::new(), r#"{"errcode":"M_FORBIDDEN"}"#.into()),
        Reply::Says(404, String::new(), r#"{"errcode":"M_UNRECOGNIZED"}"#.into()),
        Reply::body("<html>"),
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
async fn the_token_of_another_homeserver_s_sfu_is_asked_for_by_ours() {
    let reply = |asked: &Asked| {
        if asked.path.contains("is_joined") {
            return all_joined(asked);
        }
        assert!(asked.path.ends_with(FEDERATION_PROXY), "{}", asked.path);
        assert_eq!(asked.authorization, "Bearer as-secret");
        let body: Value = serde_json::from_str(&asked.body).expect("JSON");
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

#[tokio::test]
async fn who_is_banned_is_taken_out_at_once_and_who_rejoins_is_let_in() {
    let world = World::new(all_joined).await;
    world.token(ALICE, &wanted()).await.claims();
    world.turns("1", "@bob:example.com", "ban").await;
    assert!(world.rooms.told().is_empty(), "somebody else");
    world.turns("2", ALICE, "ban").await;
    let out = [
        format!("deny {ALIAS} {IDENTITY}"),
        format!("remove {ALIAS} {IDENTITY}"),
    ];
    assert_eq!(world.rooms.told(), out);
    assert!(world.watch.all().contains(&"taken out event".to_owned()));
    // The same transaction again is no news.
    world.turns("2", ALICE, "ban").await;
    assert_eq!(world.rooms.told(), out);
    world.turns("3", ALICE, "join").await;
    assert_eq!(
        world.rooms.told()[2..],
        [format!("allow {ALIAS} {IDENTITY}")]
    );
    world.token(ALICE, &wanted()).await.claims();
}

#[tokio::test]
async fn who_has_left_gets_a_token_once_the_homeserver_says_that_he_is_back() {
    let world = World::new(all_joined).await;
    world.token(ALICE, &wanted()).await.claims();
    assert_eq!(world.homeserver.asked().len(), 1);
    world.turns("1", ALICE, "leave").await;
    // The yes of a moment ago does not count any more; this one is fresh, and the event is under way.
    world.token(ALICE, &wanted()).await.claims();
    assert_eq!(world.homeserver.asked().len(), 2);
    let told = world.rooms.told();
    assert_eq!(told.last(), Some(&format!("allow {ALIAS} {IDENTITY}")));
}

#[tokio::test]
async fn a_leave_is_taken_over_once_the_homeserver_has_told_its_time() {
    let reply = |asked: &Asked| {
        assert_eq!(asked.authorization, "Bearer as-secret", "{}", asked.path);
        assert!(
            asked.path.ends_with("?user_id=%40alice%3Aexample.com"),
            "{}",
            asked.path
        );
        let says = |status, body: &str| Reply::Says(status, String::new(), body.into());
        if asked.path.contains("/unknown?") {
            return says(404, r#"{"errcode":"M_NOT_FOUND"}"#);
        }
        if asked.path.contains("/broken?") {
            return says(500, "{}");
        }
        if asked.path.contains("/denied/restart") {
            return says(403, r#"{"errcode":"M_FORBIDDEN"}"#);
        }
        says(
            200,
            &json!({ "delay_ms": 60_000, "room_id": ROOM }).to_string(),
        )
    };
    let config = Config {
        delegation: true,
        ..Config::default()
    };
    let world = World::with(config, reply).await;
    let headers = [("authorization", SHOWN), (USER, ALICE)];
    let hand = async |body: Value| {
        world
            .send("POST", CLIENT_LEAVE, &headers, &body.to_string())
            .await
    };
    let taken = hand(with("delay_id", "syd_1")).await;
    assert_eq!((taken.status, taken.body), (200, json!({})));
    let paths: Vec<_> = world
        .homeserver
        .asked()
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    assert!(paths[0].contains("/delayed_events/syd_1?"), "{paths:?}");
    assert!(
        paths[1].contains("/delayed_events/syd_1/restart?"),
        "{paths:?}"
    );
    hand(with("delay_id", "unknown"))
        .await
        .refuses(400, "M_INVALID_PARAM");
    hand(with("delay_id", ".."))
        .await
        .refuses(400, "M_INVALID_PARAM");
    hand(with("delay_id", "broken"))
        .await
        .refuses(503, "M_UNKNOWN");
    hand(with("delay_id", "denied"))
        .await
        .refuses(503, "M_UNKNOWN");
    let mut elsewhere = with("delay_id", "syd_1");
    elsewhere["room_id"] = json!("!other:example.com");
    hand(elsewhere).await.refuses(400, "M_INVALID_PARAM");
    hand(wanted()).await.refuses(400, "M_BAD_JSON");
    // As long as nobody takes leaves over, clients are to see that there is no such endpoint.
    let world = World::new(all_joined).await;
    let none = world.send("POST", CLIENT_LEAVE, &headers, "{}").await;
    none.refuses(404, "M_UNRECOGNIZED");
}

/// Real time passes: the answers come over sockets.
const OFTEN: Duration = Duration::from_millis(100);

#[tokio::test]
async fn who_left_unnoticed_is_found_when_all_are_asked_for() {
    let first = AtomicBool::new(true);
    let reply = move |_: &Asked| {
        let joined = first.swap(false, Ordering::Relaxed);
        Reply::body(&json!({ "joined": joined }).to_string())
    };
    let world = World::sweeping(OFTEN, Config::default(), reply).await;
    world.token(ALICE, &wanted()).await.claims();
    while world.rooms.told().len() < 2 {
        world.rooms.was_told.notified().await;
    }
    assert_eq!(world.rooms.told()[1], format!("remove {ALIAS} {IDENTITY}"));
    assert!(world.watch.all().contains(&"taken out question".to_owned()));
}

#[tokio::test]
async fn a_stranger_s_user_stays_where_our_homeserver_has_nobody() {
    let world = World::sweeping(OFTEN, Config::default(), nobody_joined).await;
    let monitor = world.service.monitor.as_ref().expect("a monitor");
    let issued = |user: &str| Issued {
        room: ROOM.into(),
        user: user.into(),
        alias: ALIAS.into(),
        identity: user.into(),
        lifetime: Duration::from_secs(3600),
    };
    monitor.issued(issued("@bob:b.example")).expect("issued");
    monitor.issued(issued(ALICE)).expect("issued");
    // Twice about all of them.
    while world.homeserver.asked().len() < 7 {
        world.homeserver.was_asked.notified().await;
    }
    let out = [
        format!("deny {ALIAS} {ALICE}"),
        format!("remove {ALIAS} {ALICE}"),
    ];
    assert_eq!(world.rooms.told(), out);
}

#[tokio::test]
async fn the_rest_of_the_application_service_api_is_answered_as_specified() {
    let world = World::new(all_joined).await;
    let shown = [("authorization", SHOWN)];
    let send = async |method, path| world.send(method, path, &shown, "{}").await;
    let ping = send("POST", "/_matrix/app/v1/ping").await;
    assert_eq!((ping.status, ping.body), (200, json!({})));
    for path in ["/_matrix/app/v1/users/@a:b", "/_matrix/app/v1/rooms/%23a:b"] {
        send("GET", path).await.refuses(404, "M_NOT_FOUND");
        send("POST", path).await.refuses(405, "M_UNRECOGNIZED");
    }
    let other = send("GET", "/_matrix/app/v1/thirdparty/protocol/irc").await;
    other.refuses(404, "M_UNRECOGNIZED");
    send("GET", "/_matrix/app/v1/ping")
        .await
        .refuses(405, "M_UNRECOGNIZED");
    let path = "/_matrix/app/v1/transactions/1";
    send("POST", path).await.refuses(405, "M_UNRECOGNIZED");
    let nonsense = world.send("PUT", path, &shown, "nonsense").await;
    nonsense.refuses(400, "M_NOT_JSON");
    let long = format!("/_matrix/app/v1/transactions/{}", "x".repeat(256));
    send("PUT", &long).await.refuses(400, "M_INVALID_PARAM");
}
