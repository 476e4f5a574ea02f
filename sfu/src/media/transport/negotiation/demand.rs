//! When to ask the client for a new offer, and for how many more receiving sections.
//!
//! Owns the debounce and what was asked already. It knows no section and no track: `negotiation.rs`
//! tells it what happened and what is missing. (LK: signalling §4.4)

use crate::ids::MediaKind;
use std::time::{Duration, Instant};

/// Debounce when the last negotiation is long past.
const SHORT_DELAY: Duration = Duration::from_millis(10);
/// Debounce right after a negotiation.
const LONG_DELAY: Duration = Duration::from_millis(150);
/// How long sections we asked for may be missing from offers. A client's own offer often crosses
/// our request; asking again at once would leave it with sections nobody needs, for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// A number of sections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sections {
    /// Audio sections.
    pub(super) audio: u32,
    /// Video sections.
    pub(super) video: u32,
}

impl Sections {
    /// None of either.
    pub(super) const NONE: Self = Self { audio: 0, video: 0 };

    /// One more of a kind.
    pub(super) fn add(&mut self, kind: MediaKind) {
        let count = match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        };
        *count = count.saturating_add(1);
    }

    /// What of `self` is not in `other`.
    const fn minus(self, other: Self) -> Self {
        Self {
            audio: self.audio.saturating_sub(other.audio),
            video: self.video.saturating_sub(other.video),
        }
    }

    /// At most `room` in all, audio first.
    fn capped(self, room: usize) -> Self {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let audio = self.audio.min(room);
        Self {
            audio,
            video: self.video.min(room - audio),
        }
    }
}

/// What we still want of the client.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// A change waits for an offer; ask at this time.
    due: Option<Instant>,
    /// The last answer or request.
    last: Option<Instant>,
    /// Sections asked for and not seen yet, and since when.
    asked: Sections,
    asked_at: Option<Instant>,
    /// A new offer was asked for and has not come.
    offer_asked: bool,
}

impl Demand {
    /// Something changed that only a new offer can carry.
    pub(super) fn trigger(&mut self, now: Instant) {
        let recent = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) <= LONG_DELAY);
        let delay = if recent { LONG_DELAY } else { SHORT_DELAY };
        self.due.get_or_insert(now + delay);
    }

    /// An offer with `new` receiving sections was answered: all that was pending is in the answer.
    pub(super) fn handle_answered(&mut self, new: Sections, ice_restart: bool, now: Instant) {
        self.due = None;
        self.last = Some(now);
        self.offer_asked = false;
        self.asked = self.asked.minus(new);
        let late = self
            .asked_at
            .is_some_and(|at| now.saturating_duration_since(at) > PATIENCE);
        // A resume may have lost our request with the old connection.
        if late || ice_restart {
            self.asked = Sections::NONE;
        }
    }

    /// Would [`Self::poll`] ask for sections if `missing` are?
    pub(super) fn lacks(&self, missing: Sections, room: usize) -> bool {
        missing.minus(self.asked).capped(room) != Sections::NONE
    }

    /// What to ask for now, `missing` being what the next offer cannot place as it is and `room` how
    /// many sections a client may still add.
    pub(super) fn poll(
        &mut self,
        missing: Sections,
        room: usize,
        now: Instant,
    ) -> Option<Sections> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        let request = missing.minus(self.asked).capped(room);
        if request != Sections::NONE {
            self.asked.audio = self.asked.audio.saturating_add(request.audio);
            self.asked.video = self.asked.video.saturating_add(request.video);
            self.asked_at = Some(now);
        } else if self.offer_asked || self.asked != Sections::NONE {
            return None;
        }
        self.offer_asked = true;
        self.last = Some(now);
        Some(request)
    }

    /// When to poll.
    pub(super) const fn timeout(&self) -> Option<Instant> {
        self.due
    }
}
