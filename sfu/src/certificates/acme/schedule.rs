//! When a certificate is ordered, and when again after a failure. Pure.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// Until the first attempt after a failure: what was wrong may be a port that is not forwarded yet.
const AGAIN_FIRST: Duration = Duration::from_secs(120);
/// Until any later one, at most. With twice as long after each failure an hour has five attempts, which
/// is what Let's Encrypt lets fail of a host.
const AGAIN_MOST: Duration = Duration::from_secs(12 * 3600);
/// Until the next one after a certificate was issued and is lost or of no use. Let's Encrypt issues five a week for
/// the same hosts, one each 34 hours.
const AGAIN_ISSUED: Duration = Duration::from_secs(36 * 3600);

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

/// What has failed since the last certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failures {
    /// So many in a row.
    count: u32,
    /// The last one, in seconds since 1970.
    at_unix: i64,
    /// Seconds from that one to the next attempt.
    again_s: u64,
}

impl Failures {
    /// One more than `before`; after it a certificate may have been `issued` all the same.
    pub(super) fn one_more(before: Option<Self>, issued: bool, now_unix: i64) -> Self {
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let again = if issued { AGAIN_ISSUED } else { again(count) };
        Self {
            count,
            at_unix: now_unix,
            again_s: again.as_secs(),
        }
    }

    /// From the last one to the next attempt.
    pub(super) fn again(self) -> Duration {
        Duration::from_secs(self.again_s).min(AGAIN_ISSUED)
    }

    /// What is left of that. Nothing if the clock was set back since: nobody knows how long it would be.
    pub(super) fn left(self, now_unix: i64) -> Duration {
        let since = u64::try_from(now_unix.saturating_sub(self.at_unix));
        since.map_or(Duration::ZERO, |since| {
            self.again().saturating_sub(Duration::from_secs(since))
        })
    }
}

/// How long to wait after so many failures in a row.
fn again(failures: u32) -> Duration {
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

    #[test]
    fn what_is_left_to_wait_does_not_begin_anew_and_no_clock_makes_it_longer() {
        let first = Failures::one_more(None, false, 1000);
        let left = |failures: Failures, now| failures.left(now).as_secs();
        assert_eq!(
            [1000, 1100, 1120, 9999].map(|now| left(first, now)),
            [120, 20, 0, 0]
        );
        assert_eq!(left(first, 999), 0, "set back");
        assert_eq!(left(first, i64::MIN), 0);
        let second = Failures::one_more(Some(first), false, 2000);
        assert_eq!(left(second, 2000), 240);
        let kept = serde_json::to_string(&second).expect("written");
        assert_eq!(
            serde_json::from_str::<Failures>(&kept).expect("read"),
            second
        );
        let absurd = Failures {
            again_s: u64::MAX,
            ..second
        };
        assert_eq!(left(absurd, 2000), 36 * 3600);
    }

    #[test]
    fn a_week_of_certificates_that_are_lost_is_within_what_an_authority_issues() {
        let lost = Failures::one_more(None, true, 0);
        let week = Duration::from_secs(7 * 86_400);
        assert!(lost.again() * 5 > week);
        let next = Failures::one_more(Some(lost), false, 0);
        assert_eq!(next.again(), again(2));
    }
}
