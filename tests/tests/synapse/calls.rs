//! Calls of users of real homeservers by OpenID: a delayed leave that is handed over, and two that
//! federate.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::script;
use tests::server::Server;
use tests::synapse::{Homeserver, Site};
use tokio::time::{Instant, interval, timeout};

/// MSC4140 and MSC4195 with the real thing: what a client schedules at its homeserver and hands over.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "the time is worth knowing")]
async fn a_delayed_leave_is_put_off_at_a_real_homeserver_and_sent_when_its_owner_vanishes() {
    const DELAY_MS: u64 = 5000;
    let site = Site::new();
    let server = Server::start_with(&site.configuration()).await;
    let homeserver = script::homeserver(&server, site).await;
    let [user, device, token] = homeserver.user("alice").await;
    let room = homeserver
        .call("POST", "/_matrix/client/v3/createRoom", &token, &json!({}))
        .await;
    let room = room["room_id"].as_str().expect("a room").to_owned();
    let member = format!(
        "/_matrix/client/v3/rooms/{room}/state/org.matrix.msc3401.call.member/_{user}_{device}"
    );
    let there = json!({ "application": "m.call", "device_id": device });
    homeserver.call("PUT", &member, &token, &there).await;
    let later = format!("{member}?org.matrix.msc4140.delay={DELAY_MS}");
    let delayed = homeserver.call("PUT", &later, &token, &json!({})).await;

    let path = format!("/_matrix/client/v3/user/{user}/openid/request_token");
    let open_id = homeserver.call("POST", &path, &token, &json!({})).await;
    let asked = json!({
        "room_id": room, "slot_id": "m.call#ROOM", "openid_token": open_id,
        "member": { "id": "m", "claimed_user_id": user, "claimed_device_id": device },
        "delay_id": delayed["delay_id"], "delay_timeout": DELAY_MS,
    });
    let answer = server.post("/get_token", "", &asked.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let jwt = answer["jwt"].as_str().expect("a token");
    let alice = Client::join_with(&server, Join::with_token(jwt)).await;

    // It is put off time and again: without that it would have fired after the first five seconds.
    let mut began = BTreeSet::new();
    let mut tick = interval(Duration::from_millis(100));
    let put_off = async {
        while began.len() < 5 {
            tick.tick().await;
            let path = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";
            let list = homeserver.call("GET", path, &token, &Value::Null).await;
            let events = list["delayed_events"].as_array().expect("a list").clone();
            assert_eq!(events.len(), 1, "it has fired: {list}");
            began.insert(events[0]["running_since"].as_u64().expect("a time"));
        }
    };
    timeout(Duration::from_secs(30), put_off)
        .await
        .expect("put off");
    assert_eq!(
        homeserver.call("GET", &member, &token, &Value::Null).await,
        there
    );

    drop(alice);
    let vanished = Instant::now();
    let sent = async {
        while homeserver.call("GET", &member, &token, &Value::Null).await != json!({}) {
            tick.tick().await;
        }
    };
    timeout(Duration::from_secs(60), sent).await.expect("sent");
    println!(
        "the leave was sent {:.1} s after she had vanished",
        vanished.elapsed().as_secs_f64()
    );
    server.assert_calm();
}

/// A token of a user for an SFU, asked for as Element Call does in a federated call: claims and text.
async fn token(
    sfu: &Server,
    homeserver: &Homeserver,
    of: &[String; 3],
    room: &str,
) -> (Value, String) {
    let [user, device, access] = of;
    let path = format!("/_matrix/client/v3/user/{user}/openid/request_token");
    let open_id = homeserver.call("POST", &path, access, &json!({})).await;
    let asked = json!({
        "room_id": room, "slot_id": "m.call#ROOM", "openid_token": open_id,
        "member": { "id": "m", "claimed_user_id": user, "claimed_device_id": device },
    });
    let answer = sfu.post("/get_token", "", &asked.to_string()).await;
    assert_eq!(answer.status, 200, "{user}: {answer:?}");
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let jwt = answer["jwt"].as_str().expect("a token").to_owned();
    let payload = jwt.split('.').nth(1).expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64");
    (serde_json::from_slice(&payload).expect("JSON"), jwt)
}

/// Element Call's way with several homeservers: each sends by the SFU of the own one, and receives from
/// all. (MSC4195)
#[tokio::test]
async fn users_of_two_federating_homeservers_meet_each_sending_by_the_own_sfu() {
    let (mut a, mut b) = (Site::new(), Site::new());
    a.federate_with(&b);
    b.federate_with(&a);
    let of = |site: &Site| {
        let (name, trusted) = (site.name(), site.trusted());
        format!(
            "matrix:\n  full_access_homeservers: [\"{name}\"]\n  ca_file: \"{}\"\n  allow_private_addresses: true\n",
            trusted.display()
        )
    };
    let (sfu_a, sfu_b) = (
        Server::start_with(&of(&a)).await,
        Server::start_with(&of(&b)).await,
    );
    let a = script::homeserver(&sfu_a, a).await;
    let b = script::homeserver(&sfu_b, b).await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let open = json!({ "preset": "public_chat" });
    let room = a
        .call("POST", "/_matrix/client/v3/createRoom", &alice[2], &open)
        .await;
    let room = room["room_id"].as_str().expect("a room").to_owned();
    let join = format!(
        "/_matrix/client/v3/join/{room}?via={0}&server_name={0}",
        a.name()
    );
    b.call("POST", &join, &bob[2], &json!({})).await;

    // Who sends there makes the room there; the other one finds it.
    let (own, alice_a) = token(&sfu_a, &a, &alice, &room).await;
    assert_eq!(own["video"]["canPublish"], true);
    let (foreign, bob_a) = token(&sfu_a, &b, &bob, &room).await;
    assert_eq!(foreign["video"]["canPublish"], false);
    let (own, bob_b) = token(&sfu_b, &b, &bob, &room).await;
    assert_eq!(own["video"]["canPublish"], true);
    let (foreign, alice_b) = token(&sfu_b, &a, &alice, &room).await;
    assert_eq!(foreign["video"]["canPublish"], false);

    for (sfu, sends, receives) in [(&sfu_a, alice_a, bob_a), (&sfu_b, bob_b, alice_b)] {
        let sender = Client::join_with(sfu, Join::with_token(&sends)).await;
        let receiver = Client::join_with(sfu, Join::with_token(&receives)).await;
        let sound = sender.publish("sound", Media::Sound).await;
        receiver.receive(&sound.sid, 5).await;
    }
    sfu_a.assert_calm();
    sfu_b.assert_calm();
}
