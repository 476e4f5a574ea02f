//! Rooms and who is in them, as an operator asks for them. (LK: server ops §11.6)
//!
//! Owns the form, which has LiveKit's names and more. Filled by `keeper` and `people`.

use proto::livekit::Room;
use serde::Serialize;
use std::collections::BTreeMap;

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RoomReport {
    /// Its name.
    pub name: String,
    /// Its sid.
    pub sid: String,
    /// Unix seconds.
    pub created_at: i64,
    /// Who is in it, by identity.
    pub participants: BTreeMap<String, PersonReport>,
}

/// One participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PersonReport {
    /// His sid.
    #[serde(rename = "ID")]
    pub sid: String,
    /// `JOINED`, or `ACTIVE` once media was connected.
    pub state: &'static str,
    /// By what his media comes: `udp`, `tcp`, `turn`, or `unknown` as long as none has.
    pub connection_type: &'static str,
    /// The pair of addresses in use.
    pub publisher_candidates: String,
    /// That of the other connection, if there are two.
    pub subscriber_candidates: String,
}

impl RoomReport {
    pub(super) fn new(room: Room, participants: BTreeMap<String, PersonReport>) -> Self {
        Self {
            name: room.name,
            sid: room.sid,
            created_at: room.creation_time,
            participants,
        }
    }
}
