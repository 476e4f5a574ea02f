//! Clients with two peer connections on `/rtc`: one to send by, which they offer, and one to
//! receive by, which the server offers.

use proto::livekit::{self, leave_request, signal_request, signal_response};
use tests::client::{Client, DUAL, Join, dial_dual};
use tests::endpoint::Seen;
use tests::publication::Media;
use tests::server::Server;
use tests::token::{SECRET, claims, sign};

/// The server's offers a client has seen, in order.
fn offers(seen: &Seen) -> Vec<livekit::SessionDescription> {
    let offer = |message: &signal_response::Message| match message {
        signal_response::Message::Offer(offer) => Some(offer.clone()),
        _ => None,
    };
    seen.messages.iter().filter_map(offer).collect()
}

fn ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find(|line| line.starts_with("a=ice-ufrag:"))
}

fn sections(sdp: &str) -> usize {
    sdp.lines().filter(|line| line.starts_with("m=")).count()
}

async fn dual(server: &Server, identity: &str) -> Client {
    Client::join_with(server, Join::new(identity, "room").dual()).await
}

#[tokio::test]
async fn clients_of_one_and_of_two_connections_hear_and_see_each_other() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = dual(&server, "bob").await;
    assert!(bob.receives_first);
    let alices = alice.publish("alice-sound", Media::Sound).await;
    let bobs = bob.publish("bob-picture", Media::Simulcast).await;
    bob.receive(&alices.sid, 20).await;
    alice.receive(&bobs.sid, 20).await;
    // One that comes later finds both in the first offer.
    let carol = dual(&server, "carol").await;
    carol.receive(&alices.sid, 5).await;
    carol.receive(&bobs.sid, 5).await;
    let first = carol.seen(|seen| offers(seen).remove(0));
    assert!(first.id > 0);
    assert!(first.sdp.contains("m=application"));
    let mut told: Vec<_> = first.mid_to_track_id.into_values().collect();
    told.sort();
    let mut sids = vec![alices.sid.clone(), bobs.sid.clone()];
    sids.sort();
    assert_eq!(told, sids);
    let stream = carol.seen(|seen| seen.packets[0].stream.clone());
    assert!(stream.contains('|'), "{stream}");
}

#[tokio::test]
async fn who_may_only_listen_and_who_may_only_speak_do_so() {
    let server = Server::start().await;
    let listener = Join::new("listener", "room").grant("canPublish", false);
    let listener = Client::join_with(&server, listener.dual()).await;
    let speaker = Join::new("speaker", "room").grant("canSubscribe", false);
    let speaker = Client::join_with(&server, speaker.dual()).await;
    assert_eq!(
        (listener.receives_first, speaker.receives_first),
        (true, false)
    );
    let sound = speaker.publish("sound", Media::Sound).await;
    listener.receive(&sound.sid, 20).await;
    let offered = speaker.seen(|seen| offers(seen).len());
    assert_eq!(offered, 0, "there is nothing to offer");
}

#[tokio::test]
async fn media_goes_on_through_a_resume_with_the_servers_ice_restart() {
    let server = Server::start().await;
    let alice = dual(&server, "alice").await;
    let bob = dual(&server, "bob").await;
    let alices = alice.publish("alice-sound", Media::Sound).await;
    let bobs = bob.publish("bob-sound", Media::Sound).await;
    bob.receive(&alices.sid, 5).await;
    alice.receive(&bobs.sid, 5).await;
    let before = bob.seen(|seen| offers(seen).pop()).expect("an offer");
    bob.cut().await;
    // While the connection is away media goes on by what there is.
    bob.receive(&alices.sid, 20).await;
    bob.resume(&server, &[&bobs]).await;
    let restart = bob
        .until("an offer with new credentials", |seen| {
            let last = offers(seen).pop()?;
            (ufrag(&last.sdp) != ufrag(&before.sdp)).then_some(last)
        })
        .await;
    assert!(restart.id > before.id);
    bob.receive(&alices.sid, 50).await;
    alice.receive(&bobs.sid, 50).await;
    // What comes after it is offered and heard as ever.
    let picture = alice.publish("alice-picture", Media::Picture).await;
    bob.receive(&picture.sid, 10).await;
    let left = bob.seen(|seen| {
        let leaves = |message: &signal_response::Message| {
            matches!(message, signal_response::Message::Leave(_))
        };
        seen.messages.iter().any(leaves)
    });
    assert!(!left, "the resume sufficed");
}

#[tokio::test]
async fn comings_and_goings_do_not_grow_the_offers() {
    let server = Server::start().await;
    let bob = dual(&server, "bob").await;
    for round in 0..8 {
        let guest = dual(&server, &format!("guest{round}")).await;
        let sound = guest.publish("sound", Media::Sound).await;
        let picture = guest.publish("picture", Media::Picture).await;
        bob.receive(&sound.sid, 3).await;
        bob.receive(&picture.sid, 3).await;
        guest.say(signal_request::Message::Leave(
            livekit::LeaveRequest::default(),
        ));
        bob.until("the guest's tracks are gone", |seen| {
            let last = offers(seen).pop()?;
            last.mid_to_track_id.is_empty().then_some(())
        })
        .await;
    }
    let last = bob.seen(|seen| offers(seen).pop()).expect("an offer");
    assert!(sections(&last.sdp) <= 5, "{}", last.sdp);
}

#[tokio::test]
async fn old_protocols_are_served_as_they_know_it() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    for (parameters, receives_first) in [
        ("sdk=go&protocol=2", false),
        ("sdk=go&protocol=3", true),
        ("sdk=go&protocol=7", true),
        ("sdk=go&protocol=9", true),
    ] {
        let mut how = Join::new("old", "room");
        how.dual = Some(parameters);
        let old = Client::join_with(&server, how).await;
        assert_eq!(old.receives_first, receives_first, "{parameters}");
        old.receive(&sound.sid, 5).await;
        if receives_first {
            let first = old.seen(|seen| offers(seen).remove(0));
            let tracks =
                usize::from(parameters != "sdk=go&protocol=3" && parameters != "sdk=go&protocol=7");
            assert_eq!(first.mid_to_track_id.len(), tracks, "{parameters}");
        }
    }
}

#[tokio::test]
async fn a_session_that_only_publishes_stands_beside_the_other_one() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = dual(&server, "bob").await;
    let mut beside = Join::new("bob", "room").dual();
    beside.dual = Some("sdk=go&protocol=17&publish=screen");
    let beside = Client::join_with(&server, beside).await;
    assert!(!beside.receives_first);
    let screen = beside.publish("screen", Media::Picture).await;
    alice.receive(&screen.sid, 5).await;
    bob.receive(&screen.sid, 5).await;
    let known = alice
        .message("the second session", |message| match message {
            signal_response::Message::Update(update) => {
                let named = update.participants.iter().find(|p| p.sid == beside.sid)?;
                Some(named.identity.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(known, "bob#screen");
}

#[tokio::test]
async fn a_resume_of_nobody_is_told_to_start_over() {
    let server = Server::start().await;
    let token = sign(&claims("nobody", "room"), SECRET);
    let query = format!("{DUAL}&reconnect=1&sid=PA_gone");
    let mut socket = dial_dual(&server, &token, &query).await.expect("a socket");
    let leave = tests::client::first_message(&mut socket).await;
    let signal_response::Message::Leave(leave) = leave else {
        panic!("{leave:?}")
    };
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
}

#[tokio::test]
async fn the_older_validation_answers_as_the_newer_one() {
    let server = Server::start().await;
    let good = sign(&claims("alice", "room"), SECRET);
    let mut may = claims("alice", "room");
    may["video"]["canUpdateOwnMetadata"] = true.into();
    let may = sign(&may, SECRET);
    let mut mute = claims("alice", "room");
    mute["video"]["canPublish"] = false.into();
    let mute = sign(&mute, SECRET);
    let nothing = "no permissions to access the room";
    for (query, status, body) in [
        (format!("{DUAL}&access_token={good}"), 200, "success"),
        (format!("access_token={good}"), 200, "success"),
        (DUAL.to_owned(), 401, nothing),
        (
            "access_token=garbage".to_owned(),
            401,
            "invalid authorization token",
        ),
        (format!("publish=x&access_token={mute}"), 401, nothing),
        (
            format!("attributes=e30&access_token={good}"),
            200,
            "success",
        ),
        (
            format!("attributes=eyJhIjoiYiJ9&access_token={good}"),
            401,
            nothing,
        ),
        (
            format!("attributes=eyJhIjoiYiJ9&access_token={may}"),
            200,
            "success",
        ),
        (
            format!("attributes=%21&access_token={may}"),
            400,
            "cannot decode attributes",
        ),
        (
            format!("join_request=%21&access_token={good}"),
            400,
            "cannot base64 decode wrapped join request",
        ),
    ] {
        let answer = server.get(&format!("/rtc/validate?{query}"), "").await;
        assert_eq!(
            (answer.status, answer.body.trim()),
            (status, body),
            "{query}"
        );
        let head = answer.head.to_lowercase();
        assert!(head.contains("access-control-allow-origin"), "{answer:?}");
    }
}
