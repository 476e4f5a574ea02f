//! What a forwarded packet costs in memory, without sockets: `cargo bench -p sfu --bench forward`.
//!
//! A publisher and N subscribers shake hands with a real plane; then packets are pushed through it.
//! Printed: the whole path for N subscribers, ingest alone (no subscriber), their difference per
//! subscriber, the bare seal of the same bytes in the same run, what is above the seal in
//! nanoseconds and as a ratio, and heap allocations. The plane seals with AES-256-GCM, which is
//! what DTLS negotiates; the seal of AES-128-GCM is there to compare.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

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
/// Batches in one round; their median counts, so that a batch during which another process ran
/// does not.
const BATCHES: usize = 250;
/// Rounds; the fastest counts, the others were disturbed.
const ROUNDS: usize = 15;
/// Seals timed together: about as long as a batch for one subscriber.
const SEALS: u64 = 50;

fn main() {
    println!(
        "host: {} cores; median batch of the fastest of {ROUNDS} rounds of {} packets",
        std::thread::available_parallelism().map_or(0, usize::from),
        BATCH * BATCHES
    );
    println!(
        "{:>5} {:>4} {:>9} {:>10} {:>11} {:>9} {:>9} {:>8} {:>8} {:>8} {:>11}",
        "bytes",
        "N",
        "total ns",
        "ingest ns",
        "forward ns",
        "seal-128",
        "seal-256",
        "over-256",
        "/ 128",
        "/ 256",
        "allocations"
    );
    for bytes in [1200, 100] {
        let kind = if bytes < 500 {
            Kind::Audio
        } else {
            Kind::Video
        };
        let seal128 = bare_seal(Profile::Aes128Gcm, bytes);
        let seal256 = bare_seal(Profile::Aes256Gcm, bytes);
        let (ingest, _) = per_packet(kind, 0, bytes);
        for subscribers in [10, 50, 200] {
            let (total, allocations) = per_packet(kind, subscribers, bytes);
            let forward = (total - ingest) / subscribers as f64;
            println!(
                "{bytes:>5} {subscribers:>4} {total:>9.0} {ingest:>10.0} {forward:>11.1} {seal128:>9.1} {seal256:>9.1} {:>8.1} {:>8.2} {:>8.2} {allocations:>11}",
                forward - seal256,
                forward / seal128,
                forward / seal256,
            );
        }
    }
}

/// The median, in nanoseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64
}

/// Nanoseconds for one packet in and N packets out, and allocations in all of the rounds but the
/// first.
fn per_packet(kind: Kind, subscribers: usize, bytes: usize) -> (f64, u64) {
    let mut world = World::new(kind, subscribers);
    let mut fastest = f64::MAX;
    let mut allocated = 0;
    for round in 0..=ROUNDS {
        let batches: Vec<Vec<Vec<u8>>> = (0..BATCHES)
            .map(|_| world.sealed_batch(BATCH, bytes))
            .collect();
        let mut times = Vec::with_capacity(BATCHES);
        for mut batch in batches {
            let mut sent = 0;
            let start = Instant::now();
            let counted = allocation_counter::measure(|| sent = world.push(&mut batch));
            times.push(start.elapsed());
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
            fastest = fastest.min(median(&mut times));
        }
    }
    (fastest / BATCH as f64, allocated)
}

/// The floor: sealing `bytes` in place, nothing else.
fn bare_seal(profile: Profile, bytes: usize) -> f64 {
    let material: Vec<u8> = (0..2 * (profile.key_len() + profile.salt_len()))
        .map(|byte| byte as u8)
        .collect();
    let keying = Keying::new(profile, &material).expect("keying material");
    let (_, sealer) = srtp::keyed(&keying, Side::Server).expect("keys");
    let mut packet = vec![0x80_u8; bytes + srtp::OVERHEAD_MAX];
    let mut fastest = f64::MAX;
    let mut next = 0;
    for _ in 0..ROUNDS {
        let mut times = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            let start = Instant::now();
            for _ in 0..SEALS {
                next += 1;
                black_box(sealer.seal_rtp(12, bytes, ExtSeq(next), 1, &mut packet));
            }
            times.push(start.elapsed());
        }
        fastest = fastest.min(median(&mut times));
    }
    fastest / SEALS as f64
}
