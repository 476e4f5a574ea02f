//! How much one signalling connection may ask for.
//!
//! Owns a token bucket and the price of a request. Never closes anything: `session` refuses what
//! is beyond, and the socket ends. A client that resumes starts with a full bucket.

/// Requests at once. A client that resumes in a room of thousands of tracks sends its settings of
/// each in one go.
const BURST: u64 = 4_000;
/// Requests a second in the long run, many times what any client sends.
const PER_SECOND: u64 = 100;
/// What an offer costs in requests: parsing it, and an answer. A client in a busy room makes up to
/// seven a second.
const OFFER: u64 = 10;
/// Bytes that cost as much as a request.
const BYTES: usize = 4_096;
/// Requests are counted in thousandths, so that each millisecond brings something.
const UNIT: u64 = 1_000;

/// What one connection may still ask for.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    filled_ms: Option<i64>,
}

impl Allowance {
    /// A full one.
    pub(super) const fn new() -> Self {
        Self {
            left: BURST * UNIT,
            filled_ms: None,
        }
    }

    /// Pays for a frame of `bytes`; false if it is too much. A clock set back brings nothing.
    pub(super) fn pay(&mut self, bytes: usize, offer: bool, now_ms: i64) -> bool {
        let filled = self.filled_ms.replace(now_ms).unwrap_or(now_ms);
        let elapsed = u64::try_from(now_ms.saturating_sub(filled)).unwrap_or(0);
        // A request is `UNIT` thousandths, a second `UNIT` milliseconds: they cancel.
        let earned = elapsed.saturating_mul(PER_SECOND);
        self.left = self.left.saturating_add(earned).min(BURST * UNIT);
        let size = u64::try_from(bytes / BYTES).unwrap_or(u64::MAX);
        let price = size.saturating_add(if offer { OFFER } else { 1 });
        let Some(left) = self.left.checked_sub(price.saturating_mul(UNIT)) else {
            return false;
        };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_only_what_time_brings() {
        let mut allowance = Allowance::new();
        assert!((0..BURST).all(|_| allowance.pay(10, false, 0)));
        assert!(!allowance.pay(10, false, 0));
        assert!(allowance.pay(10, false, 10));
        assert!(!allowance.pay(10, false, 10));
    }

    #[test]
    fn offers_and_long_frames_cost_more() {
        let mut allowance = Allowance::new();
        let offers = (0..BURST)
            .take_while(|_| allowance.pay(10, true, 0))
            .count();
        assert_eq!(offers as u64, BURST / OFFER);
        let mut allowance = Allowance::new();
        let long = (0..BURST)
            .take_while(|_| allowance.pay(proto::signal::MAX_FRAME_BYTES, false, 0))
            .count();
        assert!(long < 10, "{long}");
    }

    #[test]
    fn a_clock_set_back_or_far_ahead_gives_no_more_than_a_burst() {
        let mut allowance = Allowance::new();
        assert!(allowance.pay(0, false, i64::MAX));
        assert!(allowance.pay(0, false, i64::MIN));
        assert!((0..BURST).all(|_| allowance.pay(0, false, i64::MAX)));
        assert!(!allowance.pay(0, false, i64::MAX));
    }
}
