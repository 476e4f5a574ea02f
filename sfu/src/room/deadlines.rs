//! Every moment a room waits for, in one place.
//!
//! Owns the order of deadlines and that each thing has at most one, which bounds their number by
//! that of participants, subscriptions and tracks. Knows nothing of what is done when one comes.

use crate::ids::{PeerId, TrackKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// Nobody ever joined.
    Empty,
    /// Everybody left.
    Departure,
    /// Queued participant updates go out.
    Roster,
    /// Changed speakers go out.
    Speakers,
    /// Changed connection qualities go out.
    Quality,
    /// Changed participant counts go out.
    Counts,
    /// A participant must have become connected.
    Join(PeerId),
    /// A participant whose media was lost must have resumed.
    Grace(PeerId),
    /// A participant's media must have come by what is preferred.
    Trial(PeerId),
    /// A participant gets a fresh token.
    Token(PeerId),
    /// The oldest of a participant's wishes for tracks that do not exist runs out.
    Missing(PeerId),
    /// A simulated speaker falls silent.
    Speech(PeerId),
    /// A subscriber's settings of a track are applied.
    Settle(PeerId, TrackKey),
    /// A subscription must have been bound.
    Bind(PeerId, TrackKey),
    /// A publisher may be asked for less.
    Demand(TrackKey),
}

impl Deadline {
    fn concerns(self, peer: PeerId) -> bool {
        match self {
            Self::Empty
            | Self::Departure
            | Self::Roster
            | Self::Speakers
            | Self::Quality
            | Self::Counts => false,
            Self::Join(of)
            | Self::Grace(of)
            | Self::Trial(of)
            | Self::Token(of)
            | Self::Missing(of)
            | Self::Speech(of) => of == peer,
            Self::Settle(of, track) | Self::Bind(of, track) => of == peer || track.peer == peer,
            Self::Demand(track) => track.peer == peer,
        }
    }
}

/// All deadlines of a room.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    order: BTreeSet<(Instant, Deadline)>,
    times: BTreeMap<Deadline, Instant>,
}

impl Deadlines {
    /// Sets a deadline, in place of an earlier setting.
    pub(super) fn set(&mut self, what: Deadline, at: Instant) {
        self.clear(what);
        self.times.insert(what, at);
        self.order.insert((at, what));
    }

    /// Sets a deadline that is not already set.
    pub(super) fn set_if_absent(&mut self, what: Deadline, at: Instant) {
        if !self.times.contains_key(&what) {
            self.set(what, at);
        }
    }

    /// Sets or clears a deadline.
    pub(super) fn put(&mut self, what: Deadline, at: Option<Instant>) {
        match at {
            Some(at) => self.set(what, at),
            None => self.clear(what),
        }
    }

    /// Forgets a deadline.
    pub(super) fn clear(&mut self, what: Deadline) {
        if let Some(at) = self.times.remove(&what) {
            self.order.remove(&(at, what));
        }
    }

    /// Forgets all deadlines of a participant and of its tracks.
    pub(super) fn clear_peer(&mut self, peer: PeerId) {
        self.order.retain(|(_, what)| !what.concerns(peer));
        self.times.retain(|what, _| !what.concerns(peer));
    }

    /// Is it set?
    pub(super) fn is_set(&self, what: Deadline) -> bool {
        self.times.contains_key(&what)
    }

    /// Takes the earliest deadline that has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        let (at, what) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(what);
        Some(what)
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// How many are set.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PEER: PeerId = PeerId {
        worker: 0,
        slot: 1,
        generation: 0,
    };

    #[test]
    fn deadlines_come_in_the_order_of_time_and_only_when_due() {
        let start = crate::room::tests::first_moment();
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::Empty, start + Duration::from_secs(2));
        deadlines.set(Deadline::Join(PEER), start + Duration::from_secs(1));
        assert_eq!(deadlines.pop_due(start), None);
        let late = start + Duration::from_secs(3);
        assert_eq!(deadlines.pop_due(late), Some(Deadline::Join(PEER)));
        assert_eq!(deadlines.pop_due(late), Some(Deadline::Empty));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_thing_has_one_deadline_however_often_it_is_set() {
        let start = crate::room::tests::first_moment();
        let mut deadlines = Deadlines::default();
        for second in 0..10 {
            deadlines.set(Deadline::Roster, start + Duration::from_secs(second));
        }
        assert_eq!(deadlines.len(), 1);
        assert_eq!(deadlines.next(), Some(start + Duration::from_secs(9)));
    }

    #[test]
    fn a_peer_takes_its_deadlines_and_those_of_its_tracks_along() {
        let start = crate::room::tests::first_moment();
        let other = PeerId { slot: 2, ..PEER };
        let track = TrackKey {
            peer: PEER,
            index: 0,
        };
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::Bind(other, track), start);
        deadlines.set(Deadline::Demand(track), start);
        deadlines.set(Deadline::Token(other), start);
        deadlines.clear_peer(PEER);
        assert_eq!(deadlines.pop_due(start), Some(Deadline::Token(other)));
        assert_eq!(deadlines.len(), 0);
    }
}
