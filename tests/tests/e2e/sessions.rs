//! Sessions: resume, replacement, visibility, the end of the server.

use proto::livekit::{self, DisconnectReason, leave_request, signal_request, signal_response};
use tests::client::{Client, Join};
use tests::endpoint::Seen;
use tests::publication::Media;
use tests::server::Server;
use tokio_tungstenite::tungstenite::Message;

/// The first leave a client was told.
fn leave(seen: &Seen) -> Option<livekit::LeaveRequest> {
    seen.messages.iter().find_map(|message| match message {
        signal_response::Message::Leave(leave) => Some(leave.clone()),
        _ => None,
    })
}

/// Whether an update told that a participant is in some state.
fn told(seen: &Seen, sid: &str, state: livekit::participant_info::State) -> Option<()> {
    seen.messages.iter().find_map(|message| match message {
        signal_response::Message::Update(update) => {
            let found = update
                .participants
                .iter()
                .find(|participant| participant.sid == sid)?;
            (found.state() == state).then_some(())
        }
        _ => None,
    })
}

#[tokio::test]
async fn a_cut_websocket_is_resumed_while_media_goes_on() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let back = bob.publish("bob-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;

    alice.cut().await;
    // Media does not care about the signalling connection.
    bob.receive(&sound.sid, 10).await;
    let before = alice.seen(|seen| seen.messages.len());
    alice.resume(&server, &[&sound]).await;
    alice
        .until("an update with everybody, oneself included", |seen| {
            seen.messages[before..]
                .iter()
                .find_map(|message| match message {
                    signal_response::Message::Update(update) => {
                        let has = |sid: &str| update.participants.iter().any(|p| p.sid == sid);
                        (has(&alice.sid) && has(&bob.sid)).then_some(())
                    }
                    _ => None,
                })
        })
        .await;
    alice
        .until("the answer to the restart", |seen| {
            let answer =
                |m: &&signal_response::Message| matches!(m, signal_response::Message::Answer(_));
            seen.messages[before..].iter().find(answer).map(|_| ())
        })
        .await;
    bob.receive(&sound.sid, 50).await;
    alice.receive(&back.sid, 50).await;
    let gone = livekit::participant_info::State::Disconnected;
    assert_eq!(
        bob.seen(|seen| told(seen, &alice.sid, gone)),
        None,
        "a resume looked like a leave"
    );

    // The resumed connection works: what is said on it reaches the others.
    alice.say(signal_request::Message::Mute(livekit::MuteTrackRequest {
        sid: sound.sid.clone(),
        muted: true,
    }));
    bob.message("the mute", |message| match message {
        signal_response::Message::Update(update) => update
            .participants
            .iter()
            .flat_map(|participant| &participant.tracks)
            .any(|track| track.sid == sound.sid && track.muted)
            .then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_resume_of_nobody_is_told_to_start_anew() {
    let server = Server::start().await;
    let join = livekit::JoinRequest {
        reconnect: true,
        participant_sid: "PA_nobody".into(),
        // Protocols up to 12 know no action (LK: signalling §1.6).
        client_info: Some(livekit::ClientInfo {
            protocol: 17,
            ..Default::default()
        }),
        ..Default::default()
    };
    let token = tests::token::sign(&tests::token::claims("ghost", "room"), tests::token::SECRET);
    let mut socket = tests::client::dial(&server, &token, &join, false)
        .await
        .expect("101 first");
    let leave = loop {
        use futures_util::StreamExt;
        use prost::Message as _;
        let frame = socket
            .next()
            .await
            .expect("a message first")
            .expect("a message first");
        let Message::Binary(bytes) = frame else {
            continue;
        };
        match livekit::SignalResponse::decode(bytes)
            .expect("a response")
            .message
        {
            Some(signal_response::Message::Leave(leave)) => break leave,
            other => panic!("expected leave, got {other:?}"),
        }
    };
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
}

#[tokio::test]
async fn the_same_identity_replaces_the_old_one() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let old = Client::join(&server, "alice", "room").await;
    let new = Client::join(&server, "alice", "room").await;
    assert_ne!(old.sid, new.sid);
    let leave = old.until("a leave", leave).await;
    assert_eq!(leave.action(), leave_request::Action::Disconnect);
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    old.until("the old connection ends", |seen| seen.closed.then_some(()))
        .await;
    let active = livekit::participant_info::State::Active;
    bob.until("bob learns of the new one", |seen| {
        told(seen, &new.sid, active)
    })
    .await;
    let sound = new.publish("new-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
}

#[tokio::test]
async fn a_leave_is_told_to_the_others() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
    alice.say(signal_request::Message::Leave(
        livekit::LeaveRequest::default(),
    ));
    let gone = livekit::participant_info::State::Disconnected;
    bob.until("bob learns that alice left", |seen| {
        told(seen, &alice.sid, gone)
    })
    .await;
}

#[tokio::test]
async fn a_hidden_participant_is_not_announced_and_yet_hears() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let spy = Client::join_with(&server, Join::new("spy", "room").grant("hidden", true)).await;
    let alice = Client::join(&server, "alice", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    spy.receive(&sound.sid, 5).await;
    bob.receive(&sound.sid, 5).await;
    for witness in [&alice, &bob] {
        let told = witness.seen(|seen| format!("{:?}", seen.messages));
        assert!(
            !told.contains(&spy.sid) && !told.contains("spy"),
            "the spy was announced"
        );
    }
}

#[tokio::test]
async fn who_may_not_publish_is_refused_and_stays() {
    let server = Server::start().await;
    let how = Join::new("guest", "room").grant("canPublish", false);
    let guest = Client::join_with(&server, how).await;
    let alice = Client::join(&server, "alice", "room").await;
    guest.say(signal_request::Message::AddTrack(
        livekit::AddTrackRequest {
            cid: "forbidden".into(),
            ..Default::default()
        },
    ));
    let reason = guest
        .message("a refusal", |message| match message {
            signal_response::Message::RequestResponse(response) => Some(response.reason()),
            _ => None,
        })
        .await;
    assert_eq!(reason, livekit::request_response::Reason::NotAllowed);
    let sound = alice.publish("alice-sound", Media::Sound).await;
    guest.receive(&sound.sid, 5).await;
}

#[tokio::test]
async fn pings_are_answered_in_both_forms() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    alice.say(signal_request::Message::Ping(1));
    alice.say(signal_request::Message::PingReq(livekit::Ping {
        timestamp: 4711,
        rtt: 0,
    }));
    alice
        .message("pong", |m| {
            matches!(m, signal_response::Message::Pong(_)).then_some(())
        })
        .await;
    let echoed = alice
        .message("pong_resp", |message| match message {
            signal_response::Message::PongResp(pong) => Some(pong.last_ping_timestamp),
            _ => None,
        })
        .await;
    assert_eq!(echoed, 4711);
}

#[tokio::test]
async fn json_is_answered_in_json() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    // The client reads both forms; the answer to this can only come if JSON was understood.
    alice.frame(Message::text(
        r#"{"pingReq":{"timestamp":"99","unknownField":1}}"#,
    ));
    alice
        .message("pong_resp", |message| match message {
            signal_response::Message::PongResp(pong) => {
                (pong.last_ping_timestamp == 99).then_some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn an_uncompressed_join_request_is_accepted() {
    let server = Server::start().await;
    let mut how = Join::new("plain", "room");
    how.gzip = false;
    Client::join_with(&server, how).await;
}

#[tokio::test]
async fn rooms_do_not_hear_each_other() {
    let server = Server::start().await;
    let stranger = Client::join(&server, "stranger", "elsewhere").await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 20).await;
    stranger.seen(|seen| {
        assert_eq!(seen.packets.len(), 0);
        assert!(!format!("{:?}", seen.messages).contains(&alice.sid));
    });
}

#[tokio::test]
async fn sigterm_ends_sessions_with_a_leave_that_makes_clients_reconnect() {
    let mut server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    server.terminate();
    let leave = alice.until("a leave", leave).await;
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
    alice
        .until("the connection ends", |seen| seen.closed.then_some(()))
        .await;
    assert!(server.ended().await, "an orderly end is a success");
}

#[tokio::test]
async fn a_full_room_refuses_one_more_and_keeps_the_others() {
    let server = Server::start_with("room:\n  max_participants: 2\n").await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let token = tests::token::sign(&tests::token::claims("carol", "room"), tests::token::SECRET);
    let refused =
        tests::client::dial(&server, &token, &livekit::JoinRequest::default(), true).await;
    assert!(refused.is_err(), "a third one came in");
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
    // Another room has its own count.
    Client::join(&server, "carol", "elsewhere").await;
}

#[tokio::test]
async fn new_metadata_reaches_everybody_if_the_token_allows_it() {
    let server = Server::start().await;
    let how = Join::new("alice", "room").grant("canUpdateOwnMetadata", true);
    let alice = Client::join_with(&server, how).await;
    let bob = Client::join(&server, "bob", "room").await;
    let change = |metadata: &str| {
        signal_request::Message::UpdateMetadata(livekit::UpdateParticipantMetadata {
            metadata: metadata.into(),
            attributes: [("mood".to_owned(), "curious".to_owned())].into(),
            request_id: 7,
            ..Default::default()
        })
    };
    alice.say(change("hello"));
    bob.message("the new metadata", |message| match message {
        signal_response::Message::Update(update) => {
            let alice = update.participants.iter().find(|p| p.sid == alice.sid)?;
            let mood = alice.attributes.get("mood").map(String::as_str);
            (alice.metadata == "hello" && mood == Some("curious")).then_some(())
        }
        _ => None,
    })
    .await;
    bob.say(change("not allowed"));
    let refusal = bob
        .message("a refusal", |message| match message {
            signal_response::Message::RequestResponse(response) => Some(response.clone()),
            _ => None,
        })
        .await;
    assert_eq!(
        refusal.reason(),
        livekit::request_response::Reason::NotAllowed
    );
    assert_eq!(refusal.request_id, 7);
}
