//! Connections lost and taken up again.

use super::harness::{World, leave, subscribed, updates, wish};
use crate::ids::ParticipantSid;
use crate::media::message::Command as Media;
use crate::room::command::Command;
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::leave_request::Action;
use proto::livekit::participant_info::State;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

fn name(message: &Message) -> &'static str {
    match message {
        Message::Reconnect(_) => "reconnect",
        Message::Update(_) => "update",
        Message::RoomUpdate(_) => "room_update",
        _ => "other",
    }
}

#[test]
fn a_resume_is_answered_in_order_with_everybody_in_one_list() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.publish_camera(&alice);
    world.lose(&alice);
    world.forget();
    let back = world.resume(&alice);
    let messages = world.take(&back);
    let order: Vec<_> = messages.iter().map(name).take(3).collect();
    assert_eq!(order, ["reconnect", "update", "room_update"]);
    let everybody = updates(&messages[1..2]);
    let mut sids: Vec<_> = everybody.iter().map(|info| info.sid.clone()).collect();
    sids.sort();
    let mut expected = vec![alice.sid.clone(), bob.sid];
    expected.sort();
    assert_eq!(sids, expected);
    let own = everybody
        .iter()
        .find(|info| info.sid == alice.sid)
        .expect("itself");
    assert_eq!((own.state(), own.tracks.len()), (State::Active, 1));
    let Message::Reconnect(reconnect) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!(
        reconnect.server_info.as_ref().expect("a server").version,
        "1.13.5"
    );
    assert_eq!(world.tokens[0].0, back.session);
    assert!(
        world
            .take_media()
            .iter()
            .all(|command| !matches!(command, Media::RemovePeer { .. }))
    );
}

#[test]
fn the_old_connection_is_closed_and_no_longer_heard() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let back = world.resume(&alice);
    assert_eq!(world.closed_sessions, vec![alice.session]);
    world.request(&alice, Request::Leave(livekit::LeaveRequest::default()));
    world.lose(&alice);
    assert!(world.take_media().is_empty());
    world.request(&back, Request::Leave(livekit::LeaveRequest::default()));
    assert!(
        world
            .take_media()
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
}

#[test]
fn who_left_meanwhile_is_told_first() {
    let mut world = World::new();
    let [alice, bob, carol] = world.quiet(["alice", "bob", "carol"]);
    world.request(&carol, Request::Leave(livekit::LeaveRequest::default()));
    world.request(&alice, Request::Ping(1));
    world.request(&bob, Request::Leave(livekit::LeaveRequest::default()));
    world.lose(&alice);
    let back = world.resume(&alice);
    let messages = world.take(&back);
    let gone = updates(&messages[1..2]);
    assert_eq!(gone.len(), 1);
    assert_eq!(
        (gone[0].sid.as_str(), gone[0].state()),
        (bob.sid.as_str(), State::Disconnected)
    );
}

#[test]
fn who_left_and_came_back_is_not_told_as_gone() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.request(&bob, Request::Leave(livekit::LeaveRequest::default()));
    let again = world.enter("bob");
    let third = world.enter("bob");
    world.lose(&alice);
    let back = world.resume(&alice);
    let told = updates(&world.take(&back));
    assert!(
        told.iter().all(|info| info.state() == State::Active),
        "{told:?}"
    );
    assert!(told.iter().any(|info| info.sid == third.sid));
    assert!(told.iter().all(|info| info.sid != again.sid));
}

#[test]
fn an_unknown_identity_or_another_sid_must_start_over() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let mut unknown = world.resume_request(&alice);
    unknown.identity = "nobody".into();
    let mut other = world.resume_request(&alice);
    other.sid = Some(ParticipantSid::from_wire("PA_other"));
    for resume in [unknown, other] {
        let session = resume.session;
        world.act(Command::Resume(Box::new(resume)));
        let told = world.messages.remove(&session).expect("told");
        assert_eq!(
            leave(&told),
            Some((Action::Reconnect, DisconnectReason::StateMismatch))
        );
        assert_eq!(world.closed_sessions.pop(), Some(session));
    }
    assert!(
        world.take_media().is_empty(),
        "the participant itself stays"
    );
}

#[test]
fn a_resume_without_a_sid_goes_by_identity() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let mut resume = world.resume_request(&alice);
    resume.sid = Some(ParticipantSid::from_wire(""));
    let session = resume.session;
    world.act(Command::Resume(Box::new(resume)));
    assert!(matches!(world.messages[&session][0], Message::Reconnect(_)));
}

#[test]
fn a_resume_ends_the_grace_if_media_comes_back() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.fail(&alice);
    world.advance(4_000);
    let back = world.resume(&alice);
    world.advance(10_000);
    assert!(
        !world
            .media
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
    world.connect(&back);
    world.advance(60_000);
    assert!(
        !world
            .media
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
}

#[test]
fn a_resume_whose_media_does_not_come_back_must_start_over() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.fail(&alice);
    let back = world.resume(&alice);
    world.take(&back);
    world.advance(20_000);
    assert_eq!(
        leave(&world.take(&back)),
        Some((Action::Reconnect, DisconnectReason::ConnectionTimeout))
    );
}

#[test]
fn a_client_that_believes_in_a_track_we_do_not_know_must_start_over() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let track = world.publish_camera(&alice);
    let pending = world
        .announce(&alice, super::harness::microphone("mic"))
        .expect("accepted");
    let published = |sid: &str| livekit::TrackPublishedResponse {
        cid: "c".into(),
        track: Some(livekit::TrackInfo {
            sid: sid.into(),
            ..Default::default()
        }),
    };
    let sync = |sids: &[&str]| {
        Request::SyncState(livekit::SyncState {
            publish_tracks: sids.iter().map(|sid| published(sid)).collect(),
            ..Default::default()
        })
    };
    let back = world.resume(&alice);
    world.take(&back);
    world.request(&back, sync(&[&track.sid, &pending.sid]));
    assert_eq!(leave(&world.take(&back)), None);
    world.request(&back, sync(&["TR_lost"]));
    assert_eq!(
        leave(&world.take(&back)),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
}

#[test]
fn the_synchronised_wishes_and_hidden_tracks_are_taken_over() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let camera = world.publish_camera(&alice);
    let microphone = world.publish_microphone(&alice);
    world.bind(&bob, &camera);
    world.bind(&bob, &microphone);
    let back = world.resume(&bob);
    world.forget();
    world.request(
        &back,
        Request::SyncState(livekit::SyncState {
            track_sids_disabled: vec![camera.sid.clone()],
            subscription: Some(livekit::UpdateSubscription {
                track_sids: vec![microphone.sid.clone()],
                subscribe: false,
                ..Default::default()
            }),
            ..Default::default()
        }),
    );
    world.advance(100);
    let commands = world.take_media();
    assert_eq!(
        super::harness::unsubscribed(&commands),
        vec![(bob.peer, microphone.key)]
    );
    assert_eq!(wish(&commands, &bob).map(|wish| wish.enabled), Some(false));
}

#[test]
fn the_desired_state_survives_a_resume() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.subscribe(&bob, &[&track.sid], false);
    world.lose(&bob);
    world.forget();
    world.resume(&bob);
    assert!(subscribed(&world.take_media()).is_empty());
}

#[test]
fn a_track_accepted_into_the_gap_is_confirmed_again() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let track = world
        .announce(&alice, super::harness::microphone("mic"))
        .expect("accepted");
    world.lose(&alice);
    let back = world.resume(&alice);
    let again = world
        .take(&back)
        .into_iter()
        .find_map(|message| match message {
            Message::TrackPublished(published) => published.track,
            _ => None,
        });
    assert_eq!(again.expect("confirmed").sid, track.sid);
}

#[test]
fn an_old_js_client_gets_no_reconnect_message() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let mut resume = world.resume_request(&alice);
    resume.client.version = "1.6.2".into();
    let session = resume.session;
    world.act(Command::Resume(Box::new(resume)));
    assert!(matches!(world.messages[&session][0], Message::Update(_)));
}
