//! A homeserver whose application service we are: tokens through it, and bans that end a call.

use proto::livekit::{self, DisconnectReason, signal_request, signal_response};
use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{Client, Join, dial};
use tests::homeserver::{AS_TOKEN, HS_TOKEN, Homeserver, NAME};
use tests::publication::Media;
use tests::server::{Answer, Server};
use tokio::time::Instant;

const ROOM: &str = "!room:example.com";
const URL: &str = "wss://rtc.example.com/livekit/sfu";
const CLIENT: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";

/// What people must not notice.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A server that a homeserver has as its application service.
async fn started(interval: &str) -> (Server, Homeserver) {
    started_beside("", interval).await
}

/// The same, with more homeservers whose place is known.
async fn started_beside(others: &str, interval: &str) -> (Server, Homeserver) {
    let homeserver = Homeserver::start(NAME).await;
    let url = format!("http://{}", homeserver.address);
    let config = format!(
        "matrix:\n  url: \"{URL}\"\n  homeservers: {{ \"{NAME}\": \"{url}\"{others} }}\n  \
         client_apis: {{ \"{NAME}\": \"{url}\" }}\n  app_service:\n    server_name: {NAME}\n    \
         hs_token: {HS_TOKEN}\n    as_token: {AS_TOKEN}\n    membership_interval: {interval}\n"
    );
    (Server::start_with(&config).await, homeserver)
}

/// The token of a user, as his homeserver passes his request on.
async fn token(server: &Server, user: &str) -> Answer {
    let headers = format!(
        "Authorization: Bearer {HS_TOKEN}\r\nX-Matrix-User-Identifier: @{user}:{NAME}\r\n\
         Content-Type: application/json\r\n"
    );
    let body = json!({ "url": URL, "room_id": ROOM, "slot_id": "m.call#ROOM",
        "member_id": format!("member-of-{user}") });
    let path = format!("{CLIENT}/get_token");
    server.post(&path, &headers, &body.to_string()).await
}

fn jwt(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    body["jwt"].as_str().expect("a token").to_owned()
}

/// The same by the endpoint that is open to all.
async fn openly(server: &Server, user: &str) -> u16 {
    openly_from(server, user, NAME).await
}

async fn openly_from(server: &Server, user: &str, name: &str) -> u16 {
    let body = json!({ "room": ROOM, "device_id": "D", "openid_token": {
        "access_token": format!("of-{user}"), "matrix_server_name": name } });
    server.post("/sfu/get", "", &body.to_string()).await.status
}

/// The homeserver tells that a membership has changed.
async fn turns(server: &Server, id: u32, user: &str, membership: &str) {
    let event = json!({ "type": "m.room.member", "room_id": ROOM, "event_id": format!("${id}"),
        "state_key": format!("@{user}:{NAME}"), "sender": format!("@admin:{NAME}"),
        "content": { "membership": membership, "reason": "enough" } });
    let headers = format!("Authorization: Bearer {HS_TOKEN}\r\nContent-Type: application/json\r\n");
    let path = format!("/_matrix/app/v1/transactions/{id}");
    let body = json!({ "events": [event] }).to_string();
    let answer = server.put(&path, &headers, &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
}

async fn joins(server: &Server, user: &str) -> (Client, String) {
    let jwt = jwt(&token(server, user).await);
    let client = Client::join_with(server, Join::with_token(&jwt)).await;
    (client, jwt)
}

/// Waits until he is told that he was removed.
async fn removed(client: &Client) {
    let reason = client
        .message("a leave", |message| match message {
            signal_response::Message::Leave(leave) => Some((leave.reason(), leave.action())),
            _ => None,
        })
        .await;
    let disconnect = livekit::leave_request::Action::Disconnect;
    assert_eq!(reason, (DisconnectReason::ParticipantRemoved, disconnect));
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the time is what the test is about")]
async fn who_is_banned_from_the_matrix_room_is_out_of_its_call_at_once() {
    let (server, homeserver) = started("0").await;
    let (alice, _) = joins(&server, "alice").await;
    let (bob, token_of_bob) = joins(&server, "bob").await;
    let sound_of_alice = alice.publish("alice-sound", Media::Sound).await;
    let sound_of_bob = bob.publish("bob-sound", Media::Sound).await;
    alice.receive(&sound_of_bob.sid, 5).await;
    bob.receive(&sound_of_alice.sid, 5).await;

    homeserver.moves("@bob:example.com", false);
    let told = Instant::now();
    turns(&server, 1, "bob", "ban").await;
    removed(&bob).await;
    let informed = told.elapsed();
    // Both send on meanwhile: what is not forwarded now never will be.
    let sent = sound_of_alice
        .sent("")
        .len()
        .max(sound_of_bob.sent("").len());
    alice.until_sent(&sound_of_alice, sent + 100).await;
    bob.until_sent(&sound_of_bob, sent + 100).await;
    let last = |client: &Client, track: &str| {
        client.seen(|seen| {
            let mut packets = seen.packets.iter().filter(|packet| packet.track == track);
            let at = packets.next_back().expect("some came").at;
            at.saturating_duration_since(told)
        })
    };
    let from_him = last(&alice, &sound_of_bob.sid);
    let to_him = last(&bob, &sound_of_alice.sid);
    println!(
        "banned: told after {informed:?}; last packet from him after {from_him:?}, to him after \
         {to_him:?}"
    );
    assert!(informed < AT_ONCE && from_him < AT_ONCE && to_him < AT_ONCE);

    // Neither the token in his hands nor another lets him in again.
    let again = dial(
        &server,
        &token_of_bob,
        &livekit::JoinRequest::default(),
        true,
    )
    .await;
    assert!(format!("{:?}", again.err()).contains("401"));
    let path = "/rtc/v1/validate?join_request=EgA%3D&access_token=";
    let validated = server.get(&format!("{path}{token_of_bob}"), "").await;
    assert_eq!(
        (validated.status, validated.body.as_str()),
        (401, "permissions denied")
    );
    assert_eq!(token(&server, "bob").await.status, 403);
    assert_eq!(openly(&server, "bob").await, 403);
    assert_eq!(openly(&server, "alice").await, 200);
    let out = server.metric("foci_jwt_taken_out_total", &["told_by=\"event\""]);
    assert_eq!(out.await, 1.0);
    assert!(!server.log().contains(AS_TOKEN) && !server.log().contains(HS_TOKEN));

    homeserver.moves("@bob:example.com", true);
    turns(&server, 2, "bob", "join").await;
    let bob = Client::join_with(&server, Join::with_token(&token_of_bob)).await;
    bob.receive(&sound_of_alice.sid, 5).await;
}

#[tokio::test]
async fn a_ban_that_was_not_told_is_noticed_by_asking() {
    let (server, homeserver) = started("5s").await;
    let (alice, _) = joins(&server, "alice").await;
    let (bob, _) = joins(&server, "bob").await;
    homeserver.moves("@bob:example.com", false);
    removed(&bob).await;
    assert!(!alice.seen(|seen| seen.closed));
    assert_eq!(token(&server, "bob").await.status, 403);
}

#[tokio::test]
async fn a_user_of_another_homeserver_who_is_banned_gets_no_token_at_all() {
    const OTHER: &str = "other.example";
    let other = Homeserver::start(OTHER).await;
    let beside = format!(", \"{OTHER}\": \"http://{}\"", other.address);
    // Nobody tells, nobody is asked from time to time, and nobody has had a token before.
    let (server, homeserver) = started_beside(&beside, "0").await;
    homeserver.moves("@bob:other.example", false);
    assert_eq!(openly_from(&server, "bob", OTHER).await, 403);
    assert_eq!(openly_from(&server, "carol", OTHER).await, 200);
    homeserver.moves("@bob:other.example", true);
    assert_eq!(openly_from(&server, "bob", OTHER).await, 200);
}

#[tokio::test]
async fn a_leave_is_kept_and_sent_in_the_name_of_its_owner() {
    let (server, mut homeserver) = started("0").await;
    let (alice, _) = joins(&server, "alice").await;
    let headers =
        format!("Authorization: Bearer {HS_TOKEN}\r\nX-Matrix-User-Identifier: @alice:{NAME}\r\n");
    let body = json!({ "url": URL, "room_id": ROOM, "slot_id": "m.call#ROOM",
        "member_id": "member-of-alice", "delay_id": "delayed-1" });
    let path = format!("{CLIENT}/delegate_delayed_leave");
    let answer = server.post(&path, &headers, &body.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    let owner = "?user_id=%40alice%3Aexample.com";
    let restart = format!("delayed-1/restart{owner}");
    // When it was handed over, and since she is there.
    assert_eq!(
        homeserver.delayed(2).await,
        [restart.as_str(), restart.as_str()]
    );
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    assert_eq!(
        homeserver.delayed(3).await[2],
        format!("delayed-1/send{owner}")
    );
    server.logs("delegated leave is over").await;
    let elsewhere = json!({ "url": URL, "room_id": "!other:example.com", "slot_id": "m.call#ROOM",
        "member_id": "member-of-alice", "delay_id": "delayed-1" });
    let answer = server.post(&path, &headers, &elsewhere.to_string()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("M_INVALID_PARAM"), "{answer:?}");
}
