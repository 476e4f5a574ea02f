//! The whole of crate `webrtc`, by nothing but relays of our TURN server: it knows those over UDP.

use std::net::Ipv4Addr;
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::server::{Server, free_udp_port};

/// Ports that other tests of this process leave alone; `nth` tells those of this file apart.
fn turn(nth: u32) -> String {
    let first = 28_004 + std::process::id() % 100 * 20 + nth * 2_000;
    let port = free_udp_port();
    format!(
        "turn: {{udp_port: {port}, relay_range_start: {first}, relay_range_end: {}}}\n",
        first + 15
    )
}

#[tokio::test]
async fn clients_call_by_relays_alone_and_after_a_resume_with_new_credentials() {
    let server = Server::start_with(&turn(0)).await;
    let alice = Client::join_with(&server, Join::new("alice", "room").relayed()).await;
    let bob = Client::join_with(&server, Join::new("bob", "room").relayed()).await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = bob.publish("bob-picture", Media::Picture).await;
    bob.receive(&sound.sid, 20).await;
    alice.receive(&picture.sid, 20).await;
    for (client, published) in [(&alice, &sound), (&bob, &picture)] {
        client.cut().await;
        client.resume(&server, &[published]).await;
    }
    bob.receive(&sound.sid, 50).await;
    alice.receive(&picture.sid, 50).await;
    let log = server.log();
    let active = log
        .lines()
        .filter(|line| line.contains("participant active"));
    let (relayed, others): (Vec<_>, Vec<_>) =
        active.partition(|line| line.contains("connectionType=\"turn\""));
    assert!(relayed.len() == 2 && others.is_empty(), "{others:?}");
    // It signs the relays it has anew, by the names it is told when it resumes.
    assert!(!log.contains("TURN request refused"), "{log}");
    server.assert_calm();
}

#[tokio::test]
async fn clients_call_by_relays_where_a_router_forwards_another_port_than_media_has_here() {
    // Nobody is behind it: only within the process does it lead to media.
    let outside = free_udp_port();
    let rtc = format!("advertise: ['127.0.0.1:{outside}/udp']");
    let server = Server::start_behind(Ipv4Addr::LOCALHOST.into(), &[&rtc], &turn(1)).await;
    let alice = Client::join_with(&server, Join::new("alice", "room").relayed()).await;
    let bob = Client::join_with(&server, Join::new("bob", "room").relayed()).await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 20).await;
    server.assert_calm();
}
