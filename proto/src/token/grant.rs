//! Rights in a room, with LiveKit's rules for what an absent one means. (LK: signalling §2.3)
//!
//! Owns the resolution of defaults, which callers read through the functions named like the
//! fields; the fields hold what the token said.

use livekit_protocol as livekit;
use livekit_protocol::TrackSource;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The `video` claim. An `Option` says whether the token mentioned the right at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May connect.
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    /// Which room.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub room: String,
    /// May create rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    /// May list rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    /// May record.
    #[serde(skip_serializing_if = "is_false")]
    pub room_record: bool,
    /// May administer the room.
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    /// May administer ingress.
    #[serde(skip_serializing_if = "is_false")]
    pub ingress_admin: bool,
    /// Room to which participants may be moved or forwarded.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub destination_room: String,
    /// Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// Empty: all. A word nobody knows is kept as `Unknown`, lest the list become empty.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_sources",
        deserialize_with = "read_sources"
    )]
    pub can_publish_sources: Vec<TrackSource>,
    /// Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// Absent: as `can_publish`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    /// Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
    /// Not announced to others.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Records the room.
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    /// Is an agent.
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
}

impl VideoGrant {
    /// A grant that says nothing: no room can be joined with it.
    pub const NONE: Self = Self {
        room_join: false,
        room: String::new(),
        room_create: false,
        room_list: false,
        room_record: false,
        room_admin: false,
        ingress_admin: false,
        destination_room: String::new(),
        can_publish: None,
        can_publish_sources: Vec::new(),
        can_subscribe: None,
        can_publish_data: None,
        can_update_own_metadata: None,
        can_subscribe_metrics: None,
        can_manage_agent_session: None,
        hidden: false,
        recorder: false,
        agent: false,
    };

    /// A grant to join `room`, everything else as absent.
    #[must_use]
    pub fn join(room: &str) -> Self {
        Self {
            room_join: true,
            room: room.to_owned(),
            ..Self::NONE
        }
    }

    /// May it publish media at all?
    #[must_use]
    pub fn can_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// May it publish media of this source?
    #[must_use]
    pub fn can_publish_source(&self, source: TrackSource) -> bool {
        let listed = self
            .can_publish_sources
            .iter()
            .any(|known| *known == source && source != TrackSource::Unknown);
        self.can_publish() && (self.can_publish_sources.is_empty() || listed)
    }

    /// May it subscribe?
    #[must_use]
    pub fn can_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// May it send data?
    #[must_use]
    pub fn can_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.can_publish())
    }

    /// May it change its own name, metadata and attributes?
    #[must_use]
    pub fn can_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }

    /// May it receive metrics packets?
    #[must_use]
    pub fn can_subscribe_metrics(&self) -> bool {
        self.can_subscribe_metrics.unwrap_or(false)
    }

    /// May it manage agent sessions?
    #[must_use]
    pub fn can_manage_agent_session(&self) -> bool {
        self.can_manage_agent_session.unwrap_or(false)
    }

    /// The rights as participants see them. (LK: signalling §10.2)
    #[must_use]
    pub fn permission(&self) -> livekit::ParticipantPermission {
        #[allow(
            deprecated,
            reason = "clients in use still read `recorder` and `agent`"
        )]
        livekit::ParticipantPermission {
            can_subscribe: self.can_subscribe(),
            can_publish: self.can_publish(),
            can_publish_data: self.can_publish_data(),
            can_publish_sources: self
                .can_publish_sources
                .iter()
                .map(|source| *source as i32)
                .collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.can_update_own_metadata(),
            agent: self.agent,
            can_subscribe_metrics: self.can_subscribe_metrics(),
            can_manage_agent_session: self.can_manage_agent_session(),
        }
    }
}

/// `null` is what some issuers write for "nothing".
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn read_sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrackSource>, D::Error> {
    let words: Vec<String> = or_default(deserializer)?;
    // Only the lower-case words count, as in LiveKit; `CAMERA` is not `camera`.
    let source = |word: &String| {
        [
            TrackSource::Camera,
            TrackSource::Microphone,
            TrackSource::ScreenShare,
            TrackSource::ScreenShareAudio,
        ]
        .into_iter()
        .find(|source| source.as_str_name().to_ascii_lowercase() == *word)
        .unwrap_or_default()
    };
    Ok(words.iter().map(source).collect())
}

fn write_sources<S: Serializer>(sources: &[TrackSource], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        sources
            .iter()
            .map(|source| source.as_str_name().to_ascii_lowercase()),
    )
}
