//! What an SFU that is another process tells of participants: LiveKit's webhook.
//!
//! Owns whether a message is the SFU's and what it means for a delegated leave. Pure: time is an
//! argument. Called by `routes`. (LK: jwt-service §7.3, §7.5)

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proto::livekit::DisconnectReason;
use proto::token::{Claims, Keys, TokenError, Verified};
use serde::{Deserialize, Deserializer};

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The SFU's name of the room.
    pub room: String,
    /// The participant.
    pub identity: String,
    /// Under which sid; empty if the sender does not say, and then whoever has the identity is meant.
    pub sid: String,
    /// What became of him.
    pub step: Step,
}

/// What became of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// He is in the room, with media.
    Joined,
    /// He has gone.
    Left,
    /// His connection has ended, and he is most likely back on another one.
    Moved,
}

/// Why a message is not believed, or not understood. No part of it is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Its token is not one of the SFU's.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is for another body.
    #[error("the body is not the one that was signed")]
    Body,
    /// The body is no event.
    #[error("the body is no event")]
    Event,
}

/// The token's claims, if it is the SFU's. `authorization` is the whole header, which has no scheme
/// before the token.
///
/// # Errors
/// What is wrong with it.
pub fn claims(
    keys: &Keys,
    authorization: &str,
    now_unix: u64,
) -> Result<Verified<Claims>, Unheard> {
    Ok(keys.verify(authorization, now_unix)?)
}

/// The meaning of `body`, if it is the one that the token was made for; `None` if it is of no concern
/// to a leave.
///
/// # Errors
/// It is another body, or no event.
pub fn read(claims: &Verified<Claims>, body: &[u8]) -> Result<Option<Told>, Unheard> {
    let sum = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body));
    constant_time::verify_slices_are_equal(sum.as_bytes(), claims.sha256.as_bytes())
        .map_err(|_| Unheard::Body)?;
    let event: Event = serde_json::from_slice(body).map_err(|_| Unheard::Event)?;
    Ok(event.told())
}

/// As much of LiveKit's event as matters, in protojson: whatever is absent has its zero value, a name
/// may be in either spelling. What else is in it is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(deserialize_with = "or_default")]
    event: String,
    /// Events of egress and ingress have none.
    room: Option<Room>,
    participant: Option<Participant>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Room {
    #[serde(deserialize_with = "or_default")]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Participant {
    #[serde(deserialize_with = "or_default")]
    sid: String,
    #[serde(deserialize_with = "or_default")]
    identity: String,
    #[serde(rename = "disconnectReason", alias = "disconnect_reason")]
    reason: Option<Reason>,
}

/// An enum of protojson: its name, or its number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reason {
    Name(String),
    Number(i32),
}

impl Event {
    fn told(self) -> Option<Told> {
        let (room, participant) = (self.room?, self.participant?);
        let step = match self.event.as_str() {
            "participant_joined" => Step::Joined,
            // The second one is of a participant who never was connected.
            "participant_left" | "participant_connection_aborted" => participant.departure(),
            _ => return None,
        };
        let complete = !room.name.is_empty() && !participant.identity.is_empty();
        complete.then_some(Told {
            room: room.name,
            identity: participant.identity,
            sid: participant.sid,
            step,
        })
    }
}

impl Participant {
    /// The reference tells apart only whether the client meant to go, and so sends the leave of a user
    /// who reconnected: the end of his older connection comes as DUPLICATE_IDENTITY, perhaps after the
    /// newer one has joined. Events are matched by sid, and three reasons are taken for what they mostly
    /// are, the participant going on elsewhere: DUPLICATE_IDENTITY and MIGRATION on another connection,
    /// SERVER_SHUTDOWN once the SFU is back. Whether he did is looked at a moment later. Every other
    /// reason, meant or not, ends his stay.
    fn departure(&self) -> Step {
        let reason = match &self.reason {
            Some(Reason::Name(name)) => DisconnectReason::from_str_name(name),
            Some(Reason::Number(number)) => DisconnectReason::try_from(*number).ok(),
            None => None,
        };
        match reason {
            Some(
                DisconnectReason::DuplicateIdentity
                | DisconnectReason::Migration
                | DisconnectReason::ServerShutdown,
            ) => Step::Moved,
            _ => Step::Left,
        }
    }
}

/// `null` is a zero value.
fn or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::token::Secret;

    const NOW: u64 = 1_700_000_000;
    const HEAD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    const BODY: &str = r#"{"event":"participant_joined","room":{"name":"r"},"participant":{"identity":"i"},"id":"EV_1","createdAt":"1700000000"}"#;

    fn keys() -> Keys {
        [("devkey".to_owned(), Secret::new("devsecret"))]
            .into_iter()
            .collect()
    }

    /// Signed with our key for this body.
    fn signed(body: &str) -> String {
        let sum = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
        signed_as(&format!(
            r#""exp":{},"nbf":{NOW},"sha256":"{sum}""#,
            NOW + 300
        ))
    }

    /// Signed with our key, with these claims.
    fn signed_as(claims: &str) -> String {
        let text = keys().sign_text(|issuer| format!(r#"{{"iss":"{issuer}",{claims}}}"#));
        text.expect("signed")
    }

    fn heard(authorization: &str, body: &str, now: u64) -> Result<Option<Told>, Unheard> {
        read(&claims(&keys(), authorization, now)?, body.as_bytes())
    }

    fn told(event: &str, participant: &str) -> Option<Told> {
        let body = format!(
            r#"{{"event":"{event}","room":{{"sid":"RM","name":"r","emptyTimeout":300,"x":[]}},"participant":{{"sid":"PA_1","identity":"i",{participant}"joinedAt":"1"}},"createdAt":5}}"#
        );
        heard(&signed(&body), &body, NOW).expect("ours")
    }

    #[test]
    fn the_message_of_the_reference_is_believed() {
        let payload = format!(
            r#"{{"iss":"devkey","exp":1700000300,"nbf":{NOW},"iat":{NOW},"sha256":"QwPLMVkj55hUcBlinC5Bp4Cy8NFM3fRpDAXsyB11WWc="}}"#
        );
        let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(payload);
        let token = format!("{HEAD}.{payload}.a58ymuhQXKT1TFByYPpk-mrsFZ10qGtDq2tx6eSZnoc");
        let told = |sid: &str| Told {
            room: "r".into(),
            identity: "i".into(),
            sid: sid.into(),
            step: Step::Joined,
        };
        assert_eq!(heard(&token, BODY, NOW), Ok(Some(told(""))));
        let sid = BODY.replace("\"identity\"", "\"sid\":\"PA\",\"identity\"");
        assert_eq!(heard(&signed(&sid), &sid, NOW), Ok(Some(told("PA"))));
        assert_eq!(heard(&token, &sid, NOW), Err(Unheard::Body));
    }

    #[test]
    fn a_forged_message_is_not_believed() {
        let good = signed(BODY);
        assert!(heard(&good, BODY, NOW).is_ok());
        // One byte of the body, another scheme, another key, no signature, no token.
        let body = BODY.replace("EV_1", "EV_2");
        assert_eq!(heard(&good, &body, NOW), Err(Unheard::Body));
        let other: Keys = [("devkey".to_owned(), Secret::new("guessed"))]
            .into_iter()
            .collect();
        let forged = other.sign_text(|_| r#"{"iss":"devkey","exp":1700000300}"#.into());
        let stranger = other.sign_text(|_| r#"{"iss":"other","exp":1700000300}"#.into());
        let (head, _) = good.rsplit_once('.').expect("three parts");
        let none = format!("eyJhbGciOiJub25lIn0.{}.", &head[HEAD.len() + 1..]);
        for (token, error) in [
            (format!("Bearer {good}"), TokenError::Malformed),
            (forged.expect("signed"), TokenError::Signature),
            (stranger.expect("signed"), TokenError::UnknownKey),
            (format!("{head}."), TokenError::Signature),
            (none, TokenError::Malformed),
            (String::new(), TokenError::Malformed),
        ] {
            assert_eq!(
                heard(&token, BODY, NOW),
                Err(Unheard::Token(error)),
                "{token}"
            );
        }
        // Tokens of ours that are for something else.
        let login = signed_as(r#""exp":1700000300,"video":{"roomAdmin":true}"#);
        assert_eq!(heard(&login, BODY, NOW), Err(Unheard::Body));
        assert!(
            heard(&signed_as(r#""sha256":"x""#), BODY, NOW).is_err(),
            "no end"
        );
    }

    #[test]
    fn clocks_may_differ_by_a_minute() {
        let good = signed(BODY);
        for (now, fits) in [
            (NOW - 60, true),
            (NOW - 61, false),
            (NOW + 360, true),
            (NOW + 361, false),
        ] {
            assert_eq!(heard(&good, BODY, now).is_ok(), fits, "{now}");
        }
    }

    #[test]
    fn who_went_on_elsewhere_has_not_left() {
        let step = |event: &str, participant: &str| told(event, participant).map(|told| told.step);
        for (participant, expected) in [
            ("", Step::Left),
            (r#""disconnectReason":"CLIENT_INITIATED","#, Step::Left),
            (r#""disconnectReason":"STATE_MISMATCH","#, Step::Left),
            (r#""disconnectReason":"DUPLICATE_IDENTITY","#, Step::Moved),
            (r#""disconnect_reason":"DUPLICATE_IDENTITY","#, Step::Moved),
            (r#""disconnectReason":2,"#, Step::Moved),
            (r#""disconnectReason":"MIGRATION","#, Step::Moved),
            (r#""disconnectReason":"SERVER_SHUTDOWN","#, Step::Moved),
            (r#""disconnectReason":"A_NEWER_ONE","#, Step::Left),
            (r#""disconnectReason":99,"#, Step::Left),
            (r#""disconnectReason":null,"#, Step::Left),
        ] {
            for event in ["participant_left", "participant_connection_aborted"] {
                assert_eq!(step(event, participant), Some(expected), "{participant}");
            }
            assert_eq!(step("participant_joined", participant), Some(Step::Joined));
        }
    }

    #[test]
    fn events_without_a_room_or_a_participant_are_of_no_concern() {
        assert_eq!(told("room_started", ""), None);
        for body in [
            r#"{"event":"egress_started","egressInfo":{"egressId":"EG"}}"#,
            r#"{"event":"participant_joined"}"#,
            r#"{"event":"participant_left","room":null,"participant":null}"#,
            r#"{"event":"participant_left","room":{"name":"r"}}"#,
            r#"{"event":"participant_left","room":{},"participant":{"sid":"s","identity":"i"}}"#,
            r#"{"event":null,"room":{"name":null},"participant":{"sid":null}}"#,
            "{}",
        ] {
            assert_eq!(heard(&signed(body), body, NOW), Ok(None), "{body}");
        }
        for body in ["", "x", "null", r#"{"event":1}"#] {
            let heard = heard(&signed(body), body, NOW);
            assert_eq!(heard, Err(Unheard::Event), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            header in ".{0,80}",
            body in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = claims(&keys(), &header, NOW);
            let claims = claims(&keys(), &signed(&String::from_utf8_lossy(&body)), NOW);
            let _ = read(&claims.expect("ours"), &body);
        }
    }
}
