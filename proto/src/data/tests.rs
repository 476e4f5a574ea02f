//! Packets restamped, compared with the generated reading of them.

#![allow(deprecated, reason = "clients still read the fields of user packets")]

use super::*;
use proptest::prelude::*;

fn hidden_or(identity: &'static str) -> Stamp<'static> {
    Stamp {
        kind: Kind::Lossy,
        sid: "PA_a",
        identity: Some(identity),
        user_sid: if identity.is_empty() { "" } else { "PA_a" },
    }
}

fn spoofed() -> DataPacket {
    DataPacket {
        kind: Kind::Reliable as i32,
        participant_identity: "eve".into(),
        destination_identities: vec!["bob".into()],
        sequence: 9,
        participant_sid: "PA_eve".into(),
        value: Some(Value::User(UserPacket {
            participant_sid: "PA_eve".into(),
            participant_identity: "eve".into(),
            payload: b"hello".to_vec(),
            destination_identities: vec!["carol".into()],
            topic: Some("t".into()),
            nonce: vec![1; 16],
            ..UserPacket::default()
        })),
    }
}

#[test]
fn a_sender_cannot_speak_for_another() {
    let stamped = stamp(&write(&spoofed()), &hidden_or("alice"), &["bob".to_owned()]);
    let packet = read(&stamped.expect("a packet")).expect("a packet");
    assert_eq!(packet.participant_identity, "alice");
    assert_eq!(packet.participant_sid, "PA_a");
    assert_eq!(packet.kind(), Kind::Lossy);
    assert_eq!(packet.sequence, 9);
    assert_eq!(packet.destination_identities, ["bob"]);
    let Some(Value::User(user)) = packet.value else {
        panic!("a user packet");
    };
    assert_eq!(user.participant_identity, "alice");
    assert_eq!(user.participant_sid, "PA_a");
    assert_eq!(user.destination_identities, ["bob"]);
    assert_eq!(user.payload, b"hello");
    assert_eq!(user.topic.as_deref(), Some("t"));
    assert_eq!(user.nonce, [1; 16]);
}

#[test]
fn a_hidden_sender_stays_anonymous() {
    let stamped = stamp(&write(&spoofed()), &hidden_or(""), &[]).expect("a packet");
    let packet = read(&stamped).expect("a packet");
    assert_eq!(packet.participant_identity, "");
    assert_eq!(
        packet.participant_sid, "PA_a",
        "receivers tell repetitions by it"
    );
    let Some(Value::User(user)) = packet.value else {
        panic!("a user packet");
    };
    assert_eq!(
        (user.participant_identity, user.participant_sid),
        Default::default()
    );
}

#[test]
fn what_this_version_does_not_know_passes_as_it_came() {
    let mut bytes = write(&DataPacket {
        participant_identity: "eve".into(),
        ..DataPacket::default()
    });
    // A value of a later version, a fixed number, and one more.
    let unknown = [
        &[0xA2, 0x06, 3][..],
        b"new",
        &[0xA5, 0x06, 1, 2, 3, 4],
        &[0xA8, 0x06, 5],
    ]
    .concat();
    bytes.extend_from_slice(&unknown);
    let stamped = stamp(&bytes, &hidden_or("alice"), &[]).expect("a packet");
    assert!(
        stamped
            .windows(unknown.len())
            .any(|window| window == unknown)
    );
    assert_eq!(
        read(&stamped).expect("a packet").participant_identity,
        "alice"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = stamp(&bytes, &hidden_or("alice"), &[]);
    }

    #[test]
    fn every_packet_read_can_be_stamped_and_read_again(
        payload in proptest::collection::vec(any::<u8>(), 0..300), sequence: u32, identity in "[a-z]{0,8}"
    ) {
        let packet = DataPacket {
            sequence,
            participant_identity: identity,
            value: Some(Value::User(UserPacket { payload: payload.clone(), ..UserPacket::default() })),
            ..DataPacket::default()
        };
        let stamped = stamp(&write(&packet), &hidden_or("alice"), &[]).expect("a packet");
        let read = read(&stamped).expect("a packet");
        prop_assert_eq!(read.sequence, sequence);
        prop_assert_eq!(read.participant_identity.as_str(), "alice");
        let Some(Value::User(user)) = read.value else { panic!("a user packet") };
        prop_assert_eq!(user.payload, payload);
    }
}

#[test]
fn times_of_metrics_are_told_by_the_servers_clock() {
    let mut batch = MetricsBatch {
        timestamp_ms: 5_000,
        time_series: vec![livekit_protocol::TimeSeriesMetric {
            samples: vec![MetricSample {
                timestamp_ms: 4_250,
                ..MetricSample::default()
            }],
            ..Default::default()
        }],
        ..MetricsBatch::default()
    };
    normalize(&mut batch, 1_700_000_000_000);
    let time = batch.time_series[0].samples[0].normalized_timestamp;
    let time = time.expect("told");
    assert_eq!((time.seconds, time.nanos), (1_699_999_999, 250_000_000));
}

#[test]
fn a_packet_of_many_user_parts_is_none_for_each_would_be_given_all_destinations() {
    let stamp_of = |parts: usize| {
        let bytes = [0x12, 0].repeat(parts);
        let destinations = vec!["x".repeat(1000); 30];
        let stamped = Stamp {
            kind: Kind::Reliable,
            sid: "PA_1",
            identity: Some("alice"),
            user_sid: "PA_1",
        };
        stamp(&bytes, &stamped, &destinations)
    };
    assert!(stamp_of(1).is_ok());
    assert_eq!(stamp_of(2), Err(NoPacket));
}
