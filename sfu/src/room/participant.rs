//! One participant: its parts side by side, and the snapshot others get of it.
//!
//! Owns who it is (profile), how far it has come (presence) and how it is reached (link). Its
//! tracks, wishes and permissions have modules of their own; nothing here knows what they do.

use super::fallback::Fallback;
use super::kept::Flow;
use super::permission::TrackPermissions;
use super::publication::Publications;
use super::roster::Seen;
use super::setup::{Limits, signed};
use super::subscription::Subscriptions;
use crate::config::codecs::Codec;
use crate::ids::{ParticipantSid, SessionId};
use crate::media::message::{PathReport, PathTransport, Side};
use proto::livekit;
use proto::livekit::participant_info::State;
use proto::livekit::{ClientInfo, DisconnectReason};
use proto::token::Claims;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// A participant of the room, from its join response to its removal.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) profile: Profile,
    pub(super) presence: Presence,
    pub(super) link: Link,
    pub(super) publications: Publications,
    pub(super) subscriptions: Subscriptions,
    /// Whom it lets subscribe.
    pub(super) permissions: TrackPermissions,
    pub(super) seen: Seen,
    /// Its data packets.
    pub(super) data: Flow,
}

/// Who somebody is.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) sid: ParticipantSid,
    /// As the token says, with the changes since.
    pub(super) claims: Claims,
    pub(super) client: ClientInfo,
    /// Codecs it may publish.
    pub(super) codecs: Vec<Codec>,
    pub(super) joined_at_ms: u64,
}

/// How far a participant has come.
#[derive(Debug)]
pub(super) struct Presence {
    /// ICE and DTLS were up once.
    pub(super) active: bool,
    /// Counts its snapshots.
    pub(super) version: u32,
    pub(super) is_publisher: bool,
    pub(super) joined: Instant,
}

/// How a participant is reached.
#[derive(Debug)]
pub(super) struct Link {
    /// Its signalling connection; `None` while it is lost.
    pub(super) session: Option<SessionId>,
    pub(super) media: MediaLink,
    pub(super) fallback: Fallback,
}

/// How a participant's media stands.
#[derive(Debug)]
pub(super) struct MediaLink {
    /// It receives by a connection of its own.
    dual: bool,
    /// The participant is there once this one is connected.
    pub(super) primary: Side,
    /// Connections lost; only a resume brings them back.
    failed: BTreeSet<Side>,
    /// How each connection has come, last.
    ways: BTreeMap<Side, PathReport>,
}

impl MediaLink {
    /// Not connected yet.
    pub(super) const fn new(dual: bool, primary: Side) -> Self {
        Self {
            dual,
            primary,
            failed: BTreeSet::new(),
            ways: BTreeMap::new(),
        }
    }

    /// Does the server offer on a connection of its own?
    pub(super) const fn is_dual(&self) -> bool {
        self.dual
    }

    /// A connection is up, by this path.
    pub(super) fn handle_connected(&mut self, side: Side, path: PathReport) {
        self.failed.remove(&side);
        self.ways.insert(side, path);
    }

    /// A connection goes by another path.
    pub(super) fn handle_moved(&mut self, side: Side, path: PathReport) {
        self.ways.insert(side, path);
    }

    /// By what media comes, or came last; of two connections the one that took the longer way tells.
    pub(super) fn worst_way(&self) -> Option<PathTransport> {
        self.ways.values().map(|path| path.transport).max()
    }

    /// By what this one comes, or came last.
    pub(super) fn way(&self, side: Side) -> Option<PathTransport> {
        self.ways.get(&side).map(|path| path.transport)
    }

    /// Does any connection come to such an address of ours?
    pub(super) fn is_reached(&self, by: impl Fn(IpAddr) -> bool) -> bool {
        self.ways.values().any(|path| by(path.local.ip()))
    }

    /// A connection is lost.
    pub(super) fn handle_failed(&mut self, side: Side) {
        self.failed.insert(side);
    }

    /// Has media come, and is no connection lost?
    pub(super) fn is_up(&self) -> bool {
        !self.ways.is_empty() && !self.is_lost()
    }

    /// Is any connection lost?
    pub(super) fn is_lost(&self) -> bool {
        !self.failed.is_empty()
    }
}

impl Participant {
    /// The participant as others see it; a full snapshot. (LK: signalling §5.12)
    pub(super) fn info(&self) -> livekit::ParticipantInfo {
        let state = if self.presence.active {
            State::Active
        } else {
            State::Joined
        };
        let claims = &self.profile.claims;
        let joined_at_ms = signed(self.profile.joined_at_ms);
        livekit::ParticipantInfo {
            sid: self.profile.sid.as_str().to_owned(),
            identity: claims.identity.clone(),
            state: state as i32,
            tracks: self
                .publications
                .live()
                .map(|(track, _)| track.info.clone())
                .collect(),
            metadata: claims.metadata.clone(),
            joined_at: joined_at_ms / 1000,
            joined_at_ms,
            name: claims.name.clone(),
            version: self.presence.version,
            permission: Some(claims.permission()),
            is_publisher: self.presence.is_publisher,
            kind: claims.kind as i32,
            kind_details: claims
                .kind_details
                .iter()
                .map(|detail| *detail as i32)
                .collect(),
            attributes: claims.attributes.clone().into_iter().collect(),
            client_protocol: self.profile.client.client_protocol,
            capabilities: self.profile.client.capabilities.clone(),
            ..Default::default()
        }
    }

    /// The last snapshot of a participant that is gone.
    pub(super) fn farewell(&self, reason: DisconnectReason) -> livekit::ParticipantInfo {
        livekit::ParticipantInfo {
            state: State::Disconnected as i32,
            disconnect_reason: reason as i32,
            tracks: Vec::new(),
            version: self.presence.version.wrapping_add(1),
            ..self.info()
        }
    }

    /// Counted neither for the limit of participants nor to keep the room open.
    pub(super) fn is_dependent(&self) -> bool {
        self.profile.claims.is_dependent()
    }

    /// Not announced to others.
    pub(super) fn is_hidden(&self) -> bool {
        self.profile.claims.grant().hidden
    }

    /// Protocol version of the client.
    pub(super) fn protocol(&self) -> i32 {
        self.profile.client.protocol
    }
}

impl Profile {
    /// Takes other attributes over the present ones; an empty value removes its key.
    pub(super) fn merged_attributes<'a>(
        &self,
        changes: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> BTreeMap<String, String> {
        let mut attributes = self.claims.attributes.clone();
        for (key, value) in changes {
            if value.is_empty() {
                attributes.remove(key);
            } else {
                attributes.insert(key.clone(), value.clone());
            }
        }
        attributes
    }
}

/// What of a participant's texts is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLong {
    Name,
    Metadata,
    Attributes,
}

impl TooLong {
    /// What a client is told. (LK: signalling §5.6)
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Name => "exceeds name length limit",
            Self::Metadata => "exceeds metadata size limit",
            Self::Attributes => "exceeds attributes size limit",
        }
    }
}

/// Checks what a participant says of itself.
pub(super) fn check_texts(
    limits: &Limits,
    name: &str,
    metadata: &str,
    attributes: &BTreeMap<String, String>,
) -> Result<(), TooLong> {
    let size: usize = attributes
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if name.len() > limits.name_bytes {
        Err(TooLong::Name)
    } else if metadata.len() > limits.metadata_bytes {
        Err(TooLong::Metadata)
    } else if size > limits.attributes_bytes {
        Err(TooLong::Attributes)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_limit() {
        let limits = Limits {
            name_bytes: 3,
            metadata_bytes: 3,
            attributes_bytes: 3,
        };
        let attributes = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
        assert_eq!(
            check_texts(&limits, "abc", "abc", &attributes("ab")),
            Ok(())
        );
        assert_eq!(
            check_texts(&limits, "abcd", "", &attributes("")),
            Err(TooLong::Name)
        );
        assert_eq!(
            check_texts(&limits, "", "abcd", &attributes("")),
            Err(TooLong::Metadata)
        );
        assert_eq!(
            check_texts(&limits, "", "", &attributes("abc")),
            Err(TooLong::Attributes)
        );
    }
}
