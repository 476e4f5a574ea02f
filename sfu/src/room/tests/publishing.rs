//! Tracks announced, started, muted and ended.

use super::harness::{
    World, camera, grant, microphone, replies, subscribed, unsubscribed, updates,
};
use crate::config::codecs::Codec;
use crate::media::message::{Command as Media, Event};
use crate::room::effect::{Count, Limit};
use proto::livekit;
use proto::livekit::request_response::Reason;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

fn mute(sid: &str, muted: bool) -> Request {
    Request::Mute(livekit::MuteTrackRequest {
        sid: sid.into(),
        muted,
    })
}

#[test]
fn a_track_is_confirmed_at_once_and_shown_to_others_with_its_media() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.announce(&alice, camera("cam")).expect("accepted");
    assert!(track.sid.starts_with("TR_VC"));
    assert!(world.take(&bob).is_empty());
    world.start(&track, Codec::Vp8, &["q", "h", "f"]);
    let told = updates(&world.take(&bob));
    assert!(told[0].is_publisher);
    let info = &told[0].tracks[0];
    assert_eq!(
        (info.mime_type.as_str(), info.mid.as_str()),
        ("video/VP8", "7")
    );
    let rids: Vec<_> = info
        .layers
        .iter()
        .map(|layer| (layer.spatial_layer, layer.rid.as_str(), layer.ssrc))
        .collect();
    assert_eq!(rids, [(0, "q", 0), (1, "h", 0), (2, "f", 0)]);
    assert_eq!(info.codecs[0].layers[2].rid, "f");
    assert!(info.version.is_some());
    assert_eq!(
        updates(&world.take(&alice)).len(),
        1,
        "immediate updates go to the publisher as well"
    );
}

#[test]
fn everybody_is_told_of_a_track_before_media_may_send_it() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.announce(&alice, microphone("mic")).expect("accepted");
    let event = Event::TrackStarted {
        track: track.key,
        mid: "7".into(),
        codec: Codec::Opus,
        layers: vec![],
    };
    let effects = world
        .room
        .handle(crate::room::command::Command::Media(event), world.now);
    use crate::room::effect::Effect;
    let told = effects.iter().position(|effect| matches!(effect, Effect::Signal { session, message } if *session == bob.session && matches!(**message, Message::Update(_))));
    let sent = effects.iter().position(|effect| matches!(effect, Effect::Media(Media::Subscribe { peer, .. }) if *peer == bob.peer));
    assert!(told.expect("told") < sent.expect("sent"));
}

#[test]
fn each_check_of_a_new_track_has_its_reason() {
    let mut world = World::new();
    let alice = world.enter_with("alice", |join| {
        grant(join).can_publish_sources = vec![livekit::TrackSource::Microphone]
    });
    world.forget();
    let refused = |world: &mut World, request| {
        assert!(world.announce(&alice, request).is_none());
        replies(&world.take(&alice))[0].0
    };
    assert_eq!(refused(&mut world, camera("c")), Reason::NotAllowed);
    let data = livekit::AddTrackRequest {
        r#type: 2,
        ..microphone("d")
    };
    assert_eq!(refused(&mut world, data), Reason::UnsupportedType);
    let unknown = livekit::AddTrackRequest {
        sid: "TR_none".into(),
        ..microphone("e")
    };
    assert_eq!(refused(&mut world, unknown), Reason::NotFound);
    let track = world.publish_microphone(&alice);
    world.forget();
    let backup = livekit::AddTrackRequest {
        sid: track.sid,
        ..microphone("f")
    };
    assert_eq!(refused(&mut world, backup), Reason::UnsupportedType);
    let long = livekit::AddTrackRequest {
        name: "x".repeat(5_000),
        ..microphone("g")
    };
    assert_eq!(refused(&mut world, long), Reason::LimitExceeded);
    assert_eq!(refused(&mut world, microphone("mic")), Reason::Queued);
}

#[test]
fn a_refusal_repeats_the_request() {
    let mut world = World::new();
    let alice = world.enter_with("alice", |join| grant(join).can_publish = Some(false));
    world.forget();
    world.announce(&alice, camera("c"));
    let messages = world.take(&alice);
    let Message::RequestResponse(reply) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!(
        reply.request,
        Some(livekit::request_response::Request::AddTrack(camera("c")))
    );
    assert_eq!(reply.request_id, 0);
}

#[test]
fn twenty_tracks_may_wait_and_twenty_five_may_be() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let tracks: Vec<_> = (0..20)
        .map(|n| {
            world
                .announce(&alice, microphone(&format!("m{n}")))
                .expect("accepted")
        })
        .collect();
    world.forget();
    assert!(world.announce(&alice, microphone("more")).is_none());
    assert_eq!(world.counts, vec![Count::LimitReached(Limit::Tracks)]);
    assert_eq!(
        replies(&world.take(&alice)),
        vec![(Reason::LimitExceeded, "20".into())]
    );
    for track in &tracks {
        world.start(track, Codec::Opus, &[""]);
    }
    for n in 20..25 {
        assert!(
            world
                .announce(&alice, microphone(&format!("m{n}")))
                .is_some()
        );
    }
    world.forget();
    assert!(world.announce(&alice, microphone("last")).is_none());
    assert_eq!(
        replies(&world.take(&alice)),
        vec![(Reason::LimitExceeded, "25".into())]
    );
}

#[test]
fn a_second_track_with_the_same_client_id_waits_for_the_first_to_end() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let first = world.publish_microphone(&alice);
    for _ in 0..3 {
        assert!(world.announce(&alice, microphone("mic")).is_none());
    }
    world.forget();
    assert!(world.announce(&alice, microphone("mic")).is_none());
    assert_eq!(
        replies(&world.take(&alice)),
        vec![(Reason::LimitExceeded, "3".into())]
    );
    world.event(Event::TrackEnded { track: first.key });
    let messages = world.take(&alice);
    let published = messages.iter().find_map(|message| match message {
        Message::TrackPublished(published) => published.track.clone(),
        _ => None,
    });
    assert_ne!(published.expect("promoted").sid, first.sid);
}

#[test]
fn a_track_that_ends_is_taken_from_all_who_receive_it() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.bind(&bob, &track);
    world.forget();
    world.event(Event::TrackEnded { track: track.key });
    let commands = world.take_media();
    assert_eq!(unsubscribed(&commands), vec![(bob.peer, track.key)]);
    assert!(commands.contains(&Media::Unpublish { track: track.key }));
    let messages = world.take(&bob);
    assert!(updates(&messages)[0].tracks.is_empty());
    assert!(
        !messages
            .iter()
            .any(|message| matches!(message, Message::SubscriptionResponse(_)))
    );
    let again = world.publish_camera(&alice);
    assert_ne!(again.sid, track.sid);
    assert_eq!(subscribed(&world.take_media()), vec![(bob.peer, again.key)]);
}

#[test]
fn mute_is_echoed_to_everybody_and_told_to_media() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_microphone(&alice);
    world.forget();
    world.request(&alice, mute(&track.sid, true));
    assert_eq!(
        world.take_media(),
        vec![Media::MuteTrack {
            track: track.key,
            muted: true
        }]
    );
    for client in [&alice, &bob] {
        assert!(updates(&world.take(client))[0].tracks[0].muted);
    }
    world.request(&alice, mute(&track.sid, true));
    assert!(world.take(&bob).is_empty());
    world.request(&alice, mute("TR_none", true));
    assert_eq!(
        replies(&world.take(&alice)),
        vec![(Reason::NotFound, String::new())]
    );
}

#[test]
fn nobody_mutes_the_tracks_of_others() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_microphone(&alice);
    world.forget();
    world.request(&bob, mute(&track.sid, true));
    assert!(world.take_media().is_empty());
    assert_eq!(replies(&world.take(&bob))[0].0, Reason::NotFound);
}

#[test]
fn a_track_muted_while_it_waits_starts_muted() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.announce(&alice, microphone("mic")).expect("accepted");
    world.request(&alice, mute(&track.sid, true));
    world.start(&track, Codec::Opus, &[""]);
    assert!(updates(&world.take(&bob))[0].tracks[0].muted);
}

#[test]
fn features_and_sizes_of_own_tracks_are_passed_on() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let mic = world.publish_microphone(&alice);
    let cam = world.publish_camera(&alice);
    world.forget();
    let audio = livekit::UpdateLocalAudioTrack {
        track_sid: mic.sid,
        features: vec![0, 3, 3],
    };
    world.request(&alice, Request::UpdateAudioTrack(audio));
    let video = livekit::UpdateLocalVideoTrack {
        track_sid: cam.sid,
        width: 10,
        height: 20,
    };
    world.request(&alice, Request::UpdateVideoTrack(video));
    let told = updates(&world.take(&bob));
    assert_eq!(told[0].tracks[0].audio_features, vec![0, 3]);
    assert!(told[0].tracks[0].stereo);
    assert_eq!(
        (told[1].tracks[1].width, told[1].tracks[1].height),
        (10, 20)
    );
    world.request(
        &alice,
        Request::UpdateVideoTrack(livekit::UpdateLocalVideoTrack::default()),
    );
    assert_eq!(replies(&world.take(&alice))[0].0, Reason::NotFound);
}

#[test]
fn the_publisher_hears_once_that_somebody_receives_its_track() {
    let mut world = World::new();
    let [alice, bob, carol] = world.quiet(["alice", "bob", "carol"]);
    let track = world.publish_camera(&alice);
    world.forget();
    world.bind(&bob, &track);
    world.bind(&carol, &track);
    let told = world
        .take(&alice)
        .into_iter()
        .filter(|message| matches!(message, Message::TrackSubscribed(_)))
        .count();
    assert_eq!(told, 1);
}

#[test]
fn data_tracks_and_blobs_are_refused_truthfully() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.request(
        &alice,
        Request::PublishDataTrackRequest(livekit::PublishDataTrackRequest {
            pub_handle: 1,
            ..Default::default()
        }),
    );
    world.request(
        &alice,
        Request::UnpublishDataTrackRequest(livekit::UnpublishDataTrackRequest { pub_handle: 1 }),
    );
    world.request(
        &alice,
        Request::StoreDataBlobRequest(livekit::StoreDataBlobRequest {
            request_id: 5,
            ..Default::default()
        }),
    );
    world.request(
        &alice,
        Request::GetDataBlobRequest(livekit::GetDataBlobRequest {
            request_id: 6,
            ..Default::default()
        }),
    );
    let reasons: Vec<_> = replies(&world.take(&alice))
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert_eq!(
        reasons,
        [
            Reason::NotAllowed,
            Reason::NotFound,
            Reason::NotAllowed,
            Reason::NotFound
        ]
    );
}

#[test]
fn a_request_queued_behind_a_codecs_id_is_promoted_as_well() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let mut first = camera("cam");
    first.simulcast_codecs[0].cid = "clone".into();
    let track = world.announce(&alice, first).expect("accepted");
    assert!(world.announce(&alice, camera("clone")).is_none());
    world.take(&alice);
    world.event(Event::TrackEnded { track: track.key });
    let told = world.take(&alice);
    let promoted = told
        .iter()
        .any(|message| matches!(message, Message::TrackPublished(track) if track.cid == "clone"));
    assert!(promoted, "{told:?}");
}
