//! Users who are gone for good: what they leave behind ends a little later, and they get nothing new.
//!
//! Owns who they are, and for how long that matters. Ends nothing by itself: the server does.

use crate::hash::{Keyed, Map};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What somebody leaves behind ends after this: his farewells have been relayed by then.
pub(crate) const LINGERS: Duration = Duration::from_secs(60);
/// He is remembered for as long as a name that was told him may be good.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Users who are remembered, of some 100 bytes each. Of more in a day the first are forgotten, and may
/// allocate again until their names lapse.
const MOST: usize = 65_536;

/// Those who are gone.
#[derive(Debug)]
pub(crate) struct Retired {
    names: Map<Arc<str>, ()>,
    /// Who has left something behind, perhaps, and when that ends.
    lingering: VecDeque<(Instant, Arc<str>)>,
    /// Who has not any more, and when he is forgotten.
    past: VecDeque<(Instant, Arc<str>)>,
}

impl Retired {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self {
            names: Map::with_hasher(keyed),
            lingering: VecDeque::new(),
            past: VecDeque::new(),
        }
    }

    /// Whether a user is gone.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.names.contains_key(user)
    }

    /// One more is.
    pub(crate) fn add(&mut self, user: &str, now: Instant) {
        while let Some((until, oldest)) = self.past.front()
            && (*until <= now || self.names.len() >= MOST)
        {
            self.names.remove(oldest);
            self.past.pop_front();
        }
        // So many in a minute: the rest goes as its allocations expire.
        if self.names.len() >= MOST || self.has(user) {
            return;
        }
        let user: Arc<str> = user.into();
        self.names.insert(Arc::clone(&user), ());
        self.lingering.push_back((now + LINGERS, user));
    }

    /// When something is to end next.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.lingering.front().map(|(at, _)| *at)
    }

    /// A user whose allocations are to end now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Arc<str>> {
        let (at, user) = self.lingering.pop_front_if(|(at, _)| *at <= now)?;
        self.past.push_back((at + REMEMBERED, Arc::clone(&user)));
        Some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_gone_is_remembered_for_a_day_and_no_more_of_them_than_the_limit() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut retired = Retired::new(Keyed::new([1, 2]));
        retired.add("a", now);
        retired.add("a", now);
        assert_eq!(retired.next_end(), Some(now + LINGERS));
        assert_eq!(retired.poll(now), None);
        assert_eq!(retired.poll(now + LINGERS).as_deref(), Some("a"));
        assert_eq!(
            (retired.poll(now + LINGERS), retired.next_end()),
            (None, None)
        );
        retired.add("b", now + REMEMBERED);
        assert!(retired.has("a") && retired.has("b"));
        let later = now + LINGERS + REMEMBERED;
        retired.add("c", later);
        assert!(!retired.has("a") && retired.has("b"));
        for n in 0..=MOST {
            retired.add(&n.to_string(), later);
            while retired.poll(later + LINGERS).is_some() {}
        }
        assert_eq!((retired.names.len(), retired.past.len()), (MOST, MOST));
        assert!(!retired.has("b") && retired.has(&MOST.to_string()));
    }
}
