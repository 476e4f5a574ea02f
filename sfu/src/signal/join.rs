//! How a signalling connection joins: request and token in, a checked join or resume out.
//!
//! Owns the order of LiveKit's checks and their answers. Never sees a socket, a header or a room;
//! what needs to know a room (does it exist?, is it full?) is asked elsewhere. Called by
//! `http/websocket` for connecting and validating alike. (LK: signalling §1.4, §1.5)

use super::client::{self, Hints};
use crate::config::codecs::Codec;
use crate::ice_servers::IceServer;
use crate::ids::{ParticipantSid, PeerId, SessionId};
use crate::room::command::{Join, Resume, Ways};
use crate::room::preference::Preference;
use proto::livekit;
use proto::signal::{JoinRequestError, Parameters, decode_join_request, read_parameters};
use proto::token::{Claims, Verified};
use std::net::IpAddr;

/// The longest identity, in bytes. (LK: signalling §1.5)
pub const MAX_IDENTITY_BYTES: usize = 256;
/// The longest room name, in bytes. (LK: signalling §1.5)
pub const MAX_ROOM_NAME_BYTES: usize = 256;

/// What the operator settled for all joins.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Enabled codecs, in the order to list them.
    pub codecs: Vec<Codec>,
    /// STUN and TURN servers handed to clients.
    pub ice_servers: Vec<IceServer>,
    /// May a join make a room that does not exist? Otherwise only tokens with `roomCreate` do.
    pub auto_create: bool,
}

/// Why a connection is refused before it reaches a room. The text is LiveKit's answer body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The parameter `join_request` cannot be used.
    #[error(transparent)]
    Request(#[from] JoinRequestError),
    /// The parameter `attributes` cannot be used.
    #[error("cannot decode attributes")]
    Attributes,
    /// No token, no video grant, or metadata given without the right to.
    #[error("no permissions to access the room")]
    NoAccess,
    /// The grant is not for joining, or whoever has it was taken out for good.
    #[error("permissions denied")]
    Denied,
    /// The token names nobody.
    #[error("identity cannot be empty")]
    NoIdentity,
    /// The identity is too long.
    #[error("participant identity length exceeds limits: max length {MAX_IDENTITY_BYTES}")]
    LongIdentity,
    /// The token names no room.
    #[error("no room name")]
    NoRoom,
    /// The room's name is too long.
    #[error("room name length exceeds limits: max length {MAX_ROOM_NAME_BYTES}")]
    LongRoom,
    /// The room does not exist and may not be made by this join. Clients look for this text.
    #[error("requested room does not exist")]
    RoomMissing,
    /// As many rooms or sessions as this server takes.
    #[error("node has exceeded its configured limit")]
    Overloaded,
    /// The server is going down.
    #[error("server is shutting down")]
    Draining,
}

impl JoinError {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NoAccess | Self::Denied => 401,
            Self::Request(_)
            | Self::Attributes
            | Self::NoIdentity
            | Self::LongIdentity
            | Self::NoRoom
            | Self::LongRoom => 400,
            Self::RoomMissing => 404,
            Self::Overloaded | Self::Draining => 503,
        }
    }
}

/// What a client asks for, by the path it used.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// `/rtc/v1`: the parameter `join_request`.
    Request(Option<&'a str>),
    /// `/rtc`: parameters, percent-decoded. With `join_request` among them only that one counts.
    Parameters(&'a [(String, String)]),
}

impl Asked<'_> {
    fn read(self) -> Result<(Parameters, bool), JoinRequestError> {
        let single = match self {
            Self::Request(text) => Some(text.unwrap_or_default()),
            Self::Parameters(pairs) => {
                let named = pairs.iter().find(|(name, _)| name == "join_request");
                named
                    .map(|(_, text)| text.as_str())
                    .filter(|text| !text.is_empty())
            }
        };
        match (single, self) {
            (None, Self::Parameters(pairs)) => Ok((read_parameters(pairs), true)),
            (text, _) => {
                let parameters = Parameters {
                    request: decode_join_request(text.unwrap_or_default())?,
                    ..Parameters::default()
                };
                Ok((parameters, false))
            }
        }
    }
}

/// A connection that may go on to its room: nothing in it is unchecked any more.
#[derive(Debug, Clone)]
pub struct Admission {
    claims: Claims,
    request: livekit::JoinRequest,
    client: livekit::ClientInfo,
    address: Option<IpAddr>,
    /// The client has one connection to send by and another to receive by.
    dual: bool,
    /// It sent attributes that cannot be read.
    unreadable_attributes: bool,
}

/// Checks a connection: what it asks for first, then the token's rights, as LiveKit does.
///
/// # Errors
/// The first fault found.
pub fn check(
    claims: Option<Verified<Claims>>,
    asked: Asked<'_>,
    hints: Hints<'_>,
) -> Result<Admission, JoinError> {
    let (parameters, dual) = asked.read()?;
    let mut request = parameters.request;
    let mut claims = claims.ok_or(JoinError::NoAccess)?.into_inner();
    let grant = claims.video.as_ref().ok_or(JoinError::NoAccess)?;
    if !grant.room_join {
        return Err(JoinError::Denied);
    }
    if claims.identity.is_empty() {
        return Err(JoinError::NoIdentity);
    }
    if claims.identity.len() > MAX_IDENTITY_BYTES {
        return Err(JoinError::LongIdentity);
    }
    if grant.room.is_empty() {
        return Err(JoinError::NoRoom);
    }
    if grant.room.len() > MAX_ROOM_NAME_BYTES {
        return Err(JoinError::LongRoom);
    }
    let describes_itself = !request.metadata.is_empty()
        || !request.participant_attributes.is_empty()
        || parameters.unreadable_attributes;
    if describes_itself && !grant.can_update_own_metadata() {
        return Err(JoinError::NoAccess);
    }
    if let Some(suffix) = &parameters.publish {
        only_publish(&mut claims, suffix)?;
    }
    let client = client::complete(request.client_info.take().unwrap_or_default(), hints);
    Ok(Admission {
        claims,
        request,
        client,
        address: hints.address,
        dual,
        unreadable_attributes: parameters.unreadable_attributes,
    })
}

/// Makes a session beside the identity's other one of it, which only publishes.
fn only_publish(claims: &mut Claims, suffix: &str) -> Result<(), JoinError> {
    let grant = claims.video.as_mut().ok_or(JoinError::NoAccess)?;
    if !grant.can_publish() {
        return Err(JoinError::NoAccess);
    }
    grant.can_subscribe = Some(false);
    // A renewed token carries the suffix already.
    let suffix = format!("#{suffix}");
    if !claims.identity.ends_with(&suffix) {
        claims.identity.push_str(&suffix);
    }
    if claims.identity.len() > MAX_IDENTITY_BYTES {
        return Err(JoinError::LongIdentity);
    }
    Ok(())
}

impl Admission {
    /// The room to join.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.claims.grant().room
    }

    /// Who joins.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.claims.identity
    }

    /// What is only complained of when nobody is to be let in: a join goes on without it.
    ///
    /// # Errors
    /// [`JoinError::Attributes`].
    pub const fn validated(&self) -> Result<(), JoinError> {
        if self.unreadable_attributes {
            return Err(JoinError::Attributes);
        }
        Ok(())
    }

    /// Takes it up an earlier connection?
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.request.reconnect
    }

    /// May it join only a room that exists already?
    #[must_use]
    pub fn needs_existing_room(&self, policy: &Policy) -> bool {
        !policy.auto_create && !self.claims.grant().room_create
    }

    /// The fresh join it asks for.
    #[must_use]
    pub fn into_join(self, session: SessionId, peer: PeerId, policy: &Policy) -> Join {
        let faults = client::configuration(&self.client);
        let settings = self.request.connection_settings.unwrap_or_default();
        let mut attributes: Vec<(String, String)> = self
            .request
            .participant_attributes
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        attributes.sort_unstable();
        Join {
            session,
            peer,
            address: self.address,
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
            metadata: self.request.metadata,
            attributes,
            add_tracks: self.request.add_track_requests,
            offer: self.request.publisher_offer,
            publish_codecs: client::publish_codecs(&policy.codecs, faults.as_ref()),
            subscribe_codecs: client::subscribe_codecs(
                &self.client,
                &policy.codecs,
                faults.as_ref(),
            ),
            one_codec_per_section: client::needs_one_codec_per_section(&self.client),
            outside_only: client::needs_outside_only(&self.client),
            dual: self.dual,
            reuse_sections: client::reuses_sections(&self.client),
            passive_offers: client::needs_passive_offers(&self.client),
            client_configuration: faults,
            ways: Ways {
                ice_servers: policy.ice_servers.clone(),
                preference: Preference::Any,
            },
            claims: self.claims,
            client: self.client,
        }
    }

    /// The resume it asks for.
    #[must_use]
    pub fn into_resume(self, session: SessionId, policy: &Policy) -> Resume {
        let sid = &self.request.participant_sid;
        Resume {
            session,
            sid: (!sid.is_empty()).then(|| ParticipantSid::from_wire(sid)),
            reason: self.request.reconnect_reason(),
            client_configuration: client::configuration(&self.client),
            ice_servers: policy.ice_servers.clone(),
            identity: self.claims.identity,
            client: self.client,
        }
    }
}

#[cfg(test)]
mod tests;
