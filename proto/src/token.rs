//! LiveKit access tokens.

use livekit_protocol as livekit;
use livekit_protocol::TrackSource;
use livekit_protocol::participant_info::{Kind, KindDetail};
use std::collections::BTreeMap;

/// The claims of a token (LK signalling §2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Who (`sub`).
    pub identity: String,
    /// Display name.
    pub name: String,
    /// Free text for applications.
    pub metadata: String,
    /// Key-value pairs for applications.
    pub attributes: BTreeMap<String, String>,
    /// What kind of participant.
    pub kind: Kind,
    /// More on the kind.
    pub kind_details: Vec<KindDetail>,
    /// What the bearer may do in the room.
    pub video: Option<VideoGrant>,
}

/// Stands for a missing `video`.
static NO_GRANT: VideoGrant = VideoGrant {
    can_publish: None,
    can_subscribe: None,
    can_publish_data: None,
    can_publish_sources: Vec::new(),
    can_update_own_metadata: None,
    hidden: false,
    recorder: false,
    agent: false,
};

impl Claims {
    /// The video grant; an empty one if the token has none.
    #[must_use]
    pub fn grant(&self) -> &VideoGrant {
        self.video.as_ref().unwrap_or(&NO_GRANT)
    }

    /// The permission as participants see it, defaults resolved.
    #[must_use]
    #[allow(
        deprecated,
        reason = "clients still read the flags the kind has replaced"
    )]
    pub fn permission(&self) -> livekit::ParticipantPermission {
        let grant = self.grant();
        let sources = grant.can_publish_sources.iter();
        livekit::ParticipantPermission {
            can_subscribe: grant.can_subscribe(),
            can_publish: grant.can_publish(),
            can_publish_data: grant.can_publish_data(),
            can_publish_sources: sources.map(|source| *source as i32).collect(),
            hidden: grant.hidden,
            recorder: grant.recorder,
            can_update_metadata: grant.can_update_own_metadata(),
            agent: grant.agent,
            can_subscribe_metrics: false,
            can_manage_agent_session: false,
        }
    }

    /// An agent, an egress or a recorder. (LK: signalling §10.2)
    #[must_use]
    pub fn is_dependent(&self) -> bool {
        let grant = self.grant();
        matches!(self.kind, Kind::Agent | Kind::Egress) || grant.agent || grant.recorder
    }
}

/// The video grant (LK signalling §2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoGrant {
    /// Absent means yes.
    pub can_publish: Option<bool>,
    /// Absent means yes.
    pub can_subscribe: Option<bool>,
    /// Absent means as `can_publish`.
    pub can_publish_data: Option<bool>,
    /// Empty means all.
    pub can_publish_sources: Vec<TrackSource>,
    /// Absent means no.
    pub can_update_own_metadata: Option<bool>,
    /// Not announced to others.
    pub hidden: bool,
    /// Records the room.
    pub recorder: bool,
    /// Acts for the server's side.
    pub agent: bool,
}

impl VideoGrant {
    /// May publish media.
    #[must_use]
    pub fn can_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// May publish a track of this source.
    #[must_use]
    pub fn can_publish_source(&self, source: TrackSource) -> bool {
        let sources = &self.can_publish_sources;
        self.can_publish() && (sources.is_empty() || sources.contains(&source))
    }

    /// May receive media.
    #[must_use]
    pub fn can_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// May send data.
    #[must_use]
    pub fn can_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.can_publish())
    }

    /// May change its own name, metadata and attributes.
    #[must_use]
    pub fn can_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }
}
