//! LiveKit's messages: what is read can be written, and reads the same; what the server makes of it
//! is bounded.
#![allow(
    deprecated,
    reason = "clients still write the fields the protocol calls deprecated"
)]

use crate::input::Input;
use proto::data::{self, Stamp};
use proto::livekit::data_packet::{Kind, Value};
use proto::signal::{
    Encoding, Frame, MAX_JOIN_REQUEST_BYTES, decode_join_request, decode_request, decode_response,
    encode_join_request, encode_response, read_parameters,
};
use proto::token::{Keys, Secret};
use std::sync::LazyLock;
use std::time::Duration;

/// Frames of protobuf, as a request and as a response.
pub(crate) fn signal_protobuf(bytes: &[u8]) {
    let frame = Frame::Binary(bytes);
    if let Ok(response) = decode_response(&frame) {
        let Ok(Frame::Binary(again)) = encode_response(&response, Encoding::Protobuf) else {
            panic!("protobuf carries everything");
        };
        let second = decode_response(&Frame::Binary(&again)).expect("its own writing");
        // Not compared as values: a number may be none.
        let third = encode_response(&second, Encoding::Protobuf).map(|frame| frame.len());
        assert_eq!(third, Ok(again.len()));
        json_of_a_response_reads(&response);
    }
    if let Ok(request) = decode_request(&frame)
        && let Ok(text) = serde_json::to_string(&request)
    {
        decode_request(&Frame::Text(&text)).expect("its own writing");
    }
}

fn json_of_a_response_reads(response: &proto::livekit::SignalResponse) {
    if let Ok(Frame::Text(text)) = encode_response(response, Encoding::Json) {
        decode_response(&Frame::Text(&text)).expect("its own writing");
    }
}

/// Frames of JSON.
pub(crate) fn signal_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let frame = Frame::Text(text);
    if let Ok(request) = decode_request(&frame)
        && let Ok(again) = serde_json::to_string(&request)
    {
        let second = decode_request(&Frame::Text(&again)).expect("its own writing");
        assert_eq!(second, request);
    }
    if let Ok(response) = decode_response(&frame) {
        json_of_a_response_reads(&response);
        assert!(encode_response(&response, Encoding::Protobuf).is_ok());
    }
}

/// A data packet, stamped as the room does it.
pub(crate) fn data_packet(bytes: &[u8]) {
    let Ok(mut packet) = data::read(bytes) else {
        return;
    };
    let destinations = match &packet.value {
        Some(Value::User(user)) if packet.destination_identities.is_empty() => {
            user.destination_identities.clone()
        }
        _ => packet.destination_identities.clone(),
    };
    let stamp = Stamp {
        kind: Kind::Lossy,
        sid: "PA_stamped",
        identity: Some("alice"),
        user_sid: "PA_stamped",
    };
    if let Ok(stamped) = data::stamp(bytes, &stamp, &destinations) {
        // Destinations stand twice, stamps four times.
        assert!(stamped.len() <= 3 * bytes.len() + 256, "{}", stamped.len());
        let again = data::read(&stamped).expect("its own writing");
        assert_eq!(
            (again.kind(), again.participant_sid.as_str()),
            (Kind::Lossy, "PA_stamped")
        );
        assert_eq!(again.participant_identity, "alice");
        // A name of no bytes names nobody, and is not repeated.
        let mut named = destinations.clone();
        named.retain(|name| !name.is_empty());
        assert_eq!(again.destination_identities, named);
        if let (Some(Value::User(user)), Some(Value::User(sent))) = (&again.value, &packet.value) {
            assert_eq!(user.participant_identity, "alice");
            assert_eq!(user.payload, sent.payload);
        }
    }
    if let Some(Value::Metrics(batch)) = &mut packet.value {
        data::normalize(batch, 1_700_000_000_000);
    }
    let wrapped = data::read(&data::wrap(bytes, "alice")).expect("its own writing");
    let Some(Value::User(user)) = wrapped.value else {
        panic!("not a user packet");
    };
    assert_eq!(user.payload, bytes);
}

/// The join request in the URL: as text, as a wrapper, compressed and not.
pub(crate) fn join_request(bytes: &[u8]) {
    let Some((form, rest)) = bytes.split_first() else {
        return;
    };
    let text = match form % 4 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => base64(rest),
        form => base64(&wrapped(form == 2, rest)),
    };
    let Ok(request) = decode_join_request(&text) else {
        return;
    };
    let again = encode_join_request(&request);
    // Base64 takes a third more; the same message is never longer than the limit of the first.
    // A request of nothing but defaults takes no bytes, which counts as missing.
    if !again.is_empty() && again.len() <= MAX_JOIN_REQUEST_BYTES {
        let second = decode_join_request(&again).expect("its own writing");
        assert_eq!(encode_join_request(&second).len(), again.len());
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE.encode(bytes)
}

/// A `WrappedJoinRequest` around these bytes.
fn wrapped(gzip: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = if gzip {
        vec![0x08, 1, 0x12]
    } else {
        vec![0x12]
    };
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

/// The query parameters of `/rtc`: lines of `name=value`.
pub(crate) fn parameters(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let read = read_parameters(&pairs);
    let given = |name: &str| pairs.iter().find(|(known, _)| known == name);
    assert_eq!(
        read.publish.as_deref(),
        given("publish")
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    );
    assert!(!read.unreadable_attributes || read.request.participant_attributes.is_empty());
    assert!(read.request.reconnect || read.request.participant_sid.is_empty());
    let settings = read.request.connection_settings.as_ref();
    let all = given("auto_subscribe").is_none_or(|(_, value)| value == "1" || value == "true");
    assert_eq!(settings.map(|settings| settings.auto_subscribe), Some(all));
    let second = decode_join_request(&encode_join_request(&read.request));
    if let Ok(second) = second {
        assert_eq!(second, read.request);
    }
}

const SECRET: &str = "a secret of the fuzzer, long enough";
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    [("key".to_owned(), Secret::new(SECRET))]
        .into_iter()
        .collect()
});
static OTHERS: LazyLock<Keys> = LazyLock::new(|| {
    let secret = Secret::new("another secret of the fuzzer, as long");
    [("key".to_owned(), secret)].into_iter().collect()
});

/// A token: the whole text, or only its payload, rightly signed.
pub(crate) fn token(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let signed = input.flag();
    let now = u64::from(input.word()) << u32::from(input.byte() % 34);
    let text = String::from_utf8_lossy(input.rest()).into_owned();
    let token = if signed {
        KEYS.sign_text(|_| text).expect("a key")
    } else {
        text
    };
    assert!(OTHERS.verify(&token, now).is_err());
    match KEYS.verify(&token, now) {
        Ok(claims) => {
            let claims = claims.into_inner();
            let _ = (claims.permission(), claims.is_dependent());
            let again = KEYS
                .sign(&claims, Duration::from_secs(60), now)
                .expect("written");
            let second = KEYS.verify(&again, now).expect("just signed");
            assert_eq!(second.identity, claims.identity);
            assert_eq!(second.grant(), claims.grant());
            assert_eq!(second.attributes, claims.attributes);
        }
        Err(error) => assert!(error.to_string().len() < 100),
    }
}
