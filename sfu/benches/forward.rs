//! What a forwarded packet costs in memory, without sockets: `cargo bench -p sfu --bench forward`.
//!
//! A publisher and N subscribers shake hands with a real plane; then packets are pushed through it.
//! Printed: the whole path for N subscribers, ingest alone (no subscriber), their difference per
//! subscriber, the bare seal of the same bytes in the same run, the ratio, and heap allocations.

#[path = "forward/client.rs"]
mod client;
#[path = "forward/world.rs"]
mod world;

use sfu::media::transport::dtls::{Keying, Profile};
use sfu::media::transport::srtp::{self, Side};
use sfu::units::ExtSeq;
use std::hint::black_box;
use std::time::{Duration, Instant};
use world::{Kind, World};

/// Packets in one receive batch: a frame of video, or what 10 microphones send in 4 ms.
const BATCH: usize = 8;
/// Batches in one measurement.
const BATCHES: usize = 250;
/// Measurements; the fastest counts, the others were disturbed.
const ROUNDS: usize = 15;

fn main() {
    println!(
        "host: {} cores; fastest of {ROUNDS} rounds of {} packets",
        cores(),
        BATCH * BATCHES
    );
    println!(
        "{:>6} {:>5} {:>12} {:>12} {:>14} {:>14} {:>14} {:>7} {:>12}",
        "bytes",
        "N",
        "total ns",
        "ingest ns",
        "per forward",
        "seal GCM-128",
        "seal GCM-256",
        "ratio",
        "allocations"
    );
    for bytes in [1200, 100] {
        let seal128 = bare_seal(Profile::Aes128Gcm, bytes);
        let seal256 = bare_seal(Profile::Aes256Gcm, bytes);
        let (ingest, _) = per_packet(Kind::for_size(bytes), 0, bytes);
        for subscribers in [10, 50, 200] {
            let (total, allocations) = per_packet(Kind::for_size(bytes), subscribers, bytes);
            let forward = (total - ingest) / subscribers as f64;
            println!(
                "{bytes:>6} {subscribers:>5} {total:>12.0} {ingest:>12.0} {forward:>14.1} {seal128:>14.1} {seal256:>14.1} {:>7.2} {allocations:>12}",
                forward / seal256
            );
        }
    }
    println!("ratio: per forward / seal of the profile in use (GCM-256, which DTLS negotiates)");
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// Nanoseconds for one packet in and N packets out, and allocations in all of the rounds but the
/// first.
fn per_packet(kind: Kind, subscribers: usize, bytes: usize) -> (f64, u64) {
    let mut world = World::new(kind, subscribers);
    let mut fastest = Duration::MAX;
    let mut allocated = 0;
    for round in 0..=ROUNDS {
        let batches: Vec<Vec<Vec<u8>>> = (0..BATCHES)
            .map(|_| world.sealed_batch(BATCH, bytes))
            .collect();
        let mut spent = Duration::ZERO;
        for mut batch in batches {
            let mut sent = 0;
            let start = Instant::now();
            let counted = allocation_counter::measure(|| sent = world.push(&mut batch));
            spent += start.elapsed();
            assert_eq!(
                sent,
                subscribers * BATCH,
                "every subscriber gets every packet"
            );
            if round > 0 {
                allocated += counted.count_total;
            }
        }
        if round > 0 {
            fastest = fastest.min(spent);
        }
    }
    (
        fastest.as_nanos() as f64 / (BATCH * BATCHES) as f64,
        allocated,
    )
}

/// The floor: sealing `bytes` in place, nothing else.
fn bare_seal(profile: Profile, bytes: usize) -> f64 {
    let material: Vec<u8> = (0..2 * (profile.key_len() + profile.salt_len()))
        .map(|byte| byte as u8)
        .collect();
    let keying = Keying::new(profile, &material).expect("keying material");
    let (_, sealer) = srtp::keyed(&keying, Side::Server).expect("keys");
    let mut packet = vec![0x80_u8; bytes + srtp::OVERHEAD_MAX];
    let mut fastest = Duration::MAX;
    let calls = 20_000_u64;
    for round in 0..ROUNDS as u64 {
        let start = Instant::now();
        for call in 0..calls {
            let seq = ExtSeq(round * calls + call);
            black_box(sealer.seal_rtp(12, bytes, seq, 1, &mut packet));
        }
        fastest = fastest.min(start.elapsed());
    }
    fastest.as_nanos() as f64 / calls as f64
}
