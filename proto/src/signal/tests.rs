use super::*;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use livekit_protocol as livekit;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{JoinRequest, WrappedJoinRequest};
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::best());
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

fn wrap(compression: Compression, join_request: Vec<u8>) -> String {
    URL_SAFE.encode(
        WrappedJoinRequest {
            compression: compression as i32,
            join_request,
        }
        .encode_to_vec(),
    )
}

fn request() -> JoinRequest {
    JoinRequest {
        metadata: "hello".into(),
        publisher_offer: Some(livekit::SessionDescription {
            r#type: "offer".into(),
            sdp: "v=0\r\n".repeat(100),
            id: 3,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn a_join_request_is_read_plain_and_compressed() {
    let plain = request().encode_to_vec();
    let texts = [
        wrap(Compression::None, plain.clone()),
        wrap(Compression::Gzip, gzip(&plain)),
    ];
    for text in texts {
        assert_eq!(decode_join_request(&text), Ok(request()));
        assert_eq!(
            decode_join_request(text.trim_end_matches('=')),
            Ok(request())
        );
    }
}

#[test]
fn each_fault_of_a_join_request_has_livekits_text() {
    let refused = |text: &str| decode_join_request(text).expect_err("refused").to_string();
    assert_eq!(refused(""), "join_request is required");
    assert_eq!(refused("%%%"), "cannot base64 decode wrapped join request");
    let rubbish = URL_SAFE_NO_PAD.encode([0xFF; 7]);
    assert_eq!(refused(&rubbish), "cannot unmarshal wrapped join request");
    let not_gzip = wrap(Compression::Gzip, request().encode_to_vec());
    assert_eq!(refused(&not_gzip), "gzip: invalid header");
    assert_eq!(
        refused(&wrap(Compression::Gzip, vec![0x1f])),
        "unexpected EOF"
    );
    let mut cut = gzip(&request().encode_to_vec());
    cut.truncate(cut.len() - 9);
    assert_eq!(
        refused(&wrap(Compression::Gzip, cut)),
        "cannot read decompressed join request"
    );
    let inner = wrap(Compression::None, vec![0xFF; 7]);
    assert_eq!(refused(&inner), "cannot unmarshal join request");
}

#[test]
fn a_join_request_over_a_mebibyte_is_refused_before_and_after_decompression() {
    let of = |bytes: usize| {
        let empty = JoinRequest {
            metadata: "m".repeat(1000),
            ..Default::default()
        };
        let overhead = empty.encoded_len() - 1000 + 2;
        JoinRequest {
            metadata: "m".repeat(bytes - overhead),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let most = of(MAX_JOIN_REQUEST_BYTES);
    assert!(most.len() <= MAX_JOIN_REQUEST_BYTES && most.len() > MAX_JOIN_REQUEST_BYTES - 4);
    assert!(decode_join_request(&wrap(Compression::None, most.clone())).is_ok());
    assert!(decode_join_request(&wrap(Compression::Gzip, gzip(&most))).is_ok());

    let more = of(MAX_JOIN_REQUEST_BYTES + 8);
    let too_large = Err(JoinRequestError::TooLarge);
    assert_eq!(
        decode_join_request(&wrap(Compression::None, more.clone())),
        too_large
    );
    assert_eq!(
        decode_join_request(&wrap(Compression::Gzip, gzip(&more))),
        too_large
    );
}

#[test]
fn a_small_text_that_unpacks_to_gigabytes_is_cut_short() {
    let bomb = gzip(&vec![0; 64 << 20]);
    let refused = decode_join_request(&wrap(Compression::Gzip, bomb));
    assert_eq!(refused, Err(JoinRequestError::TooLarge));
}

#[test]
fn a_json_request_is_read_whatever_else_it_contains() {
    let text = r#"{"addTrack":{"cid":"c","type":"VIDEO","width":640,"future":{"x":[1]}},"more":1}"#;
    let request = decode_request(&Frame::Text(text)).expect("request");
    let Some(Request::AddTrack(track)) = request.message else {
        panic!("not an AddTrack: {request:?}");
    };
    assert_eq!((track.cid.as_str(), track.width), ("c", 640));
    assert_eq!(track.r#type(), livekit::TrackType::Video);
    let ping = decode_request(&Frame::Text(r#"{"ping":"12"}"#)).expect("request");
    assert_eq!(ping.message, Some(Request::Ping(12)));
}

#[test]
fn an_unknown_request_is_an_empty_one() {
    // Field 1000, varint 1: a request of the future.
    let future = decode_request(&Frame::Binary(&[0xC0, 0x3E, 1])).expect("request");
    assert_eq!(future.message, None);
    let json = decode_request(&Frame::Text(r#"{"teleport":{}}"#)).expect("request");
    assert_eq!(json.message, None);
}

#[test]
fn a_frame_over_the_limit_is_refused() {
    let text = "x".repeat(MAX_FRAME_BYTES + 1);
    assert_eq!(
        decode_request(&Frame::Text(&text)),
        Err(FrameError::TooLarge)
    );
    let bytes = vec![0; MAX_FRAME_BYTES + 1];
    assert_eq!(
        decode_request(&Frame::Binary(&bytes)),
        Err(FrameError::TooLarge)
    );
    assert_eq!(
        decode_request(&Frame::Text("[]")),
        Err(FrameError::Malformed)
    );
    assert_eq!(
        decode_request(&Frame::Binary(&[0xFF])),
        Err(FrameError::Malformed)
    );
}

#[test]
fn a_response_is_written_in_both_encodings() {
    let response = SignalResponse {
        message: Some(Response::PongResp(livekit::Pong {
            last_ping_timestamp: 5,
            timestamp: 7,
        })),
    };
    let Ok(FrameBuf::Binary(bytes)) = encode_response(&response, Encoding::Protobuf) else {
        panic!("not binary");
    };
    assert_eq!(
        SignalResponse::decode(bytes.as_slice()),
        Ok(response.clone())
    );
    let Ok(FrameBuf::Text(text)) = encode_response(&response, Encoding::Json) else {
        panic!("not text");
    };
    assert_eq!(
        text,
        r#"{"pongResp":{"lastPingTimestamp":"5","timestamp":"7"}}"#
    );
}

#[test]
fn a_json_response_with_an_unknown_number_of_the_servers_own_is_an_error() {
    let response = SignalResponse {
        message: Some(Response::Leave(livekit::LeaveRequest {
            reason: 9999,
            ..Default::default()
        })),
    };
    assert_eq!(encode_response(&response, Encoding::Json), Err(Unwritable));
    assert!(encode_response(&response, Encoding::Protobuf).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_request(&Frame::Binary(&bytes));
        let _ = decode_request(&Frame::Text(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn any_text_is_a_join_request_or_an_error(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_join_request(&text);
        let _ = decode_join_request(&URL_SAFE.encode(&bytes));
        let _ = decode_join_request(&wrap(Compression::None, bytes.clone()));
        let mut packed = vec![0x1f, 0x8b, 8];
        packed.extend_from_slice(&bytes);
        let _ = decode_join_request(&wrap(Compression::Gzip, packed));
        let _ = decode_join_request(&wrap(Compression::Gzip, gzip(&bytes)));
    }

    #[test]
    fn a_written_request_is_read_back(id in any::<u32>(), sdp in ".*") {
        let request = SignalRequest {
            message: Some(Request::Offer(livekit::SessionDescription {
                r#type: "offer".into(), sdp, id, ..Default::default()
            })),
        };
        let bytes = request.encode_to_vec();
        prop_assert_eq!(decode_request(&Frame::Binary(&bytes)), Ok(request.clone()));
        let text = serde_json::to_string(&request).expect("json");
        prop_assert_eq!(decode_request(&Frame::Text(&text)), Ok(request));
    }
}
