//! A bad road, as a model: what becomes of a datagram given when it was sent.
//!
//! Owns the conditions of one direction and the chance in it; holds no datagram, waits for nothing
//! and reads no clock. The simulated world carries its packets by it in virtual time, the impaired
//! link those of real clients in real time.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// How much later a packet that loses its turn comes, at least and at most: enough to be overtaken
/// by the next packets of a call, too little to be given up.
const REORDERED_BY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));
/// A second copy comes this much later at most.
const DUPLICATE_WITHIN: Duration = Duration::from_millis(5);

/// Which packets are lost by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// None.
    None,
    /// Each with this probability.
    Uniform(f64),
    /// In bursts: nothing passes from its begin to its end (Gilbert's model). The mean share that is
    /// lost is `begin / (begin + end)`.
    Bursty {
        /// The probability that a burst begins with a packet.
        begin: f64,
        /// The probability that it ends with a packet.
        end: f64,
    },
}

/// The state of a road in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditions {
    /// Bits in a second; `None` is as many as one likes.
    pub rate_bps: Option<u64>,
    /// With `rate_bps`: who would wait longer than this is lost.
    pub queue: Duration,
    /// The way takes this long.
    pub delay: Duration,
    /// And up to this much more, evenly distributed. It keeps the order, as a queue does.
    pub jitter: Duration,
    /// Which packets are lost.
    pub loss: Loss,
    /// The probability of a packet to lose its turn.
    pub reorder: f64,
    /// The probability of a packet to come twice.
    pub duplicate: f64,
    /// Larger datagrams are lost. Bytes of UDP payload.
    pub mtu: usize,
}

impl Conditions {
    /// A home line on a good day.
    pub const GOOD: Self = Self {
        rate_bps: None,
        queue: Duration::from_millis(200),
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: Loss::None,
        reorder: 0.0,
        duplicate: 0.0,
        mtu: 1472,
    };
}

/// What became of the datagrams of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Arrived, duplicates not counted.
    pub carried: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because too many waited.
    pub overflowed: u64,
    /// Larger than the road takes.
    pub too_large: u64,
    /// Sent while nothing passed.
    pub broken: u64,
    /// Lost their turn.
    pub reordered: u64,
    /// Came twice.
    pub duplicated: u64,
}

/// When a datagram arrives: never, once or twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    first: Option<Instant>,
    second: Option<Instant>,
}

impl IntoIterator for Arrivals {
    type Item = Instant;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Instant>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        [self.first, self.second].into_iter().flatten()
    }
}

/// One direction of a road.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    chance: StdRng,
    in_burst: bool,
    /// When the last datagram taken has left the queue.
    free_at: Option<Instant>,
    /// Who keeps the order does not arrive before this.
    arrived: Option<Instant>,
    broken_until: Option<Instant>,
    counters: Carried,
}

impl Link {
    /// A road; all its chance comes from `seed`.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            chance: StdRng::seed_from_u64(seed),
            in_burst: false,
            free_at: None,
            arrived: None,
            broken_until: None,
            counters: Carried::default(),
        }
    }

    /// The weather changes; what is on its way stays so.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Nothing that is sent before `end` arrives.
    pub fn break_until(&mut self, end: Instant) {
        self.broken_until = Some(end);
    }

    /// A datagram of so many bytes is sent now: when does it arrive? Calls come in the order of time.
    pub fn carry(&mut self, bytes: usize, now: Instant) -> Arrivals {
        if self.broken_until.is_some_and(|end| now < end) {
            self.counters.broken += 1;
            return Arrivals::default();
        }
        if bytes > self.conditions.mtu {
            self.counters.too_large += 1;
            return Arrivals::default();
        }
        if self.is_lost() {
            self.counters.lost += 1;
            return Arrivals::default();
        }
        let Some(left) = self.leave_queue(bytes, now) else {
            self.counters.overflowed += 1;
            return Arrivals::default();
        };
        self.counters.carried += 1;
        let first = self.arrive(left);
        let second = self.happens(self.conditions.duplicate).then(|| {
            self.counters.duplicated += 1;
            first + self.up_to(DUPLICATE_WITHIN)
        });
        Arrivals {
            first: Some(first),
            second,
        }
    }

    /// Totals since the start.
    #[must_use]
    pub const fn counters(&self) -> Carried {
        self.counters
    }

    /// Datagrams may come closer together than they were sent.
    #[must_use]
    pub fn is_shaky(&self) -> bool {
        let conditions = &self.conditions;
        let jitter = !conditions.jitter.is_zero() || conditions.rate_bps.is_some();
        jitter || conditions.reorder > 0.0 || conditions.duplicate > 0.0
    }

    fn is_lost(&mut self) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Uniform(share) => self.happens(share),
            Loss::Bursty { begin, end } => {
                let turns = if self.in_burst { end } else { begin };
                self.in_burst ^= self.happens(turns);
                self.in_burst
            }
        }
    }

    /// When the last bit is on its way; `None` if too many wait.
    fn leave_queue(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate_bps) = self.conditions.rate_bps else {
            return Some(now);
        };
        let begin = self.free_at.map_or(now, |free| free.max(now));
        if begin - now > self.conditions.queue {
            return None;
        }
        let nanos = bytes as u64 * 8 * 1_000_000_000 / rate_bps.max(1);
        let left = begin + Duration::from_nanos(nanos);
        self.free_at = Some(left);
        Some(left)
    }

    fn arrive(&mut self, left: Instant) -> Instant {
        let jitter = self.up_to(self.conditions.jitter);
        let due = left + self.conditions.delay + jitter;
        let in_turn = self.arrived.map_or(due, |before| before.max(due));
        if self.happens(self.conditions.reorder) {
            self.counters.reordered += 1;
            let (least, most) = REORDERED_BY;
            return in_turn + least + self.up_to(most - least);
        }
        self.arrived = Some(in_turn);
        in_turn
    }

    /// Draws nothing for what never happens: changing one condition leaves the chance of others.
    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.chance.random_bool(probability.min(1.0))
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        most.mul_f64(self.chance.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Sends so many datagrams, one each millisecond: when each arrives, since the first was sent.
    fn send(link: &mut Link, count: u32, bytes: usize) -> Vec<(u32, Duration)> {
        let start = origin();
        let mut arrivals = Vec::new();
        for n in 0..count {
            let carried = link.carry(bytes, start + n * MS);
            arrivals.extend(carried.into_iter().map(|at| (n, at - start)));
        }
        arrivals.sort_by_key(|(_, at)| *at);
        arrivals
    }

    fn with(change: impl FnOnce(&mut Conditions)) -> Link {
        let mut conditions = Conditions::GOOD;
        change(&mut conditions);
        Link::new(conditions, 7)
    }

    #[test]
    fn a_good_road_carries_all_in_order_after_its_delay() {
        let arrivals = send(&mut Link::new(Conditions::GOOD, 1), 100, 1200);
        let expected: Vec<_> = (0..100).map(|n| (n, (n + 10) * MS)).collect();
        assert_eq!(arrivals, expected);
    }

    #[test]
    fn losses_have_the_share_asked_for_alone_or_in_bursts() {
        let mut uniform = with(|road| road.loss = Loss::Uniform(0.05));
        send(&mut uniform, 20_000, 100);
        let mut bursty = with(|road| {
            road.loss = Loss::Bursty {
                begin: 0.01,
                end: 0.19,
            };
        });
        let there: Vec<u32> = send(&mut bursty, 20_000, 100)
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        for link in [&uniform, &bursty] {
            let share = link.counters().lost as f64 / 20_000.0;
            assert!((0.04..0.06).contains(&share), "{share}");
        }
        let gaps = there
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 1)
            .count();
        let mean = bursty.counters().lost as f64 / gaps as f64;
        assert!((4.0..7.0).contains(&mean), "mean burst {mean}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let mut jittery = with(|road| road.jitter = 50 * MS);
        let order: Vec<u32> = send(&mut jittery, 1000, 100).iter().map(|a| a.0).collect();
        assert!(order.is_sorted());
        let mut unruly = with(|road| road.reorder = 0.02);
        let order: Vec<u32> = send(&mut unruly, 1000, 100).iter().map(|a| a.0).collect();
        assert!(!order.is_sorted() && order.len() == 1000);
        assert!((10..40).contains(&unruly.counters().reordered));
    }

    #[test]
    fn a_narrow_road_spaces_packets_out_and_drops_what_would_wait_too_long() {
        // 1000 bytes take 8 ms.
        let mut narrow = with(|road| road.rate_bps = Some(1_000_000));
        let arrivals = send(&mut narrow, 200, 1000);
        for pair in arrivals.windows(2) {
            assert_eq!(pair[1].1 - pair[0].1, 8 * MS);
        }
        let counters = narrow.counters();
        assert!(counters.overflowed > 100, "{counters:?}");
        assert_eq!(counters.overflowed + counters.carried, 200);
    }

    #[test]
    fn an_outage_a_large_datagram_and_a_duplicate_are_told_apart() {
        let mut link = with(|road| {
            road.mtu = 1200;
            road.duplicate = 1.0;
        });
        let start = origin();
        link.break_until(start + 10 * MS);
        assert_eq!(link.carry(100, start).into_iter().count(), 0);
        assert_eq!(link.carry(1201, start + 10 * MS).into_iter().count(), 0);
        assert_eq!(link.carry(1200, start + 11 * MS).into_iter().count(), 2);
        let expected = Carried {
            carried: 1,
            too_large: 1,
            broken: 1,
            duplicated: 1,
            ..Carried::default()
        };
        assert_eq!(link.counters(), expected);
    }

    #[test]
    fn a_seed_repeats_a_road_and_another_does_not() {
        let road = Conditions {
            loss: Loss::Uniform(0.1),
            jitter: 50 * MS,
            reorder: 0.1,
            duplicate: 0.1,
            ..Conditions::GOOD
        };
        let run = |seed| send(&mut Link::new(road.clone(), seed), 500, 100);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
