//! MatrixRTC authorization: from an OpenID token of a homeserver into a call.

use proto::livekit::{self, signal_request};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tests::client::{Client, Join};
use tests::homeserver::{Homeserver, NAME, open_id, wanted};
use tests::publication::Media;
use tests::server::{Answer, Server, binary};
use tests::token::{Issued, issued};
use tokio::time::{interval, timeout};

/// What the hashes of `!room:example.com` and `m.call#ROOM` are.
const ALIAS: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";

/// A server that knows where the homeserver is.
async fn started(more: &str) -> (Server, Homeserver) {
    let homeserver = Homeserver::start(NAME).await;
    let url = format!("http://{}", homeserver.address);
    let config = format!("matrix:\n  homeservers: {{ \"{NAME}\": \"{url}\" }}\n{more}");
    (Server::start_with(&config).await, homeserver)
}

fn older(token: &str, device: &str) -> String {
    let room = "!room:example.com";
    json!({ "room": room, "openid_token": open_id(token), "device_id": device }).to_string()
}

const FROM_A_PAGE: &str = "Origin: https://call.example\r\nContent-Type: application/json\r\n";

async fn ask(server: &Server, path: &str, body: &str) -> Answer {
    let answer = server.post(path, FROM_A_PAGE, body).await;
    let head = answer.head.to_lowercase();
    assert!(head.contains("access-control-allow-origin: "), "{answer:?}");
    answer
}

#[tokio::test]
async fn two_matrix_users_meet_by_either_endpoint() {
    let (server, _homeserver) = started("").await;
    let answer = ask(&server, "/sfu/get", &older("of-alice", "DEVICE")).await;
    let Issued {
        url,
        jwt: alice,
        claims,
    } = issued(&answer);
    assert_eq!(url, format!("ws://{}", server.http));
    assert_eq!(claims["sub"], "@alice:example.com:DEVICE");
    assert_eq!(claims["video"]["room"], ALIAS);
    let answer = ask(
        &server,
        "/get_token",
        &wanted("bob", "DEVICE", "member-1").to_string(),
    )
    .await;
    let Issued {
        jwt: bob, claims, ..
    } = issued(&answer);
    // Hash of ["@bob:example.com","DEVICE","member-1"].
    assert_eq!(claims["sub"], "tQqo6Lzr/mnLfZtHBXGnd5LaHQ0VzJmk0cjO47ZMf+Q");
    assert_eq!(claims["video"]["room"], ALIAS);

    let alice = Client::join_with(&server, Join::with_token(&alice)).await;
    let bob = Client::join_with(&server, Join::with_token(&bob)).await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
    let log = server.log();
    for expected in [
        "MatrixRTC token decision",
        "@alice:example.com",
        ALIAS,
        "room created",
    ] {
        assert!(log.contains(expected), "{expected}");
    }
    let metric = server.metric("foci_jwt_decisions_total", &["outcome=\"issued\""]);
    assert_eq!(metric.await, 2.0);
    for (phase, duration) in [
        ("foci_jwt_lookups_total", "foci_jwt_lookup_seconds_count"),
        ("foci_jwt_rooms_total", "foci_jwt_room_seconds_count"),
        (
            "foci_jwt_signatures_total",
            "foci_jwt_signature_seconds_count",
        ),
    ] {
        let good = server.metric(phase, &["result=\"ok\""]).await;
        let timed = server.metric(duration, &[]).await;
        assert_eq!((good, timed), (2.0, 2.0), "{phase}");
    }
}

#[tokio::test]
async fn a_token_is_served_below_the_prefix_with_the_sfu_beside_it() {
    let (server, _homeserver) = started("").await;
    for prefix in ["/livekit/jwt", "//livekit/jwt", "/livekit/jwt/"] {
        let answer = ask(
            &server,
            &format!("{prefix}/sfu/get"),
            &older("of-alice", "D"),
        )
        .await;
        let Issued { url, jwt, .. } = issued(&answer);
        assert_eq!(url, format!("ws://{}/livekit/sfu", server.http));
        // The URL leads to the SFU.
        let path = format!("/livekit/sfu/rtc/v1/validate?join_request=EgA%3D&access_token={jwt}");
        assert_eq!(server.get(&path, "").await.body.trim(), "success");
    }
    assert_eq!(server.get("/livekit/jwt/healthz", "").await.status, 200);
    assert_eq!(
        server.post("/livekit/jwt/healthz", "", "x").await.status,
        405
    );
    let proxied =
        format!("{FROM_A_PAGE}X-Forwarded-Proto: https\r\nX-Forwarded-Host: rtc.example\r\n");
    let answer = server
        .post("/livekit/jwt/sfu/get", &proxied, &older("of-alice", "D"))
        .await;
    assert_eq!(issued(&answer).url, "wss://rtc.example/livekit/sfu");
}

#[tokio::test]
async fn who_the_homeserver_does_not_vouch_for_gets_nothing_and_no_secret_is_logged() {
    let (server, _homeserver) = started("").await;
    for token in ["nobody-s-secret", "stranger"] {
        let answer = ask(&server, "/sfu/get", &older(token, "D")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.body.contains("M_UNAUTHORIZED"), "{answer:?}");
    }
    let elsewhere = older("nobody-s-secret", "D").replace("\"example.com\"", "\"127.0.0.1:1\"");
    assert_eq!(ask(&server, "/sfu/get", &elsewhere).await.status, 401);
    let log = server.log();
    for cause in ["status", "foreign_user", "private_address"] {
        assert!(log.contains(cause), "{cause}");
    }
    // As filters of fail2ban find it (docs/matrix.md).
    let audited =
        "MatrixRTC token decision ip=unknown user=\"\" server=\"127.0.0.1:1\" reason=unauthorized ";
    assert!(log.contains(audited), "{log}");
    let jwt = issued(&ask(&server, "/sfu/get", &older("of-alice", "D")).await).jwt;
    let log = server.log();
    assert!(!log.contains("nobody-s-secret") && !log.contains("of-alice"));
    assert!(!log.contains(&jwt));
}

/// What is known of homeservers once the first round has ended with this status.
async fn homeservers(server: &Server, status: u16) -> Value {
    let told = async {
        let mut asked = interval(Duration::from_millis(50));
        loop {
            asked.tick().await;
            let answer = server.get("/livekit/jwt/readyz/homeservers", "").await;
            let read: Value = serde_json::from_str(&answer.body).expect("JSON");
            if answer.status == status && read["homeservers"] != json!([]) {
                return read["homeservers"].clone();
            }
        }
    };
    timeout(Duration::from_secs(10), told)
        .await
        .expect("a round")
}

#[tokio::test]
async fn a_named_homeserver_that_does_not_answer_is_told_before_anybody_asks() {
    let (server, homeserver) = started("").await;
    let told = homeservers(&server, 200).await;
    assert_eq!(told, json!([{"name": NAME, "reachable": true}]));
    let up = format!("server=\"{NAME}\"");
    assert_eq!(server.metric("foci_jwt_homeserver_up", &[&up]).await, 1.0);
    drop(homeserver);

    let config = format!("matrix: {{homeservers: {{\"{NAME}\": \"http://127.0.0.1:1\"}}}}");
    let server = Server::start_with(&config).await;
    let told = homeservers(&server, 503).await;
    let expected = json!({"name": NAME, "reachable": false, "cause": "connect"});
    assert_eq!(told, json!([expected]));
    assert_eq!(server.get("/readyz", "").await.status, 200, "calls go on");
    assert!(server.log().contains("homeserver does not answer"));
}

#[tokio::test]
async fn transports_are_told_in_the_place_of_a_homeserver() {
    let more = "matrix: {transports: ['https://rtc.example.org/livekit/jwt']}";
    let server = Server::start_with(more).await;
    let path = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
    // The token is the homeserver's: no token of ours.
    let told = server.get(
        path,
        "Origin: https://call.example\r\nAuthorization: Bearer syt_x\r\n",
    );
    let told = told.await;
    assert_eq!(told.status, 200, "{told:?}");
    let read: Value = serde_json::from_str(&told.body).expect("JSON");
    let url = &read["rtc_transports"][0]["livekit_service_url"];
    assert_eq!(url, "https://rtc.example.org/livekit/jwt");
    assert!(!server.log().contains("syt_x"));
    assert_eq!(server.get(path, "").await.status, 401);
}

#[tokio::test]
async fn the_command_prints_for_the_well_known_file_what_the_server_tells() {
    let name = format!("foci-well-known-{}.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let path = file.to_str().expect("text");
    let more =
        "matrix: {transports: ['https://rtc.example.org/livekit/jwt/', 'https://b.example']}\n";
    let server = Server::start_from(&file, more).await;
    let told = server.get(
        "/_matrix/client/v1/rtc/transports",
        "Authorization: Bearer syt_x\r\n",
    );
    let told: Value = serde_json::from_str(&told.await.body).expect("JSON");
    let printed = Server::printed(&["--config", path, "well-known"]);
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let urls = ["https://rtc.example.org/livekit/jwt", "https://b.example"];
    let transport = |url| json!({ "type": "livekit", "livekit_service_url": url });
    let both = json!(urls.map(transport));
    assert_eq!(told, json!({ "rtc_transports": both }));
    assert_eq!(printed, json!({ "org.matrix.msc4143.rtc_foci": both }));

    // Without any it says what to write.
    server.rewrite(&file, "");
    let output = Command::new(binary())
        .args(["--config", path, "well-known"])
        .output();
    let output = output.expect("the program starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("matrix.transports: ") && told.contains("write for example"));
    assert!(output.stdout.is_empty());
    let _ = std::fs::remove_file(&file);
}

#[tokio::test]
async fn every_answer_may_be_read_by_a_page() {
    let (server, _homeserver) = started("").await;
    let long = "x".repeat(70_000);
    for (path, body, status) in [
        ("/sfu/get", "", 400),
        ("/get_token", "{}", 400),
        ("/sfu/get", long.as_str(), 413),
        ("/delegate_delayed_leave", "", 400),
        ("/livekit/jwt/delegate_delayed_leave", "{}", 400),
        ("/sfu_webhook", "", 200),
        ("/sfu/got", "", 404),
    ] {
        assert_eq!(ask(&server, path, body).await.status, status, "{path}");
    }
    let mut body: Value = serde_json::from_str(&older("of-alice", "D")).expect("JSON");
    body["delay_id"] = json!("syd_x");
    body["delay_timeout"] = json!(3_600_000);
    let answer = ask(&server, "/sfu/get", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = server.get("/sfu/get", FROM_A_PAGE).await;
    assert_eq!((answer.status, answer.body.as_str()), (405, ""));
    assert!(
        answer
            .head
            .to_lowercase()
            .contains("access-control-allow-origin")
    );
}

#[tokio::test]
async fn full_access_decides_who_creates_a_room_where_joins_do_not() {
    let (server, _homeserver) = started("room: { auto_create: false }\n").await;
    let jwt = issued(&ask(&server, "/sfu/get", &older("of-alice", "D")).await).jwt;
    Client::join_with(&server, Join::with_token(&jwt)).await;

    let closed = "  full_access_homeservers: [other.example]\nroom: { auto_create: false }\n";
    let (server, _homeserver) = started(closed).await;
    let jwt = issued(&ask(&server, "/sfu/get", &older("of-alice", "D")).await).jwt;
    let path = format!("/rtc/v1/validate?join_request=EgA%3D&access_token={jwt}");
    assert_eq!(server.get(&path, "").await.status, 404);
}

#[tokio::test]
async fn the_endpoints_can_be_switched_off() {
    let server = Server::start_with("matrix: { enabled: false }\n").await;
    let answer = ask(&server, "/sfu/get", &older("of-alice", "D")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_leave_is_kept_from_firing_while_its_participant_is_there_and_sent_when_he_goes() {
    let mut homeserver = Homeserver::start(NAME).await;
    let url = format!("http://{}", homeserver.address);
    let config = format!(
        "matrix:\n  homeservers: {{ \"{NAME}\": \"{url}\" }}\n  client_apis: {{ \"{NAME}\": \"{url}\" }}\n"
    );
    let server = Server::start_with(&config).await;
    let mut body = wanted("alice", "D", "m-1");
    body["delay_id"] = json!("delayed-1");
    body["delay_timeout"] = json!(60_000);
    let alice = issued(&ask(&server, "/get_token", &body.to_string()).await).jwt;
    let alice = Client::join_with(&server, Join::with_token(&alice)).await;
    // When it was handed over, and when she came.
    assert_eq!(homeserver.delayed(2).await, ["delayed-1/restart"; 2]);
    // Another event for the same participant, by the endpoint for it.
    body["delay_id"] = json!("delayed-2");
    let answer = ask(&server, "/delegate_delayed_leave", &body.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(homeserver.delayed(4).await[3], "delayed-2/restart");
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    assert_eq!(homeserver.delayed(5).await[4], "delayed-2/send");
    server.logs("delegated leave is over").await;
    assert!(!server.log().contains("delayed-"), "the id is a secret");
}

/// As Tuwunel is: no delayed events, no transports.
#[tokio::test]
async fn users_of_a_homeserver_without_delayed_events_get_into_a_call_all_the_same() {
    let homeserver = Homeserver::start_without_delays(NAME).await;
    let url = format!("http://{}", homeserver.address);
    let server = Server::start_with(&format!(
        "matrix:\n  homeservers: {{ \"{NAME}\": \"{url}\" }}\n  transports: [\"https://rtc.example.org/livekit/jwt\"]\n"
    ))
    .await;
    // The homeserver does not tell of a transport, so we do.
    let path = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
    let told = server.get(path, "Authorization: Bearer x\r\n").await;
    assert!(
        told.body.contains("https://rtc.example.org/livekit/jwt"),
        "{told:?}"
    );
    // A leave cannot be handed over: the client is told so in the words that make it go on without.
    let mut body = wanted("alice", "D", "m");
    body["delay_id"] = json!("syd_x");
    body["delay_timeout"] = json!(8000);
    let refused = ask(&server, "/get_token", &body.to_string()).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("M_BAD_JSON"), "{refused:?}");
    let refused = ask(&server, "/delegate_delayed_leave", &body.to_string()).await;
    assert_eq!(refused.status, 404, "{refused:?}");
    let alice = issued(
        &ask(
            &server,
            "/get_token",
            &wanted("alice", "D", "m").to_string(),
        )
        .await,
    )
    .jwt;
    let bob = issued(&ask(&server, "/sfu/get", &older("of-bob", "D")).await).jwt;
    let alice = Client::join_with(&server, Join::with_token(&alice)).await;
    let bob = Client::join_with(&server, Join::with_token(&bob)).await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
}

#[tokio::test]
async fn delegation_that_is_switched_off_is_not_there() {
    let server = Server::start_with("matrix: { delegation: false }\n").await;
    let answer = ask(&server, "/delegate_delayed_leave", "{}").await;
    assert_eq!(answer.status, 404);
}
