//! Two calls of LiveKit's RoomService, as the bytes that go over HTTP.
//!
//! Owns paths, messages and the form of an error. Decides nothing; others carry it.
//! (LK: jwt-service §6; Twirp: specification v7)

use livekit_protocol::{CreateRoomRequest, ParticipantInfo, RoomParticipantIdentity};
use prost::Message as _;
use serde::Deserialize;

/// What request and answer are made of. Errors are JSON all the same.
pub const CONTENT_TYPE: &str = "application/protobuf";

/// Where a room is made.
pub const CREATE_ROOM: &str = "/twirp/livekit.RoomService/CreateRoom";

/// Where a participant is asked for.
pub const GET_PARTICIPANT: &str = "/twirp/livekit.RoomService/GetParticipant";

/// Where one is taken out of a room; the body is that of [`participant`].
pub const REMOVE_PARTICIPANT: &str = "/twirp/livekit.RoomService/RemoveParticipant";

/// Twirp's word for what is not there.
pub const NOT_FOUND: &str = "not_found";

/// Makes the room `name`; both times in seconds.
#[must_use]
pub fn create_room(name: &str, empty_timeout: u32, departure_timeout: u32) -> Vec<u8> {
    CreateRoomRequest {
        name: name.to_owned(),
        empty_timeout,
        departure_timeout,
        ..CreateRoomRequest::default()
    }
    .encode_to_vec()
}

/// Asks for a participant.
#[must_use]
pub fn participant(room: &str, identity: &str) -> Vec<u8> {
    RoomParticipantIdentity {
        room: room.to_owned(),
        identity: identity.to_owned(),
        ..RoomParticipantIdentity::default()
    }
    .encode_to_vec()
}

/// The sid in the answer to [`participant`] about `identity`, empty if it says none; `None` if it is
/// no participant.
#[must_use]
pub fn participant_sid(answer: &[u8], identity: &str) -> Option<String> {
    let participant = ParticipantInfo::decode(answer).ok()?;
    let is_one = participant.identity == identity || !participant.sid.is_empty();
    is_one.then_some(participant.sid)
}

/// An error's code and text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// One of Twirp's words.
    pub code: String,
    /// For a person.
    #[serde(default)]
    pub msg: String,
}

/// Reads the body of an answer that is no success; `None` if no Twirp server wrote it.
#[must_use]
pub fn failure(answer: &[u8]) -> Option<Failure> {
    serde_json::from_slice(answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_room_is_asked_for_in_the_bytes_of_the_reference() {
        let alias = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";
        let mut bytes = vec![0x0a, 0x2b];
        bytes.extend(alias.as_bytes());
        bytes.extend([0x10, 0xac, 0x02, 0x50, 0x14]);
        assert_eq!(create_room(alias, 300, 20), bytes);
    }

    #[test]
    fn a_participant_is_asked_for_by_room_and_identity() {
        assert_eq!(participant("r", "id"), b"\x0a\x01r\x12\x02id");
        let sid = |answer: &[u8]| participant_sid(answer, "id");
        assert_eq!(sid(b"\x0a\x04PA_1"), Some("PA_1".into()));
        assert_eq!(sid(b"\x0a\x04PA_1\x12\x02id"), Some("PA_1".into()));
        assert_eq!(sid(b"\x12\x02id"), Some(String::new()));
        for none in [&b""[..], b"\x12\x02di", b"\x0a\xff", b"<html>"] {
            assert_eq!(sid(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_error_of_twirp_is_told_from_one_of_a_proxy() {
        let of_twirp = br#"{"code":"not_found","msg":"participant does not exist"}"#;
        assert_eq!(failure(of_twirp).expect("an error").code, NOT_FOUND);
        let more = br#"{"code":"internal","meta":{"cause":"x"}}"#;
        assert_eq!(failure(more).expect("an error").msg, "");
        for other in ["404 page not found", "{}", "", "null"] {
            assert_eq!(failure(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = participant_sid(&bytes, "id");
            let _ = failure(&bytes);
        }
    }
}
