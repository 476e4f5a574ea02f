//! LiveKit access tokens.

use livekit_protocol as livekit;
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
    /// `livekit.ParticipantInfo.Kind`.
    pub kind: i32,
    /// What the bearer may do in the room.
    pub video: VideoGrant,
}

impl Claims {
    /// The permission as participants see it, defaults resolved.
    #[must_use]
    #[allow(
        deprecated,
        reason = "clients still read the flags the kind has replaced"
    )]
    pub fn permission(&self) -> livekit::ParticipantPermission {
        livekit::ParticipantPermission {
            can_subscribe: self.video.can_subscribe(),
            can_publish: self.video.can_publish(),
            can_publish_data: self.video.can_publish_data(),
            can_publish_sources: Vec::new(),
            hidden: self.video.hidden(),
            recorder: self.video.recorder(),
            can_update_metadata: self.video.can_update_own_metadata(),
            agent: self.video.agent(),
            can_subscribe_metrics: false,
            can_manage_agent_session: false,
        }
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
    /// Lowercase source names; empty means all.
    pub can_publish_sources: Vec<String>,
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

    /// May publish a track of this source.
    #[must_use]
    pub fn can_publish_source(&self, source: livekit::TrackSource) -> bool {
        let name = source.as_str_name();
        self.can_publish()
            && (self.can_publish_sources.is_empty()
                || self
                    .can_publish_sources
                    .iter()
                    .any(|allowed| allowed.eq_ignore_ascii_case(name)))
    }

    /// May change its own name, metadata and attributes.
    #[must_use]
    pub fn can_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }

    /// Not announced to others.
    #[must_use]
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    /// Records the room.
    #[must_use]
    pub fn recorder(&self) -> bool {
        self.recorder
    }

    /// Acts for the server's side.
    #[must_use]
    pub fn agent(&self) -> bool {
        self.agent
    }
}
