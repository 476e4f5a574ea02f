//! Simulcast, dynacast, mute and loudness of a whole track.

use super::*;
use crate::ids::PeerId;
use crate::media::ingest::formats::Formats;
use crate::media::ingest::key_frames::THROTTLE;
use crate::media::packet::Head;
use crate::rtp::extension::AudioLevel;
use crate::rtp::header::FixedHeader;
use proptest::prelude::*;
use std::time::Duration;

fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    Instant::now()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const KEY: &[u8] = &[
    0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01, 9,
];
const DELTA: &[u8] = &[0x10, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn track(codec: Codec, layers: u8) -> Track {
    let peer = PeerId {
        worker: 0,
        slot: 1,
        generation: 0,
    };
    let mut track = Track::new(TrackSetup {
        key: TrackKey { peer, index: 0 },
        codec,
        screen_share: false,
        encrypted: false,
        trailers: false,
        muted: false,
        level: LevelConfig::default(),
    });
    for spatial in 0..layers {
        assert!(track.add_layer(UpstreamSetup {
            ssrc: 100 + u32::from(spatial),
            codec,
            formats: Formats::new(codec, &[(96, codec)], &[(97, 96)]),
            encrypted: false,
            trailers: false,
            spatial,
            only_layer: false,
            screen_share: false,
            nack: true,
            key_frame_throttle: THROTTLE[usize::from(spatial)],
        }));
    }
    track
}

/// Sends one packet of each layer in `layers` every 20 ms until `end`.
struct Camera {
    track: Track,
    now: Instant,
    sequence: u16,
}

impl Camera {
    fn new(layers: u8) -> Self {
        Self {
            track: track(Codec::Vp8, layers),
            now: instant(),
            sequence: 0,
        }
    }

    fn send(&mut self, spatial: u8, payload: &[u8]) {
        let fixed = FixedHeader {
            marker: true,
            payload_type: 96,
            sequence: self.sequence,
            timestamp: u32::from(self.sequence) * 1800,
            ssrc: 100 + u32::from(spatial),
        };
        let header = Header::parse(&fixed.to_bytes()).expect("own header");
        let none = Extensions::default();
        self.track
            .handle_packet(spatial, &header, &none, payload, self.now);
    }

    fn run(&mut self, span: Duration, layers: &[u8]) {
        let end = self.now + span;
        while self.now < end {
            self.sequence = self.sequence.wrapping_add(1);
            for spatial in layers {
                self.send(*spatial, DELTA);
            }
            self.now += ms(20);
            self.track.handle_timeout(self.now);
            self.track.clear_batch();
        }
    }
}

#[test]
fn layers_start_with_their_first_packet_and_stop_in_silence() {
    let mut camera = Camera::new(3);
    assert_eq!(camera.track.highest_alive(), None);
    camera.run(ms(20), &[0, 1, 2]);
    assert_eq!(camera.track.highest_alive(), Some(2));
    assert!(camera.track.poll_layers_changed());
    assert!(!camera.track.poll_layers_changed());
    camera.run(ms(2000), &[0, 1]);
    assert_eq!(camera.track.highest_alive(), Some(1));
    assert!(camera.track.poll_layers_changed());
    // Coming back by itself takes ten seconds.
    camera.run(ms(9000), &[0, 1, 2]);
    assert!(!camera.track.alive(2));
    camera.run(ms(2000), &[0, 1, 2]);
    assert!(camera.track.alive(2));
    assert!(!camera.track.alive(3));
}

#[test]
fn a_layer_dynacast_wants_again_starts_at_once_and_asks_for_a_key_frame() {
    let mut camera = Camera::new(3);
    camera.run(ms(1000), &[0, 1, 2]);
    camera.send(2, KEY);
    camera.track.expect_layers(Some(1), camera.now);
    assert_eq!(camera.track.highest_alive(), Some(1));
    camera.run(ms(5000), &[0, 1]);
    camera.track.expect_layers(Some(2), camera.now);
    assert!(!camera.track.alive(2));
    camera.run(ms(20), &[0, 1, 2]);
    assert!(camera.track.alive(2));
    let now = camera.now;
    let upstream = camera.track.layer_mut(2).expect("layer");
    assert!(upstream.poll_key_frame_request(now));
}

#[test]
fn the_batch_holds_what_came_and_finds_payloads_in_the_layers() {
    let mut camera = Camera::new(2);
    camera.sequence = 9;
    camera.send(0, KEY);
    camera.send(1, DELTA);
    let (batch, layers) = camera.track.batch_and_layers();
    assert_eq!(batch.len(), 2);
    for (packet, expected) in batch.iter().zip([(0, true, KEY), (1, false, DELTA)]) {
        let layer = layers[usize::from(packet.spatial)].as_mut().expect("layer");
        let payload = layer
            .framed(packet, &Head::EMPTY, (0, false))
            .expect("kept");
        assert_eq!((packet.spatial, packet.key_frame, payload), expected);
    }
    camera.track.clear_batch();
    for sequence in 10..10 + BATCH_LIMIT as u16 + 7 {
        camera.sequence = sequence;
        camera.send(0, DELTA);
    }
    assert_eq!(camera.track.batch().len(), BATCH_LIMIT);
    assert_eq!(camera.track.take_useless().limit, 7);
}

#[test]
fn a_muted_track_forwards_nothing_and_revives_with_its_first_packet() {
    let mut camera = Camera::new(1);
    camera.run(ms(1000), &[0]);
    camera.track.set_muted(true);
    camera.sequence += 1;
    camera.send(0, DELTA);
    assert!(camera.track.batch().is_empty());
    camera.run(ms(30_000), &[]);
    assert!(camera.track.alive(0), "mute is not silence");
    camera.track.set_muted(false);
    camera.sequence += 1;
    camera.send(0, DELTA);
    assert_eq!(camera.track.batch().len(), 1);
    assert!(camera.track.alive(0));
}

#[test]
fn a_missing_layer_counts_by_the_time_it_was_missing() {
    let mut camera = Camera::new(3);
    camera.run(ms(1000), &[0, 1, 2]);
    camera.track.take_window(camera.now);
    camera.run(ms(4000), &[0, 1]);
    let window = camera.track.take_window(camera.now);
    // The tracker notices after half a second or a little more.
    assert!((0.7..0.95).contains(&window.missing_layers), "{window:?}");
    assert_eq!(window.reception.lost, 0);
    assert_eq!(window.reception.expected, 400);
    // Not sending what was not asked for is no fault.
    camera.track.expect_layers(Some(1), camera.now);
    camera.run(ms(4000), &[0, 1]);
    let window = camera.track.take_window(camera.now);
    assert!(window.missing_layers < 0.01, "{window:?}");
}

#[test]
fn a_window_with_a_mute_or_a_pause_in_it_is_not_whole() {
    let mut camera = Camera::new(3);
    camera.run(ms(1000), &[0, 1, 2]);
    let mut whole = |change: fn(&mut Track, Instant)| {
        change(&mut camera.track, camera.now);
        camera.track.take_window(camera.now).whole
    };
    assert!(whole(|_, _| {}));
    assert!(!whole(|track, _| track.set_muted(true)));
    assert!(!whole(|track, _| track.set_muted(false)));
    assert!(whole(|_, _| {}));
    assert!(!whole(|track, now| track.expect_layers(None, now)));
    assert!(!whole(|track, now| track.expect_layers(Some(2), now)));
    assert!(whole(|track, now| track.expect_layers(Some(0), now)));
}

#[test]
fn loudness_comes_from_the_header_extension() {
    let mut track = track(Codec::Opus, 1);
    let mut now = instant();
    let mut told = Vec::new();
    for sequence in 0..50u16 {
        let fixed = FixedHeader {
            marker: false,
            payload_type: 96,
            sequence,
            timestamp: u32::from(sequence) * 960,
            ssrc: 100,
        };
        let header = Header::parse(&fixed.to_bytes()).expect("own header");
        let extensions = Extensions {
            audio_level: Some(AudioLevel {
                voice: false,
                level: 5,
            }),
            ..Extensions::default()
        };
        track.handle_packet(0, &header, &extensions, &[1], now);
        track.clear_batch();
        told.extend(track.poll_level());
        now += ms(20);
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].active && told[1].eighths > told[0].eighths);
    let due = track.poll_timeout().expect("staleness");
    track.handle_timeout(due);
    assert_eq!(track.poll_level(), Some(Loudness::default()));
    assert!(track.alive(0), "audio without packets is not dead");
}

#[test]
fn a_packet_for_a_layer_that_is_not_there_is_dropped() {
    let mut camera = Camera::new(1);
    camera.send(1, KEY);
    camera.send(9, KEY);
    assert!(camera.track.batch().is_empty());
}

proptest! {
    #[test]
    fn any_packets_keep_a_track_whole(
        packets in proptest::collection::vec(
            (0u8..5, any::<u16>(), proptest::collection::vec(any::<u8>(), 0..100), 0u8..8),
            0..200,
        ),
    ) {
        let mut camera = Camera::new(3);
        for (spatial, sequence, payload, act) in packets {
            camera.sequence = sequence;
            camera.send(spatial, &payload);
            camera.now += ms(100);
            match act {
                0 => camera.track.set_muted(true),
                1 => camera.track.set_muted(false),
                2 => camera.track.expect_layers(None, camera.now),
                3 => camera.track.expect_layers(Some(2), camera.now),
                4 => camera.track.clear_batch(),
                _ => camera.track.handle_timeout(camera.now),
            }
            let window = camera.track.take_window(camera.now);
            prop_assert!((0.0..=3.0).contains(&window.missing_layers));
            prop_assert!(camera.track.batch().len() <= BATCH_LIMIT);
        }
    }
}
