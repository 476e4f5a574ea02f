//! How loud an audio track is, from the level in its packets' headers (RFC 6464).
//!
//! Owns LiveKit's rule, whose result clients see: loudest level of an interval, weighted by the
//! share of it that was active, smoothed, in eighths. Tells changes only. Called by `track`; clear
//! under end-to-end encryption. (LK: sfu-media §1.11)

use crate::units::RtpTime;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// When audio counts as speech; the `audio:` section of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LevelConfig {
    /// -dBov; at this or below (louder) a packet is active.
    pub active_level: u8,
    /// Share of an interval that must be active, in percent.
    pub min_percentile: u8,
    /// Length of an interval.
    pub update_interval: Duration,
    /// Intervals the smoothing reaches over.
    pub smooth_intervals: u32,
}

impl Default for LevelConfig {
    fn default() -> Self {
        Self {
            active_level: 35,
            min_percentile: 40,
            update_interval: Duration::from_millis(400),
            smooth_intervals: 2,
        }
    }
}

/// A loudness as clients are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loudness {
    /// Linear, in eighths, rounded up; 0 unless active.
    pub eighths: u8,
    /// Loud enough to count as speaking.
    pub active: bool,
}

/// The interval being observed.
#[derive(Debug, Clone, Copy)]
struct Interval {
    observed: Duration,
    active: Duration,
    loudest: u8,
}

impl Interval {
    const EMPTY: Self = Self {
        observed: Duration::ZERO,
        active: Duration::ZERO,
        loudest: u8::MAX,
    };
}

/// The meter of one audio track.
#[derive(Debug)]
pub struct LevelMeter {
    config: LevelConfig,
    rate: u32,
    interval: Interval,
    last_time: Option<RtpTime>,
    last_packet: Option<Instant>,
    smoothed: f64,
    told: Loudness,
}

impl LevelMeter {
    /// A silent meter for a stream with this clock rate in Hz.
    #[must_use]
    pub const fn new(config: LevelConfig, rate: u32) -> Self {
        Self {
            config,
            rate,
            interval: Interval::EMPTY,
            last_time: None,
            last_packet: None,
            smoothed: 0.0,
            told: Loudness {
                eighths: 0,
                active: false,
            },
        }
    }

    /// A packet in order came with this level (0 loudest, 127 silence).
    pub fn handle_packet(&mut self, level: u8, time: RtpTime, now: Instant) {
        self.last_packet = Some(now);
        let Some(last) = self.last_time.replace(time) else {
            return;
        };
        let ticks = time.0.saturating_sub(last.0);
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.rate.max(1));
        // A pause must not count as one endless packet.
        let span = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            .min(self.config.update_interval);
        self.interval.observed += span;
        if level <= self.config.active_level {
            self.interval.active += span;
            self.interval.loudest = self.interval.loudest.min(level);
        }
        if self.interval.observed >= self.config.update_interval {
            self.finish_interval();
        }
    }

    fn finish_interval(&mut self) {
        let Interval {
            observed,
            active,
            loudest,
        } = std::mem::replace(&mut self.interval, Interval::EMPTY);
        let share = active.as_secs_f64() / observed.as_secs_f64();
        let enough = share * 100.0 >= f64::from(self.config.min_percentile);
        // 20 log10 of the share in decibels is the share itself as a factor.
        let linear = if enough && share > 0.0 {
            linear(f64::from(loudest)) * share
        } else {
            0.0
        };
        let factor = 2.0 / (f64::from(self.config.smooth_intervals) + 1.0);
        self.smoothed += (linear - self.smoothed) * factor;
    }

    /// When a silent stream becomes stale.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last_packet?;
        Some(last + 2 * self.config.update_interval)
    }

    /// Falls silent if no packet came for two intervals.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| now >= due) {
            self.reset();
        }
    }

    /// Silence from now on: stale, or muted.
    pub const fn reset(&mut self) {
        self.interval = Interval::EMPTY;
        self.last_time = None;
        self.last_packet = None;
        self.smoothed = 0.0;
    }

    /// The loudness, if it changed since it was last told.
    pub fn poll_change(&mut self) -> Option<Loudness> {
        let loudness = self.loudness();
        if loudness == self.told {
            return None;
        }
        self.told = loudness;
        Some(loudness)
    }

    fn loudness(&self) -> Loudness {
        let active = self.smoothed >= linear(f64::from(self.config.active_level));
        if !active {
            return Loudness::default();
        }
        Loudness {
            eighths: (self.smoothed * 8.0).ceil().clamp(0.0, 8.0) as u8,
            active,
        }
    }
}

/// Decibels below full scale as a factor.
fn linear(dbov: f64) -> f64 {
    10f64.powf(-dbov / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    /// Feeds 20 ms packets of the given levels; returns every change told.
    fn feed(meter: &mut LevelMeter, levels: impl IntoIterator<Item = u8>) -> Vec<Loudness> {
        let mut now = instant();
        let mut time = meter.last_time.unwrap_or(RtpTime(1 << 32));
        let mut told = Vec::new();
        for level in levels {
            now += Duration::from_millis(20);
            time = RtpTime(time.0 + 960);
            meter.handle_packet(level, time, now);
            told.extend(meter.poll_change());
        }
        told
    }

    fn meter() -> LevelMeter {
        LevelMeter::new(LevelConfig::default(), 48_000)
    }

    const fn loud(eighths: u8) -> Loudness {
        Loudness {
            eighths,
            active: true,
        }
    }

    #[test]
    fn full_scale_rises_to_eight_eighths_by_smoothing() {
        // 0.667, 0.889, 0.963 of full scale: 6, 8 (rounded up), 8 eighths.
        assert_eq!(feed(&mut meter(), [0; 61]), [loud(6), loud(8)]);
    }

    #[test]
    fn a_level_is_smoothed_and_rounded_up_to_eighths() {
        // -17 dBov is 0.141 of full scale: 0.094 after one interval, below one eighth, then 0.126.
        assert_eq!(feed(&mut meter(), [17; 81]), [loud(1), loud(2)]);
    }

    #[test]
    fn speech_for_less_than_forty_percent_of_an_interval_is_silence() {
        let levels = |active: usize| (0..=20).map(move |i| if i <= active { 10 } else { 127 });
        assert_eq!(feed(&mut meter(), levels(7)), []);
        assert_eq!(feed(&mut meter(), levels(8)).len(), 1);
    }

    #[test]
    fn a_level_quieter_than_the_threshold_is_not_active() {
        assert_eq!(feed(&mut meter(), [36; 200]), []);
        // At the threshold itself the smoothed value never quite reaches it.
        assert_eq!(feed(&mut meter(), [34; 200]), [loud(1)]);
    }

    #[test]
    fn silence_after_speech_is_told_once_as_zero() {
        let mut meter = meter();
        feed(&mut meter, [10; 41]);
        let silence = feed(&mut meter, [127; 200]);
        let quiet = silence.iter().filter(|told| !told.active).count();
        assert_eq!(quiet, 1);
        assert_eq!(silence.last(), Some(&Loudness::default()));
    }

    #[test]
    fn a_jump_of_the_timestamp_counts_as_one_interval_at_most() {
        let now = instant();
        let mut meter = meter();
        meter.handle_packet(127, RtpTime(0), now);
        meter.handle_packet(127, RtpTime(47 * 400), now);
        // An hour's jump: were it all speech, what came before would not matter.
        meter.handle_packet(0, RtpTime(48_000 * 3600), now);
        // Half the observed time was loud: 0.505 x 0.667 of full scale.
        assert_eq!(meter.poll_change(), Some(loud(3)));
    }

    #[test]
    fn a_stream_without_packets_for_two_intervals_is_silent() {
        let mut meter = meter();
        let told = feed(&mut meter, [5; 41]);
        assert!(told.last().is_some_and(|told| told.active));
        let due = meter.poll_timeout().expect("armed");
        meter.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(meter.poll_change(), None);
        meter.handle_timeout(due);
        assert_eq!(meter.poll_change(), Some(Loudness::default()));
        assert_eq!(meter.poll_timeout(), None);
    }

    proptest! {
        #[test]
        fn any_levels_and_times_keep_within_eight(
            packets in proptest::collection::vec((any::<u8>(), any::<u64>()), 0..200),
        ) {
            let now = instant();
            let mut meter = meter();
            for (level, time) in packets {
                meter.handle_packet(level, RtpTime(time), now);
                if let Some(loudness) = meter.poll_change() {
                    prop_assert!(loudness.eighths <= 8);
                    prop_assert_eq!(loudness.active, loudness.eighths > 0);
                }
            }
        }
    }
}
