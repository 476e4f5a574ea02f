//! What participants hear of each other, and when.

use super::harness::{World, grant, updates};
use proto::livekit::participant_info::State;
use proto::livekit::signal_response::Message;

fn rooms(messages: &[Message]) -> Vec<(u32, u32, bool)> {
    let of = |message: &Message| match message {
        Message::RoomUpdate(update) => update.room.clone(),
        _ => None,
    };
    let rooms = messages.iter().filter_map(of);
    rooms
        .map(|room| {
            (
                room.num_participants,
                room.num_publishers,
                room.active_recording,
            )
        })
        .collect()
}

#[test]
fn the_progress_of_one_who_publishes_nothing_waits_three_seconds() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    let bob = world.enter("bob");
    world.advance(2_999);
    assert!(updates(&world.take(&alice)).is_empty());
    world.advance(1);
    let told = updates(&world.take(&alice));
    assert_eq!(told.len(), 1, "joined and active in one snapshot");
    assert_eq!(
        (told[0].sid.as_str(), told[0].state()),
        (bob.sid.as_str(), State::Active)
    );
    assert!(
        updates(&world.take(&bob))
            .iter()
            .all(|info| info.sid != bob.sid)
    );
}

#[test]
fn a_snapshot_is_not_repeated_by_the_batch() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let carol = world.enter("carol");
    world.publish_camera(&carol);
    for client in [&alice, &bob] {
        let told = updates(&world.take(client));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].tracks.len(), 1);
    }
    world.advance(10_000);
    assert!(updates(&world.take(&alice)).is_empty());
}

#[test]
fn who_joins_gets_the_others_once() {
    let mut world = World::new();
    world.enter("alice");
    let bob = world.enter("bob");
    let messages = world.take(&bob);
    let Message::Join(join) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!(join.other_participants.len(), 1);
    world.advance(10_000);
    assert!(updates(&world.take(&bob)).is_empty());
}

#[test]
fn a_long_batch_is_split() {
    let settings = crate::room::Settings {
        update_batch_target_size: 1_000,
        ..Default::default()
    };
    let mut world = World::with(settings, None);
    let [alice] = world.quiet(["alice"]);
    for n in 0..10 {
        world.enter_with(&format!("p{n}"), |join| join.metadata = "x".repeat(400));
    }
    world.advance(3_000);
    let messages = world.take(&alice);
    let count = messages
        .iter()
        .filter(|message| matches!(message, Message::Update(_)))
        .count();
    assert!(count >= 5);
    assert_eq!(updates(&messages).len(), 10);
}

#[test]
fn counts_are_told_at_most_every_five_seconds_and_recording_at_once() {
    let mut world = World::new();
    let [alice] = world.quiet(["alice"]);
    world.enter("bob");
    world.enter("carol");
    world.advance(5_000);
    assert_eq!(rooms(&world.take(&alice)), vec![(3, 0, false)]);
    world.publish_camera(&alice);
    world.advance(5_000);
    assert_eq!(rooms(&world.take(&alice)), vec![(3, 1, false)]);
    world.enter_with("recorder", |join| grant(join).recorder = true);
    assert_eq!(rooms(&world.take(&alice)), vec![(3, 1, true)]);
}

#[test]
fn who_takes_the_place_of_another_is_shown_at_once() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.publish_camera(&bob);
    world.forget();
    let again = world.enter("bob");
    let told = updates(&world.take(&alice));
    let last = told.last().expect("told at once");
    assert_eq!(
        (last.sid.as_str(), last.tracks.len()),
        (again.sid.as_str(), 0)
    );
}

#[test]
fn the_fiftieth_of_a_room_costs_each_of_the_others_a_few_messages() {
    let mut world = World::new();
    let others: Vec<_> = (0..49).map(|n| world.enter(&format!("p{n}"))).collect();
    for client in &others {
        world.publish_camera(client);
    }
    world.advance(20_000);
    world.forget();
    let last = world.enter("last");
    world.advance(6_000);
    let joined = world.take(&last).len();
    assert!(joined < 49 + 10, "{joined}");
    for client in &others {
        let told = world.take(client).len();
        assert!(told <= 4, "{told}");
    }
}
