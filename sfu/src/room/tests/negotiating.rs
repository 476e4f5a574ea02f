//! Answers, candidates and section requests on the wire.

use super::harness::{World, replies};
use crate::media::message::{Command as Media, Description, Event};
use proto::livekit;
use proto::livekit::request_response::Reason;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

#[test]
fn an_answer_carries_the_offers_id_and_the_full_map_of_tracks() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.forget();
    let gone = crate::ids::TrackKey {
        index: 99,
        ..track.key
    };
    world.event(Event::Answer(Description {
        peer: bob.peer,
        id: 42,
        sdp: "v=0".into(),
        mids: vec![("4".into(), track.key), ("5".into(), gone)],
        candidates: vec!["candidate:1".into(), "candidate:2 \"x\"".into()],
    }));
    let messages = world.take(&bob);
    let Message::Answer(answer) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!((answer.r#type.as_str(), answer.id), ("answer", 42));
    assert_eq!(answer.mid_to_track_id.len(), 1);
    assert_eq!(answer.mid_to_track_id["4"], track.sid);
    let trickles: Vec<_> = messages[1..]
        .iter()
        .map(|message| match message {
            Message::Trickle(trickle) => (
                trickle.candidate_init.as_str(),
                trickle.target,
                trickle.r#final,
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        trickles,
        vec![
            (
                r#"{"candidate":"candidate:1","sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}"#,
                0,
                false
            ),
            (
                r#"{"candidate":"candidate:2 \"x\"","sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}"#,
                0,
                true
            ),
        ]
    );
}

#[test]
fn an_offer_goes_to_media_and_a_clients_answer_nowhere() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let description = |kind: &str| livekit::SessionDescription {
        r#type: kind.into(),
        sdp: "v=0".into(),
        id: 9,
        ..Default::default()
    };
    world.request(&alice, Request::Answer(description("answer")));
    world.request(&alice, Request::Offer(description("rollback")));
    assert!(world.take_media().is_empty());
    world.request(&alice, Request::Offer(description("offer")));
    assert_eq!(
        world.take_media(),
        vec![Media::Offer {
            peer: alice.peer,
            id: 9,
            sdp: "v=0".into()
        }]
    );
}

#[test]
fn a_candidate_is_accepted_unless_it_is_not_json() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let trickle = |text: &str| {
        Request::Trickle(livekit::TrickleRequest {
            candidate_init: text.into(),
            ..Default::default()
        })
    };
    world.request(
        &alice,
        trickle(r#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 5 typ host"}"#),
    );
    assert!(world.take(&alice).is_empty());
    world.request(&alice, trickle("candidate:1"));
    let reply = world.take(&alice);
    assert_eq!(replies(&reply)[0].0, Reason::UnclassifiedError);
    assert!(world.take_media().is_empty());
}

#[test]
fn missing_sections_are_asked_for_even_with_zeros() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.event(Event::SectionsNeeded {
        peer: alice.peer,
        audio: 0,
        video: 2,
    });
    world.event(Event::SectionsNeeded {
        peer: alice.peer,
        audio: 0,
        video: 0,
    });
    let need = |num_videos| {
        Message::MediaSectionsRequirement(livekit::MediaSectionsRequirement {
            num_audios: 0,
            num_videos,
        })
    };
    assert_eq!(world.take(&alice), vec![need(2), need(0)]);
}

#[test]
fn a_request_from_an_unknown_session_is_ignored() {
    let mut world = World::new();
    let [mut alice] = world.quiet(["alice"]);
    alice.session = crate::ids::SessionId(999);
    world.request(&alice, Request::Leave(livekit::LeaveRequest::default()));
    assert!(world.take_media().is_empty() && world.messages.is_empty());
}
