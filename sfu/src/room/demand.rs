//! Dynacast: what a publisher is asked to send of one track. (LK: signalling §5.17)
//!
//! Owns the delay of downgrades and the silence while muted, for one video track. Speaks in
//! LiveKit's qualities, `None` for none at all. Knows neither subscribers nor messages: `dynacast`
//! tells it what is wanted and says what it returns.

use proto::livekit;
use std::time::{Duration, Instant};

/// When nobody subscribed this long after first media, the publisher is told to send nothing.
const FIRST_WORD_AFTER: Duration = Duration::from_secs(10);

/// The highest quality somebody wants: 0 low, 1 medium, 2 high; `None` if nobody wants any.
pub(super) type Wanted = Option<u8>;

/// What silence means: publish everything.
const EVERYTHING: Wanted = Some(2);

/// The state of one track.
#[derive(Debug)]
pub(super) struct Demand {
    /// A downgrade waits this long for somebody to change their mind.
    pause_delay: Duration,
    wanted: Wanted,
    /// What the publisher was last told.
    committed: Option<Wanted>,
    /// When the next downgrade or first word is due.
    due: Option<Instant>,
    muted: bool,
}

impl Demand {
    /// A track whose first media came `now`.
    pub(super) fn new(pause_delay: Duration, muted: bool, now: Instant) -> Self {
        let due = (!muted).then(|| now + FIRST_WORD_AFTER);
        Self {
            pause_delay,
            wanted: None,
            committed: None,
            due,
            muted,
        }
    }

    /// Takes in what subscribers want now; returns what to tell the publisher at once.
    #[must_use]
    pub(super) fn set_wanted(&mut self, wanted: Wanted, now: Instant) -> Option<Wanted> {
        if wanted == self.wanted {
            return None;
        }
        self.wanted = wanted;
        self.settle(now)
    }

    /// The publisher muted or unmuted; returns what to tell it at once.
    #[must_use]
    pub(super) fn set_muted(&mut self, muted: bool, now: Instant) -> Option<Wanted> {
        if muted == self.muted {
            return None;
        }
        self.muted = muted;
        self.due = None;
        let changed = self.settle(now);
        if muted {
            None
        } else {
            changed.or(self.committed)
        }
    }

    /// A deadline may have come; returns what to tell the publisher.
    #[must_use]
    pub(super) fn handle_deadline(&mut self, now: Instant) -> Option<Wanted> {
        if self.muted || self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.commit()
    }

    /// When [`Self::handle_deadline`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// What the publisher was last told, to be said again after a resume.
    pub(super) fn committed(&self) -> Option<Wanted> {
        if self.muted { None } else { self.committed }
    }

    /// Was the publisher told to send nothing?
    pub(super) fn is_off(&self) -> bool {
        self.committed == Some(None)
    }

    fn settle(&mut self, now: Instant) -> Option<Wanted> {
        if self.muted {
            return None;
        }
        let told = self.committed.unwrap_or(EVERYTHING);
        if self.wanted > told || (self.committed.is_none() && self.wanted == told) {
            return self.commit();
        }
        if self.committed == Some(self.wanted) {
            self.due = None;
        } else if self.committed.is_none() && self.wanted.is_none() {
            self.due = Some(self.due.unwrap_or(now + FIRST_WORD_AFTER));
        } else {
            self.due = Some(now + self.pause_delay);
        }
        None
    }

    fn commit(&mut self) -> Option<Wanted> {
        self.due = None;
        self.committed = Some(self.wanted);
        self.committed
    }
}

/// The message that tells a publisher. Both forms are filled: old clients read the first.
pub(super) fn message(
    track_sid: &str,
    mime: &str,
    wanted: Wanted,
) -> livekit::SubscribedQualityUpdate {
    let qualities: Vec<_> = (0..3_u8)
        .map(|quality| livekit::SubscribedQuality {
            quality: i32::from(quality),
            enabled: wanted.is_some_and(|max| quality <= max),
        })
        .collect();
    let codec = mime.rsplit('/').next().unwrap_or_default();
    livekit::SubscribedQualityUpdate {
        track_sid: track_sid.to_owned(),
        subscribed_codecs: vec![livekit::SubscribedCodec {
            codec: codec.to_ascii_lowercase(),
            qualities: qualities.clone(),
        }],
        subscribed_qualities: qualities,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn an_upgrade_is_told_at_once_and_a_downgrade_after_five_seconds() {
        let start = crate::room::tests::first_moment();
        let mut demand = Demand::new(DELAY, false, start);
        assert_eq!(demand.set_wanted(Some(2), start), Some(Some(2)));
        assert_eq!(demand.set_wanted(Some(0), after(start, 1000)), None);
        assert_eq!(demand.handle_deadline(after(start, 5999)), None);
        assert_eq!(demand.handle_deadline(after(start, 6000)), Some(Some(0)));
        assert_eq!(
            demand.set_wanted(Some(1), after(start, 6001)),
            Some(Some(1))
        );
    }

    #[test]
    fn a_downgrade_taken_back_in_time_is_never_told() {
        let start = crate::room::tests::first_moment();
        let mut demand = Demand::new(DELAY, false, start);
        let _ = demand.set_wanted(Some(2), start);
        let _ = demand.set_wanted(None, after(start, 100));
        assert_eq!(demand.set_wanted(Some(2), after(start, 4000)), None);
        assert_eq!(demand.deadline(), None);
    }

    #[test]
    fn a_track_nobody_wants_is_switched_off_after_ten_seconds() {
        let start = crate::room::tests::first_moment();
        let mut demand = Demand::new(DELAY, false, start);
        assert_eq!(demand.handle_deadline(after(start, 9_999)), None);
        assert_eq!(demand.handle_deadline(after(start, 10_000)), Some(None));
        assert!(demand.is_off());
    }

    #[test]
    fn silence_means_everything_so_a_low_first_wish_is_a_downgrade() {
        let start = crate::room::tests::first_moment();
        let mut demand = Demand::new(DELAY, false, start);
        assert_eq!(demand.set_wanted(Some(0), start), None);
        assert_eq!(demand.deadline(), Some(after(start, 5000)));
        assert_eq!(demand.set_wanted(Some(2), after(start, 300)), Some(Some(2)));
    }

    #[test]
    fn a_muted_publisher_hears_nothing_and_the_committed_state_again_on_unmute() {
        let start = crate::room::tests::first_moment();
        let mut demand = Demand::new(DELAY, false, start);
        let _ = demand.set_wanted(Some(1), start);
        assert_eq!(demand.handle_deadline(after(start, 5000)), Some(Some(1)));
        assert_eq!(demand.set_muted(true, after(start, 6000)), None);
        assert_eq!(demand.set_wanted(Some(0), after(start, 6100)), None);
        assert_eq!(demand.handle_deadline(after(start, 60_000)), None);
        assert_eq!(demand.set_muted(false, after(start, 61_000)), Some(Some(1)));
        assert_eq!(demand.handle_deadline(after(start, 66_000)), Some(Some(0)));
    }

    #[test]
    fn the_message_lists_low_medium_high_in_both_forms() {
        let message = message("TR_1", "video/VP8", Some(1));
        let enabled = |list: &[livekit::SubscribedQuality]| {
            list.iter()
                .map(|q| (q.quality, q.enabled))
                .collect::<Vec<_>>()
        };
        let expected = vec![(0, true), (1, true), (2, false)];
        assert_eq!(message.subscribed_codecs[0].codec, "vp8");
        assert_eq!(enabled(&message.subscribed_codecs[0].qualities), expected);
        assert_eq!(enabled(&message.subscribed_qualities), expected);
    }
}
