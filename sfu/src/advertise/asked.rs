//! What STUN servers say of one family: which of their answers are told.
//!
//! Owns how much it takes to believe another address, and what becomes of those of several lines over which
//! questions go in turn: a router that shares its lines out by flows sends each from another port, and so by
//! any of them.

use super::Belief;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Lines that are told at a time, and as many again that were told before: a home has two, or three.
const LINES: usize = 4;
/// An address that is said again within this time after another has taken its place did not go: both are
/// told. Providers that give a line another address each day do not give the old one back so soon.
const RETURNS_WITHIN: Duration = Duration::from_secs(1800);
/// One of several that was not said in so many answers, of a minute each where nothing is configured, is not
/// told any more: of a line that gets one question in ten one hears sooner.
pub(super) const SILENT_ANSWERS: u32 = 60;

/// What STUN servers said of one family.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Our addresses, and in how many answers each has not been said since.
    lines: Vec<(IpAddr, u32)>,
    past: Vec<Past>,
    /// Another one, said once.
    doubt: Option<IpAddr>,
    /// Nobody answered the last time.
    silent: bool,
    /// Nobody has answered yet: what is known was said by somebody else before.
    stale: bool,
}

/// An address that was told.
#[derive(Debug, Clone, Copy)]
struct Past {
    ip: IpAddr,
    since: Instant,
    /// It was one of several, and has not been said for long: whoever came by it has noticed.
    faded: bool,
}

impl Asked {
    /// Nobody has answered yet; until then these addresses do.
    pub(super) fn after(ips: impl Iterator<Item = IpAddr>) -> Self {
        Self {
            lines: ips.take(LINES).map(|ip| (ip, 0)).collect(),
            stale: true,
            ..Self::default()
        }
    }

    /// Our addresses.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.lines.iter().map(|(ip, _)| *ip)
    }

    /// Has anybody ever answered?
    pub(super) fn is_known(&self) -> bool {
        !self.stale && !self.lines.is_empty()
    }

    /// Is what is known only what somebody else said before?
    pub(super) fn is_stale(&self) -> bool {
        self.stale && !self.lines.is_empty()
    }

    /// Did somebody answer the last time?
    pub(super) fn is_answered(&self) -> bool {
        self.is_known() && !self.silent
    }

    /// Is an address not told any more for it has not been said for long, beside others?
    pub(super) fn has_faded(&self, ip: IpAddr) -> bool {
        self.past.iter().any(|past| past.ip == ip && past.faded)
    }

    /// Nobody answers.
    pub(super) const fn handle_unanswered(&mut self) {
        self.silent = true;
    }

    /// A server says so.
    pub(super) fn handle(&mut self, ip: IpAddr, now: Instant) -> Belief {
        if !self.is_known() {
            *self = Self {
                lines: vec![(ip, 0)],
                ..Self::default()
            };
            return Belief::Learned;
        }
        self.silent = false;
        if self.ips().any(|known| known == ip) {
            self.doubt = None;
            self.count(ip, now);
            return Belief::Settled;
        }
        if self.doubt != Some(ip) {
            self.doubt = Some(ip);
            return Belief::Doubted;
        }
        self.doubt = None;
        let lately = |past: &Past| now.saturating_duration_since(past.since) < RETURNS_WITHIN;
        let returns = self.past.iter().any(|past| past.ip == ip && lately(past));
        self.past.retain(|past| past.ip != ip);
        if returns {
            self.make_place(now);
        } else {
            for (ip, _) in std::mem::take(&mut self.lines) {
                self.remember(ip, false, now);
            }
        }
        self.lines.push((ip, 0));
        if returns {
            Belief::Returned
        } else {
            Belief::Learned
        }
    }

    /// One of them was said: what the others lack.
    fn count(&mut self, said: IpAddr, now: Instant) {
        for (ip, missing) in &mut self.lines {
            *missing = if *ip == said { 0 } else { *missing + 1 };
        }
        let silent = |(_, missing): &mut (IpAddr, u32)| *missing >= SILENT_ANSWERS;
        let faded: Vec<_> = self.lines.extract_if(.., silent).collect();
        for (ip, _) in faded {
            self.remember(ip, true, now);
        }
    }

    /// For one more, in the place of whichever has not been said for longest.
    fn make_place(&mut self, now: Instant) {
        if self.lines.len() < LINES {
            return;
        }
        let missing = self.lines.iter().enumerate();
        if let Some((index, _)) = missing.max_by_key(|(_, (_, missing))| *missing) {
            let (ip, _) = self.lines.remove(index);
            self.remember(ip, true, now);
        }
    }

    fn remember(&mut self, ip: IpAddr, faded: bool, now: Instant) {
        if self.past.len() >= LINES {
            self.past.remove(0);
        }
        let since = now;
        self.past.push(Past { ip, since, faded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_lines_without_number_four_are_told_and_four_are_remembered() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let now = Instant::now();
        let mut asked = Asked::default();
        let mut most = 0;
        for last in (1..=9).cycle().take(99) {
            for _ in 0..2 {
                asked.handle([203, 0, 113, last].into(), now);
            }
            let past: Vec<IpAddr> = asked.past.iter().map(|past| past.ip).collect();
            assert!(past.len() <= LINES && !asked.ips().any(|ip| past.contains(&ip)));
            most = most.max(asked.lines.len());
        }
        assert!((1..=LINES).contains(&most), "{most}");
        // So many are not taken for lines; as many as there is place for are.
        for last in (1..=4).cycle().take(16) {
            for _ in 0..2 {
                asked.handle([203, 0, 113, last].into(), now);
            }
        }
        assert_eq!(asked.lines.len(), LINES);
        assert_eq!(asked.handle([203, 0, 113, 3].into(), now), Belief::Settled);
    }
}
