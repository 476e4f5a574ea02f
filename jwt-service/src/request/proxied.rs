//! What a homeserver passes on to its application service: who asks is for it to say.
//!
//! Pure. (MSC4195; LK: jwt-service §13)

use super::{LONG_ID, MAX_DELAY_ID, Text, is_long, required};
use crate::answer::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

const INCOMPLETE: Refusal =
    Refusal::BadJson("The request body is missing `url`, `room_id`, `slot_id` or `member_id`");
const NO_USER: Refusal = Refusal::BadJson("The request body is missing `user_id`");
const NO_DELAY: Refusal = Refusal::BadJson("The request body is missing `delay_id`");
/// What no homeserver has given out.
pub const UNKNOWN_DELAY: Refusal = Refusal::Param("Unknown `delay_id`");

/// A place in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The WebSocket URL of the SFU.
    pub url: String,
    /// The Matrix room.
    pub room_id: String,
    /// The slot in it.
    pub slot_id: String,
    /// The id of the membership.
    pub member_id: String,
}

/// A delayed leave that is to be taken over. Its id is a secret: who has it can send the event.
#[derive(Clone, PartialEq, Eq)]
pub struct Handed {
    /// Whose.
    pub place: Place,
    /// Names it at the homeserver.
    pub delay_id: String,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    url: Text,
    room_id: Text,
    slot_id: Text,
    member_id: Text,
    user_id: Text,
    server_name: Text,
    delay_id: Text,
}

impl Body {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|_| Refusal::NotJson)
    }

    fn place(&self) -> Result<Place, Refusal> {
        let text = |text: &Text| required(text.clone()).ok_or(INCOMPLETE);
        let place = Place {
            url: text(&self.url)?,
            room_id: text(&self.room_id)?,
            slot_id: text(&self.slot_id)?,
            member_id: text(&self.member_id)?,
        };
        let ids = [&place.room_id, &place.slot_id, &place.member_id];
        if ids.into_iter().any(|id| is_long(id)) {
            return Err(LONG_ID);
        }
        Ok(place)
    }
}

/// Reads a client's request for a token, and whose SFU it is for, if not that of its own homeserver.
///
/// # Errors
/// What is wrong with it.
pub fn token(body: &[u8]) -> Result<(Place, Option<String>), Refusal> {
    let body = Body::read(body)?;
    Ok((body.place()?, required(body.server_name)))
}

/// Reads another homeserver's request for a token, and for whom it is.
///
/// # Errors
/// What is wrong with it.
pub fn federated(body: &[u8]) -> Result<(Place, String), Refusal> {
    let body = Body::read(body)?;
    Ok((body.place()?, required(body.user_id).ok_or(NO_USER)?))
}

/// Reads a client's request to take its delayed leave over.
///
/// # Errors
/// What is wrong with it.
pub fn leave(body: &[u8]) -> Result<Handed, Refusal> {
    let body = Body::read(body)?;
    let place = body.place()?;
    let delay_id = required(body.delay_id).ok_or(NO_DELAY)?;
    if delay_id.len() > MAX_DELAY_ID {
        return Err(UNKNOWN_DELAY);
    }
    Ok(Handed { place, delay_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn complete() -> Value {
        json!({ "url": "wss://h", "room_id": "!r", "slot_id": "m.call#ROOM", "member_id": "m",
            "more": 1 })
    }

    fn with(name: &str, value: Value) -> Vec<u8> {
        let mut body = complete();
        body[name] = value;
        body.to_string().into_bytes()
    }

    #[test]
    fn a_request_names_a_place_and_for_whom_it_is() {
        let (place, other) = token(complete().to_string().as_bytes()).expect("read");
        assert_eq!((place.member_id.as_str(), other), ("m", None));
        let elsewhere = token(&with("server_name", json!("b.example"))).expect("read");
        assert_eq!(elsewhere.1.as_deref(), Some("b.example"));
        let (_, user) = federated(&with("user_id", json!("@a:b"))).expect("read");
        assert_eq!(user, "@a:b");
        assert_eq!(federated(complete().to_string().as_bytes()), Err(NO_USER));
        let handed = leave(&with("delay_id", json!("secret-id"))).expect("read");
        assert_eq!(handed.delay_id, "secret-id");
        assert!(!format!("{handed:?}").contains("secret-id"));
        assert_eq!(leave(complete().to_string().as_bytes()), Err(NO_DELAY));
        assert_eq!(
            leave(&with("delay_id", json!("x".repeat(256)))),
            Err(UNKNOWN_DELAY)
        );
    }

    #[test]
    fn what_is_missing_or_of_another_form_is_told() {
        for name in ["url", "room_id", "slot_id", "member_id"] {
            for value in [json!(""), Value::Null] {
                assert_eq!(token(&with(name, value)), Err(INCOMPLETE), "{name}");
            }
            assert_eq!(
                token(&with(name, json!(1))),
                Err(Refusal::NotJson),
                "{name}"
            );
        }
        assert_eq!(token(b""), Err(Refusal::NotJson));
    }

    #[test]
    fn an_id_is_no_longer_than_matrix_lets_it_be() {
        for name in ["room_id", "slot_id", "member_id"] {
            assert!(token(&with(name, json!("x".repeat(255)))).is_ok(), "{name}");
            let long = with(name, json!("x".repeat(256)));
            assert_eq!(token(&long), Err(LONG_ID), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_a_request_or_none(body in "\\PC{0,80}") {
            let _ = token(body.as_bytes());
            let _ = federated(body.as_bytes());
            let _ = leave(body.as_bytes());
        }
    }
}
