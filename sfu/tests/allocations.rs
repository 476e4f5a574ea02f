//! The packet path makes no heap allocation once it runs: counted on a real plane with connected
//! peers, the same as the benchmark `forward` measures.

#[path = "../benches/forward/client.rs"]
mod client;
#[path = "../benches/forward/world.rs"]
mod world;

use sfu::media::transport::srtp::OVERHEAD_MAX;
use std::time::Duration;
use world::{Kind, World};

/// Packets in a batch.
const BATCH: usize = 8;
/// Longer than a resend waits after the first send.
const PAUSE: Duration = Duration::from_millis(200);

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn an_allocation_is_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn forwarding_allocates_nothing() {
    for (kind, bytes) in [(Kind::Audio, 100), (Kind::Video, 1200)] {
        let mut world = World::new(kind, 3);
        for _ in 0..100 {
            let mut batch = world.sealed_batch(BATCH, bytes);
            let mut sent = 0;
            assert_eq!(allocations(|| sent = world.push(&mut batch)), 0);
            assert_eq!(sent, 3 * BATCH, "every subscriber gets every packet");
        }
    }
}

#[test]
fn taking_packets_in_order_allocates_nothing() {
    for (kind, bytes) in [(Kind::Audio, 100), (Kind::Video, 1200)] {
        let mut world = World::new(kind, 0);
        let before = world.plane.counters().traffic.packets_in;
        for _ in 0..100 {
            let mut batch = world.sealed_batch(BATCH, bytes);
            let mut sent = 0;
            assert_eq!(allocations(|| sent = world.push(&mut batch)), 0);
            assert_eq!(sent, 0, "nobody subscribes");
        }
        let after = world.plane.counters().traffic.packets_in;
        assert_eq!(after - before, 100 * BATCH as u64, "all were authentic");
    }
}

/// The newest packet of the only subscriber's copy, NACKed by it and sealed.
fn nack(world: &mut World) -> Vec<u8> {
    let mut newest = Vec::new();
    let mut batch = world.sealed_batch(BATCH, 1200);
    let publisher = world.publisher.path;
    for packet in &mut batch {
        world.plane.handle_datagram(publisher, packet, world.now);
    }
    world.flush(|_, packet| newest = packet.to_vec());
    let (sequence, ssrc) = (&newest[2..4], &newest[8..12]);
    // RFC 4585 §6.2.1: one number, no bit mask.
    let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
    nack.extend_from_slice(ssrc);
    nack.extend_from_slice(sequence);
    nack.extend_from_slice(&[0; 2 + OVERHEAD_MAX]);
    let (_, sealer) = world.subscribers[0].srtp.as_mut().expect("connected");
    let len = sealer.seal_rtcp(&mut nack, 16).expect("sealed");
    nack.truncate(len);
    world.now += PAUSE;
    nack
}

#[test]
fn resending_a_nacked_packet_allocates_nothing() {
    let mut world = World::new(Kind::Video, 1);
    let path = world.subscribers[0].path;
    for round in 0..10 {
        let mut nack = nack(&mut world);
        let mut resent = 0;
        let allocated = allocations(|| {
            world.plane.handle_datagram(path, &mut nack, world.now);
            resent = world.flush(|_, _| {});
        });
        assert_eq!(resent, 1, "the packet comes once more");
        // The first one makes room for the list of what to resend.
        assert!(round == 0 || allocated == 0, "round {round}: {allocated}");
    }
    assert_eq!(world.plane.counters().traffic.retransmitted_out, 10);
}

#[test]
fn answering_a_check_allocates_nothing() {
    let mut world = World::new(Kind::Audio, 1);
    let path = world.subscribers[0].path;
    for round in 0..10 {
        world.now += Duration::from_secs(1);
        let mut check = world.subscribers[0].check();
        let mut answers = 0;
        let allocated = allocations(|| {
            world.plane.handle_datagram(path, &mut check, world.now);
            answers = world.flush(|_, _| {});
        });
        assert_eq!(answers, 1);
        assert!(round == 0 || allocated == 0, "round {round}: {allocated}");
    }
}
