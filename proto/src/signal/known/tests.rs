use super::*;
use crate::signal::{Encoding, Frame, Unwritable, decode_response, encode_response};
use livekit_protocol as livekit;
use livekit_protocol::{ParticipantPermission, RequestResponse, SignalResponse};
use proptest::prelude::*;

/// A number nobody has named yet.
const FUTURE: i32 = 9999;

/// A participant with names in its words and `next()` in each of its enum fields.
fn participant_of(mut next: impl FnMut() -> i32) -> ParticipantInfo {
    let next = &mut next;
    ParticipantInfo {
        sid: "PA_1".into(),
        identity: "alice".into(),
        state: next(),
        kind: next(),
        disconnect_reason: next(),
        kind_details: vec![next(), next()],
        capabilities: vec![next(), next()],
        permission: Some(ParticipantPermission {
            can_publish: true,
            can_publish_sources: vec![next(), next()],
            ..Default::default()
        }),
        tracks: vec![track_of(next)],
        data_tracks: vec![data_track_of(next)],
        ..Default::default()
    }
}

#[expect(
    deprecated,
    reason = "clients still send and read the layers of a track"
)]
fn track_of(next: &mut impl FnMut() -> i32) -> TrackInfo {
    let layer = |quality| VideoLayer {
        quality,
        width: 640,
        ..Default::default()
    };
    TrackInfo {
        sid: "TR_1".into(),
        r#type: next(),
        source: next(),
        encryption: next(),
        backup_codec_policy: next(),
        audio_features: vec![next(), next()],
        packet_trailer_features: vec![next(), next()],
        layers: vec![layer(next()), layer(next())],
        codecs: vec![SimulcastCodecInfo {
            mime_type: "video/VP8".into(),
            video_layer_mode: next(),
            layers: vec![layer(next())],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn data_track_of(next: &mut impl FnMut() -> i32) -> DataTrackInfo {
    DataTrackInfo {
        sid: "DTR_1".into(),
        encryption: next(),
        frame_encoding: Some(livekit::DataTrackFrameEncoding {
            value: Some(Frames::WellKnown(next())),
        }),
        schema: Some(livekit::DataTrackSchemaId {
            name: "point".into(),
            encoding: Some(livekit::DataTrackSchemaEncoding {
                value: Some(Schema::WellKnown(next())),
            }),
        }),
        ..Default::default()
    }
}

/// Each message that passes on what a client said, with `next()` wherever a client has a say.
fn messages_of(mut next: impl FnMut() -> i32) -> Vec<Message> {
    let next = &mut next;
    let echoed = livekit::AddTrackRequest {
        r#type: next(),
        source: next(),
        ..Default::default()
    };
    vec![
        Message::Join(livekit::JoinResponse {
            participant: Some(participant_of(&mut *next)),
            other_participants: vec![participant_of(&mut *next), participant_of(&mut *next)],
            ..Default::default()
        }),
        Message::Update(livekit::ParticipantUpdate {
            participants: vec![participant_of(&mut *next), participant_of(&mut *next)],
        }),
        Message::RoomMoved(livekit::RoomMovedResponse {
            participant: Some(participant_of(&mut *next)),
            other_participants: vec![participant_of(&mut *next)],
            ..Default::default()
        }),
        Message::TrackPublished(livekit::TrackPublishedResponse {
            cid: "cid".into(),
            track: Some(track_of(next)),
        }),
        Message::RequestResponse(RequestResponse {
            request_id: 7,
            reason: next(),
            request: Some(request_response::Request::AddTrack(echoed)),
            ..Default::default()
        }),
    ]
}

/// The text a JSON client receives.
fn json(message: Message) -> Result<String, Unwritable> {
    let response = SignalResponse {
        message: Some(message),
    };
    match encode_response(&response, Encoding::Json)? {
        Frame::Text(text) => Ok(text),
        Frame::Binary(_) => panic!("not text"),
    }
}

/// The message a JSON client understands.
fn received(message: Message) -> Message {
    let text = json(message).expect("written");
    let response = decode_response(&Frame::Text(&text)).expect("read");
    response.message.expect("not an empty message")
}

#[test]
fn a_join_with_unknown_numbers_in_every_field_arrives_without_them() {
    let plain = ParticipantInfo {
        kind_details: Vec::new(),
        capabilities: Vec::new(),
        permission: Some(ParticipantPermission {
            can_publish: true,
            can_publish_sources: vec![TrackSource::Unknown.into()],
            ..Default::default()
        }),
        tracks: vec![TrackInfo {
            audio_features: Vec::new(),
            packet_trailer_features: Vec::new(),
            ..track_of(&mut || 0)
        }],
        ..participant_of(|| 0)
    };
    let join = Message::Join(livekit::JoinResponse {
        participant: Some(participant_of(|| FUTURE)),
        other_participants: vec![participant_of(|| -1)],
        server_version: "1.2.3".into(),
        ..Default::default()
    });
    let expected = Message::Join(livekit::JoinResponse {
        participant: Some(plain.clone()),
        other_participants: vec![plain],
        server_version: "1.2.3".into(),
        ..Default::default()
    });
    assert_eq!(received(join), expected);
}

#[test]
fn each_single_unknown_number_is_survived() {
    let mut fields = 0;
    for message in messages_of(|| {
        fields += 1;
        0
    }) {
        assert!(json(message).is_ok());
    }
    assert!(fields > 100, "not every field is filled");
    for chosen in 0..fields {
        let mut at = 0;
        for message in messages_of(|| {
            at += 1;
            if at == chosen + 1 { FUTURE } else { 0 }
        }) {
            received(message);
        }
    }
}

#[test]
fn known_numbers_stay_beside_unknown_ones() {
    let alice = ParticipantInfo {
        state: participant_info::State::Active.into(),
        kind: participant_info::Kind::Agent.into(),
        capabilities: vec![FUTURE, client_info::Capability::CapPacketTrailer.into()],
        ..Default::default()
    };
    let update = |alice| {
        Message::Update(livekit::ParticipantUpdate {
            participants: vec![alice],
        })
    };
    let expected = ParticipantInfo {
        capabilities: vec![client_info::Capability::CapPacketTrailer.into()],
        ..alice.clone()
    };
    assert_eq!(received(update(alice)), update(expected));
}

#[test]
fn a_permission_limited_to_unknown_sources_does_not_become_one_for_all() {
    let mut numbers = vec![FUTURE];
    sources(&mut numbers);
    assert_eq!(numbers, [i32::from(TrackSource::Unknown)]);
    let mut all = Vec::new();
    sources(&mut all);
    assert!(all.is_empty());
}

#[test]
fn an_echoed_request_is_dropped_only_if_it_cannot_be_written() {
    let response = |source, request: bool| {
        let echoed = livekit::AddTrackRequest {
            source,
            ..Default::default()
        };
        Message::RequestResponse(RequestResponse {
            request_id: 7,
            reason: request_response::Reason::NotAllowed.into(),
            request: request.then_some(request_response::Request::AddTrack(echoed)),
            ..Default::default()
        })
    };
    assert_eq!(received(response(1, true)), response(1, true));
    assert_eq!(received(response(FUTURE, true)), response(FUTURE, false));
}

#[test]
fn protobuf_carries_unknown_numbers() {
    for message in messages_of(|| FUTURE) {
        let response = SignalResponse {
            message: Some(message),
        };
        let Ok(Frame::Binary(bytes)) = encode_response(&response, Encoding::Protobuf) else {
            panic!("not binary");
        };
        assert_eq!(decode_response(&Frame::Binary(&bytes)), Ok(response));
    }
}

proptest! {
    #[test]
    fn no_number_in_these_fields_blanks_a_message(
        numbers in proptest::collection::vec(prop_oneof![any::<i32>(), -1..12], 1..80),
    ) {
        let mut numbers = numbers.iter().copied().cycle();
        for message in messages_of(|| numbers.next().unwrap_or_default()) {
            let kind = std::mem::discriminant(&message);
            let arrived = received(message);
            prop_assert_eq!(std::mem::discriminant(&arrived), kind);
            if let Message::Join(join) = arrived {
                prop_assert_eq!(join.participant.map(|info| info.identity), Some("alice".into()));
                prop_assert_eq!(join.other_participants.len(), 2);
                prop_assert!(join.other_participants.iter().all(|info| info.tracks.len() == 1));
            }
        }
    }
}
