//! What is told of a call while it goes on: quality to clients, counts to operators; and that it
//! takes the road a client asks for.

use proto::livekit::{ConnectionQuality, signal_response};
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::server::Server;

#[tokio::test]
async fn an_undisturbed_call_is_told_to_be_excellent() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    bob.receive(&picture.sid, 5).await;
    for who in [&alice, &bob] {
        let quality = bob
            .message("a connection quality", |message| match message {
                signal_response::Message::ConnectionQuality(told) => {
                    let mut all = told.updates.iter();
                    let of = all.find(|info| info.participant_sid == who.sid)?;
                    Some(of.quality())
                }
                _ => None,
            })
            .await;
        assert_eq!(quality, ConnectionQuality::Excellent);
    }
}

#[tokio::test]
async fn the_metrics_count_the_packets_of_a_call() {
    const IN: &[&str] = &["direction=\"incoming\"", "transmission=\"initial\""];
    const OUT: &[&str] = &["direction=\"outgoing\"", "transmission=\"initial\""];
    let server = Server::start().await;
    assert_eq!(server.metric("livekit_packet_total", &[]).await, 0.0);
    let alice = Client::join(&server, "alice", "room").await;
    let mut listeners = Vec::new();
    for name in ["bob", "carol"] {
        listeners.push(Client::join(&server, name, "room").await);
    }
    let sound = alice.publish("alice-sound", Media::Sound).await;
    for listener in &listeners {
        listener.receive(&sound.sid, 20).await;
    }
    assert_eq!(server.metric("livekit_participant_total", &[]).await, 3.0);

    // Totals come out a few times a second: what has been heard now is on the page soon.
    let heard = |client: &Client| client.seen(|seen| seen.payloads(0, &sound.sid).count()) as f64;
    let wanted: f64 = listeners.iter().map(heard).sum();
    let (mut came, mut went) = (0.0, 0.0);
    while went < wanted {
        listeners[0].receive(&sound.sid, 10).await;
        came = server.metric("livekit_packet_total", IN).await;
        went = server.metric("livekit_packet_total", OUT).await;
        let all = sound.sent("").len() as f64;
        assert!(went <= 2.0 * all, "{went} went out of {all} for two");
    }
    assert!(
        came >= wanted / 2.0,
        "{came} came, {wanted} were heard by two"
    );
}

#[tokio::test]
async fn media_goes_over_ipv6_where_a_client_has_nothing_else() {
    let server = Server::start_dual().await;
    let mut how = Join::new("alice", "room");
    how.media_at = "[::1]:0";
    let alice = Client::join_with(&server, how).await;
    // The other has IPv4 alone: they meet in the server.
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let back = bob.publish("bob-sound", Media::Sound).await;
    for (listener, publication) in [(&bob, &sound), (&alice, &back)] {
        let heard = listener.receive(&publication.sid, 20).await;
        let sent = publication.sent("");
        assert!(heard.iter().all(|payload| sent.contains(payload)));
    }
}
