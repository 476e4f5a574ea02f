//! Failures on purpose: the shell asks at each place that may fail whether it is to fail now.
//!
//! Owns the decisions, which follow from the seed and from how often a place was asked, and their
//! counter. Off unless configured, and then a look at a pointer. It never fails anything itself.

use crate::config::faults::{self, Point};
use crate::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Failures on purpose; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Faults(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    seed: u64,
    /// For each point how often it was asked; `None` for those that do not fail.
    asked: [Option<AtomicU64>; Point::ALL.len()],
    metrics: Metrics,
}

impl Faults {
    /// What `config` wants to fail, counted in `metrics`.
    #[must_use]
    pub fn new(config: &faults::Faults, metrics: &Metrics) -> Self {
        if config.seed == 0 {
            return Self::default();
        }
        Self(Some(Arc::new(Inner {
            seed: config.seed,
            asked: Point::ALL.map(|point| config.points.contains(&point).then(AtomicU64::default)),
            metrics: metrics.clone(),
        })))
    }

    /// Is the point to fail now?
    #[must_use]
    pub fn strike(&self, point: Point) -> bool {
        let Some(inner) = &self.0 else {
            return false;
        };
        let Some(asked) = &inner.asked[point as usize] else {
            return false;
        };
        let count = asked.fetch_add(1, Ordering::Relaxed);
        let strikes = drawn(inner.seed, point, count).is_multiple_of(point.one_in());
        if strikes {
            inner.metrics.fault_injected(point.name());
        }
        strikes
    }
}

/// A number that looks like chance: SplitMix64 over all three.
const fn drawn(seed: u64, point: Point, count: u64) -> u64 {
    let mut z = seed
        .wrapping_add((point as u64) << 56)
        .wrapping_add(count.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(seed: u64, points: &[Point]) -> Vec<(Point, u64)> {
        let config = faults::Faults {
            seed,
            points: points.to_vec(),
        };
        let faults = Faults::new(&config, &Metrics::new("ND_test"));
        let mut struck = Vec::new();
        for point in Point::ALL {
            let times = (0..100 * point.one_in()).filter(|_| faults.strike(point));
            struck.extend(times.map(|count| (point, count)));
        }
        struck
    }

    #[test]
    fn a_seed_repeats_its_failures_and_another_has_others() {
        let once = struck(7, &Point::ALL);
        assert_eq!(once, struck(7, &Point::ALL));
        assert_ne!(once, struck(8, &Point::ALL));
    }

    #[test]
    fn each_point_fails_as_often_as_it_says() {
        let struck = struck(7, &Point::ALL);
        for point in Point::ALL {
            let count = struck.iter().filter(|(of, _)| *of == point).count();
            assert!((70..130).contains(&count), "{}: {count}", point.name());
        }
    }

    #[test]
    fn nothing_fails_that_was_not_asked_for() {
        assert!(struck(0, &Point::ALL).is_empty());
        let only = struck(7, &[Point::ClockJump]);
        assert!(!only.is_empty() && only.iter().all(|(point, _)| *point == Point::ClockJump));
    }

    #[test]
    fn names_lead_to_their_points() {
        for (place, point) in Point::ALL.into_iter().enumerate() {
            assert_eq!(point as usize, place);
            assert_eq!(Point::named(point.name()), Some(point));
        }
        assert_eq!(Point::named("anything"), None);
    }
}
