//! Real clients at the other end of a bad road: losses, jitter, an outage, a NAT that forgets; and a
//! server whose own addresses change. Run with `cargo impaired`; it needs root, for network
//! namespaces.

use proto::livekit::leave_request::Action;
use proto::livekit::signal_response::Message;
use std::time::Duration;
use tests::client::Client;
use tests::island::Island;
use tests::link::{Conditions, Loss};
use tests::publication::Media;
use tests::road::Road;
use tests::script;
use tests::server::{Server, binary};
use tokio::time::Instant;

/// The road of the issue: each direction loses 5 %, wavers by 50 ms, and 2 % lose their turn.
const BAD: Conditions = Conditions {
    jitter: Duration::from_millis(50),
    loss: Loss::Uniform(0.05),
    reorder: 0.02,
    ..Conditions::GOOD
};

/// Opens the road and a server at its end, runs a script at the other, and judges the road.
async fn travel(seed: u64, run: impl AsyncFn(&Road, &Server)) {
    let road = Road::open(BAD, seed).await;
    let server = Server::start_at(road.here()).await;
    run(&road, &server).await;
    let counters = road.counters().await;
    for link in [counters.up, counters.down] {
        let share = link.lost as f64 / (link.lost + link.carried) as f64;
        assert!((0.005..0.06).contains(&share), "{counters:?}");
        assert!(link.broken > 5 && link.reordered > 20, "{counters:?}");
    }
    assert_eq!(counters.refused, 0, "{counters:?}");
    let found = server.metric("foci_strays_found_total", &[]).await;
    assert!(found >= 1.0, "nobody was found at his new port");
}

#[tokio::test]
async fn browsers_see_and_hear_each_other_over_a_bad_road() {
    travel(1, async |road, server| {
        script::node_over(road, server, "impaired.mjs").await;
    })
    .await;
}

#[tokio::test]
async fn the_python_sdk_sees_and_hears_over_a_bad_road() {
    travel(2, async |road, server| {
        script::python_over(road, server, "impaired.py").await;
    })
    .await;
}

/// The machine loses its address in the middle of a call, and gets another one: nobody is told of it
/// but by the kernel.
#[tokio::test]
async fn a_call_goes_on_when_the_machine_gets_another_address() {
    const OLD: &str = "192.0.2.77";
    const NEW: &str = "192.0.2.88";
    // It is built by what has a network.
    binary();
    let island = Island::enter();
    island.add(OLD);
    let without_loopback = [
        "use_external_ip: false",
        "ips: {excludes: [127.0.0.0/8, \"::1/128\"]}",
    ];
    let server = Server::start_reached(&without_loopback).await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    let song = bob.publish("song", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    alice.receive(&song.sid, 10).await;
    let changed = Instant::now();
    island.remove(OLD);
    island.add(NEW);
    for (client, published) in [(&alice, &sound), (&bob, &song)] {
        let told = client.message("a leave", |message| match message {
            Message::Leave(leave) => Some(leave.action()),
            _ => None,
        });
        assert_eq!(told.await, Action::Resume);
        client.resume(&server, &[published]).await;
    }
    bob.receive(&sound.sid, 1).await;
    alice.receive(&song.sid, 1).await;
    let took = changed.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let log = server.log();
    assert!(log.contains(&format!("udp4 host {NEW}:")), "{log}");
    assert_eq!(
        log.matches("starting RTC session").count(),
        2,
        "nobody joined anew"
    );
    // And back: whoever comes before it is noticed is told the wrong address first, and then the
    // right one.
    drop((alice, bob, sound, song));
    island.remove(NEW);
    island.add(OLD);
    let carol = Client::join(&server, "carol", "room").await;
    let dave = Client::join(&server, "dave", "room").await;
    let sound = carol.publish("sound", Media::Sound).await;
    dave.receive(&sound.sid, 10).await;
}
