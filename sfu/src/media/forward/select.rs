//! Which layer of an upstream one subscriber gets, and when it may change.
//!
//! Owns the current layer and the aim. Never numbers a packet; a switch it proposes counts only
//! once [`Selector::handle_switched`] says that the rewriter accepted it. Used by the downstream.

use crate::media::message::Wish;
use crate::media::packet::{CodecInfo, Packet};
use std::time::{Duration, Instant};

/// How long a start waits for a key frame of the wanted layer, if that lives; after that any layer
/// will do. One that does not live, because the publisher's uplink is too narrow or dynacast has
/// switched it off, is not waited for at all. (LK: sfu-media §2.4, EnableStartAtDesiredQuality)
const HOLD: Duration = Duration::from_secs(1);

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It belongs to the current layer.
    Follow {
        /// Its temporal layer is not wanted: leave it out if the numbering allows.
        filter: bool,
    },
    /// The current layer may become this packet's, beginning with it.
    Switch,
    /// It belongs to another layer.
    Drop,
}

/// The layer selector. Audio has one layer and may begin at any packet.
#[derive(Debug, Clone)]
pub struct Selector {
    video: bool,
    wish: Wish,
    /// Bit mask of the spatial layers the track was negotiated with.
    negotiated: u8,
    /// Bit mask of those that live, as last told.
    alive: u8,
    current: Option<u8>,
    /// Highest temporal layer forwarded now.
    temporal: u8,
    /// While nothing is current: until when only the wanted layer may begin.
    hold_until: Option<Instant>,
}

impl Selector {
    /// A selector with nothing current. `negotiated` is a bit mask of spatial layers.
    #[must_use]
    pub fn new(video: bool, negotiated: u8, wish: Wish) -> Self {
        Self {
            video,
            wish,
            negotiated: if negotiated == 0 { 1 } else { negotiated },
            alive: 0,
            current: None,
            temporal: 0,
            hold_until: None,
        }
    }

    /// Changes what is wanted.
    pub fn handle_wish(&mut self, wish: Wish) {
        self.wish = wish;
    }

    /// The current layer ended: mute, pause or restart. The next one begins at a key frame.
    pub fn handle_ended(&mut self) {
        self.current = None;
        self.hold_until = None;
    }

    /// The rewriter accepted a switch to `spatial`; after a key frame every temporal layer decodes.
    pub fn handle_switched(&mut self, spatial: u8) {
        self.current = Some(spatial);
        self.temporal = self.wish.temporal;
        self.hold_until = None;
    }

    /// Which layers live, as far as known before the first packet: a key frame can be asked for.
    pub const fn handle_layers(&mut self, alive: u8) {
        self.alive = alive;
    }

    /// What to do with `packet`. `fresh` says that it is newer than all forwarded of its layer.
    pub fn choose(&mut self, packet: &Packet, alive: u8, fresh: bool, now: Instant) -> Choice {
        self.alive = alive;
        if self.current == Some(packet.spatial) {
            return Choice::Follow {
                filter: self.filters(packet, fresh),
            };
        }
        if self.current.is_none() && self.alive != 0 && self.hold_until.is_none() {
            self.hold_until = now.checked_add(HOLD);
        }
        // The packets after a late one are gone already: it cannot begin anything.
        if packet.late || !self.wish.enabled {
            return Choice::Drop;
        }
        if !self.video || (packet.key_frame && self.may_begin(packet.spatial, now)) {
            return Choice::Switch;
        }
        Choice::Drop
    }

    /// Is the packet of an unwanted temporal layer? Goes up by one at a frame that depends on the
    /// base layer only, down at any frame's start.
    fn filters(&mut self, packet: &Packet, fresh: bool) -> bool {
        let CodecInfo::Vp8(descriptor) = packet.codec else {
            return false;
        };
        let Some(temporal) = descriptor.temporal else {
            return false;
        };
        let target = self.wish.temporal;
        if fresh && descriptor.frame_start {
            let step = temporal.sync && temporal.layer == self.temporal.saturating_add(1);
            if packet.key_frame || target < self.temporal {
                self.temporal = target;
            } else if step && temporal.layer <= target {
                self.temporal = temporal.layer;
            }
        }
        temporal.layer > self.temporal
    }

    /// May a key frame of `spatial` become the current layer?
    fn may_begin(&self, spatial: u8, now: Instant) -> bool {
        let Some(current) = self.current else {
            return !self.holds(now) || spatial == self.aim();
        };
        self.target(now).is_some_and(|target| {
            (current < spatial && spatial <= target) || (target <= spatial && spatial < current)
        })
    }

    fn holds(&self, now: Instant) -> bool {
        has(self.alive, self.aim()) && self.hold_until.is_none_or(|until| now < until)
    }

    /// The negotiated layer nearest to the wish: below if there is one, else the lowest.
    fn aim(&self) -> u8 {
        nearest(self.negotiated, self.wish.spatial).unwrap_or(0)
    }

    /// The layer to be on: the aim if it lives, or while a start waits for it; else the best that
    /// lives.
    fn target(&self, now: Instant) -> Option<u8> {
        let aim = self.aim();
        if self.current.is_none() && self.holds(now) {
            return Some(aim);
        }
        nearest(self.alive, aim)
    }

    /// The layer whose key frame is waited for.
    #[must_use]
    pub fn wants_key_frame(&self, now: Instant) -> Option<u8> {
        if !self.video || !self.wish.enabled {
            return None;
        }
        let target = self.target(now)?;
        (self.current != Some(target) && has(self.alive, target)).then_some(target)
    }

    /// When [`Selector::wants_key_frame`] may change by time alone.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.hold_until
            .filter(|until| self.video && self.current.is_none() && *until > now)
    }

    /// The layer being forwarded.
    #[must_use]
    pub const fn current(&self) -> Option<u8> {
        self.current
    }

    /// What the subscriber wants.
    #[must_use]
    pub const fn wish(&self) -> Wish {
        self.wish
    }

    /// The highest layer in use: wanted, or still flowing until a switch. `None` when paused.
    #[must_use]
    pub fn highest_in_use(&self) -> Option<u8> {
        self.wish
            .enabled
            .then(|| self.current.unwrap_or(0).max(self.aim()))
    }

    /// Spatial layers missing between what is wanted and what flows, for the quality score.
    #[must_use]
    pub fn missing_layers(&self) -> u8 {
        let aim = self.aim();
        self.current.map_or(0, |c| aim.saturating_sub(c))
    }
}

const fn has(mask: u8, layer: u8) -> bool {
    layer < 8 && mask & (1 << layer) != 0
}

/// The highest layer of `mask` not above `wanted`, else the lowest.
fn nearest(mask: u8, wanted: u8) -> Option<u8> {
    let below = (0..=wanted.min(7)).rev().find(|layer| has(mask, *layer));
    below.or_else(|| (0..8).find(|layer| has(mask, *layer)))
}

#[cfg(test)]
mod tests;
