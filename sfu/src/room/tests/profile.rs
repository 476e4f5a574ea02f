//! What participants change about themselves.

use super::harness::{Client, World, grant, replies, updates};
use proto::livekit;
use proto::livekit::request_response::Reason;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;

fn enter(world: &mut World, identity: &str) -> Client {
    let client = world.enter_with(identity, |join| {
        grant(join).can_update_own_metadata = Some(true);
        join.claims.attributes = [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]
        .into();
    });
    world.advance(4_000);
    world.forget();
    client
}

#[test]
fn a_change_reaches_everybody_at_once_and_renews_the_token() {
    let mut world = World::new();
    let [bob] = world.quiet(["bob"]);
    let alice = enter(&mut world, "alice");
    let update = livekit::UpdateParticipantMetadata {
        name: "Alice".into(),
        metadata: String::new(),
        attributes: [
            ("a".to_owned(), String::new()),
            ("c".to_owned(), "3".to_owned()),
        ]
        .into(),
        request_id: 9,
    };
    world.request(&alice, Request::UpdateMetadata(update));
    let own = world.take(&alice);
    for told in [updates(&own), updates(&world.take(&bob))] {
        assert_eq!(told[0].name, "Alice");
        let mut attributes: Vec<_> = told[0].attributes.clone().into_iter().collect();
        attributes.sort();
        assert_eq!(
            attributes,
            [
                ("b".to_owned(), "2".to_owned()),
                ("c".to_owned(), "3".to_owned())
            ]
        );
    }
    let Some(Message::RequestResponse(reply)) = own.last() else {
        panic!("{own:?}")
    };
    assert_eq!((reply.request_id, reply.reason()), (9, Reason::Ok));
    assert_eq!(world.tokens[0].1.name, "Alice");
    assert_eq!(world.tokens[0].1.attributes.len(), 2);
}

#[test]
fn without_the_right_nothing_changes() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let update = livekit::UpdateParticipantMetadata {
        name: "X".into(),
        request_id: 1,
        ..Default::default()
    };
    world.request(&alice, Request::UpdateMetadata(update));
    let reply = replies(&world.take(&alice));
    assert_eq!(
        reply,
        vec![(
            Reason::NotAllowed,
            "does not have permission to update own metadata".into()
        )]
    );
    assert!(world.take(&bob).is_empty() && world.tokens.is_empty());
}

#[test]
fn too_long_texts_are_refused_whole() {
    let mut world = World::new();
    let alice = enter(&mut world, "alice");
    let update = livekit::UpdateParticipantMetadata {
        name: "ok".into(),
        metadata: "x".repeat(512 * 1024 + 1),
        ..Default::default()
    };
    world.request(&alice, Request::UpdateMetadata(update));
    let messages = world.take(&alice);
    assert_eq!(
        replies(&messages),
        vec![(Reason::LimitExceeded, "exceeds metadata size limit".into())]
    );
    assert!(updates(&messages).is_empty());
}

#[test]
fn an_older_client_is_not_told_that_all_is_well() {
    let mut world = World::new();
    let alice = world.enter_with("alice", |join| {
        join.client.protocol = 14;
        grant(join).can_update_own_metadata = Some(true);
    });
    world.forget();
    let update = livekit::UpdateParticipantMetadata {
        name: "Alice".into(),
        ..Default::default()
    };
    world.request(&alice, Request::UpdateMetadata(update));
    let messages = world.take(&alice);
    assert!(replies(&messages).is_empty());
    assert_eq!(updates(&messages)[0].name, "Alice");
}
