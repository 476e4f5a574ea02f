//! What passes between a homeserver and its application service: paths, questions and answers.
//!
//! Room and user ids come from the network and become pieces of paths here: they are encoded. Pure.
//! (Matrix: application service API; MSC4140, MSC4502, MSC4512)

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Where other homeservers ask for tokens, and where we ask them. (MSC4195)
pub const FEDERATION_TOKEN: &str =
    "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token";
/// Where a homeserver takes what is meant for another. (MSC4512)
pub const FEDERATION_PROXY: &str =
    "/_matrix/client/unstable/io.element.msc4512/appservice/fed_proxy";
/// Longest room, user or server name there can be. (Matrix: appendices)
pub const MAX_ID_BYTES: usize = 255;

/// Of whom it is asked whether he is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A user.
    User(&'a str),
    /// A homeserver: has it anybody there?
    Server(&'a str),
}

/// Somebody's membership of a room has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The room.
    pub room: String,
    /// Whose.
    pub user: String,
    /// What it is now.
    pub membership: Membership,
}

/// What a membership can become, as far as calls care. (Matrix: m.room.member)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// `join`.
    Joined,
    /// `leave`, by himself or by others.
    Left,
    /// `ban`.
    Banned,
}

/// A delayed event at its homeserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delayed {
    /// The room it is for.
    pub room: Option<String>,
    /// It fires so long after it was last restarted.
    pub delay: Duration,
}

/// A text as one piece of a path or query. (RFC 3986 §2.3)
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The path that asks whether `subject` is in a room; `None` for what cannot be a room.
#[must_use]
pub fn joined_path(room: &str, subject: Subject<'_>) -> Option<String> {
    if !room.starts_with('!') || room.len() > MAX_ID_BYTES {
        return None;
    }
    let (name, text) = match subject {
        Subject::User(user) => ("mxid", user),
        Subject::Server(server) => ("server_name", server),
    };
    let (room, text) = (encoded(room), encoded(text));
    let rooms = "/_matrix/client/unstable/io.element.msc4502/rooms";
    Some(format!("{rooms}/{room}/is_joined?{name}={text}"))
}

/// The answer to that.
#[must_use]
pub fn joined(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Joined {
        joined: bool,
    }
    let answer: Joined = serde_json::from_slice(body).ok()?;
    Some(answer.joined)
}

/// Is this an error that names a parameter: the id of the room or of the user is none?
#[must_use]
pub fn is_invalid_param(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Error {
        errcode: String,
    }
    let error: Option<Error> = serde_json::from_slice(body).ok();
    error.is_some_and(|error| error.errcode == "M_INVALID_PARAM")
}

/// The path that asks for a delayed event of `owner`; `None` if the id cannot be part of a path.
#[must_use]
pub fn delayed_path(delay_id: &str, owner: &str) -> Option<String> {
    if matches!(delay_id, "" | "." | "..") {
        return None;
    }
    let events = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";
    let (delay_id, owner) = (encoded(delay_id), encoded(owner));
    Some(format!("{events}/{delay_id}?user_id={owner}"))
}

/// The answer to that, with the names of before and after July 2026.
#[must_use]
pub fn delayed(body: &[u8]) -> Option<Delayed> {
    #[derive(Deserialize)]
    struct Event {
        room_id: Option<String>,
        delay_ms: Option<u64>,
        delay: Option<u64>,
    }
    let event: Event = serde_json::from_slice(body).ok()?;
    let delay = event.delay_ms.or(event.delay).filter(|ms| *ms > 0)?;
    Some(Delayed {
        room: event.room_id,
        delay: Duration::from_millis(delay),
    })
}

/// The changes of membership among the events of a transaction, in their order. Events of another form
/// are for others; `None` if it is no transaction.
#[must_use]
pub fn changes(body: &[u8]) -> Option<Vec<Change>> {
    #[derive(Deserialize)]
    struct Transaction {
        #[serde(default)]
        events: Vec<Either>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Member(Member),
        Other(IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Member {
        r#type: String,
        state_key: String,
        room_id: String,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let transaction: Transaction = serde_json::from_slice(body).ok()?;
    let change = |event| {
        let Either::Member(member) = event else {
            return None;
        };
        let membership = match member.content.membership.as_str() {
            "join" => Membership::Joined,
            "leave" => Membership::Left,
            "ban" => Membership::Banned,
            _ => return None,
        };
        (member.r#type == "m.room.member").then_some(Change {
            room: member.room_id,
            user: member.state_key,
            membership,
        })
    };
    Some(transaction.events.into_iter().filter_map(change).collect())
}

/// What a homeserver is to ask another for us: a `POST` of `body`.
#[must_use]
pub fn for_another(destination: &str, path: &str, body: &Value) -> String {
    let asked = json!({ "destination": destination, "method": "POST", "path": path, "body": body });
    asked.to_string()
}

/// Status and token, or error code, that the other answered.
#[must_use]
pub fn from_another(body: &[u8]) -> Option<(u16, Result<String, String>)> {
    #[derive(Deserialize)]
    struct Answer {
        status: u16,
        content: Option<Content>,
    }
    #[derive(Deserialize)]
    struct Content {
        jwt: Option<String>,
        errcode: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let content = answer.content?;
    let told = match content.jwt {
        Some(jwt) if answer.status == 200 => Ok(jwt),
        _ => Err(content.errcode.unwrap_or_default()),
    };
    Some((answer.status, told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_stay_one_piece_of_a_path() {
        let path = joined_path("!r/../x:h?y#z", Subject::User("@a&b=c:h")).expect("a path");
        let rooms = "/_matrix/client/unstable/io.element.msc4502/rooms";
        let expected = "%21r%2F..%2Fx%3Ah%3Fy%23z/is_joined?mxid=%40a%26b%3Dc%3Ah";
        assert_eq!(path, format!("{rooms}/{expected}"));
        let server = joined_path("!r", Subject::Server("h:8448")).expect("a path");
        assert!(server.ends_with("/%21r/is_joined?server_name=h%3A8448"));
        for room in ["", ".", "..", "#alias:h", &format!("!{}", "x".repeat(255))] {
            assert_eq!(joined_path(room, Subject::User("@a:h")), None, "{room}");
        }
        assert_eq!(encoded("ä ~"), "%C3%A4%20~");
        assert_eq!(delayed_path("..", "@a:h"), None);
        let path = delayed_path("syd_1/x", "@a:h").expect("a path");
        assert!(path.ends_with("/delayed_events/syd_1%2Fx?user_id=%40a%3Ah"));
    }

    #[test]
    fn answers_are_read_and_nothing_else_will_do() {
        assert_eq!(joined(br#"{"joined":true}"#), Some(true));
        assert_eq!(joined(br#"{"joined":false,"more":1}"#), Some(false));
        for bad in ["", "{}", r#"{"joined":"true"}"#, "[]"] {
            assert_eq!(joined(bad.as_bytes()), None, "{bad}");
        }
        let newer = br#"{"delay_id":"x","room_id":"!r","delay_ms":8000}"#;
        let event = delayed(newer).expect("an event");
        assert_eq!(event.delay, Duration::from_secs(8));
        assert_eq!(event.room.as_deref(), Some("!r"));
        let older = delayed(br#"{"delay":500}"#).map(|event| event.delay);
        assert_eq!(older, Some(Duration::from_millis(500)));
        assert_eq!(delayed(br#"{"delay_ms":0}"#), None);
    }

    #[test]
    fn changes_of_membership_are_found_among_all_that_happens() {
        let body = json!({ "events": [
            { "type": "m.room.message", "room_id": "!r", "content": { "body": "x" } },
            { "type": "m.room.member", "room_id": "!r", "state_key": "@a:h",
              "content": { "membership": "ban" }, "sender": "@admin:h" },
            { "type": "m.room.member", "room_id": "!r", "state_key": "@b:h",
              "content": { "membership": "invite" } },
            { "type": "m.room.member", "room_id": "!r", "state_key": 1,
              "content": { "membership": "leave" } },
            { "type": "other", "room_id": "!r", "state_key": "@a:h",
              "content": { "membership": "leave" } },
            { "type": "m.room.member", "room_id": "!s", "state_key": "@a:h",
              "content": { "membership": "leave" } },
            { "type": "m.room.member", "room_id": "!s", "state_key": "@a:h",
              "content": { "membership": "join" } },
            null,
        ]});
        let found = changes(body.to_string().as_bytes()).expect("a transaction");
        let found: Vec<(&str, &str, Membership)> = found
            .iter()
            .map(|change| {
                (
                    change.room.as_str(),
                    change.user.as_str(),
                    change.membership,
                )
            })
            .collect();
        let expected = [
            ("!r", "@a:h", Membership::Banned),
            ("!s", "@a:h", Membership::Left),
            ("!s", "@a:h", Membership::Joined),
        ];
        assert_eq!(found, expected);
        assert_eq!(changes(b"{}"), Some(Vec::new()));
        assert_eq!(changes(b"1"), None);
    }

    #[test]
    fn what_another_homeserver_answers_is_a_token_or_its_refusal() {
        let told = from_another(br#"{"status":200,"content":{"jwt":"x.y.z"}}"#);
        assert_eq!(told, Some((200, Ok("x.y.z".into()))));
        let told = from_another(br#"{"status":403,"content":{"errcode":"M_FORBIDDEN"}}"#);
        assert_eq!(told, Some((403, Err("M_FORBIDDEN".into()))));
        let told = from_another(br#"{"status":500,"content":{"jwt":"x.y.z"}}"#);
        assert_eq!(told, Some((500, Err(String::new()))));
        assert_eq!(from_another(br#"{"status":200,"content":null}"#), None);
    }

    proptest! {
        #[test]
        fn any_body_is_a_transaction_or_none(body in "\\PC{0,80}") {
            let _ = changes(body.as_bytes());
            let _ = from_another(body.as_bytes());
        }

        #[test]
        fn any_text_becomes_one_piece(text in "\\PC{0,40}") {
            let piece = encoded(&text);
            prop_assert!(!piece.contains(['/', '?', '#', '&', ' ', '=']) && piece.is_ascii());
        }
    }
}
