//! What publishers are asked to send.

use super::harness::{Client, Track, World};
use crate::media::message::Command as Media;
use proto::livekit;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

/// How many qualities each message of the list has enabled.
fn asked(messages: &[Message]) -> Vec<usize> {
    let of = |message: &Message| match message {
        Message::SubscribedQualityUpdate(update) => {
            assert_eq!(update.subscribed_codecs[0].codec, "vp8");
            assert_eq!(
                update.subscribed_codecs[0].qualities,
                update.subscribed_qualities
            );
            Some(
                update
                    .subscribed_qualities
                    .iter()
                    .filter(|quality| quality.enabled)
                    .count(),
            )
        }
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

fn quality(world: &mut World, client: &Client, track: &Track, quality: i32) {
    let settings = livekit::UpdateTrackSettings {
        track_sids: vec![track.sid.clone()],
        quality,
        ..Default::default()
    };
    world.request(client, Request::TrackSetting(settings));
}

fn expected(world: &mut World) -> Vec<Option<u8>> {
    let of = |command: Media| match command {
        Media::ExpectLayers { max, .. } => Some(max),
        _ => None,
    };
    world.take_media().into_iter().filter_map(of).collect()
}

#[test]
fn the_highest_wish_counts_up_at_once_and_down_after_five_seconds() {
    let mut world = World::new();
    let [alice, bob, carol] = world.quiet(["alice", "bob", "carol"]);
    let track = world.publish_camera(&alice);
    assert_eq!(asked(&world.take(&alice)), vec![3]);
    world.bind(&bob, &track);
    world.bind(&carol, &track);
    world.forget();
    quality(&mut world, &bob, &track, 0);
    world.advance(10_000);
    assert!(
        asked(&world.take(&alice)).is_empty(),
        "carol still wants all"
    );
    quality(&mut world, &carol, &track, 1);
    world.advance(5_099);
    assert!(asked(&world.take(&alice)).is_empty());
    world.advance(1);
    assert_eq!(asked(&world.take(&alice)), vec![2]);
    assert_eq!(expected(&mut world), vec![Some(1)]);
    quality(&mut world, &bob, &track, 2);
    world.advance(100);
    assert_eq!(asked(&world.take(&alice)), vec![3]);
    assert_eq!(expected(&mut world), vec![Some(2)]);
}

#[test]
fn a_track_nobody_receives_is_switched_off_after_ten_seconds() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.publish_camera(&alice);
    world.advance(9_999);
    assert!(asked(&world.take(&alice)).is_empty());
    world.advance(1);
    assert_eq!(asked(&world.take(&alice)), vec![0]);
    assert_eq!(expected(&mut world), vec![None]);
    world.enter("bob");
    assert_eq!(asked(&world.take(&alice)), vec![3]);
}

#[test]
fn a_subscriber_that_leaves_takes_its_wish_along() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.publish_camera(&alice);
    world.forget();
    world.request(&bob, Request::Leave(livekit::LeaveRequest::default()));
    world.advance(5_000);
    assert_eq!(asked(&world.take(&alice)), vec![0]);
}

#[test]
fn a_muted_publisher_is_not_asked_and_hears_the_last_word_again_on_unmute() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.bind(&bob, &track);
    world.forget();
    let mute = |muted| {
        Request::Mute(livekit::MuteTrackRequest {
            sid: track.sid.clone(),
            muted,
        })
    };
    world.request(&alice, mute(true));
    quality(&mut world, &bob, &track, 0);
    world.advance(20_000);
    assert!(asked(&world.take(&alice)).is_empty());
    world.request(&alice, mute(false));
    assert_eq!(asked(&world.take(&alice)), vec![3]);
    world.advance(5_000);
    assert_eq!(asked(&world.take(&alice)), vec![1]);
}

#[test]
fn a_resumed_publisher_is_told_again() {
    let mut world = World::new();
    let [alice, _bob] = world.quiet(["alice", "bob"]);
    world.publish_camera(&alice);
    world.lose(&alice);
    let alice = world.resume(&alice);
    assert_eq!(asked(&world.take(&alice)), vec![3]);
}

#[test]
fn nothing_is_asked_about_sound() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.publish_microphone(&alice);
    world.advance(30_000);
    assert!(asked(&world.take(&alice)).is_empty());
    assert!(expected(&mut world).is_empty());
}
