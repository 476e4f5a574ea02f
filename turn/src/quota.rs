//! How much a user or an allocation has taken.
//!
//! Owns who has which allocations, and the bandwidth of one. It refuses nothing by itself: the server
//! asks.

use crate::hash::{Keyed, Map};
use std::time::Instant;

/// Who has which allocations, by place.
#[derive(Debug)]
pub(crate) struct Users {
    users: Map<Box<str>, Vec<u32>>,
}

impl Users {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self {
            users: Map::with_hasher(keyed),
        }
    }

    /// The places of a user's allocations.
    pub(crate) fn allocations(&self, user: &str) -> &[u32] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// One more.
    pub(crate) fn add(&mut self, user: &str, slot: u32) {
        match self.users.get_mut(user) {
            Some(slots) => slots.push(slot),
            None => drop(self.users.insert(user.into(), vec![slot])),
        }
    }

    /// One less; a user without any is forgotten.
    pub(crate) fn remove(&mut self, user: &str, slot: u32) {
        if let Some(slots) = self.users.get_mut(user) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.users.remove(user);
            }
        }
    }
}

/// Bytes of one direction, against a rate. A second's worth may come at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    left: u64,
    at: Instant,
}

impl Budget {
    pub(crate) const fn new(bytes_s: u64, now: Instant) -> Self {
        Self {
            left: bytes_s,
            at: now,
        }
    }

    /// Takes bytes; false if they are too many. A rate of 0 is no limit.
    pub(crate) fn take(&mut self, bytes: usize, bytes_s: u64, now: Instant) -> bool {
        if bytes_s == 0 {
            return true;
        }
        let passed = now.saturating_duration_since(self.at).as_micros() as u64;
        let gained = passed.min(1_000_000).saturating_mul(bytes_s) / 1_000_000;
        // Only whole bytes move the clock: a slow rate would otherwise never gain any.
        if gained > 0 {
            self.left = (self.left + gained).min(bytes_s);
            self.at = now;
        }
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_budget_gives_its_rate_and_no_more() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut budget = Budget::new(10_000, now);
        let mut passed = 0;
        for ms in 0..3000_u64 {
            let at = now + Duration::from_millis(ms);
            passed += usize::from(budget.take(100, 10_000, at));
        }
        assert!((399..=400).contains(&passed), "{passed}");
        assert!(budget.take(1 << 20, 0, now));
    }

    #[test]
    fn a_user_without_allocations_is_forgotten() {
        let mut users = Users::new(Keyed::new([1, 2]));
        users.add("a", 1);
        users.add("a", 2);
        assert_eq!(users.allocations("a"), [1, 2]);
        users.remove("a", 1);
        users.remove("a", 2);
        users.remove("b", 2);
        assert!(users.users.is_empty() && users.allocations("a").is_empty());
    }
}
