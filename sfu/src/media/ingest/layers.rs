//! Which layers of a track are alive, and how many bits each takes.
//!
//! Owns LiveKit's packet tracker per spatial layer and a byte count per temporal layer. Never looks
//! at pictures. Called by `track`; asked by whoever selects a layer. (LK: sfu-media §1.10)

use crate::units::Bitrate;
use std::time::{Duration, Instant};

/// Temporal layers a VP8 descriptor can name.
pub const TEMPORAL_LAYERS: usize = 4;

/// When a layer counts as alive. (LK: sfu-media §1.10)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Length of a cycle.
    pub cycle: Duration,
    /// Packets that make a cycle good.
    pub packets: u32,
    /// Good cycles that revive a stopped layer.
    pub cycles: u32,
    /// How often the bit rate is taken.
    pub bitrate_every: Duration,
}

impl Rule {
    const CAMERA_LOW: Self = Self {
        cycle: Duration::from_millis(500),
        packets: 1,
        cycles: 4,
        bitrate_every: Duration::from_secs(1),
    };
    const CAMERA_HIGH: Self = Self {
        packets: 5,
        cycles: 20,
        ..Self::CAMERA_LOW
    };
    const SCREEN: Self = Self {
        cycle: Duration::from_secs(2),
        packets: 1,
        cycles: 1,
        bitrate_every: Duration::from_secs(4),
    };

    /// The rule of a spatial layer.
    #[must_use]
    pub const fn of(spatial: u8, screen_share: bool) -> Self {
        match (screen_share, spatial) {
            (true, _) => Self::SCREEN,
            (false, 0) => Self::CAMERA_LOW,
            (false, _) => Self::CAMERA_HIGH,
        }
    }
}

/// A change of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is alive now.
    Started,
    /// It is not any more.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came since the start or the last reset: the first packet starts the layer.
    Waiting,
    Alive,
    /// Stopped by silence: only `good` cycles in a row revive it.
    Stopped {
        good: u32,
    },
    /// Muted: whatever it was, it counts neither as started nor as stopped.
    Paused {
        was_alive: bool,
    },
    /// The publisher was asked not to send it.
    Unexpected,
}

/// Bytes of a layer by temporal layer, and the rates of the last window.
#[derive(Debug, Default)]
struct Rates {
    bytes: [u64; TEMPORAL_LAYERS],
    since: Option<Instant>,
    rates: [Bitrate; TEMPORAL_LAYERS],
}

impl Rates {
    /// Closes the window if it is long enough; each rate includes the layers below it.
    fn roll(&mut self, every: Duration, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let span = now.saturating_duration_since(since);
        if span < every {
            return;
        }
        let mut sum = 0u64;
        for (bytes, rate) in self.bytes.iter().zip(&mut self.rates) {
            sum += bytes;
            *rate = Bitrate::of(sum, span);
        }
        self.bytes = [0; TEMPORAL_LAYERS];
        self.since = Some(now);
    }
}

/// One spatial layer.
#[derive(Debug)]
pub struct LayerTracker {
    rule: Rule,
    state: State,
    packets: u32,
    cycle_ends: Option<Instant>,
    rates: Rates,
}

impl LayerTracker {
    /// A layer nothing came of yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            state: State::Waiting,
            packets: 0,
            cycle_ends: None,
            rates: Rates::default(),
        }
    }

    /// Is it there to be forwarded?
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, State::Alive | State::Paused { was_alive: true })
    }

    /// The bit rate up to each temporal layer, zero when not alive or not known yet.
    #[must_use]
    pub const fn bitrates(&self) -> [Bitrate; TEMPORAL_LAYERS] {
        self.rates.rates
    }

    /// A packet of the layer came.
    pub fn handle_packet(&mut self, temporal: u8, bytes: usize, now: Instant) -> Option<Change> {
        if matches!(self.state, State::Unexpected | State::Paused { .. }) {
            return None;
        }
        self.packets = self.packets.saturating_add(1);
        let temporal = usize::from(temporal).min(TEMPORAL_LAYERS - 1);
        self.rates.bytes[temporal] += bytes as u64;
        self.rates.since.get_or_insert(now);
        if self.cycle_ends.is_none() {
            self.cycle_ends = Some(now + self.rule.cycle);
        }
        if self.state == State::Waiting {
            self.state = State::Alive;
            return Some(Change::Started);
        }
        None
    }

    /// When the cycle ends.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.cycle_ends
    }

    /// Judges the cycle if it has ended.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Change> {
        if self.cycle_ends.is_none_or(|end| now < end) {
            return None;
        }
        let good = self.packets >= self.rule.packets;
        let silent = self.packets == 0;
        self.packets = 0;
        self.cycle_ends = Some(now + self.rule.cycle);
        self.rates.roll(self.rule.bitrate_every, now);
        match self.state {
            State::Alive if !good => {
                self.stop(State::Stopped { good: 0 });
                Some(Change::Stopped)
            }
            State::Stopped { good: before } => {
                let count = if good { before + 1 } else { 0 };
                if count >= self.rule.cycles {
                    self.state = State::Alive;
                    return Some(Change::Started);
                }
                self.state = State::Stopped { good: count };
                if silent {
                    // The next packet starts a cycle; silence needs no timer.
                    self.cycle_ends = None;
                }
                None
            }
            _ => None,
        }
    }

    /// The first packet from now on starts the layer: after a start, an unmute, or when dynacast
    /// asks for it again. (LK: sfu-media §9 trap 8)
    pub fn reset(&mut self) {
        self.stop(State::Waiting);
    }

    /// The publisher muted the track: neither started nor stopped until unmuted.
    pub fn pause(&mut self) {
        if self.state != State::Unexpected {
            let was_alive = self.is_alive();
            self.stop(State::Paused { was_alive });
        }
    }

    /// The opposite: the first packet starts the layer.
    pub fn resume(&mut self) {
        if matches!(self.state, State::Paused { .. }) {
            self.stop(State::Waiting);
        }
    }

    /// Dynacast asks for the layer, or no longer. True if it was not asked for before and is now.
    pub fn expect(&mut self, expected: bool, muted: bool) -> bool {
        match (expected, self.state) {
            (true, State::Unexpected) => {
                self.stop(State::Waiting);
                if muted {
                    self.pause();
                }
                true
            }
            (false, _) => {
                self.stop(State::Unexpected);
                false
            }
            _ => false,
        }
    }

    fn stop(&mut self, state: State) {
        self.state = state;
        self.packets = 0;
        self.cycle_ends = None;
        self.rates = Rates::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Sends `count` packets at the start of each of `cycles` cycles; returns the changes with the
    /// index of their cycle.
    fn run(
        tracker: &mut LayerTracker,
        now: &mut Instant,
        cycles: u32,
        count: u32,
    ) -> Vec<(u32, Change)> {
        let mut changes = Vec::new();
        for cycle in 0..cycles {
            for _ in 0..count {
                let change = tracker.handle_packet(0, 1000, *now);
                changes.extend(change.map(|change| (cycle, change)));
            }
            *now += tracker.rule.cycle;
            let change = tracker.handle_timeout(*now);
            changes.extend(change.map(|change| (cycle, change)));
        }
        changes
    }

    #[test]
    fn the_first_packet_makes_a_layer_alive_and_silence_stops_it() {
        let mut now = instant();
        let mut tracker = LayerTracker::new(Rule::of(2, false));
        assert_eq!(run(&mut tracker, &mut now, 3, 5), [(0, Change::Started)]);
        assert_eq!(run(&mut tracker, &mut now, 3, 4), [(0, Change::Stopped)]);
        assert!(!tracker.is_alive());
    }

    #[test]
    fn a_stopped_layer_needs_the_cycles_of_the_table() {
        for (spatial, screen, packets, cycles) in [
            (0, false, 1, 4),
            (1, false, 5, 20),
            (2, false, 5, 20),
            (2, true, 1, 1),
        ] {
            let mut now = instant();
            let mut tracker = LayerTracker::new(Rule::of(spatial, screen));
            run(&mut tracker, &mut now, 1, packets);
            assert_eq!(run(&mut tracker, &mut now, 1, 0), [(0, Change::Stopped)]);
            let revived = run(&mut tracker, &mut now, cycles + 3, packets);
            assert_eq!(revived, [(cycles - 1, Change::Started)], "layer {spatial}");
        }
    }

    #[test]
    fn a_bad_cycle_in_between_starts_the_count_over() {
        let mut now = instant();
        let mut tracker = LayerTracker::new(Rule::of(0, false));
        run(&mut tracker, &mut now, 1, 1);
        run(&mut tracker, &mut now, 1, 0);
        assert_eq!(run(&mut tracker, &mut now, 3, 1), []);
        assert_eq!(run(&mut tracker, &mut now, 1, 0), []);
        assert_eq!(tracker.poll_timeout(), None, "silence needs no timer");
        assert_eq!(run(&mut tracker, &mut now, 4, 1), [(3, Change::Started)]);
    }

    #[test]
    fn a_layer_dynacast_raises_starts_with_its_first_packet() {
        let mut now = instant();
        let mut tracker = LayerTracker::new(Rule::of(2, false));
        run(&mut tracker, &mut now, 2, 5);
        assert!(!tracker.expect(true, false), "expected from the start");
        assert!(tracker.is_alive());
        tracker.expect(false, false);
        assert!(!tracker.is_alive(), "removed at once");
        assert_eq!(tracker.handle_packet(0, 1, now), None);
        assert!(tracker.expect(true, false));
        assert_eq!(tracker.handle_packet(0, 1, now), Some(Change::Started));
    }

    #[test]
    fn mute_stops_nothing_and_unmute_starts_with_the_first_packet() {
        let mut now = instant();
        let mut tracker = LayerTracker::new(Rule::of(2, false));
        run(&mut tracker, &mut now, 2, 5);
        tracker.pause();
        assert_eq!(tracker.poll_timeout(), None);
        assert_eq!(tracker.handle_timeout(now + ms(60_000)), None);
        assert!(tracker.is_alive());
        tracker.resume();
        assert_eq!(tracker.handle_packet(0, 1, now), Some(Change::Started));
        tracker.pause();
        tracker.expect(false, true);
        tracker.expect(true, true);
        assert_eq!(tracker.handle_packet(0, 1, now), None, "still muted");
        assert!(!tracker.is_alive());
    }

    #[test]
    fn a_rate_includes_the_temporal_layers_below() {
        let mut now = instant();
        let mut tracker = LayerTracker::new(Rule::of(0, false));
        for temporal in [0, 1, 2, 9] {
            tracker.handle_packet(temporal, 125, now);
        }
        now += ms(500);
        tracker.handle_timeout(now);
        tracker.handle_packet(0, 125, now);
        assert_eq!(
            tracker.bitrates()[0],
            Bitrate::ZERO,
            "not known before a second"
        );
        now += ms(500);
        tracker.handle_timeout(now);
        let bps = tracker.bitrates().map(Bitrate::bps);
        assert_eq!(bps, [2000, 3000, 4000, 5000]);
    }
}
