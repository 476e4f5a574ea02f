//! Participants with one connection to send by and another to receive by.

use super::harness::{Client, World, grant, leave, subscribed, updates};
use crate::media::message::{
    Command as Media, Description, Event, PeerSetup, Side, SubscriberSetup,
};
use crate::room::command::Join;
use proto::livekit;
use proto::livekit::DisconnectReason;
use proto::livekit::leave_request::Action;
use proto::livekit::participant_info::State;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

fn dual(join: &mut Join) {
    join.dual = true;
}

fn old(protocol: i32) -> impl FnOnce(&mut Join) {
    move |join| {
        dual(join);
        join.client.protocol = protocol;
    }
}

fn setup(commands: &[Media]) -> PeerSetup {
    let added = commands.iter().find_map(|command| match command {
        Media::AddPeer { setup, .. } => Some(setup.clone()),
        _ => None,
    });
    added.expect("a peer")
}

/// Which commands about offers and subscriptions there are, in order.
fn steps(commands: &[Media]) -> Vec<&'static str> {
    let step = |command: &Media| match command {
        Media::AddPeer { .. } => Some("add"),
        Media::Subscribe { .. } => Some("subscribe"),
        Media::Negotiate { restart: false, .. } => Some("offer"),
        Media::Negotiate { restart: true, .. } => Some("restart"),
        _ => None,
    };
    commands.iter().filter_map(step).collect()
}

fn primary(world: &mut World, client: &Client) -> bool {
    let messages = world.take(client);
    let Some(Message::Join(join)) = messages.first() else {
        panic!("{messages:?}")
    };
    join.subscriber_primary
}

fn is_active(world: &mut World, client: &Client, who: &Client) -> bool {
    world.advance(4_000);
    let infos = updates(&world.take(client));
    let own = infos.iter().rev().find(|info| info.sid == who.sid);
    own.is_some_and(|info| info.state() == State::Active)
}

fn offer(world: &mut World, client: &Client) {
    world.event(Event::Offer(Description {
        peer: client.peer,
        id: 77,
        sdp: "v=0".into(),
        mids: Vec::new(),
        candidates: vec!["candidate:1".into(), "candidate:2".into()],
    }));
}

#[test]
fn a_subscriber_is_offered_what_there_is_at_once() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.publish_camera(&alice);
    world.forget();
    let bob = world.join_with("bob", dual);
    let commands = world.take_media();
    assert_eq!(steps(&commands), ["add", "subscribe", "offer"]);
    let expected = SubscriberSetup {
        data_channels: true,
        reuse_sections: true,
        passive: false,
    };
    assert_eq!(setup(&commands).subscriber, Some(expected));
    assert!(primary(&mut world, &bob));
}

#[test]
fn who_may_not_subscribe_waits_for_no_offer() {
    let mut world = World::new();
    let bob = world.join_with("bob", |join| {
        dual(join);
        grant(join).can_subscribe = Some(false);
    });
    let commands = world.take_media();
    assert_eq!(steps(&commands), ["add"]);
    let subscriber = setup(&commands).subscriber.expect("a connection");
    assert!(!subscriber.data_channels);
    assert!(!primary(&mut world, &bob));
}

#[test]
fn a_single_connection_is_never_offered_anything() {
    let mut world = World::new();
    let bob = world.join_with("bob", |_| {});
    let commands = world.take_media();
    assert_eq!(steps(&commands), ["add"]);
    assert_eq!(setup(&commands).subscriber, None);
    assert!(!primary(&mut world, &bob));
    world.connect(&bob);
    world.lose(&bob);
    world.resume(&bob);
    assert_eq!(steps(&world.take_media()), [""; 0]);
}

#[test]
fn old_protocols_get_what_they_know() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.publish_camera(&alice);
    world.forget();
    let two = world.join_with("two", old(2));
    assert_eq!(steps(&world.take_media()), ["add", "subscribe"]);
    assert!(!primary(&mut world, &two), "no subscriber primary yet");
    let seven = world.join_with("seven", old(7));
    let order = steps(&world.take_media());
    assert_eq!(
        order,
        ["add", "offer", "subscribe"],
        "tracks in a second offer"
    );
    assert!(primary(&mut world, &seven));
    world.join_with("zero", old(0));
    let stream = world
        .take_media()
        .into_iter()
        .find_map(|command| match command {
            Media::Subscribe { label, .. } => Some(label.stream_id),
            _ => None,
        });
    assert_eq!(
        stream.as_deref(),
        Some(alice.sid.as_str()),
        "no packed stream id"
    );
}

#[test]
fn the_primary_connection_makes_the_participant_active() {
    for may_subscribe in [true, false] {
        let mut world = World::new();
        let [alice] = world.quiet(["alice"]);
        let bob = world.join_with("bob", |join| {
            dual(join);
            grant(join).can_subscribe = Some(may_subscribe);
        });
        let (primary, other) = if may_subscribe {
            (Side::Subscriber, Side::Publisher)
        } else {
            (Side::Publisher, Side::Subscriber)
        };
        world.connect_side(&bob, other);
        assert!(!is_active(&mut world, &alice, &bob));
        world.connect_side(&bob, primary);
        assert!(is_active(&mut world, &alice, &bob));
    }
}

#[test]
fn our_offer_and_its_candidates_are_for_the_subscribers_connection() {
    let mut world = World::new();
    let bob = world.join_with("bob", dual);
    world.forget();
    offer(&mut world, &bob);
    let messages = world.take(&bob);
    let Message::Offer(offer) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!((offer.r#type.as_str(), offer.id), ("offer", 77));
    let targets: Vec<_> = messages[1..]
        .iter()
        .map(|message| match message {
            Message::Trickle(trickle) => (trickle.target(), trickle.r#final),
            other => panic!("{other:?}"),
        })
        .collect();
    let subscriber = livekit::SignalTarget::Subscriber;
    assert_eq!(targets, [(subscriber, false), (subscriber, true)]);
}

#[test]
fn the_answer_to_our_offer_goes_to_media() {
    let mut world = World::new();
    let bob = world.join_with("bob", dual);
    world.forget();
    let description = livekit::SessionDescription {
        r#type: "answer".into(),
        sdp: "v=0".into(),
        id: 77,
        ..Default::default()
    };
    world.request(&bob, Request::Answer(description));
    let expected = Media::Answer {
        peer: bob.peer,
        id: 77,
        sdp: "v=0".into(),
    };
    assert_eq!(world.take_media(), [expected]);
}

#[test]
fn an_offer_answered_in_vain_makes_the_client_start_over() {
    let mut world = World::new();
    let bob = world.enter_with("bob", dual);
    world.connect_side(&bob, Side::Subscriber);
    let refused = |peer| Event::AnswerRefused {
        peer,
        reason: "no answer in time".into(),
    };
    // One that is away cannot answer: its resume brings another offer.
    world.lose(&bob);
    world.event(refused(bob.peer));
    let bob = world.resume(&bob);
    assert_eq!(leave(&world.take(&bob)), None);
    world.event(refused(bob.peer));
    let told = leave(&world.take(&bob));
    assert_eq!(
        told,
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
}

#[test]
fn a_resume_restarts_our_connection_after_everything_is_told_and_subscribed() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let bob = world.join_with("bob", dual);
    world.connect_side(&bob, Side::Subscriber);
    world.lose(&bob);
    world.publish_camera(&alice);
    world.forget();
    let back = world.resume(&bob);
    let commands = world.take_media();
    assert_eq!(steps(&commands), ["subscribe", "restart"]);
    assert_eq!(subscribed(&commands)[0].0, back.peer);
    offer(&mut world, &back);
    let kinds: Vec<_> = world
        .take(&back)
        .iter()
        .filter_map(|message| match message {
            Message::Reconnect(_) => Some("reconnect"),
            Message::Update(_) => Some("update"),
            Message::RoomUpdate(_) => Some("room_update"),
            Message::Offer(_) => Some("offer"),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["reconnect", "update", "room_update", "offer"]);
}

#[test]
fn either_connection_lost_asks_for_a_resume_and_both_must_come_back() {
    let mut settings = crate::room::Settings::default();
    settings.fallback.allowed = false;
    let mut world = World::with(settings, None);
    let bob = world.join_with("bob", dual);
    world.connect_side(&bob, Side::Subscriber);
    world.connect_side(&bob, Side::Publisher);
    world.forget();
    world.fail_side(&bob, Side::Publisher);
    let told = leave(&world.take(&bob));
    assert_eq!(
        told,
        Some((Action::Resume, DisconnectReason::ConnectionTimeout))
    );
    world.fail_side(&bob, Side::Subscriber);
    let bob = world.resume(&bob);
    world.connect_side(&bob, Side::Subscriber);
    world.advance(21_000);
    let told = leave(&world.take(&bob));
    assert_eq!(
        told,
        Some((Action::Reconnect, DisconnectReason::ConnectionTimeout))
    );

    let carol = world.join_with("carol", dual);
    world.connect_side(&carol, Side::Subscriber);
    world.fail_side(&carol, Side::Subscriber);
    let carol = world.resume(&carol);
    world.connect_side(&carol, Side::Subscriber);
    world.advance(21_000);
    assert_eq!(leave(&world.take(&carol)), None);
}
