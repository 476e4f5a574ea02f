//! How often an address that has not proved who it is gets an answer.
//!
//! Owns a table of fixed size: an address has the place its keyed hash says, and shares it with
//! whoever falls there too. So a flood of invented addresses takes no memory, and takes from each
//! place only its share.

use crate::address::Client;
use crate::hash::Keyed;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::time::Instant;

/// Places: 128 KiB in all, and a flood must bring this many times the burst before others feel it.
const PLACES: usize = 16_384;
/// What an answer weighs, so that a second's refill need not be whole answers.
const WEIGHT: u32 = 1000;

/// What an address wants an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// A Binding request.
    Binding,
    /// A request that wants a name.
    Challenge,
}

/// The tables of the server. Whoever forges his address over UDP uses up the answers of another: so
/// Bindings leave challenges alone, and neither touches those who came by a connection, where an
/// address cannot be forged.
#[derive(Debug)]
pub(crate) struct Limiters {
    bindings: Limiter,
    challenges: Limiter,
    streams: Limiter,
}

impl Limiters {
    /// Each with `rate_s` answers a second to one address, `burst` at once.
    pub(crate) fn new(
        rate_s: u32,
        burst: u32,
        mut keyed: impl FnMut() -> Keyed,
        now: Instant,
    ) -> Self {
        let mut limiter = || Limiter::new(rate_s, burst, keyed(), now);
        Self {
            bindings: limiter(),
            challenges: limiter(),
            streams: limiter(),
        }
    }

    /// Counts an answer to a client; false if it is one too many.
    pub(crate) fn take(&mut self, client: &Client, question: Question, now: Instant) -> bool {
        let limiter = match question {
            _ if client.transport.is_stream() => &mut self.streams,
            Question::Binding => &mut self.bindings,
            Question::Challenge => &mut self.challenges,
        };
        client.shared || limiter.take(client.remote.ip(), now)
    }
}

/// A table.
#[derive(Debug)]
pub(crate) struct Limiter {
    places: Box<[Place]>,
    keyed: Keyed,
    began: Instant,
    rate_s: u32,
    burst: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    level: u32,
    at_ms: u32,
}

impl Limiter {
    /// `rate_s` answers a second, `burst` at once.
    pub(crate) fn new(rate_s: u32, burst: u32, keyed: Keyed, now: Instant) -> Self {
        Self {
            places: vec![Place::default(); PLACES].into(),
            keyed,
            began: now,
            rate_s: rate_s.clamp(1, 1_000_000),
            burst: burst.clamp(1, 1_000_000),
        }
    }

    /// Counts an answer to an address; false if it is one too many.
    pub(crate) fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        let mut hasher = self.keyed.build_hasher();
        match ip.to_canonical() {
            IpAddr::V4(ip) => hasher.write_u64(u64::from(ip.to_bits())),
            // Its network: whoever has one address has a /64.
            IpAddr::V6(ip) => hasher.write_u64((ip.to_bits() >> 64) as u64),
        }
        let index = hasher.finish() as usize % PLACES;
        let Some(place) = self.places.get_mut(index) else {
            return false;
        };
        let now_ms = now.saturating_duration_since(self.began).as_millis() as u32;
        let passed = u64::from(now_ms.wrapping_sub(place.at_ms));
        // A thousandth of an answer for each millisecond and each answer a second.
        let drained = (passed * u64::from(self.rate_s)).min(u64::from(place.level)) as u32;
        place.level -= drained;
        place.at_ms = now_ms;
        if place.level + WEIGHT > self.burst * WEIGHT {
            return false;
        }
        place.level += WEIGHT;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Transport;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn limiter(now: Instant) -> Limiter {
        Limiter::new(10, 20, Keyed::new([1, 2]), now)
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut limiter = limiter(now);
        let ip = IpAddr::from([1, 2, 3, 4]);
        let take = |limiter: &mut Limiter, ms| {
            let at = now + Duration::from_millis(ms);
            (0..100).filter(|_| limiter.take(ip, at)).count()
        };
        assert_eq!(take(&mut limiter, 0), 20);
        assert_eq!(take(&mut limiter, 0), 0);
        assert_eq!(take(&mut limiter, 1000), 10);
        assert_eq!(take(&mut limiter, 1050), 0);
        assert_eq!(take(&mut limiter, 1100), 1);
        assert_eq!(take(&mut limiter, 100_000), 20);
    }

    #[test]
    fn an_address_that_others_come_by_too_is_limited_for_nobody() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut limiters = Limiters::new(10, 20, || Keyed::new([1, 2]), now);
        let mut answers = |shared| {
            let at = SocketAddr::from(([127, 0, 0, 1], 5350));
            let client = Client {
                transport: Transport::Tcp,
                local: at,
                remote: at,
                shared,
                link: 0,
            };
            let take = |_: &u32| limiters.take(&client, Question::Binding, now);
            (0..100).filter(take).count()
        };
        assert_eq!((answers(true), answers(false)), (100, 20));
    }

    #[test]
    fn ten_thousand_invented_addresses_leave_others_their_answers() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut limiter = limiter(now);
        for n in 0..10_000_u32 {
            assert!(limiter.take(IpAddr::V4((0x0B00_0000 + n).into()), now));
        }
        assert!(limiter.take(IpAddr::from([1, 2, 3, 4]), now));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut limiter = limiter(now);
        let ip = |n: u16| IpAddr::from([0x2600, 1, 2, 3, 0, 0, 0, n]);
        assert_eq!((0..100).filter(|n| limiter.take(ip(*n), now)).count(), 20);
    }
}
