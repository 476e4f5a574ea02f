//! How much a user, an allocation or all of them have taken.
//!
//! Owns who has which allocations, and the bandwidth of each and of all. It refuses nothing by itself:
//! the server asks.

use crate::hash::{Keyed, Map};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A budget that nobody takes from is whole after this long: a second's worth may come at once.
const WHOLE_AFTER: Duration = Duration::from_secs(1);
/// Users without allocations who are remembered until their budgets are whole, so that nobody gets
/// a new one by allocating anew. Beyond so many in one second the oldest are forgotten sooner.
const LEAVING: usize = 4096;

/// Which way a payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a client.
    Outward,
    /// To a client.
    Inward,
}

/// Bytes of one direction, against a rate. A second's worth may come at once.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u64,
    at: Instant,
}

impl Budget {
    /// Adds what has come since; tells what is left. A rate of 0 is no limit.
    fn gain(&mut self, bytes_s: u64, now: Instant) -> u64 {
        if bytes_s == 0 {
            return u64::MAX;
        }
        let passed = now.saturating_duration_since(self.at).as_micros() as u64;
        let gained = passed.min(1_000_000).saturating_mul(bytes_s) / 1_000_000;
        // Only whole bytes move the clock: a slow rate would otherwise never gain any.
        if gained > 0 {
            self.left = (self.left + gained).min(bytes_s);
            self.at = now;
        }
        self.left
    }
}

/// A budget for each direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budgets([Budget; 2]);

impl Budgets {
    pub(crate) const fn new(bytes_s: u64, now: Instant) -> Self {
        let budget = Budget {
            left: bytes_s,
            at: now,
        };
        Self([budget, budget])
    }

    const fn of(&mut self, direction: Direction) -> &mut Budget {
        let [outward, inward] = &mut self.0;
        match direction {
            Direction::Outward => outward,
            Direction::Inward => inward,
        }
    }
}

/// Bytes a second, each way; 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) allocation: u64,
    pub(crate) user: u64,
    pub(crate) total: u64,
}

impl Rates {
    const NONE: Self = Self {
        allocation: 0,
        user: 0,
        total: 0,
    };
}

/// Whose bandwidth is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Allocation,
    User,
    Total,
}

/// A payload that wants to pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) direction: Direction,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
}

/// The rates, and the budgets of all together.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    rates: Rates,
    total: Budgets,
}

impl Bandwidth {
    pub(crate) const fn new(rates: Rates, now: Instant) -> Self {
        Self {
            rates,
            total: Budgets::new(rates.total, now),
        }
    }

    /// The budgets of a new allocation.
    pub(crate) const fn of_allocation(&self, now: Instant) -> Budgets {
        Budgets::new(self.rates.allocation, now)
    }

    /// Takes a payload from the budgets of an allocation, its user and all, or from none of them.
    pub(crate) fn take(
        &mut self,
        own: &mut Budgets,
        users: &mut Users,
        user: u32,
        load: Load,
    ) -> Result<(), Spent> {
        // The packet path of those who set no limit looks at nothing more.
        if self.rates == Rates::NONE {
            return Ok(());
        }
        let Rates {
            allocation,
            user: of_user,
            total,
        } = self.rates;
        let user = Some(user).filter(|_| of_user > 0);
        let user = user.and_then(|user| users.budgets(user));
        let mut all = [
            (allocation, Some(own), Spent::Allocation),
            (of_user, user, Spent::User),
            (total, Some(&mut self.total), Spent::Total),
        ]
        .map(|(rate, budgets, spent)| {
            let budgets = budgets.filter(|_| rate > 0);
            (rate, budgets.map(|all| all.of(load.direction)), spent)
        });
        let bytes = load.bytes as u64;
        for (rate, budget, spent) in &mut all {
            if let Some(budget) = budget
                && budget.gain(*rate, load.at) < bytes
            {
                return Err(*spent);
            }
        }
        for budget in all.into_iter().filter_map(|(_, budget, _)| budget) {
            budget.left -= bytes;
        }
        Ok(())
    }
}

/// What allocations of one user share.
#[derive(Debug)]
struct Share {
    name: Box<str>,
    /// The places of his allocations.
    slots: Vec<u32>,
    budgets: Budgets,
    /// When he may be forgotten, if he has no allocation.
    leaves: Option<Instant>,
}

/// Who has which allocations, by place.
#[derive(Debug)]
pub(crate) struct Users {
    by_name: Map<Box<str>, u32>,
    shares: Vec<Option<Share>>,
    free: Vec<u32>,
    leaving: VecDeque<(Instant, u32)>,
    bytes_s: u64,
}

impl Users {
    /// `bytes_s`: the bandwidth of one user each way; 0: no limit.
    pub(crate) fn new(keyed: Keyed, bytes_s: u64) -> Self {
        Self {
            by_name: Map::with_hasher(keyed),
            shares: Vec::new(),
            free: Vec::new(),
            leaving: VecDeque::new(),
            bytes_s,
        }
    }

    /// The places of a user's allocations.
    pub(crate) fn allocations(&self, user: &str) -> &[u32] {
        let share = self.by_name.get(user).and_then(|at| self.share(*at));
        share.map_or(&[], |share| share.slots.as_slice())
    }

    /// How many a user has of them who is known by this to [`Bandwidth::take`].
    pub(crate) fn count(&self, user: u32) -> usize {
        self.share(user).map_or(0, |share| share.slots.len())
    }

    /// One more; tells by what the user is known to [`Bandwidth::take`].
    pub(crate) fn add(&mut self, user: &str, slot: u32, now: Instant) -> u32 {
        self.forget(now);
        let at = match self.by_name.get(user) {
            Some(at) => *at,
            None => self.enter(user, now),
        };
        if let Some(share) = self.shares.get_mut(at as usize).and_then(Option::as_mut) {
            share.slots.push(slot);
            share.leaves = None;
        }
        at
    }

    /// One less. A user without any is forgotten as soon as that gains him nothing.
    pub(crate) fn remove(&mut self, user: u32, slot: u32, now: Instant) {
        let until = now + WHOLE_AFTER;
        let Some(share) = self.shares.get_mut(user as usize).and_then(Option::as_mut) else {
            return;
        };
        share.slots.retain(|other| *other != slot);
        if share.slots.is_empty() {
            share.leaves = Some(until);
            self.leaving.push_back((until, user));
        }
        self.forget(now);
    }

    fn budgets(&mut self, user: u32) -> Option<&mut Budgets> {
        let share = self.shares.get_mut(user as usize)?.as_mut()?;
        Some(&mut share.budgets)
    }

    fn share(&self, at: u32) -> Option<&Share> {
        self.shares.get(at as usize)?.as_ref()
    }

    fn enter(&mut self, user: &str, now: Instant) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.shares.push(None);
            self.shares.len() as u32 - 1
        });
        if let Some(place) = self.shares.get_mut(at as usize) {
            *place = Some(Share {
                name: user.into(),
                slots: Vec::new(),
                budgets: Budgets::new(self.bytes_s, now),
                leaves: None,
            });
        }
        self.by_name.insert(user.into(), at);
        at
    }

    /// Forgets those whose budgets are whole again, or were none.
    fn forget(&mut self, now: Instant) {
        while let Some((until, at)) = self.leaving.front().copied() {
            if self.bytes_s > 0 && until > now && self.leaving.len() <= LEAVING {
                return;
            }
            self.leaving.pop_front();
            // He may have come back, and may have left again.
            if self
                .share(at)
                .is_none_or(|share| share.leaves != Some(until))
            {
                continue;
            }
            if let Some(share) = self.shares.get_mut(at as usize).and_then(Option::take) {
                self.by_name.remove(&share.name);
                self.free.push(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: Direction = Direction::Outward;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        Instant::now()
    }

    fn users(bytes_s: u64) -> Users {
        Users::new(Keyed::new([1, 2]), bytes_s)
    }

    fn bandwidth(allocation: u64, user: u64, total: u64, now: Instant) -> Bandwidth {
        let rates = Rates {
            allocation,
            user,
            total,
        };
        Bandwidth::new(rates, now)
    }

    fn load(bytes: usize, at: Instant) -> Load {
        Load {
            direction: OUT,
            bytes,
            at,
        }
    }

    #[test]
    fn a_budget_gives_its_rate_and_no_more() {
        let now = start();
        let (mut all, mut users) = (bandwidth(10_000, 0, 0, now), users(0));
        let mut own = all.of_allocation(now);
        let mut passed = 0;
        for ms in 0..3000_u64 {
            let at = now + Duration::from_millis(ms);
            let taken = all.take(&mut own, &mut users, 0, load(100, at));
            passed += usize::from(taken.is_ok());
        }
        assert!((399..=400).contains(&passed), "{passed}");
        let mut unbounded = bandwidth(0, 0, 0, now);
        let huge = unbounded.take(&mut own, &mut users, 0, load(1 << 20, now));
        assert_eq!(huge, Ok(()));
    }

    #[test]
    fn a_payload_is_taken_from_every_budget_or_from_none() {
        let now = start();
        let (mut all, mut users) = (bandwidth(1000, 1500, 2000, now), users(1500));
        let (a, b) = (users.add("a", 1, now), users.add("b", 2, now));
        let mut own = [(); 4].map(|()| all.of_allocation(now));
        let mut take = |which: usize, user, bytes| {
            all.take(&mut own[which], &mut users, user, load(bytes, now))
        };
        assert_eq!(take(0, a, 1001), Err(Spent::Allocation));
        assert_eq!(take(0, a, 1000), Ok(()));
        assert_eq!(take(0, a, 1), Err(Spent::Allocation));
        // Another allocation of his has its own, but he has little left.
        assert_eq!(take(1, a, 501), Err(Spent::User));
        assert_eq!(take(1, a, 500), Ok(()));
        assert_eq!(take(2, b, 501), Err(Spent::Total));
        assert_eq!(take(2, b, 500), Ok(()));
        assert_eq!(take(3, b, 1), Err(Spent::Total));
        // The other direction has its own.
        let back = Load {
            direction: Direction::Inward,
            ..load(1000, now)
        };
        assert_eq!(all.take(&mut own[0], &mut users, a, back), Ok(()));
    }

    #[test]
    fn who_allocates_anew_has_no_new_budget_before_the_old_one_is_whole() {
        let now = start();
        let (mut all, mut users) = (bandwidth(0, 1000, 0, now), users(1000));
        let mut own = all.of_allocation(now);
        let mut user = users.add("a", 1, now);
        assert!(
            all.take(&mut own, &mut users, user, load(1000, now))
                .is_ok()
        );
        for _ in 0..3 {
            users.remove(user, 1, now);
            user = users.add("a", 1, now);
            let taken = all.take(&mut own, &mut users, user, load(1, now));
            assert_eq!(taken, Err(Spent::User));
        }
        let later = now + WHOLE_AFTER;
        users.add("b", 2, later);
        assert_eq!(
            users.allocations("a"),
            [1],
            "who came back is not forgotten"
        );
        users.remove(user, 1, later);
        let later = later + WHOLE_AFTER;
        users.add("b", 3, later);
        assert_eq!(users.by_name.len(), 1, "a is forgotten");
    }

    #[test]
    fn a_user_without_allocations_is_forgotten_and_many_who_leave_at_once_are_bounded() {
        let now = start();
        let mut free = users(0);
        let user = free.add("a", 1, now);
        assert_eq!(free.add("a", 2, now), user);
        assert_eq!(free.allocations("a"), [1, 2]);
        free.remove(user, 1, now);
        free.remove(user, 2, now);
        free.remove(7, 2, now);
        assert!(free.by_name.is_empty() && free.allocations("a").is_empty());
        let mut bounded = users(1000);
        for n in 0..10_000_u32 {
            let user = bounded.add(&n.to_string(), n, now);
            bounded.remove(user, n, now);
        }
        assert_eq!(bounded.by_name.len(), LEAVING);
        assert!(bounded.shares.len() <= LEAVING + 1);
    }
}
