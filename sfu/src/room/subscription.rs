//! What one participant wants to receive, and how far each wish has come. (LK: signalling §5.3, §5.4)
//!
//! Owns the desired state, kept even for tracks that do not exist, and the stored settings. Sends
//! nothing: `subscribing` compares wish and state.

use super::publication::layers::Layers;
use crate::ids::{MediaKind, TrackKey};
use crate::media::message::Wish;
use proto::livekit;
use proto::livekit::VideoQuality;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Tracks one participant may have wishes about. What is beyond is not stored.
pub(super) const MAX_ENTRIES: usize = 4_096;
/// Tracks read from one request: as many as can be stored. What is named beyond is not read.
pub(super) const MAX_NAMED: usize = MAX_ENTRIES;
/// A wish for a track that does not exist is given up after this.
pub(super) const MISSING_AFTER: Duration = Duration::from_secs(60);
/// A subscription that was not bound is given up after this.
pub(super) const BIND_WITHIN: Duration = Duration::from_secs(15);
/// Changed settings wait this long for the next change.
pub(super) const SETTLE_AFTER: Duration = Duration::from_millis(100);

/// Bytes of a track sid taken from a client; ours have 17.
const MAX_SID_BYTES: usize = 64;

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// Media knows nothing of it.
    #[default]
    Idle,
    /// Media was asked.
    Asked,
    /// The client was told of the track in an answer, and is connected.
    Bound,
}

/// One participant's interest in one track.
#[derive(Debug)]
pub(super) struct Subscription {
    /// What the client or auto-subscribe said; `None` before either did.
    pub(super) desired: Option<bool>,
    pub(super) stage: Stage,
    /// The track, while media knows of the subscription.
    pub(super) key: Option<TrackKey>,
    pub(super) settings: Option<Settings>,
    /// What media was last told, while it knows of the subscription.
    pub(super) wish: Wish,
    /// What the client was last told about the publisher's permission.
    pub(super) told_allowed: Option<bool>,
    /// When the entry was made or the track last wished for.
    pub(super) since: Instant,
}

/// Settings of one track as the client last sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) disabled: bool,
    quality: i32,
    width: u32,
    height: u32,
}

impl Settings {
    /// Reads a message. Frame rates select nothing: publishers do not announce theirs.
    pub(super) fn from_message(message: &livekit::UpdateTrackSettings) -> Self {
        Self {
            disabled: message.disabled,
            quality: message.quality,
            width: message.width,
            height: message.height,
        }
    }

    /// Everything off, as a resuming client lists it.
    pub(super) fn off() -> Self {
        Self {
            disabled: true,
            quality: VideoQuality::High as i32,
            width: 0,
            height: 0,
        }
    }

    /// Does the client want anything at all?
    pub(super) fn enabled(&self) -> bool {
        !self.disabled && (self.width > 0 || self.quality != VideoQuality::Off as i32)
    }

    fn spatial(&self, layers: &Layers) -> u8 {
        if self.width > 0 {
            return layers.for_size(self.width, self.height);
        }
        layers.for_quality(u8::try_from(self.quality).unwrap_or(2).min(2))
    }
}

/// What to ask of media. Without settings, video starts high, or low if the client adapts.
pub(super) fn wish(
    settings: Option<&Settings>,
    kind: MediaKind,
    layers: &Layers,
    adaptive: bool,
) -> Wish {
    let enabled = settings.is_none_or(Settings::enabled);
    if kind == MediaKind::Audio {
        return Wish {
            enabled,
            ..Wish::ALL
        };
    }
    let spatial = match settings {
        Some(settings) => settings.spatial(layers),
        None if adaptive => 0,
        None => layers.top(),
    };
    Wish {
        enabled,
        spatial,
        ..Wish::ALL
    }
}

/// All wishes of one participant, by track sid.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    entries: BTreeMap<String, Subscription>,
    /// Subscribe to whatever is published?
    pub(super) auto: bool,
    /// The client tells what it shows, so start low.
    pub(super) adaptive: bool,
}

impl Subscriptions {
    /// Nothing yet.
    pub(super) fn new(auto: bool, adaptive: bool) -> Self {
        Self {
            entries: BTreeMap::new(),
            auto,
            adaptive,
        }
    }

    /// The entry of a track, made if missing; `None` when there are too many, or the sid is absurd.
    pub(super) fn entry(&mut self, sid: &str, now: Instant) -> Option<&mut Subscription> {
        if !self.entries.contains_key(sid) {
            if self.entries.len() >= MAX_ENTRIES || sid.is_empty() || sid.len() > MAX_SID_BYTES {
                return None;
            }
            let fresh = Subscription {
                desired: None,
                stage: Stage::Idle,
                key: None,
                settings: None,
                wish: Wish::ALL,
                told_allowed: None,
                since: now,
            };
            self.entries.insert(sid.to_owned(), fresh);
        }
        self.entries.get_mut(sid)
    }

    /// The entry of a track.
    pub(super) fn find(&self, sid: &str) -> Option<&Subscription> {
        self.entries.get(sid)
    }

    /// The entry of a track.
    pub(super) fn find_mut(&mut self, sid: &str) -> Option<&mut Subscription> {
        self.entries.get_mut(sid)
    }

    /// Forgets a track.
    pub(super) fn remove(&mut self, sid: &str) -> Option<Subscription> {
        self.entries.remove(sid)
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Subscription)> {
        self.entries.iter()
    }

    /// All entries.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Subscription)> {
        self.entries.iter_mut()
    }

    /// Sids of all entries.
    pub(super) fn sids(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Tracks media sends or is about to.
    pub(super) fn keys(&self) -> impl Iterator<Item = TrackKey> {
        self.entries.values().filter_map(|entry| entry.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Layers {
        let layer = |quality, height| livekit::VideoLayer {
            quality,
            height,
            ..Default::default()
        };
        Layers::new(&livekit::TrackInfo {
            layers: vec![layer(0, 180), layer(1, 360), layer(2, 720)],
            width: 1280,
            height: 720,
            ..Default::default()
        })
    }

    fn settings(message: livekit::UpdateTrackSettings) -> Wish {
        wish(
            Some(&Settings::from_message(&message)),
            MediaKind::Video,
            &layers(),
            true,
        )
    }

    #[test]
    fn video_starts_high_or_low_if_the_client_adapts() {
        assert_eq!(wish(None, MediaKind::Video, &layers(), false), Wish::ALL);
        assert_eq!(wish(None, MediaKind::Video, &layers(), true).spatial, 0);
        assert_eq!(wish(None, MediaKind::Audio, &layers(), true), Wish::ALL);
    }

    #[test]
    fn a_size_wins_over_a_quality_and_off_disables() {
        let sized = livekit::UpdateTrackSettings {
            width: 640,
            height: 360,
            quality: 3,
            ..Default::default()
        };
        assert_eq!(
            settings(sized),
            Wish {
                enabled: true,
                spatial: 1,
                temporal: 3
            }
        );
        assert!(
            !settings(livekit::UpdateTrackSettings {
                quality: 3,
                ..Default::default()
            })
            .enabled
        );
        assert!(
            !settings(livekit::UpdateTrackSettings {
                disabled: true,
                quality: 2,
                ..Default::default()
            })
            .enabled
        );
        assert_eq!(
            settings(livekit::UpdateTrackSettings {
                quality: -5,
                ..Default::default()
            })
            .spatial,
            2
        );
    }

    #[test]
    fn wishes_are_bounded_in_number_and_size() {
        let now = crate::room::tests::first_moment();
        let mut subscriptions = Subscriptions::new(true, true);
        for n in 0..MAX_ENTRIES {
            assert!(subscriptions.entry(&format!("TR_{n}"), now).is_some());
        }
        assert!(subscriptions.entry("TR_more", now).is_none());
        assert!(subscriptions.entry("TR_0", now).is_some());
        assert!(
            Subscriptions::default()
                .entry(&"x".repeat(65), now)
                .is_none()
        );
    }
}
