//! Does one direction of a connection lose much of what goes by it, and has done so for a while?
//!
//! Owns the last windows, of one path of UDP: on another one it begins anew, but not after some seconds by
//! TCP, where clients go of their own accord, and come back. Never decides what follows. Called by the
//! plane with what reports tell, those of the client of what it receives, and our own of what it sends.
//! (LK: signalling §7.5, server ops §8.5)

use crate::media::demux::Path;
use crate::media::message::PathTransport;
use crate::media::packet::Crossing;
use std::time::{Duration, Instant};

/// A window is no shorter,
const WINDOW: Duration = Duration::from_secs(1);
/// and of no fewer packets: of three, one says nothing.
const PACKETS: i64 = 20;
/// One packet of so many lost is much.
const ONE_OF: i64 = 4;
/// Who was away by another way for longer has no windows to go on with.
const AWAY: Duration = Duration::from_secs(32);
/// Of the last windows, as many as `windows` has bits, so many had much loss.
const HEAVY: u32 = 20;

/// The loss of one direction.
#[derive(Debug, Default)]
pub struct HeavyLoss {
    /// The last one of UDP.
    path: Option<Path>,
    /// Whether the window that is open is of that path.
    by_udp: bool,
    /// When it was last left.
    left: Option<Instant>,
    /// When the window began.
    since: Option<Instant>,
    crossed: Crossing,
    /// One bit for each of the last ones, the newest lowest.
    windows: u32,
}

impl HeavyLoss {
    /// What has gone by this path since the last report. True if too much of it has been lost for too
    /// long; it is told again only when that has gone on for as long again.
    pub fn handle_report(&mut self, path: Path, crossing: Crossing, now: Instant) -> bool {
        let by_udp = path.carrier.transport() == PathTransport::Udp;
        if by_udp && self.path != Some(path) {
            *self = Self {
                path: Some(path),
                by_udp,
                ..Self::default()
            };
        }
        if by_udp != self.by_udp {
            self.by_udp = by_udp;
            let away = self.left.replace(now).filter(|_| by_udp);
            if away.is_some_and(|left| now.saturating_duration_since(left) > AWAY) {
                self.windows = 0;
            }
            self.since = None;
            self.crossed = Crossing::default();
        }
        self.crossed += crossing;
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < WINDOW || self.crossed.sent < PACKETS {
            return false;
        }
        let Crossing { sent, lost } = self.crossed;
        // What waits for what was lost loses nothing; what is missing then was given up by us.
        let heavy = by_udp && lost.min(sent).saturating_mul(ONE_OF) >= sent;
        self.since = Some(now);
        self.crossed = Crossing::default();
        self.windows = self.windows << 1 | u32::from(heavy);
        let lasting = heavy && self.windows.count_ones() >= HEAVY;
        if lasting {
            self.windows = 0;
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::demux::Carrier;
    use proptest::prelude::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    fn path(carrier: Carrier, port: u16) -> Path {
        Path {
            carrier,
            local: None,
            port: 0,
            remote: ([192, 0, 2, 1], port).into(),
        }
    }

    const UDP: Carrier = Carrier::Udp(0);
    const NEVER: [u64; 0] = [];

    /// Reports of one a second of 100 packets, of which so many are lost; the seconds at which much was
    /// lost for long.
    fn told(by: impl Fn(u64) -> Path, lost: impl Fn(u64) -> i64, seconds: u64) -> Vec<u64> {
        let (mut loss, start) = (HeavyLoss::default(), start());
        let tells = |second: &u64| {
            let crossing = Crossing {
                sent: 100,
                lost: lost(*second),
            };
            let now = start + Duration::from_secs(*second);
            loss.handle_report(by(*second), crossing, now)
        };
        (0..seconds).filter(tells).collect()
    }

    #[test]
    fn a_quarter_lost_in_twenty_of_thirty_two_windows_is_told_and_then_counted_anew() {
        let by_udp = |_| path(UDP, 1);
        // The first report opens the first window.
        assert_eq!(told(by_udp, |_| 25, 60), [20, 40]);
        assert_eq!(told(by_udp, |_| 24, 1000), NEVER);
        // Three of five are 20 of 32, two of five are not.
        assert!(!told(by_udp, |second| 30 * i64::from(second % 5 < 3), 1000).is_empty());
        assert_eq!(
            told(by_udp, |second| 99 * i64::from(second % 5 < 2), 1000),
            NEVER
        );
    }

    #[test]
    fn another_path_is_judged_anew_and_what_is_no_udp_not_at_all() {
        assert_eq!(
            told(|second| path(UDP, (second / 19) as u16), |_| 99, 500),
            NEVER
        );
        for carrier in [
            Carrier::Tcp(1),
            Carrier::Relay {
                slot: 1,
                generation: 1,
            },
        ] {
            assert_eq!(
                told(|_| path(carrier, 1), |_| 99, 500),
                NEVER,
                "{carrier:?}"
            );
        }
    }

    #[test]
    fn who_goes_by_tcp_for_some_seconds_and_comes_back_is_not_judged_anew() {
        let tcp = path(Carrier::Tcp(1), 2);
        // The first report by either path only opens a window.
        let away = |from: u64, until: u64| {
            move |second: u64| {
                if (from..until).contains(&second) {
                    tcp
                } else {
                    path(UDP, 1)
                }
            }
        };
        assert_eq!(told(away(19, 22), |_| 40, 40), [24]);
        // Seconds by TCP are good ones: of thirty-two no more than twelve may be.
        assert_eq!(told(away(19, 32), |_| 40, 42), [34]);
        assert_eq!(told(away(19, 33), |_| 40, 51), NEVER);
    }

    #[test]
    fn who_comes_back_after_long_is_judged_anew_however_little_went_by_tcp() {
        let (mut loss, start) = (HeavyLoss::default(), start());
        let mut report = |carrier, sent, second| {
            let crossing = Crossing { sent, lost: sent };
            loss.handle_report(
                path(carrier, 1),
                crossing,
                start + Duration::from_secs(second),
            )
        };
        for second in 0..20 {
            assert!(!report(UDP, 100, second));
        }
        assert!(!report(Carrier::Tcp(1), 1, 20));
        assert!(!report(Carrier::Tcp(1), 1, 52));
        for second in 53..73 {
            assert!(!report(UDP, 100, second), "{second}");
        }
        assert!(report(UDP, 100, 73));
    }

    #[test]
    fn few_packets_are_judged_when_they_have_become_enough() {
        let (mut loss, start) = (HeavyLoss::default(), start());
        let one_of_three = Crossing { sent: 3, lost: 1 };
        let mut count = 0;
        while !loss.handle_report(
            path(UDP, 1),
            one_of_three,
            start + Duration::from_secs(count),
        ) {
            count += 1;
        }
        // Twenty windows of seven reports of three packets each.
        assert_eq!(count, 20 * 7 - 1);
    }

    #[test]
    fn many_reports_of_one_second_are_one_window() {
        let (mut loss, start) = (HeavyLoss::default(), start());
        let lost = Crossing { sent: 50, lost: 50 };
        for ms in (0..19_900).step_by(10) {
            let now = start + Duration::from_millis(ms);
            assert!(!loss.handle_report(path(UDP, 1), lost, now), "{ms}");
        }
    }

    #[test]
    fn what_one_report_tells_too_many_and_the_next_too_few_is_put_together() {
        let (mut loss, start) = (HeavyLoss::default(), start());
        for second in 0..200 {
            // Numbers that a publisher skips are known sooner than they are reported.
            let crossing = if second % 2 == 0 {
                Crossing {
                    sent: -80,
                    lost: -100,
                }
            } else {
                Crossing {
                    sent: 120,
                    lost: 100,
                }
            };
            let now = start + Duration::from_secs(second);
            assert!(!loss.handle_report(path(UDP, 1), crossing, now));
        }
    }

    proptest! {
        #[test]
        fn any_counts_are_taken(reports in proptest::collection::vec(any::<(i64, i64)>(), 0..50)) {
            let (mut loss, start) = (HeavyLoss::default(), start());
            for (second, (sent, lost)) in reports.into_iter().enumerate() {
                let now = start + Duration::from_secs(second as u64);
                loss.handle_report(path(UDP, 1), Crossing { sent, lost }, now);
            }
        }
    }
}
