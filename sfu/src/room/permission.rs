//! Whom a publisher lets subscribe to its tracks. (LK: signalling §5.5)
//!
//! Owns the rule a publisher last gave. What a token grants is the token's matter. Asked by
//! `subscribing`.

use proto::livekit;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of one rule; a room rarely has more participants. What is beyond is not granted.
const MAX_GRANTEES: usize = 5_000;
/// Tracks named for one participant: more than anyone can have. What is beyond is not granted.
const MAX_TRACKS_PER_GRANTEE: usize = 64;

/// The rule of one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum TrackPermissions {
    /// The default.
    #[default]
    Everyone,
    /// Only these, by identity.
    Only(BTreeMap<String, Allowed>),
}

/// What one participant may subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Every track.
    All,
    /// These tracks, by sid.
    Tracks(BTreeSet<String>),
}

impl TrackPermissions {
    /// Reads a rule; `identity_of` resolves participant sids. Unknown sids are granted nothing.
    pub(super) fn from_message(
        message: livekit::SubscriptionPermission,
        identity_of: impl Fn(&str) -> Option<String>,
    ) -> Self {
        if message.all_participants {
            return Self::Everyone;
        }
        let mut only = BTreeMap::new();
        for entry in message.track_permissions.into_iter().take(MAX_GRANTEES) {
            let identity = if entry.participant_identity.is_empty() {
                identity_of(&entry.participant_sid)
            } else {
                Some(entry.participant_identity)
            };
            let Some(identity) = identity else { continue };
            let allowed = if entry.all_tracks {
                Allowed::All
            } else {
                let sids = entry.track_sids.into_iter().take(MAX_TRACKS_PER_GRANTEE);
                Allowed::Tracks(sids.collect())
            };
            only.insert(identity, allowed);
        }
        Self::Only(only)
    }

    /// May this participant subscribe to this track?
    pub(super) fn allows(&self, identity: &str, track_sid: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(only) => match only.get(identity) {
                Some(Allowed::All) => true,
                Some(Allowed::Tracks(sids)) => sids.contains(track_sid),
                None => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(track_permissions: Vec<livekit::TrackPermission>) -> TrackPermissions {
        let message = livekit::SubscriptionPermission {
            all_participants: false,
            track_permissions,
        };
        TrackPermissions::from_message(message, |sid| (sid == "PA_b").then(|| "bob".to_owned()))
    }

    #[test]
    fn without_a_rule_everyone_may_subscribe() {
        assert!(TrackPermissions::default().allows("anyone", "TR_1"));
    }

    #[test]
    fn an_empty_rule_allows_nobody() {
        assert!(!rule(vec![]).allows("bob", "TR_1"));
    }

    #[test]
    fn a_grantee_is_named_by_identity_or_by_sid() {
        let rule = rule(vec![
            livekit::TrackPermission {
                participant_sid: "PA_b".into(),
                track_sids: vec!["TR_1".into()],
                ..Default::default()
            },
            livekit::TrackPermission {
                participant_identity: "carol".into(),
                all_tracks: true,
                ..Default::default()
            },
            livekit::TrackPermission {
                participant_sid: "PA_gone".into(),
                all_tracks: true,
                ..Default::default()
            },
        ]);
        assert!(rule.allows("bob", "TR_1"));
        assert!(!rule.allows("bob", "TR_2"));
        assert!(rule.allows("carol", "TR_2"));
        assert!(!rule.allows("", "TR_1"));
    }
}
