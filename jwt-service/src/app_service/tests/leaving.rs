//! Who leaves: as transactions tell it, as asking finds it, and leaves that are handed over.

use super::*;
use crate::delegation::Presence;
use crate::members::Refused;
use tokio::time::timeout;

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
    assert_eq!(world.rooms.told_all(2).await, out);
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
async fn who_comes_back_by_an_old_token_is_taken_out_again() {
    let world = World::new(all_joined).await;
    world.token(ALICE, &wanted()).await.claims();
    world.turns("1", ALICE, "ban").await;
    world.rooms.told_all(2).await;
    let monitor = world.service.monitor.as_ref().expect("a monitor");
    monitor.tell(&Presence {
        room: ALIAS.into(),
        identity: IDENTITY.into(),
        sid: Some("PA_1".into()),
    });
    let told = world.rooms.told_all(4).await;
    assert_eq!(told[2..], told[..2]);
    let counted = world.watch.all();
    assert!(counted.contains(&"taken out presence".to_owned()));
}

#[tokio::test]
async fn a_room_that_does_not_hear_holds_no_transaction_up() {
    let world = World::new(all_joined).await;
    world.rooms.deaf.store(true, Ordering::Relaxed);
    world.token(ALICE, &wanted()).await.claims();
    let other = with("member_id", "another");
    world.token(ALICE, &other).await.claims();
    let all = async {
        world.turns("1", ALICE, "leave").await;
        world.turns("2", "@bob:example.com", "leave").await;
    };
    // A removal alone may take longer.
    timeout(Duration::from_secs(4), all).await.expect("at once");
    let told = world.rooms.told_all(4).await;
    let denied = told.iter().filter(|told| told.starts_with("deny"));
    assert_eq!(denied.count(), 2);
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

/// The homeserver's word on delayed events.
fn on_delayed(asked: &Asked) -> Reply {
    assert_eq!(
        asked.header("authorization"),
        "Bearer as-secret",
        "{}",
        asked.path
    );
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
}

#[tokio::test]
async fn a_leave_is_taken_over_once_the_homeserver_has_told_its_time() {
    let config = Config {
        delegation: true,
        ..Config::default()
    };
    let world = World::with(config, on_delayed).await;
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
    assert_eq!(
        world.rooms.told_all(2).await[1],
        format!("remove {ALIAS} {IDENTITY}")
    );
    assert!(world.watch.all().contains(&"taken out question".to_owned()));
}

#[tokio::test]
async fn who_was_let_in_stays_unless_a_sweep_hears_a_plain_no() {
    let asked = AtomicUsize::new(0);
    let reply = move |_: &Asked| {
        let refused = |code: &str| {
            let body = json!({ "errcode": code }).to_string();
            Reply::Says(400, String::new(), body)
        };
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::body(r#"{"joined":true}"#),
            1 => refused("M_INVALID_PARAM"),
            2 => refused("M_UNKNOWN"),
            _ => Reply::body(r#"{"joined":false}"#),
        }
    };
    let world = World::sweeping(OFTEN, Config::default(), reply).await;
    world.token(ALICE, &wanted()).await.claims();
    world.rooms.told_all(2).await;
    let counted = world.watch.all();
    let answers = counted.iter().filter(|what| what.starts_with("membership"));
    let answers: Vec<_> = answers.take(4).map(String::as_str).collect();
    let unknown = "membership unknown";
    let expected = ["membership joined", unknown, unknown, "membership left"];
    assert_eq!(answers, expected);
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
    // More than twice about all of them.
    world.homeserver.until_asked(7).await;
    world.rooms.told_all(2).await;
    let asked = world.homeserver.asked();
    let of_bob = asked.iter().filter(|asked| asked.path.contains("bob"));
    assert_eq!(of_bob.count(), 0, "what nobody can know is not asked");
    let out = [
        format!("deny {ALIAS} {ALICE}"),
        format!("remove {ALIAS} {ALICE}"),
    ];
    assert_eq!(world.rooms.told(), out);
}

#[tokio::test]
async fn a_stranger_s_user_who_is_not_in_a_room_that_ours_knows_gets_no_token() {
    const CAROL: &str = "@carol:b.example";
    let reply = |asked: &Asked| {
        // Ours has nobody in the room that it does not know, and says nothing of the silent one.
        if asked.path.contains("silent") {
            return Reply::Says(500, String::new(), "{}".into());
        }
        let ours = asked.path.ends_with("server_name=example.com");
        let knows = ours && !asked.path.contains("unknown");
        let joined = knows || asked.path.contains("carol");
        Reply::body(&json!({ "joined": joined }).to_string())
    };
    let world = World::new(reply).await;
    let monitor = world.service.monitor.as_ref().expect("a monitor");
    for (room, user, admitted) in [
        (ROOM, CAROL, Ok(())),
        (ROOM, CAROL, Ok(())),
        (ROOM, "@bob:b.example", Err(Refused::Left)),
        ("!unknown:b.example", "@bob:b.example", Ok(())),
        ("!silent:b.example", "@bob:b.example", Ok(())),
    ] {
        let told = monitor.admit_anybody(room, user).await;
        assert_eq!(told, admitted, "{room} {user}");
    }
    let asked = world.homeserver.asked();
    let of_carol = asked.iter().filter(|asked| asked.path.contains("carol"));
    assert_eq!(of_carol.count(), 1, "a yes is believed for a while");
    assert!(world.rooms.told().is_empty());
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
