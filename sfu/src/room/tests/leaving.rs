//! How participants go, and when a room is over.

use super::harness::{World, leave, unsubscribed, updates};
use crate::advertise::Gone;
use crate::media::message::{Command as Media, Event, PeerFailure, Side};
use crate::room::command::{Admin, Command};
use crate::room::effect::Count;
use crate::room::preference::Reachable;
use proto::livekit::leave_request::Action;
use proto::livekit::participant_info::State;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::simulate_scenario::Scenario;
use proto::livekit::{self, DisconnectReason};

fn say_leave(reason: DisconnectReason) -> Request {
    Request::Leave(livekit::LeaveRequest {
        reason: reason as i32,
        ..Default::default()
    })
}

fn simulate(scenario: Scenario) -> Request {
    Request::Simulate(livekit::SimulateScenario {
        scenario: Some(scenario),
    })
}

#[test]
fn a_leaving_publisher_is_gone_at_once_for_everybody() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let track = world.publish_camera(&alice);
    world.bind(&bob, &track);
    world.forget();
    world.request(&alice, say_leave(DisconnectReason::UnknownReason));
    assert_eq!(
        leave(&world.take(&alice)),
        Some((Action::Disconnect, DisconnectReason::ClientInitiated))
    );
    assert_eq!(world.closed_sessions, vec![alice.session]);
    let commands = world.take_media();
    assert_eq!(unsubscribed(&commands), vec![(bob.peer, track.key)]);
    assert_eq!(
        commands.last(),
        Some(&Media::RemovePeer { peer: alice.peer })
    );
    let told = updates(&world.take(&bob));
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].state(), told[0].disconnect_reason()),
        (State::Disconnected, DisconnectReason::ClientInitiated)
    );
    assert!(told[0].tracks.is_empty());
    assert!(
        world
            .counts
            .contains(&Count::Unsubscribed(crate::ids::MediaKind::Video))
    );
    assert!(matches!(
        world.counts.last(),
        Some(Count::ParticipantLeft { .. })
    ));
}

#[test]
fn a_leave_keeps_the_reasons_a_client_may_give() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.request(&alice, say_leave(DisconnectReason::UserRejected));
    world.advance(3_000);
    assert_eq!(
        updates(&world.take(&bob))[0].disconnect_reason(),
        DisconnectReason::UserRejected
    );
    world.request(&bob, say_leave(DisconnectReason::RoomDeleted));
    assert_eq!(
        leave(&world.take(&bob)),
        Some((Action::Disconnect, DisconnectReason::ClientInitiated))
    );
}

#[test]
fn a_session_lost_before_media_was_up_ends_the_participant() {
    let mut world = World::new();
    let alice = world.join_with("alice", |_| {});
    world.lose(&alice);
    assert!(
        world
            .take_media()
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
}

#[test]
fn a_session_lost_while_media_lives_keeps_the_participant() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.lose(&alice);
    world.advance(200_000);
    assert!(updates(&world.take(&bob)).is_empty());
    assert!(
        !world
            .media
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
}

#[test]
fn failed_media_makes_the_client_resume_and_ends_it_after_five_seconds() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.fail(&alice);
    assert_eq!(
        leave(&world.take(&alice)),
        Some((Action::Resume, DisconnectReason::ConnectionTimeout))
    );
    assert_eq!(world.closed_sessions, vec![alice.session]);
    world.advance(4_999);
    assert!(
        !world
            .media
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
    world.advance(1);
    assert!(
        world
            .media
            .contains(&Media::RemovePeer { peer: alice.peer })
    );
    world.advance(3_000);
    assert_eq!(
        updates(&world.take(&bob))[0].disconnect_reason(),
        DisconnectReason::ConnectionTimeout
    );
}

#[test]
fn media_that_is_gone_for_good_makes_the_client_start_over_and_refuses_its_resume() {
    for reason in [PeerFailure::Handshake, PeerFailure::Overload] {
        let mut world = World::new();
        let alice = world.enter("alice");
        let bob = world.enter("bob");
        world.event(Event::Failed {
            peer: alice.peer,
            side: Side::Publisher,
            reason,
        });
        assert_eq!(
            leave(&world.take(&alice)),
            Some((Action::Reconnect, DisconnectReason::StateMismatch))
        );
        assert!(
            world
                .media
                .contains(&Media::RemovePeer { peer: alice.peer })
        );
        // Of bob, whose signalling is away, nobody hears: his resume is refused.
        world.lose(&bob);
        world.event(Event::Failed {
            peer: bob.peer,
            side: Side::Publisher,
            reason,
        });
        let back = world.resume(&bob);
        assert_eq!(
            leave(&world.take(&back)),
            Some((Action::Reconnect, DisconnectReason::StateMismatch))
        );
    }
}

#[test]
fn an_offer_media_cannot_use_makes_the_client_start_over() {
    let mut world = World::new();
    let alice = world.enter("alice");
    world.forget();
    world.event(Event::OfferRefused {
        peer: alice.peer,
        id: 3,
        reason: "no".into(),
    });
    assert_eq!(
        leave(&world.take(&alice)),
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
    assert_eq!(world.closed_sessions, vec![alice.session]);
}

#[test]
fn a_room_nobody_joins_closes_after_five_minutes() {
    let mut world = World::new();
    world.advance(299_999);
    assert!(!world.closed);
    world.advance(1);
    assert!(world.closed);
}

#[test]
fn a_room_everybody_left_closes_after_twenty_seconds_unless_somebody_comes() {
    let mut world = World::new();
    let alice = world.enter("alice");
    world.request(&alice, say_leave(DisconnectReason::ClientInitiated));
    world.advance(19_999);
    let bob = world.enter("bob");
    world.advance(100_000);
    assert!(!world.closed);
    world.request(&bob, say_leave(DisconnectReason::ClientInitiated));
    world.advance(20_000);
    assert!(world.closed);
}

#[test]
fn dependents_do_not_keep_a_room_open() {
    let mut world = World::new();
    let alice = world.enter("alice");
    let agent = world.enter_with("agent", |join| {
        join.claims.kind = livekit::participant_info::Kind::Agent
    });
    world.request(&alice, say_leave(DisconnectReason::ClientInitiated));
    world.advance(20_000);
    assert_eq!(
        leave(&world.take(&agent)),
        Some((Action::Disconnect, DisconnectReason::RoomClosed))
    );
    assert!(world.closed);
}

#[test]
fn an_administrator_removes_one_or_ends_all() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.act(Command::Admin(Admin::Remove {
        identity: "alice".into(),
    }));
    assert_eq!(
        leave(&world.take(&alice)),
        Some((Action::Disconnect, DisconnectReason::ParticipantRemoved))
    );
    world.act(Command::Admin(Admin::Remove {
        identity: "nobody".into(),
    }));
    world.act(Command::Admin(Admin::Close));
    assert_eq!(
        leave(&world.take(&bob)),
        Some((Action::Disconnect, DisconnectReason::RoomDeleted))
    );
    assert!(world.media.contains(&Media::RemovePeer { peer: bob.peer }));
    assert!(world.closed);
}

#[test]
fn whoever_is_expelled_goes_with_all_that_joined_beside_him() {
    let mut world = World::new();
    let [alice, beside, other] = world.quiet(["alice", "alice#screen", "alice2"]);
    let expel = |identity: &str| {
        Command::Admin(Admin::Expel {
            identity: identity.into(),
        })
    };
    world.act(expel("alic"));
    assert!(world.take(&alice).is_empty());
    world.act(expel("alice"));
    for gone in [&alice, &beside] {
        assert_eq!(
            leave(&world.take(gone)),
            Some((Action::Disconnect, DisconnectReason::ParticipantRemoved))
        );
        assert!(world.media.contains(&Media::RemovePeer { peer: gone.peer }));
    }
    assert_eq!(leave(&world.take(&other)), None);
}

#[test]
fn a_shutdown_makes_every_client_come_back() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.act(Command::Admin(Admin::Shutdown));
    for client in [&alice, &bob] {
        assert_eq!(
            leave(&world.take(client)),
            Some((Action::Reconnect, DisconnectReason::ServerShutdown))
        );
    }
    assert_eq!(world.closed_sessions, vec![alice.session, bob.session]);
    assert!(world.closed);
}

#[test]
fn a_simulated_node_failure_says_nothing_and_a_server_leave_says_it() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    world.request(&alice, simulate(Scenario::NodeFailure(true)));
    assert_eq!(leave(&world.take(&alice)), None);
    assert_eq!(world.closed_sessions, vec![alice.session]);
    world.request(&bob, simulate(Scenario::ServerLeave(true)));
    assert_eq!(
        leave(&world.take(&bob)),
        Some((Action::Disconnect, DisconnectReason::ServerShutdown))
    );
}

#[test]
fn an_old_client_is_told_by_flag_that_it_may_come_back() {
    let mut world = World::new();
    let old = world.enter_with("old", |join| join.client.protocol = 12);
    world.forget();
    world.event(Event::OfferRefused {
        peer: old.peer,
        id: 3,
        reason: "no".into(),
    });
    let messages = world.take(&old);
    let livekit::signal_response::Message::Leave(leave) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert!(leave.can_reconnect);
}

#[test]
fn a_new_address_sends_back_whoever_came_by_another_one_and_ends_nobody() {
    let mut world = World::new();
    let [alice, bob] = world.quiet(["alice", "bob"]);
    let old = world.enter_with("old", |join| join.client.protocol = 12);
    let joining = world.join_with("joining", |_| {});
    world.forget();
    // Everybody has come by 192.0.2.1.
    let change = |gone: &str, still: &str| {
        let ip = |text: &str| text.parse().expect("an address");
        let (internal, still) = (gone.starts_with('~'), vec![ip(still)]);
        let gone = vec![Gone {
            ip: ip(gone.trim_start_matches('~')),
            internal,
        }];
        let reachable = Reachable {
            udp: true,
            tcp: true,
        };
        Command::Admin(Admin::Readdress {
            gone,
            still,
            reachable,
        })
    };
    world.act(change("192.0.2.9", "192.0.2.1"));
    world.act(change("2001:db8::1", "2001:db8::2"));
    world.act(change("~192.0.2.8", "192.0.2.9"));
    assert!(world.closed_sessions.is_empty() && leave(&world.take(&alice)).is_none());
    world.act(change("192.0.2.8", "192.0.2.9"));
    for client in [&alice, &bob] {
        let told = leave(&world.take(client));
        assert_eq!(told, Some((Action::Resume, DisconnectReason::Migration)));
    }
    // An old client resumes when its connection closes; one that is only just joining is let be.
    assert_eq!(leave(&world.take(&old)), None);
    assert!(world.closed_sessions.contains(&old.session));
    assert!(!world.closed_sessions.contains(&joining.session));
    world.advance(10_000);
    let removed = |command: &Media| matches!(command, Media::RemovePeer { .. });
    assert!(!world.take_media().iter().any(removed));
    let back = world.resume(&alice);
    assert_eq!(back.peer, alice.peer);
}

#[test]
fn a_local_address_that_goes_sends_back_whoever_was_connected_to_it() {
    let mut world = World::new();
    let [alice, _] = world.quiet(["alice", "bob"]);
    // Everybody has come by 192.0.2.1.
    let gone = ["192.0.2.1", "192.0.2.8"].map(|ip| Gone {
        ip: ip.parse().expect("an address"),
        internal: true,
    });
    let reachable = Reachable {
        udp: true,
        tcp: true,
    };
    world.act(Command::Admin(Admin::Readdress {
        gone: gone.to_vec(),
        still: Vec::new(),
        reachable,
    }));
    let told = leave(&world.take(&alice));
    assert_eq!(told, Some((Action::Resume, DisconnectReason::Migration)));
}
