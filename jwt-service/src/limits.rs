//! How often one address, one user and one homeserver may ask for a token.
//!
//! Owns what each has used up lately. It keeps no clock and refuses nobody itself: `routes` asks, and
//! tells who is told to wait. A request that is refused for another reason counts too.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names remembered of each kind, some 40 bytes each, however long they are. When there are more, those that have not used
/// up anything are forgotten, and if all have, all: a flood then is limited by what it may ask of whom.
const NAMES_MOST: usize = 50_000;

/// How many requests a minute, and as many at once. 0 is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// From one address, of IPv6 one network of 64 bits.
    pub address: u32,
    /// For one user.
    pub user: u32,
    /// About users of one homeserver that the operator did not name.
    pub server: u32,
}

impl Rates {
    /// A client asks once or twice for a call, and again with each reconnect; a whole office may share
    /// an address, and a large homeserver has thousands of users in calls.
    pub const DEFAULT: Self = Self {
        address: 300,
        user: 60,
        server: 1200,
    };
}

/// What each has used up.
#[derive(Debug, Default)]
pub struct Limits {
    addresses: Mutex<Used>,
    users: Mutex<Used>,
    servers: Mutex<Used>,
}

/// When each would have nothing used up any more. Names come from the network in any length: their
/// hashes stand for them, which nobody outside can foresee.
#[derive(Debug, Default)]
struct Used {
    names: RandomState,
    free: HashMap<u64, Instant>,
}

impl Used {
    /// One request more, if `rate` allows it; else how long to wait. (GCRA: each costs 1/rate of a
    /// minute, and a minute may be owed.)
    fn admit(&mut self, name: impl Hash, rate: u32, now: Instant) -> Result<(), Duration> {
        if rate == 0 {
            return Ok(());
        }
        let key = self.names.hash_one(name);
        if self.free.len() >= NAMES_MOST && !self.free.contains_key(&key) {
            self.free.retain(|_, free| *free > now);
            if self.free.len() >= NAMES_MOST {
                self.free.clear();
            }
        }
        let minute = Duration::from_secs(60);
        let cost = minute / rate;
        let free = self.free.entry(key).or_insert(now);
        let used_up = (*free).max(now) + cost;
        let owed = used_up.saturating_duration_since(now);
        if owed > minute {
            return Err(owed - minute);
        }
        *free = used_up;
        Ok(())
    }
}

fn admit(used: &Mutex<Used>, name: impl Hash, rate: u32, now: Instant) -> Result<(), Duration> {
    let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
    used.admit(name, rate, now)
}

impl Limits {
    /// A request from this address.
    ///
    /// # Errors
    /// How long to wait.
    pub fn address(&self, ip: IpAddr, rates: Rates, now: Instant) -> Result<(), Duration> {
        let network = match ip {
            IpAddr::V4(_) => ip,
            // Whoever has one address has its whole network.
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        };
        admit(&self.addresses, network, rates.address, now)
    }

    /// A request about a user of this homeserver.
    ///
    /// # Errors
    /// How long to wait.
    pub fn server(&self, server: &str, rates: Rates, now: Instant) -> Result<(), Duration> {
        admit(&self.servers, server, rates.server, now)
    }

    /// A request of this user, whom his homeserver has vouched for.
    ///
    /// # Errors
    /// How long to wait.
    pub fn user(&self, user: &str, rates: Rates, now: Instant) -> Result<(), Duration> {
        admit(&self.users, user, rates.user, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_s_worth_may_come_at_once_and_then_what_time_brings() {
        let limits = Limits::default();
        let rates = Rates {
            user: 6,
            ..Rates::DEFAULT
        };
        let now = origin();
        let ask = |user, after| limits.user(user, rates, now + after);
        assert!((0..6).all(|_| ask("@a:b", Duration::ZERO).is_ok()));
        assert_eq!(ask("@a:b", Duration::ZERO), Err(10 * SECOND));
        assert_eq!(ask("@a:b", 4 * SECOND), Err(6 * SECOND));
        assert_eq!(ask("@a:b", 10 * SECOND), Ok(()));
        assert!(ask("@a:b", 10 * SECOND).is_err());
        assert_eq!(ask("@c:b", Duration::ZERO), Ok(()), "somebody else");
        // Being refused costs nothing.
        assert_eq!(ask("@a:b", 20 * SECOND), Ok(()));
        // Another rate counts from where the one before has come to.
        let more = Rates { user: 60, ..rates };
        assert_eq!(limits.user("@a:b", more, now + 21 * SECOND), Ok(()));
    }

    #[test]
    fn zero_is_any_number() {
        let limits = Limits::default();
        let rates = Rates {
            address: 0,
            user: 0,
            server: 0,
        };
        let now = origin();
        for _ in 0..10_000 {
            assert_eq!(limits.server("a.example", rates, now), Ok(()));
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let limits = Limits::default();
        let rates = Rates {
            address: 1,
            ..Rates::DEFAULT
        };
        let now = origin();
        let ask = |text: &str| limits.address(text.parse().expect("an address"), rates, now);
        assert!(ask("2001:db8::1").is_ok());
        assert!(ask("2001:db8::2").is_err());
        assert!(ask("2001:db8:0:1::1").is_ok());
        assert!(ask("192.0.2.1").is_ok() && ask("192.0.2.2").is_ok());
        assert!(ask("192.0.2.1").is_err());
    }

    #[test]
    fn a_flood_of_names_takes_no_more_than_its_place() {
        let mut used = Used::default();
        let now = origin();
        for n in 0..NAMES_MOST + 1000 {
            assert!(used.admit(n, 60, now).is_ok());
            assert!(used.free.len() <= NAMES_MOST);
        }
    }
}
