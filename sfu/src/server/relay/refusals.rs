//! What TURN refuses, as far as the log says it.
//!
//! Owns how often: anybody may be refused as fast as he can ask, with no password, and each line is
//! written by TURN's own thread. The counters have all of them. Called by `relay`.

use std::time::{Duration, Instant};
use turn::event::Reason;

/// Between two lines of one reason: the first says what is wrong, the others how often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What was said of each reason; there are some twenty.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Said>);

#[derive(Debug)]
struct Said {
    reason: Reason,
    at: Instant,
    /// Refusals since then.
    more: u64,
}

impl Refusals {
    /// One more; if it is to be told, how many there were since the last one that was.
    pub(super) fn handle(&mut self, reason: Reason, now: Instant) -> Option<u64> {
        let Some(said) = self.0.iter_mut().find(|said| said.reason == reason) else {
            self.0.push(Said {
                reason,
                at: now,
                more: 0,
            });
            return Some(0);
        };
        if now.saturating_duration_since(said.at) < SAY_EVERY {
            said.more += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_a_minute_and_then_how_often_it_was_not() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        assert_eq!(refusals.handle(Reason::WrongPassword, start), Some(0));
        for _ in 0..1000 {
            assert_eq!(refusals.handle(Reason::WrongPassword, at(1)), None);
        }
        assert_eq!(refusals.handle(Reason::PeerDenied, at(2)), Some(0));
        assert_eq!(refusals.handle(Reason::WrongPassword, at(60)), Some(1000));
        assert_eq!(refusals.handle(Reason::WrongPassword, at(119)), None);
        assert_eq!(refusals.handle(Reason::WrongPassword, at(120)), Some(1));
        assert_eq!(refusals.handle(Reason::PeerDenied, at(121)), Some(0));
    }
}
