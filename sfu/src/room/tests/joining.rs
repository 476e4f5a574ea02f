//! Who comes in, and what it is told first.

use super::harness::{World, camera, claims, grant, microphone, subscribed, updates};
use crate::media::message::Command as Media;
use crate::room::Settings;
use crate::room::command::{Admin, Command};
use crate::room::effect::{Count, JoinRefusal};
use proto::livekit::participant_info::State;
use proto::livekit::signal_response::Message;
use proto::livekit::{self, DisconnectReason};

fn offer() -> livekit::SessionDescription {
    livekit::SessionDescription {
        r#type: "offer".into(),
        sdp: "v=0".into(),
        id: 1,
        ..Default::default()
    }
}

fn joined(messages: &[Message]) -> livekit::JoinResponse {
    let Some(Message::Join(join)) = messages.first() else {
        panic!("no join: {messages:?}")
    };
    join.clone()
}

#[test]
fn the_first_message_is_a_complete_join_response() {
    let mut world = World::new();
    let client = world.join_with("alice", |join| join.claims.name = "Alice".into());
    let join = joined(&world.take(&client));
    let room = join.room.expect("a room");
    assert!(room.sid.starts_with("RM_"));
    assert_eq!(
        (
            room.name.as_str(),
            room.empty_timeout,
            room.departure_timeout
        ),
        ("r", 300, 20)
    );
    assert_eq!(room.creation_time_ms, super::harness::UNIX_MS as i64);
    assert_eq!((room.num_participants, room.num_publishers), (1, 0));
    let own = join.participant.expect("itself");
    assert_eq!(
        (own.identity.as_str(), own.name.as_str(), own.state()),
        ("alice", "Alice", State::Joining)
    );
    assert!(own.permission.expect("a permission").can_publish);
    assert!(own.sid.starts_with("PA_") && own.version >= 1);
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert!(!join.subscriber_primary && join.fast_publish && !join.sif_trailer.is_empty());
    assert_eq!(join.server_version, "1.13.5");
    assert_eq!(join.server_info.expect("a server").protocol, 17);
    let mimes: Vec<_> = join
        .enabled_publish_codecs
        .iter()
        .map(|codec| codec.mime.as_str())
        .collect();
    let sound = ["audio/opus", "audio/red", "audio/PCMU", "audio/PCMA"];
    assert_eq!(mimes, [&["video/VP8", "video/H264"][..], &sound].concat());
}

#[test]
fn tracks_are_announced_and_subscribed_before_the_offer_reaches_media() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let track = world.publish_camera(&alice);
    world.forget();
    let bob = world.join_with("bob", |join| {
        join.add_tracks = vec![microphone("mic")];
        join.offer = Some(offer());
    });
    let messages = world.take(&bob);
    let join = joined(&messages);
    assert_eq!(join.other_participants[0].tracks[0].sid, track.sid);
    assert!(messages.iter().any(
        |message| matches!(message, Message::TrackPublished(published) if published.cid == "mic")
    ));
    let commands = world.take_media();
    let place = |what: fn(&Media) -> bool| commands.iter().position(what).expect("commanded");
    let add = place(|command| matches!(command, Media::AddPeer { .. }));
    let subscribe = place(|command| matches!(command, Media::Subscribe { .. }));
    let publish = place(|command| matches!(command, Media::Publish { .. }));
    let offer = place(|command| matches!(command, Media::Offer { id: 1, .. }));
    assert!(add < subscribe && subscribe < offer && publish < offer);
    assert_eq!(world.tokens.len(), 1);
}

#[test]
fn a_forwarded_track_is_labelled_with_participant_and_track_sid() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let track = world.publish_camera(&alice);
    world.take_media();
    world.enter("bob");
    let label = world
        .take_media()
        .into_iter()
        .find_map(|command| match command {
            Media::Subscribe { label, .. } => Some(label),
            _ => None,
        });
    let label = label.expect("subscribed");
    assert_eq!(label.stream_id, format!("{}|{}", alice.sid, track.sid));
    assert_eq!(label.track_id, track.sid);
}

#[test]
fn a_second_join_of_an_identity_replaces_the_first() {
    let mut world = World::new();
    let [first, watcher] = world.quiet(["alice", "watcher"]);
    let second = world.enter("alice");
    assert_ne!(first.sid, second.sid);
    let left = super::harness::leave(&world.take(&first));
    assert_eq!(
        left,
        Some((
            livekit::leave_request::Action::Disconnect,
            DisconnectReason::DuplicateIdentity
        ))
    );
    assert_eq!(world.closed_sessions, vec![first.session]);
    assert!(
        world
            .take_media()
            .contains(&Media::RemovePeer { peer: first.peer })
    );
    world.advance(3_000);
    let told = updates(&world.take(&watcher));
    assert!(
        told.iter().all(|info| info.sid == second.sid),
        "the old sid is not announced: {told:?}"
    );
    assert!(!told.is_empty());
}

#[test]
fn an_old_client_hears_of_the_replaced_sid_first() {
    let mut world = World::new();
    let old = world.enter_with("old", |join| join.client.protocol = 11);
    let first = world.enter("alice");
    world.advance(4_000);
    world.forget();
    let second = world.enter("alice");
    world.advance(4_000);
    let told: Vec<_> = updates(&world.take(&old))
        .into_iter()
        .map(|info| (info.sid.clone(), info.state()))
        .collect();
    assert_eq!(told[0], (first.sid, State::Disconnected));
    assert_eq!(told[1].0, second.sid);
}

#[test]
fn a_full_room_refuses_but_not_dependents_nor_a_replacement() {
    let settings = Settings {
        max_participants: 1,
        ..Settings::default()
    };
    let mut world = World::with(settings, None);
    world.enter("alice");
    let bob = world.join_with("bob", |_| {});
    assert_eq!(world.refusals, vec![(bob.session, JoinRefusal::RoomFull)]);
    assert!(world.take(&bob).is_empty());
    world.enter_with("agent", |join| {
        join.claims.kind = livekit::participant_info::Kind::Agent
    });
    world.enter("alice");
    assert_eq!(world.refusals.len(), 1);
}

#[test]
fn a_token_that_says_too_much_is_refused() {
    let mut world = World::new();
    let client = world.join_with("alice", |join| join.metadata = "x".repeat(512 * 1024 + 1));
    assert_eq!(
        world.refusals,
        vec![(client.session, JoinRefusal::LimitExceeded)]
    );
    world.join_with("bob", |join| {
        join.attributes = vec![("k".into(), "x".repeat(64 * 1024))]
    });
    assert_eq!(world.refusals.len(), 2);
}

#[test]
fn the_join_request_replaces_metadata_and_adds_attributes() {
    let mut world = World::new();
    let client = world.join_with("alice", |join| {
        join.claims.metadata = "token".into();
        join.claims.attributes.insert("a".into(), "1".into());
        join.metadata = "request".into();
        join.attributes = vec![("b".into(), "2".into()), ("a".into(), String::new())];
    });
    let own = joined(&world.take(&client)).participant.expect("itself");
    assert_eq!(own.metadata, "request");
    assert_eq!(own.attributes.len(), 2);
    assert_eq!(own.attributes["a"], "1");
}

#[test]
fn whoever_does_not_connect_within_a_minute_is_removed() {
    let mut world = World::new();
    let client = world.join_with("alice", |_| {});
    world.advance(59_999);
    assert_eq!(super::harness::leave(&world.take(&client)), None);
    world.advance(1);
    let left = super::harness::leave(&world.take(&client));
    assert_eq!(
        left,
        Some((
            livekit::leave_request::Action::Disconnect,
            DisconnectReason::JoinFailure
        ))
    );
}

#[test]
fn the_rooms_configuration_comes_from_its_first_token() {
    let config = livekit::RoomConfiguration {
        departure_timeout: 7,
        max_participants: 3,
        metadata: "m".into(),
        ..Default::default()
    };
    let mut world = World::with(Settings::default(), Some(config));
    let client = world.join_with("alice", |_| {});
    let room = joined(&world.take(&client)).room.expect("a room");
    assert_eq!(
        (
            room.empty_timeout,
            room.departure_timeout,
            room.max_participants
        ),
        (300, 7, 3)
    );
    assert_eq!(room.metadata, "m");
}

#[test]
fn a_hidden_participant_sees_all_and_is_seen_by_none() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let track = world.publish_camera(&alice);
    world.forget();
    let ghost = world.enter_with("ghost", |join| grant(join).hidden = true);
    assert_eq!(joined(&world.take(&ghost)).other_participants.len(), 1);
    assert_eq!(
        subscribed(&world.take_media()),
        vec![(ghost.peer, track.key)]
    );
    world.bind(&ghost, &track);
    world.advance(10_000);
    let told = world.take(&alice);
    assert!(updates(&told).is_empty());
    assert!(
        !told
            .iter()
            .any(|message| matches!(message, Message::TrackSubscribed(_)))
    );
    let bob = world.join_with("bob", |_| {});
    let join = joined(&world.take(&bob));
    assert_eq!(join.other_participants.len(), 1);
    assert_eq!(join.room.expect("a room").num_participants, 2);
}

#[test]
fn a_track_of_a_hidden_participant_is_named_to_nobody() {
    let mut world = World::new();
    let [_alice] = world.quiet(["alice"]);
    let ghost = world.enter_with("ghost", |join| grant(join).hidden = true);
    world.publish_camera(&ghost);
    world.enter("bob");
    assert!(subscribed(&world.take_media()).is_empty());
}

#[test]
fn a_peer_or_session_used_twice_disturbs_nobody() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let mut join = world.join_request("mallory");
    join.peer = alice.peer;
    world.act(Command::Join(Box::new(join)));
    let mut join = world.join_request("mallory");
    join.session = alice.session;
    world.act(Command::Join(Box::new(join)));
    assert_eq!(world.refusals.len(), 2);
    assert!(world.closed_sessions.is_empty());
}

#[test]
fn a_closed_room_refuses() {
    let mut world = World::new();
    world.act(Command::Admin(Admin::Close));
    assert!(world.closed);
    let join = world.join_request("late");
    let effects = world.room.handle(Command::Join(Box::new(join)), world.now);
    assert!(matches!(
        effects[..],
        [crate::room::effect::Effect::RefuseJoin {
            reason: JoinRefusal::Closing,
            ..
        }]
    ));
}

#[test]
fn tokens_are_renewed_every_five_minutes() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.advance(600_000);
    assert_eq!(world.tokens.len(), 2);
    assert_eq!(world.tokens[0], (alice.session, claims("alice")));
}

#[test]
fn counters_tell_of_join_and_activity() {
    let mut world = World::new();
    let alice = world.join_with("alice", |join| join.add_tracks = vec![camera("cam")]);
    world.advance(250);
    world.connect(&alice);
    assert!(world.counts.contains(&Count::ParticipantJoined));
    assert!(
        world
            .counts
            .contains(&Count::ParticipantActive { after_ms: 250 })
    );
    assert!(
        world
            .counts
            .contains(&Count::PublishAttempt(crate::ids::MediaKind::Video))
    );
}
