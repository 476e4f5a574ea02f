//! Losses on the way: what is lost is asked for and sent again.

use std::collections::BTreeSet;
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::relay::{Loss, Relay};
use tests::server::Server;

/// Packets that must come without a hole.
const RUN: u16 = 150;

/// One packet in so many is lost.
const EACH: usize = 10;

async fn join_via(server: &Server, name: &str, relay: &Relay) -> Client {
    Client::join_with(server, Join::new(name, "room").via(relay.at)).await
}

/// Waits until the first packets of a track have all come, however late.
async fn receives_without_a_hole(listener: &Client, track: &str) {
    listener
        .until("a run of packets without a hole", |seen| {
            let mine = seen.packets.iter().filter(|packet| packet.track == track);
            let numbers: Vec<u16> = mine.map(|packet| packet.sequence).collect();
            let first = *numbers.first()?;
            let steps: BTreeSet<u16> = numbers.iter().map(|n| n.wrapping_sub(first)).collect();
            (0..RUN).all(|step| steps.contains(&step)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn what_a_publisher_loses_is_asked_for_and_reaches_everybody() {
    let server = Server::start().await;
    let road = Relay::open(&server, Loss { up: EACH, down: 0 }).await;
    let bob = Client::join(&server, "bob", "room").await;
    let alice = join_via(&server, "alice", &road).await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    receives_without_a_hole(&bob, &picture.sid).await;
    assert!(
        road.lost() >= usize::from(RUN) / EACH,
        "{} lost",
        road.lost()
    );
    let asked = server
        .metric("livekit_nack_total", &["direction=\"outgoing\""])
        .await;
    assert!(asked > 0.0, "nothing was asked for again");
}

#[tokio::test]
async fn what_a_subscriber_loses_is_sent_again() {
    let server = Server::start().await;
    let road = Relay::open(&server, Loss { up: 0, down: EACH }).await;
    let bob = join_via(&server, "bob", &road).await;
    let alice = Client::join(&server, "alice", "room").await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    receives_without_a_hole(&bob, &picture.sid).await;
    assert!(
        road.lost() >= usize::from(RUN) / EACH,
        "{} lost",
        road.lost()
    );
    let again = server
        .metric(
            "livekit_packet_total",
            &["transmission=\"retransmit\"", "direction=\"outgoing\""],
        )
        .await;
    assert!(again > 0.0, "nothing was sent again");
}
