//! Real homeservers and the real server: `cargo synapse`. Here one that has the server as its application
//! service.

mod synapse {
    mod calls;
}

use proto::livekit::{self, DisconnectReason, signal_request, signal_response};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::script;
use tests::server::Server;
use tests::synapse::{Homeserver, Site};
use tokio::time::{Instant, interval, timeout};

const URL: &str = "wss://rtc.example.com/livekit/sfu";
const CALLS: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";

/// Both, each knowing of the other.
async fn opened() -> (Server, Homeserver) {
    let mut site = Site::new();
    let name = site.name();
    let made = [
        "jwt",
        "registration",
        "--matrix.app_service.server_name",
        &name,
    ];
    let somewhere = "http://somewhere:1";
    let registration = Server::printed(&[&made[..], &["--url", somewhere]].concat());
    site.register(&registration);
    let server = Server::start_with(&format!(
        "matrix:\n  url: \"{URL}\"\n  client_apis: {{ \"{name}\": \"{}\" }}\n  app_service:\n    \
         server_name: \"{name}\"\n    registration_file: \"{}\"\n",
        site.url(),
        site.registration().display()
    ))
    .await;
    let here = format!("http://{}", server.http);
    fs::write(site.registration(), registration.replace(somewhere, &here)).expect("written");
    let homeserver = script::homeserver(&server, site).await;
    (server, homeserver)
}

/// A request for a call, sent to the homeserver.
async fn call(homeserver: &Homeserver, what: &str, token: &str, body: &Value) -> (u16, Value) {
    homeserver
        .ask("POST", &format!("{CALLS}/{what}"), token, body)
        .await
}

fn place(room: &str, member: &str) -> Value {
    json!({ "url": URL, "room_id": room, "slot_id": "m.call#ROOM", "member_id": member })
}

async fn joins(server: &Server, homeserver: &Homeserver, token: &str, place: &Value) -> Client {
    let (status, body) = call(homeserver, "get_token", token, place).await;
    assert_eq!(status, 200, "{body}");
    let jwt = body["jwt"].as_str().expect("a token");
    Client::join_with(server, Join::with_token(jwt)).await
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the time is what the test is about")]
async fn who_is_banned_on_a_synapse_is_out_of_the_call_within_a_second() {
    let (server, homeserver) = opened().await;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| homeserver.account(name));
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let v3 = "/_matrix/client/v3";
    let ask = async |token: &str, path: &str, body: Value| {
        let path = format!("{v3}/{path}");
        let (status, told) = homeserver.ask("POST", &path, token, &body).await;
        assert_eq!(status, 200, "{path}: {told}");
        told
    };
    let made = ask(&alice, "createRoom", json!({ "preset": "public_chat" })).await;
    let room = made["room_id"].as_str().expect("a room").to_owned();
    ask(&bob, &format!("join/{room}"), json!({})).await;

    let (status, told) = call(&homeserver, "get_token", &carol, &place(&room, "c")).await;
    assert_eq!((status, &told["errcode"]), (403, &json!("M_FORBIDDEN")));
    let (status, _) = call(&homeserver, "get_token", "nobody-s", &place(&room, "n")).await;
    assert_eq!(status, 401);
    let in_call = joins(&server, &homeserver, &alice, &place(&room, "a")).await;
    let banned = joins(&server, &homeserver, &bob, &place(&room, "b")).await;
    let sound = banned.publish("bob-sound", Media::Sound).await;
    in_call.receive(&sound.sid, 5).await;

    let name = homeserver.name();
    let he = json!({ "user_id": format!("@bob:{name}") });
    let told = Instant::now();
    ask(&alice, &format!("rooms/{room}/ban"), he.clone()).await;
    let answered = told.elapsed();
    let reason = banned
        .message("a leave", |message| match message {
            signal_response::Message::Leave(leave) => Some(leave.reason()),
            _ => None,
        })
        .await;
    assert_eq!(reason, DisconnectReason::ParticipantRemoved);
    banned.until_sent(&sound, sound.sent("").len() + 100).await;
    let last = in_call.seen(|seen| seen.packets.last().expect("some came").at);
    let last = last.saturating_duration_since(told);
    println!("banned on Synapse: answered after {answered:?}, last packet from him after {last:?}");
    assert!(last < Duration::from_secs(1), "{last:?}");
    let (status, _) = call(&homeserver, "get_token", &bob, &place(&room, "b")).await;
    assert_eq!(status, 403);
    ask(&alice, &format!("rooms/{room}/unban"), he).await;
    ask(&bob, &format!("join/{room}"), json!({})).await;
    joins(&server, &homeserver, &bob, &place(&room, "b")).await;
    server.assert_calm();
}

#[tokio::test]
async fn a_leave_is_handed_over_through_a_synapse_and_sent_when_its_participant_goes() {
    let (server, homeserver) = opened().await;
    let alice = homeserver.account("alice").await;
    let v3 = "/_matrix/client/v3";
    let path = format!("{v3}/createRoom");
    let (_, made) = homeserver.ask("POST", &path, &alice, &json!({})).await;
    let room = made["room_id"].as_str().expect("a room").to_owned();
    let state = format!("{v3}/rooms/{room}/state/org.example.call/alice");
    let delayed = format!("{state}?org.matrix.msc4140.delay=60000");
    let left = json!({ "left": true });
    let (status, told) = homeserver.ask("PUT", &delayed, &alice, &left).await;
    assert_eq!(status, 200, "{told}");
    let mut handed = place(&room, "a");
    handed["delay_id"] = told["delay_id"].clone();
    let client = joins(&server, &homeserver, &alice, &handed).await;
    let (status, told) = call(&homeserver, "delegate_delayed_leave", &alice, &handed).await;
    assert_eq!((status, told), (200, json!({})));
    let leave = signal_request::Message::Leave(livekit::LeaveRequest::default());
    client.say(leave);
    let sent = async {
        let mut tick = interval(Duration::from_millis(50));
        while homeserver.ask("GET", &state, &alice, &Value::Null).await != (200, left.clone()) {
            tick.tick().await;
        }
    };
    timeout(Duration::from_secs(10), sent)
        .await
        .expect("the leave is sent");
    handed["delay_id"] = json!("nobody-s");
    let (status, told) = call(&homeserver, "delegate_delayed_leave", &alice, &handed).await;
    assert_eq!((status, &told["errcode"]), (400, &json!("M_INVALID_PARAM")));
    server.assert_calm();
}
