//! Wishes, settings and permissions of subscribers.

use super::harness::{Client, Track, World, grant, subscribed, unsubscribed, wish};
use crate::media::message::{Event, Wish};
use proto::livekit;
use proto::livekit::SubscriptionError;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

fn failures(messages: &[Message]) -> Vec<(String, SubscriptionError)> {
    let of = |message: &Message| match message {
        Message::SubscriptionResponse(response) => {
            Some((response.track_sid.clone(), response.err()))
        }
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

fn permissions(messages: &[Message]) -> Vec<bool> {
    let of = |message: &Message| match message {
        Message::SubscriptionPermissionUpdate(update) => Some(update.allowed),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

fn settings(
    world: &mut World,
    client: &Client,
    track: &Track,
    change: impl FnOnce(&mut livekit::UpdateTrackSettings),
) {
    let mut settings = livekit::UpdateTrackSettings {
        track_sids: vec![track.sid.clone()],
        quality: 2,
        ..Default::default()
    };
    change(&mut settings);
    world.request(client, Request::TrackSetting(settings));
}

fn allow(world: &mut World, client: &Client, all_participants: bool, identities: &[&str]) {
    let entry = |identity: &&str| livekit::TrackPermission {
        participant_identity: (*identity).into(),
        all_tracks: true,
        ..Default::default()
    };
    let track_permissions = identities.iter().map(entry).collect();
    let rule = livekit::SubscriptionPermission {
        all_participants,
        track_permissions,
    };
    world.request(client, Request::SubscriptionPermission(rule));
}

#[test]
fn only_those_with_auto_subscribe_get_a_new_track() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let bob = world.enter("bob");
    let _carol = world.enter_with("carol", |join| join.auto_subscribe = false);
    let track = world.publish_camera(&alice);
    assert_eq!(subscribed(&world.take_media()), vec![(bob.peer, track.key)]);
}

#[test]
fn a_client_unsubscribes_and_subscribes_again() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.bind(&bob, &track);
    world.forget();
    world.subscribe(&bob, &[&track.sid], false);
    assert_eq!(
        unsubscribed(&world.take_media()),
        vec![(bob.peer, track.key)]
    );
    world.connect(&bob);
    assert!(
        subscribed(&world.take_media()).is_empty(),
        "auto-subscribe does not override the client"
    );
    world.subscribe(&bob, &[&track.sid], true);
    assert_eq!(subscribed(&world.take_media()), vec![(bob.peer, track.key)]);
}

#[test]
fn a_wish_for_a_track_that_does_not_exist_waits_for_it() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let bob = world.enter_with("bob", |join| join.auto_subscribe = false);
    let track = world
        .announce(&alice, super::harness::camera("cam"))
        .expect("accepted");
    world.subscribe(&bob, &[&track.sid], true);
    assert!(subscribed(&world.take_media()).is_empty());
    world.advance(30_000);
    world.start(&track, crate::config::codecs::Codec::Vp8, &["q", "h", "f"]);
    assert_eq!(subscribed(&world.take_media()), vec![(bob.peer, track.key)]);
    world.bind(&bob, &track);
    world.advance(120_000);
    assert!(failures(&world.take(&bob)).is_empty());
}

#[test]
fn a_wish_for_a_track_that_never_comes_is_given_up_after_a_minute() {
    let mut world = World::new();
    let [bob] = world.quiet(["bob"]);
    world.subscribe(&bob, &["TR_ghost"], true);
    world.advance(59_999);
    assert!(failures(&world.take(&bob)).is_empty());
    world.advance(1);
    assert_eq!(
        failures(&world.take(&bob)),
        vec![("TR_ghost".into(), SubscriptionError::SeTrackNotfound)]
    );
    world.advance(120_000);
    assert!(failures(&world.take(&bob)).is_empty());
}

#[test]
fn a_refused_subscription_is_told_and_not_tried_again() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.forget();
    world.event(Event::SubscriptionRefused {
        peer: bob.peer,
        track: track.key,
    });
    assert_eq!(
        failures(&world.take(&bob)),
        vec![(track.sid, SubscriptionError::SeCodecUnsupported)]
    );
    assert_eq!(
        unsubscribed(&world.take_media()),
        vec![(bob.peer, track.key)]
    );
    world.advance(60_000);
    assert!(subscribed(&world.take_media()).is_empty());
}

#[test]
fn a_subscription_not_bound_in_fifteen_seconds_fails() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.advance(14_999);
    assert!(failures(&world.take(&bob)).is_empty());
    world.advance(1);
    assert_eq!(
        failures(&world.take(&bob)),
        vec![(track.sid, SubscriptionError::SeUnknown)]
    );
}

#[test]
fn the_time_to_bind_runs_from_the_moment_of_being_connected() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.publish_camera(&alice);
    let bob = world.join_with("bob", |_| {});
    world.advance(20_000);
    assert!(failures(&world.take(&bob)).is_empty());
    world.connect(&bob);
    world.advance(15_000);
    assert_eq!(failures(&world.take(&bob)).len(), 1);
}

#[test]
fn while_a_client_is_away_nothing_new_is_sent_to_it_and_nothing_fails() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let first = world.publish_camera(&alice);
    world.take_media();
    world.lose(&bob);
    let second = world.publish_microphone(&alice);
    assert!(subscribed(&world.take_media()).is_empty());
    world.advance(30_000);
    assert!(unsubscribed(&world.take_media()).is_empty());
    let bob = world.resume(&bob);
    assert_eq!(
        subscribed(&world.take_media()),
        vec![(bob.peer, second.key)]
    );
    world.bind(&bob, &first);
    world.bind(&bob, &second);
    world.advance(30_000);
    assert!(failures(&world.take(&bob)).is_empty());
}

#[test]
fn who_may_not_subscribe_gets_nothing() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let bob = world.enter_with("bob", |join| grant(join).can_subscribe = Some(false));
    let track = world.publish_camera(&alice);
    world.subscribe(&bob, &[&track.sid], true);
    assert!(subscribed(&world.take_media()).is_empty());
    assert!(failures(&world.take(&bob)).is_empty());
}

#[test]
fn a_publisher_takes_its_tracks_from_some_and_gives_them_back() {
    let mut world = World::new();
    let [alice, bob, carol] = world.quiet(["alice", "bob", "carol"]);
    let track = world.publish_camera(&alice);
    assert_eq!(permissions(&world.take(&bob)), vec![true]);
    world.forget();
    allow(&mut world, &alice, false, &["carol"]);
    assert_eq!(
        unsubscribed(&world.take_media()),
        vec![(bob.peer, track.key)]
    );
    assert_eq!(permissions(&world.take(&bob)), vec![false]);
    assert!(permissions(&world.take(&carol)).is_empty());
    allow(&mut world, &alice, true, &[]);
    assert_eq!(permissions(&world.take(&bob)), vec![true]);
    assert_eq!(subscribed(&world.take_media()), vec![(bob.peer, track.key)]);
}

#[test]
fn a_recorder_is_exempt_from_track_permissions() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let recorder = world.enter_with("recorder", |join| grant(join).recorder = true);
    allow(&mut world, &alice, false, &[]);
    let track = world.publish_camera(&alice);
    assert_eq!(
        subscribed(&world.take_media()),
        vec![(recorder.peer, track.key)]
    );
}

#[test]
fn video_starts_high_or_low_if_the_client_adapts_or_as_it_said_before() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let plain = world.enter("plain");
    let adaptive = world.enter_with("adaptive", |join| join.adaptive_stream = true);
    let early = world.enter_with("early", |join| join.adaptive_stream = true);
    let track = world
        .announce(&alice, super::harness::camera("cam"))
        .expect("accepted");
    settings(&mut world, &early, &track, |settings| {
        (settings.width, settings.height) = (640, 360)
    });
    world.start(&track, crate::config::codecs::Codec::Vp8, &["q", "h", "f"]);
    let commands = world.take_media();
    let spatial = |client| wish(&commands, client).map(|wish| wish.spatial);
    assert_eq!(
        (spatial(&plain), spatial(&adaptive), spatial(&early)),
        (Some(2), Some(0), Some(1))
    );
}

#[test]
fn changed_settings_settle_for_a_tenth_of_a_second_but_enabling_is_at_once() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.bind(&bob, &track);
    world.forget();
    settings(&mut world, &bob, &track, |settings| {
        settings.disabled = true
    });
    world.advance(99);
    assert_eq!(wish(&world.media, &bob), None);
    world.advance(1);
    assert_eq!(
        wish(&world.take_media(), &bob),
        Some(Wish {
            enabled: false,
            spatial: 2,
            temporal: 3
        })
    );
    settings(&mut world, &bob, &track, |settings| settings.quality = 1);
    assert_eq!(
        wish(&world.take_media(), &bob),
        Some(Wish {
            enabled: true,
            spatial: 1,
            temporal: 3
        })
    );
    settings(&mut world, &bob, &track, |settings| settings.quality = 0);
    settings(&mut world, &bob, &track, |settings| settings.quality = 1);
    world.advance(200);
    assert_eq!(
        wish(&world.take_media(), &bob),
        None,
        "what was taken back in time is not told"
    );
}

#[test]
fn an_adapting_client_that_had_hidden_a_track_sees_it_once_when_bound() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let bob = world.enter_with("bob", |join| join.adaptive_stream = true);
    let track = world.publish_camera(&alice);
    settings(&mut world, &bob, &track, |settings| {
        settings.disabled = true
    });
    assert_eq!(
        wish(&world.take_media(), &bob).map(|wish| wish.enabled),
        Some(false)
    );
    world.bind(&bob, &track);
    assert_eq!(
        wish(&world.take_media(), &bob).map(|wish| wish.enabled),
        Some(true)
    );
}

#[test]
fn nobody_subscribes_to_itself() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let track = world.publish_camera(&alice);
    world.subscribe(&alice, &[&track.sid], true);
    assert!(subscribed(&world.take_media()).is_empty());
}

#[test]
fn a_request_that_names_a_million_tracks_makes_few_effects() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let track_sids = vec![String::new(); 1_000_000];
    world.request(
        &alice,
        Request::TrackSetting(livekit::UpdateTrackSettings {
            track_sids: track_sids.clone(),
            ..Default::default()
        }),
    );
    world.request(
        &alice,
        Request::Subscription(livekit::UpdateSubscription {
            track_sids,
            subscribe: true,
            ..Default::default()
        }),
    );
    assert_eq!(world.counts.len(), 2);
}
