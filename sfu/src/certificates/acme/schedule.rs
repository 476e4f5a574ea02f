//! When a certificate is ordered, and when again after a failure. Pure.

use std::ops::Range;
use std::time::Duration;

/// Until the first attempt after a failure: what was wrong may be a port that is not forwarded yet.
const AGAIN_FIRST: Duration = Duration::from_secs(120);
/// Until any later one, at most. With twice as long after each failure an hour has five attempts, which
/// is what Let's Encrypt lets fail of a host.
const AGAIN_MOST: Duration = Duration::from_secs(12 * 3600);

/// How long until a new one is ordered, if the present one is good for this span of seconds since 1970:
/// until a third of it is left.
pub(super) fn due_in(good: Option<Range<i64>>, now_unix: i64) -> Duration {
    let Some(good) = good else {
        return Duration::ZERO;
    };
    let third = good.end.saturating_sub(good.start) / 3;
    let left = good.end.saturating_sub(third).saturating_sub(now_unix);
    Duration::from_secs(u64::try_from(left).unwrap_or(0))
}

/// How long to wait after so many failures in a row.
pub(super) fn again(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    AGAIN_FIRST.saturating_mul(doubled).min(AGAIN_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_it_is_left() {
        let due = |now| due_in(Some(0..90), now).as_secs();
        assert_eq!((due(0), due(59), due(60), due(1000)), (60, 1, 0, 0));
        assert_eq!(due_in(None, 5), Duration::ZERO);
        let (start, end) = (i64::MAX, i64::MIN);
        assert_eq!(due_in(Some(start..end), 5), Duration::ZERO);
    }

    #[test]
    fn attempts_come_twice_as_late_after_each_failure_up_to_half_a_day() {
        let minutes = |failures| again(failures).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 5].map(minutes), [2, 4, 8, 16, 32]);
        assert_eq!(minutes(u32::MAX), 720);
    }
}
