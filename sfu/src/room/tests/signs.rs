//! Speakers and connection quality.

use super::harness::{Client, Track, World};
use crate::media::message::{Event, ScoredStream};
use proto::livekit;
use proto::livekit::ConnectionQuality::{Excellent, Good, Lost, Poor};
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;
use proto::livekit::simulate_scenario::Scenario;

fn speakers(messages: &[Message]) -> Vec<(String, f32, bool)> {
    let of = |message: &Message| match message {
        Message::SpeakersChanged(changed) => changed.speakers.clone(),
        _ => Vec::new(),
    };
    messages
        .iter()
        .flat_map(of)
        .map(|speaker| (speaker.sid, speaker.level, speaker.active))
        .collect()
}

fn qualities(messages: &[Message]) -> Vec<(String, livekit::ConnectionQuality)> {
    let of = |message: &Message| match message {
        Message::ConnectionQuality(update) => update.updates.clone(),
        _ => Vec::new(),
    };
    messages
        .iter()
        .flat_map(of)
        .map(|info| (info.participant_sid.clone(), info.quality()))
        .collect()
}

fn level(world: &mut World, track: &Track, eighths: u8) {
    world.event(Event::Level {
        track: track.key,
        eighths,
        active: eighths > 0,
    });
}

fn score(world: &mut World, track: &Track, score: u8) {
    world.event(Event::Score {
        stream: ScoredStream::Published(track.key),
        score,
    });
}

/// Alice speaks to bob; carol hears nobody.
fn call(world: &mut World) -> ([Client; 3], Track) {
    let alice = world.enter("alice");
    let bob = world.enter("bob");
    let carol = world.enter_with("carol", |join| join.auto_subscribe = false);
    let track = world.publish_microphone(&alice);
    world.bind(&bob, &track);
    world.advance(20_000);
    world.forget();
    ([alice, bob, carol], track)
}

#[test]
fn a_speaker_is_told_to_itself_and_to_those_who_hear_it() {
    let mut world = World::new();
    let ([alice, bob, carol], track) = call(&mut world);
    level(&mut world, &track, 4);
    for client in [&alice, &bob] {
        assert_eq!(
            speakers(&world.take(client)),
            vec![(alice.sid.clone(), 0.5, true)]
        );
    }
    assert!(world.take(&carol).is_empty());
}

#[test]
fn speakers_are_told_at_most_every_interval_and_only_what_changed() {
    let mut world = World::new();
    let ([alice, bob, _], track) = call(&mut world);
    level(&mut world, &track, 4);
    world.take(&bob);
    level(&mut world, &track, 5);
    level(&mut world, &track, 6);
    world.advance(399);
    assert!(speakers(&world.take(&bob)).is_empty());
    world.advance(1);
    assert_eq!(
        speakers(&world.take(&bob)),
        vec![(alice.sid.clone(), 0.75, true)]
    );
    world.advance(5_000);
    assert!(speakers(&world.take(&bob)).is_empty());
    level(&mut world, &track, 0);
    assert_eq!(speakers(&world.take(&bob)), vec![(alice.sid, 0.0, false)]);
}

#[test]
fn unsubscribing_ends_the_speaker_for_that_receiver() {
    let mut world = World::new();
    let ([alice, bob, _], track) = call(&mut world);
    level(&mut world, &track, 4);
    world.forget();
    world.subscribe(&bob, &[&track.sid], false);
    world.advance(400);
    assert_eq!(
        speakers(&world.take(&bob)),
        vec![(alice.sid.clone(), 0.0, false)]
    );
    assert!(speakers(&world.take(&alice)).is_empty());
}

#[test]
fn a_muted_speaker_falls_silent() {
    let mut world = World::new();
    let ([alice, bob, _], track) = call(&mut world);
    level(&mut world, &track, 4);
    world.advance(1_000);
    world.forget();
    world.request(
        &alice,
        Request::Mute(livekit::MuteTrackRequest {
            sid: track.sid.clone(),
            muted: true,
        }),
    );
    assert_eq!(
        speakers(&world.take(&bob)),
        vec![(alice.sid.clone(), 0.0, false)]
    );
    level(&mut world, &track, 4);
    world.advance(1_000);
    assert!(
        speakers(&world.take(&bob)).is_empty(),
        "a level that was on its way does not count"
    );
}

#[test]
fn the_sound_of_a_screen_makes_no_speaker() {
    let mut world = World::new();
    let ([alice, bob, _], _) = call(&mut world);
    let request = livekit::AddTrackRequest {
        source: livekit::TrackSource::ScreenShareAudio as i32,
        ..super::harness::microphone("screen")
    };
    let track = world.announce(&alice, request).expect("accepted");
    world.start(&track, crate::config::codecs::Codec::Opus, &[""]);
    level(&mut world, &track, 8);
    world.advance(1_000);
    assert!(speakers(&world.take(&bob)).is_empty());
}

#[test]
fn a_simulated_speaker_speaks_as_long_as_asked() {
    let mut world = World::new();
    let ([alice, bob, _], _) = call(&mut world);
    let scenario = Some(Scenario::SpeakerUpdate(3));
    world.request(
        &alice,
        Request::Simulate(livekit::SimulateScenario { scenario }),
    );
    assert_eq!(
        speakers(&world.take(&bob)),
        vec![(alice.sid.clone(), 0.9, true)]
    );
    world.advance(3_000);
    assert_eq!(speakers(&world.take(&bob)), vec![(alice.sid, 0.0, false)]);
}

#[test]
fn a_new_participant_hears_of_itself_and_of_whom_it_receives() {
    let mut world = World::new();
    let ([alice, _, _], track) = call(&mut world);
    let dave = world.enter("dave");
    world.bind(&dave, &track);
    world.advance(5_000);
    let mut told = qualities(&world.take(&dave));
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected = vec![
        (alice.sid.clone(), Excellent),
        (dave.sid.clone(), Excellent),
    ];
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, expected);
    assert!(qualities(&world.take(&alice)).is_empty());
}

#[test]
fn quality_is_told_every_five_seconds_and_only_if_it_changed() {
    let mut world = World::new();
    let ([alice, bob, carol], track) = call(&mut world);
    score(&mut world, &track, 60);
    world.advance(4_999);
    assert!(qualities(&world.take(&bob)).is_empty());
    world.advance(1);
    assert_eq!(
        qualities(&world.take(&bob)),
        vec![(alice.sid.clone(), Good)]
    );
    assert_eq!(
        qualities(&world.take(&alice)),
        vec![(alice.sid.clone(), Good)]
    );
    assert!(qualities(&world.take(&carol)).is_empty());
    score(&mut world, &track, 55);
    world.advance(10_000);
    assert!(qualities(&world.take(&bob)).is_empty());
}

#[test]
fn a_muted_publisher_is_never_lost() {
    let mut world = World::new();
    let ([alice, _, _], track) = call(&mut world);
    world.request(
        &alice,
        Request::Mute(livekit::MuteTrackRequest {
            sid: track.sid.clone(),
            muted: true,
        }),
    );
    score(&mut world, &track, 0);
    world.advance(10_000);
    assert!(
        !qualities(&world.take(&alice))
            .iter()
            .any(|(_, quality)| *quality == Lost)
    );
    world.request(
        &alice,
        Request::Mute(livekit::MuteTrackRequest {
            sid: track.sid.clone(),
            muted: false,
        }),
    );
    score(&mut world, &track, 10);
    world.advance(5_000);
    assert_eq!(qualities(&world.take(&alice)), vec![(alice.sid, Lost)]);
}

#[test]
fn a_subscription_that_hangs_makes_its_receiver_poor_not_lost() {
    let mut world = World::new();
    let ([_, bob, _], track) = call(&mut world);
    world.event(Event::Score {
        stream: ScoredStream::Subscribed {
            peer: bob.peer,
            track: track.key,
        },
        score: 0,
    });
    world.advance(5_000);
    assert_eq!(qualities(&world.take(&bob)), vec![(bob.sid, Poor)]);
}
