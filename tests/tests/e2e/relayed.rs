//! The whole of crate `webrtc`, by nothing but relays of our TURN server: it knows those over UDP.

use tests::client::{Client, Join};
use tests::publication::Media;
use tests::server::{Server, free_udp_port};

/// Ports that other tests of this process leave alone.
fn turn() -> String {
    let first = 28_004 + std::process::id() % 100 * 20;
    let port = free_udp_port();
    format!(
        "turn: {{udp_port: {port}, relay_range_start: {first}, relay_range_end: {}}}\n",
        first + 15
    )
}

#[tokio::test]
async fn clients_call_by_relays_alone_and_after_a_resume_with_new_credentials() {
    let server = Server::start_with(&turn()).await;
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
