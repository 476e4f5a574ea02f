//! When to ask the publisher for a key frame of one layer.
//!
//! Owns the throttle at the source, so that any number of subscribers costs one key frame a window,
//! and the seeding after a start. Never writes RTCP. Called by `upstream`. (LK: sfu-media §1.8)

use std::time::{Duration, Instant};

/// Least time between requests, by spatial layer. (LK: sfu-media §8.15)
pub const THROTTLE: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
/// A request or its key frame is taken for lost this long after the round trip: encoders of libwebrtc
/// refuse a second request within 300 ms themselves.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);
/// While no key frame has come, one request each.
const SEED_EVERY: Duration = Duration::from_secs(1);
/// Seeding ends.
const SEED_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Seed {
    next: Instant,
    until: Instant,
}

/// Requests for one layer.
#[derive(Debug)]
pub struct KeyFrameRequests {
    throttle: Duration,
    wanted: Option<Instant>,
    urgent: bool,
    last: Option<Instant>,
    /// A key frame has begun since then.
    answered: bool,
    /// How long one takes to come, where that was measured.
    round_trip: Option<Duration>,
    /// When the throttle was last passed by.
    last_urgent: Option<Instant>,
    /// The next request is one that was not answered.
    repeats: bool,
    /// When one was last repeated.
    last_repeat: Option<Instant>,
    seed: Option<Seed>,
    sent: u64,
}

impl KeyFrameRequests {
    /// No wish yet.
    #[must_use]
    pub const fn new(throttle: Duration) -> Self {
        Self {
            throttle,
            wanted: None,
            urgent: false,
            last: None,
            answered: false,
            round_trip: None,
            last_urgent: None,
            repeats: false,
            last_repeat: None,
            seed: None,
            sent: 0,
        }
    }

    /// The layer starts: asks each second until its first key frame, for thirty seconds.
    pub fn seed(&mut self, now: Instant) {
        self.seed = Some(Seed {
            next: now,
            until: now + SEED_FOR,
        });
    }

    /// The way to the publisher and back takes so long.
    pub const fn handle_round_trip(&mut self, rtt: Duration) {
        self.round_trip = Some(rtt);
    }

    /// Someone needs a key frame. An urgent wish passes the throttle by, once in its window; so does one
    /// that comes when the last request should have been answered, and was not.
    pub fn request(&mut self, urgent: bool, now: Instant) {
        self.wanted.get_or_insert(now);
        let since = |at| now.saturating_duration_since(at);
        let free = |last: Option<Instant>| last.is_none_or(|at| since(at) >= self.throttle);
        let late = |last, round_trip| since(last) >= round_trip + ANSWERED_WITHIN;
        let is_late = self
            .last
            .zip(self.round_trip)
            .is_some_and(|(last, round_trip)| !self.answered && late(last, round_trip));
        self.repeats |= is_late && free(self.last_repeat);
        self.urgent |= urgent && free(self.last_urgent);
    }

    /// The road was broken: what was asked for meanwhile was not heard.
    pub const fn handle_outage(&mut self) {
        self.last = None;
        self.last_urgent = None;
        self.last_repeat = None;
    }

    /// A key frame has begun: whoever waited has it.
    pub const fn handle_key_frame(&mut self) {
        self.answered = true;
        self.clear();
    }

    /// Muted: no wish survives.
    pub const fn clear(&mut self) {
        self.wanted = None;
        self.urgent = false;
        self.repeats = false;
        self.seed = None;
    }

    /// When [`poll`](Self::poll) may have something to send.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let seed = self.seed.map(|seed| seed.next);
        let wish = self.wanted.map(|wanted| match self.last {
            Some(last) if !(self.urgent || self.repeats) => wanted.max(last + self.throttle),
            _ => wanted,
        });
        [seed, wish].into_iter().flatten().min()
    }

    /// True if a request is to be sent now.
    pub fn poll(&mut self, now: Instant) -> bool {
        if let Some(seed) = &mut self.seed
            && now >= seed.next
        {
            self.wanted.get_or_insert(now);
            seed.next = now + SEED_EVERY;
            if seed.next > seed.until {
                self.seed = None;
            }
        }
        let open = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.throttle);
        if self.wanted.is_none() || !(open || self.urgent || self.repeats) {
            return false;
        }
        if !open && self.urgent {
            self.last_urgent = Some(now);
        }
        if !open && self.repeats {
            self.last_repeat = Some(now);
        }
        self.wanted = None;
        self.urgent = false;
        self.repeats = false;
        self.last = Some(now);
        self.answered = false;
        self.sent += 1;
        true
    }

    /// Requests sent so far.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
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

    /// Milliseconds at which requests go out until nothing is due any more.
    fn drain(requests: &mut KeyFrameRequests, start: Instant) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(due) = requests.poll_timeout() {
            if requests.poll(due) {
                times.push((due - start).as_millis());
            }
        }
        times
    }

    #[test]
    fn many_wishes_in_a_window_cost_one_request() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.request(false, start);
        assert!(requests.poll(start));
        for millis in [10, 20, 290] {
            requests.request(false, start + ms(millis));
            assert!(!requests.poll(start + ms(millis)));
        }
        assert_eq!(drain(&mut requests, start), [1000]);
        assert_eq!(requests.sent(), 2);
    }

    #[test]
    fn a_key_frame_satisfies_those_who_waited() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[0]);
        requests.request(false, start);
        assert!(requests.poll(start));
        requests.request(false, start + ms(100));
        requests.handle_key_frame();
        assert_eq!(requests.poll_timeout(), None);
        assert!(!requests.poll(start + ms(600)));
    }

    #[test]
    fn an_urgent_wish_passes_the_throttle_once_in_a_window() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.request(true, start);
        assert!(requests.poll(start));
        requests.request(true, start + ms(100));
        assert_eq!(requests.poll_timeout(), Some(start + ms(100)));
        assert!(requests.poll(start + ms(100)));
        requests.request(true, start + ms(200));
        assert!(!requests.poll(start + ms(200)));
        assert_eq!(drain(&mut requests, start), [1100]);
    }

    #[test]
    fn a_request_that_nobody_answers_in_time_is_repeated_once_in_a_window() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.handle_round_trip(ms(100));
        // Whoever waits says so with each packet.
        let mut asked = Vec::new();
        for millis in (0..=2000).step_by(10) {
            requests.request(false, start + ms(millis));
            if requests.poll(start + ms(millis)) {
                asked.push(millis);
            }
        }
        assert_eq!(asked, [0, 400, 1400, 1800]);
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.handle_round_trip(ms(100));
        requests.request(false, start);
        assert!(requests.poll(start));
        requests.handle_key_frame();
        requests.request(false, start + ms(500));
        assert_eq!(drain(&mut requests, start), [1000], "it was answered");
    }

    #[test]
    fn nothing_is_repeated_where_no_round_trip_was_measured() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.request(false, start);
        assert!(requests.poll(start));
        requests.request(false, start + ms(900));
        assert_eq!(drain(&mut requests, start), [1000]);
    }

    #[test]
    fn an_urgent_wish_passes_the_throttle_though_a_request_was_repeated() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.handle_round_trip(ms(50));
        for (millis, urgent) in [(0, false), (350, false), (700, true)] {
            requests.request(urgent, start + ms(millis));
            assert!(requests.poll(start + ms(millis)), "{millis}");
        }
    }

    #[test]
    fn what_was_asked_for_in_an_outage_holds_up_nothing_after_it() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[1]);
        requests.request(false, start);
        assert!(requests.poll(start));
        requests.handle_outage();
        requests.request(false, start + ms(10));
        assert!(requests.poll(start + ms(10)));
    }

    #[test]
    fn a_start_is_seeded_each_second_for_half_a_minute() {
        let start = instant();
        let mut requests = KeyFrameRequests::new(THROTTLE[2]);
        requests.seed(start);
        let times = drain(&mut requests, start);
        assert_eq!(times.len(), 31);
        assert_eq!((times[0], times[1], times[30]), (0, 1000, 30_000));
        requests.seed(start);
        requests.handle_key_frame();
        assert_eq!(requests.poll_timeout(), None);
    }
}
