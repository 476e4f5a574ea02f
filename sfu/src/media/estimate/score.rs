//! The quality score of one stream in one direction, as LiveKit's clients see it.
//!
//! Owns the smoothing and the usual packet rate of one stream. Never collects statistics nor keeps
//! time: whoever owns the stream hands in a window of five seconds. Called by the peer for what it
//! publishes (from reception) and for what it receives (from receiver reports). (LK: sfu-media §5)

use crate::config::codecs::Codec;
use std::time::Duration;

/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(5);
/// Nothing is wrong.
pub const PERFECT: u8 = 100;
/// The worst a stream with packets can get, and what a paused one has.
pub const FLOOR: u8 = 30;
/// No packets, but RTCP still comes.
const NO_PACKETS: f64 = 40.0;
/// Nothing comes at all: at or below this a stream is lost.
const NOTHING: f64 = 20.0;
/// Cost of one missing spatial layer.
const LAYER_COST: f64 = 35.0;
/// Share of the new score while it rises, and while it falls.
const RISE: f64 = 0.4;
const FALL: f64 = 0.8;

/// The usual packet rate is taken from this many windows at least,
const RATE_MIN_READINGS: u32 = 10;
/// and taken anew after so many: two minutes. Fits the classes' eight bits.
const RATE_READINGS: u32 = 24;
/// A class of the rate histogram spans this many packets a second.
const RATE_CLASS: u64 = 2;
/// Rates beyond 512 packets a second share the last class.
const RATE_CLASSES: usize = 256;

/// What loss costs: points per percent. (LK: sfu-media §5)
#[must_use]
pub const fn loss_weight(codec: Codec, forward_error_correction: bool) -> f64 {
    match (codec, forward_error_correction) {
        (Codec::Opus, false) | (Codec::Pcmu | Codec::Pcma, _) => 8.0,
        (Codec::Opus, true) => 5.33,
        (Codec::Red, false) => 4.0,
        (Codec::Red, true) => 2.67,
        (Codec::Vp8 | Codec::H264, _) => 10.0,
    }
}

/// One window of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// How long it was.
    pub span: Duration,
    /// How much of it the stream was neither muted nor paused.
    pub active: Duration,
    /// Packets that were sent.
    pub packets: u64,
    /// Of these lost on this leg: not those missing upstream, not those repaired.
    pub lost: u64,
    /// Spatial layers missing, averaged.
    pub missing_layers: f64,
    /// No RTCP came either.
    pub rtcp_silent: bool,
}

/// The score of one stream.
#[derive(Debug)]
pub struct Scorer {
    weight: f64,
    smoothed: f64,
    told: Option<u8>,
    rates: UsualRate,
}

impl Scorer {
    /// A stream whose loss weighs as [`loss_weight`] says; perfect until proven otherwise.
    #[must_use]
    pub const fn new(weight: f64) -> Self {
        Self {
            weight,
            smoothed: PERFECT as f64,
            told: None,
            rates: UsualRate::new(),
        }
    }

    /// Judges a window; returns the score if it changed. One that was less than half active is
    /// skipped.
    pub fn handle_window(&mut self, sample: &Sample) -> Option<u8> {
        if sample.span.is_zero() || sample.active * 2 < sample.span {
            return None;
        }
        if sample.packets == 0 {
            self.smoothed = if sample.rtcp_silent {
                NOTHING
            } else {
                NO_PACKETS
            };
            return self.tell();
        }
        let rate = sample.packets as f64 / sample.span.as_secs_f64();
        let usual = self.rates.note(rate);
        let score = packet_score(sample, self.weight * rate_discount(rate, usual))
            .min(PERFECT as f64 - LAYER_COST * sample.missing_layers)
            .max(f64::from(FLOOR));
        let share = if score > self.smoothed { RISE } else { FALL };
        self.smoothed += (score - self.smoothed) * share;
        self.tell()
    }

    /// The stream was muted: nothing is wrong with it any more, unless it was lost.
    pub fn handle_mute(&mut self) -> Option<u8> {
        if self.smoothed > NOTHING {
            self.smoothed = f64::from(PERFECT);
        }
        self.tell()
    }

    /// The stream was paused for want of bandwidth.
    pub fn handle_pause(&mut self) -> Option<u8> {
        self.smoothed = f64::from(FLOOR);
        self.tell()
    }

    /// The score.
    #[must_use]
    pub fn score(&self) -> u8 {
        self.smoothed.round().clamp(0.0, f64::from(PERFECT)) as u8
    }

    fn tell(&mut self) -> Option<u8> {
        let score = self.score();
        (self.told.replace(score) != Some(score)).then_some(score)
    }
}

fn packet_score(sample: &Sample, weight: f64) -> f64 {
    let lost = sample.lost.min(sample.packets) as f64;
    f64::from(PERFECT) - 100.0 * lost / sample.packets as f64 * weight
}

/// Loss weighs less while few packets flow: silence in audio, a still screen.
fn rate_discount(rate: f64, usual: Option<f64>) -> f64 {
    usual.map_or(1.0, |usual| (rate / usual).min(1.0).sqrt())
}

/// The packet rate met most often.
#[derive(Debug)]
struct UsualRate {
    classes: [u8; RATE_CLASSES],
    readings: u32,
    usual: Option<f64>,
}

impl UsualRate {
    const fn new() -> Self {
        Self {
            classes: [0; RATE_CLASSES],
            readings: 0,
            usual: None,
        }
    }

    /// Counts a reading and returns the usual rate, once known.
    fn note(&mut self, rate: f64) -> Option<f64> {
        let class = (rate as u64 / RATE_CLASS).min(RATE_CLASSES as u64 - 1) as usize;
        self.classes[class] += 1;
        self.readings += 1;
        let first = self.usual.is_none() && self.readings == RATE_MIN_READINGS;
        if first || self.readings >= RATE_READINGS {
            // The higher rate wins a tie: it is the one without silence.
            let mode = (0..RATE_CLASSES).max_by_key(|class| (self.classes[*class], *class));
            // Middle of the class.
            self.usual = mode.map(|class| (class as u64 * RATE_CLASS) as f64 + 1.0);
        }
        if self.readings >= RATE_READINGS {
            self.classes = [0; RATE_CLASSES];
            self.readings = 0;
        }
        self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Sample = Sample {
        span: WINDOW,
        active: WINDOW,
        packets: 250,
        lost: 0,
        missing_layers: 0.0,
        rtcp_silent: false,
    };

    fn video() -> Scorer {
        Scorer::new(loss_weight(Codec::Vp8, false))
    }

    #[test]
    fn a_perfect_stream_is_told_once() {
        let mut scorer = video();
        assert_eq!(scorer.handle_window(&GOOD), Some(100));
        assert_eq!(scorer.handle_window(&GOOD), None);
    }

    #[test]
    fn loss_costs_by_codec_and_falls_faster_than_it_rises() {
        // Four percent of video: 60 points, of which 0.8 count at once and 0.4 of the way back.
        let lossy = Sample { lost: 10, ..GOOD };
        let mut scorer = video();
        assert_eq!(scorer.handle_window(&lossy), Some(68));
        assert_eq!(scorer.handle_window(&lossy), Some(62));
        assert_eq!(scorer.handle_window(&GOOD), Some(77));
        // The same loss of RED with error correction hardly matters.
        let mut red = Scorer::new(loss_weight(Codec::Red, true));
        assert_eq!(red.handle_window(&lossy), Some(91));
    }

    #[test]
    fn the_worst_of_loss_and_layers_counts_down_to_the_floor() {
        let missing = Sample {
            missing_layers: 1.0,
            lost: 1,
            ..GOOD
        };
        assert_eq!(video().handle_window(&missing), Some(72));
        let terrible = Sample { lost: 200, ..GOOD };
        let mut scorer = video();
        for _ in 0..20 {
            scorer.handle_window(&terrible);
        }
        assert_eq!(scorer.score(), FLOOR);
    }

    #[test]
    fn silence_is_judged_at_once() {
        let silent = Sample { packets: 0, ..GOOD };
        let mut scorer = video();
        assert_eq!(scorer.handle_window(&silent), Some(40));
        let dead = Sample {
            rtcp_silent: true,
            ..silent
        };
        assert_eq!(scorer.handle_window(&dead), Some(20));
        assert_eq!(scorer.handle_mute(), None, "a lost stream stays lost");
    }

    #[test]
    fn mute_pause_and_idle_windows() {
        let mut scorer = video();
        assert_eq!(scorer.handle_pause(), Some(30));
        assert_eq!(scorer.handle_mute(), Some(100));
        let mostly_muted = Sample {
            active: Duration::from_secs(2),
            packets: 0,
            ..GOOD
        };
        assert_eq!(scorer.handle_window(&mostly_muted), None);
        assert_eq!(scorer.score(), 100);
    }

    #[test]
    fn loss_weighs_less_below_the_usual_rate() {
        let mut scorer = video();
        for _ in 0..RATE_MIN_READINGS {
            scorer.handle_window(&GOOD);
        }
        // A quarter of the packets (51 is the middle of the usual class): half the weight.
        let sparse = Sample {
            packets: 64,
            lost: 4,
            ..GOOD
        };
        let expected = 100.0 - 0.8 * (62.5 * (12.8f64 / 51.0).sqrt());
        assert_eq!(scorer.handle_window(&sparse), Some(expected.round() as u8));
    }

    proptest! {
        #[test]
        fn any_window_scores_between_twenty_and_a_hundred(
            samples in proptest::collection::vec(
                (any::<u32>(), any::<u32>(), 0f64..4.0, any::<bool>(), 0u64..10_000), 1..60),
        ) {
            let mut scorer = video();
            for (packets, lost, missing_layers, rtcp_silent, millis) in samples {
                let span = Duration::from_millis(millis);
                let sample = Sample {
                    span, active: span, packets: packets.into(), lost: lost.into(),
                    missing_layers, rtcp_silent,
                };
                scorer.handle_window(&sample);
                prop_assert!((20..=100).contains(&scorer.score()));
            }
        }
    }
}
