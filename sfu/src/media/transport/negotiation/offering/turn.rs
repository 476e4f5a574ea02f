//! When our next offer goes out: one at a time, and not for each change on its own.
//!
//! Owns the debounce, the offer that waits for its answer and how long it may. It knows no section:
//! `offering.rs` tells it what happened. (LK: signalling §4.4, §4.5)

use std::time::{Duration, Instant};

/// Debounce when the last negotiation is long past.
const SHORT_DELAY: Duration = Duration::from_millis(10);
/// Debounce right after a negotiation.
const LONG_DELAY: Duration = Duration::from_millis(150);
/// How long a connected client may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// A change waits for an offer; it goes out at this time.
    due: Option<Instant>,
    /// The last offer or answer.
    last: Option<Instant>,
    /// An offer is with the client, since then.
    outstanding: Option<Instant>,
    /// Something changed since: another offer follows the answer.
    again: bool,
}

impl Turn {
    /// Something changed that only a new offer can carry.
    pub(super) fn trigger(&mut self, now: Instant) {
        if self.outstanding.is_some() {
            self.again = true;
            return;
        }
        let recent = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) <= LONG_DELAY);
        let delay = if recent { LONG_DELAY } else { SHORT_DELAY };
        self.due.get_or_insert(now + delay);
    }

    /// Offer at once, or as soon as the client has answered.
    pub(super) fn force(&mut self, now: Instant) {
        if self.outstanding.is_some() {
            self.again = true;
        } else {
            self.due = Some(now);
        }
    }

    /// The outstanding offer counts for nothing any more.
    pub(super) const fn withdraw(&mut self) {
        self.outstanding = None;
        self.again = false;
    }

    /// Is it time to offer? Then the offer counts as made.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
            self.last = Some(now);
            self.outstanding = Some(now);
        }
        due
    }

    /// The client has answered.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        self.outstanding = None;
        self.last = Some(now);
        if std::mem::take(&mut self.again) {
            self.due = Some(now);
        }
    }

    /// Is an offer with the client?
    pub(super) const fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Has a connected client let its time pass? Told once for each time it has.
    pub(super) fn poll_overdue(&mut self, connected: bool, now: Instant) -> bool {
        let Some(since) = self.outstanding else {
            return false;
        };
        if now < since + ANSWER_WITHIN {
            return false;
        }
        self.outstanding = Some(now);
        connected
    }

    /// When to poll.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let overdue = self.outstanding.map(|since| since + ANSWER_WITHIN);
        self.due.into_iter().chain(overdue).min()
    }
}
