//! What is asked for: the bodies of the endpoints, read and judged before any network call.
//!
//! Owns the fields, which of them are required and the order of complaints. Unknown keys are
//! ignored, since the OpenID part is a homeserver's own answer; `null` counts as absent. Pure.
//! (LK: jwt-service §1.2, §2)

pub mod proxied;

use crate::answer::Refusal;
use crate::matrix::proxied::MAX_ID_BYTES;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::time::Duration;

/// What a homeserver gave a client to show to others. The token is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenId {
    /// The token.
    pub access_token: String,
    /// The server that gave it.
    pub server: String,
}

impl fmt::Debug for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenId")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Who is to join, by either endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// `/sfu/get`: a device of whoever the OpenID token belongs to.
    Device {
        /// The device; may be empty.
        device: String,
    },
    /// `/get_token`.
    Claimed {
        /// The id of the membership.
        id: String,
        /// Who the token must belong to.
        user: String,
        /// The device.
        device: String,
    },
}

impl Member {
    /// The device.
    #[must_use]
    pub fn device(&self) -> &str {
        match self {
            Self::Device { device } | Self::Claimed { device, .. } => device,
        }
    }
}

/// A request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The Matrix room.
    pub room: String,
    /// The slot in it; the older endpoint has none.
    pub slot: Option<String>,
    /// Who.
    pub member: Member,
    /// As proof.
    pub open_id: OpenId,
    /// A delayed leave that is to be taken over.
    pub delay: Option<Delay>,
}

/// A delayed leave. Its id is a secret: who has it can send the event.
#[derive(Clone, PartialEq, Eq)]
pub struct Delay {
    /// Names it at the homeserver.
    pub id: String,
    /// It fires so long after it was last restarted.
    pub timeout: Duration,
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Some senders write `null` for a text they do not have.
type Text = Option<String>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct OpenIdBody {
    access_token: Text,
    matrix_server_name: Text,
    // Not looked at, but of these types.
    #[serde(rename = "token_type")]
    _token_type: Text,
    #[serde(rename = "expires_in")]
    _expires_in: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MemberBody {
    id: Text,
    claimed_user_id: Text,
    claimed_device_id: Text,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    room: Text,
    room_id: Text,
    slot_id: Text,
    device_id: Text,
    openid_token: Option<OpenIdBody>,
    member: Option<MemberBody>,
    delay_id: Text,
    #[serde(deserialize_with = "milliseconds")]
    delay_timeout: i64,
}

/// A whole number, or one in a string: MSC4195 has it so, Element Call otherwise.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Option::deserialize(deserializer)? {
        None => Ok(0),
        Some(Written::Number(ms)) => Ok(ms),
        Some(Written::Text(text)) => text.parse().map_err(serde::de::Error::custom),
    }
}

const NO_ROOM: Refusal = Refusal::BadJson("Missing room parameter");
const NO_OPEN_ID: Refusal = Refusal::BadJson("Missing OpenID token parameters");
const HALF_A_DELAY: Refusal =
    Refusal::BadJson("The request body is missing `delay_id` or `delay_timeout`");
const BAD_DELAY: Refusal = Refusal::BadJson("The request body `delay_id` is no id");
/// Homeservers make them of some twenty characters.
const MAX_DELAY_ID: usize = 255;
const LONG_ID: Refusal =
    Refusal::BadJson("The request body has an id that is longer than 255 bytes");
/// A month: no homeserver lets an event wait for longer.
const MAX_DELAY_MS: u64 = 31 * 24 * 3600 * 1000;
const NO_ROOM_OR_SLOT: Refusal =
    Refusal::BadJson("The request body is missing `room_id` or `slot_id`");
const HALF_A_MEMBER: Refusal = Refusal::BadJson(
    "The request body `member` is missing a `id`, `claimed_user_id` or `claimed_device_id`",
);
const HALF_AN_OPEN_ID: Refusal = Refusal::BadJson(
    "The request body `openid_token` is missing a `access_token` or `matrix_server_name`",
);
const AMBIGUOUS_DEVICE: Refusal = Refusal::BadJson("The request body `device_id` contains a colon");

const HALF_A_MEMBER_TO_LEAVE: Refusal = Refusal::BadJson(
    "The request body `member` is missing `id`, `claimed_user_id` or `claimed_device_id`",
);
const HALF_AN_OPEN_ID_TO_LEAVE: Refusal = Refusal::BadJson(
    "The request body `openid_token` is missing `access_token` or `matrix_server_name`",
);

impl Asked {
    /// Reads the body of `/delegate_delayed_leave`.
    ///
    /// # Errors
    /// What is wrong with it, the first thing only.
    pub fn delegation(body: &[u8]) -> Result<Self, Refusal> {
        let body = read(body)?;
        let room = required(body.room_id.clone()).ok_or(NO_ROOM_OR_SLOT)?;
        let slot = required(body.slot_id.clone()).ok_or(NO_ROOM_OR_SLOT)?;
        let member = body.member().ok_or(HALF_A_MEMBER_TO_LEAVE)?;
        let open_id = body.open_id().ok_or(HALF_AN_OPEN_ID_TO_LEAVE)?;
        let delay = body.delay()?.ok_or(HALF_A_DELAY)?;
        Self {
            room,
            slot: Some(slot),
            member,
            open_id,
            delay: Some(delay),
        }
        .checked()
    }

    /// Reads the body of `/sfu/get`.
    ///
    /// # Errors
    /// What is wrong with it, the first thing only.
    pub fn older(body: &[u8]) -> Result<Self, Refusal> {
        let body = read(body)?;
        let room = required(body.room.clone()).ok_or(NO_ROOM)?;
        let open_id = body.open_id().ok_or(NO_OPEN_ID)?;
        let delay = body.delay()?;
        let device = body.device_id.unwrap_or_default();
        if is_ambiguous(&device) {
            return Err(AMBIGUOUS_DEVICE);
        }
        Self {
            room,
            slot: None,
            member: Member::Device { device },
            open_id,
            delay,
        }
        .checked()
    }

    /// Reads the body of `/get_token`.
    ///
    /// # Errors
    /// What is wrong with it, the first thing only.
    pub fn newer(body: &[u8]) -> Result<Self, Refusal> {
        let body = read(body)?;
        let room = required(body.room_id.clone()).ok_or(NO_ROOM_OR_SLOT)?;
        let slot = required(body.slot_id.clone()).ok_or(NO_ROOM_OR_SLOT)?;
        let member = body.member().ok_or(HALF_A_MEMBER)?;
        let open_id = body.open_id().ok_or(HALF_AN_OPEN_ID)?;
        let delay = body.delay()?;
        Self {
            room,
            slot: Some(slot),
            member,
            open_id,
            delay,
        }
        .checked()
    }

    /// What is remembered of it has a bound.
    fn checked(self) -> Result<Self, Refusal> {
        let mut ids = vec![self.room.as_str(), self.slot.as_deref().unwrap_or_default()];
        match &self.member {
            Member::Device { device } => ids.push(device),
            Member::Claimed { id, user, device } => ids.extend([id.as_str(), user, device]),
        }
        if ids.into_iter().any(is_long) {
            return Err(LONG_ID);
        }
        Ok(self)
    }
}

/// Longer than any id of Matrix.
const fn is_long(id: &str) -> bool {
    id.len() > MAX_ID_BYTES
}

/// Nothing but one object: not the list of its values either, which serde would take for one.
fn read(body: &[u8]) -> Result<Body, Refusal> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::NotJson);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::NotJson)
}

fn required(text: Text) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The older identity is `user:device`, and a user id may end in a port: `@a:h` with the device
/// `8448:D` and `@a:h:8448` with `D` would be one. No homeserver makes device ids with a colon.
fn is_ambiguous(device: &str) -> bool {
    device.contains(':')
}

impl Body {
    fn open_id(&self) -> Option<OpenId> {
        let body = self.openid_token.as_ref()?;
        Some(OpenId {
            access_token: required(body.access_token.clone())?,
            server: required(body.matrix_server_name.clone())?,
        })
    }

    fn member(&self) -> Option<Member> {
        let body = self.member.as_ref()?;
        Some(Member::Claimed {
            id: required(body.id.clone())?,
            user: required(body.claimed_user_id.clone())?,
            device: required(body.claimed_device_id.clone())?,
        })
    }

    /// Both parts or none; a time that is not positive counts as none.
    fn delay(&self) -> Result<Option<Delay>, Refusal> {
        let id = required(self.delay_id.clone());
        let timeout = u64::try_from(self.delay_timeout).ok().filter(|ms| *ms > 0);
        match (id, timeout) {
            (None, None) => Ok(None),
            // It becomes a piece of a path, and those lead elsewhere.
            (Some(id), Some(_)) if id == "." || id == ".." || id.len() > MAX_DELAY_ID => {
                Err(BAD_DELAY)
            }
            (Some(id), Some(ms)) => Ok(Some(Delay {
                id,
                timeout: Duration::from_millis(ms.min(MAX_DELAY_MS)),
            })),
            _ => Err(HALF_A_DELAY),
        }
    }
}

#[cfg(test)]
mod tests;
