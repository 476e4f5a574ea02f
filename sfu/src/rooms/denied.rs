//! Who is let into a room no more, whatever token he shows: those whom somebody took out for good.
//!
//! Owns this list. The room's task asks it for each entry, so that nobody slips in between being denied
//! and being taken out. Filled by `server`.

use crate::metrics::Metrics;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Denials at a time, some 200 bytes each. Each belongs to a token of whoever was taken out; one more is
/// not kept, and counted.
const DENIED_MOST: usize = 100_000;

/// Separates an identity from what a session beside it adds. (LK: signalling §1.5)
const BESIDE: char = '#';

/// Rooms and identities, and until when. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Denied(Arc<Mutex<HashMap<(String, String), Instant>>>);

impl Denied {
    /// Nobody of this identity comes in until then.
    pub fn deny(&self, room: &str, identity: &str, until: Instant, metrics: &Metrics) {
        let key = (room.to_owned(), identity.to_owned());
        let mut denied = self.denied();
        if denied.len() >= DENIED_MOST && !denied.contains_key(&key) {
            let now = now();
            denied.retain(|_, until| *until > now);
            if denied.len() >= DENIED_MOST {
                return metrics.limit_reached("denied");
            }
        }
        denied.insert(key, until);
    }

    /// He may come in again.
    pub fn allow(&self, room: &str, identity: &str) {
        let key = (room.to_owned(), identity.to_owned());
        self.denied().remove(&key);
    }

    /// Is somebody of this identity to be kept out?
    #[must_use]
    pub fn holds(&self, room: &str, identity: &str) -> bool {
        let denied = self.denied();
        if denied.is_empty() {
            return false;
        }
        let now = now();
        let is_denied = |identity: &str| {
            let until = denied.get(&(room.to_owned(), identity.to_owned()));
            until.is_some_and(|until| now < *until)
        };
        // Sessions beside his own are his too.
        let mut own = identity
            .match_indices(BESIDE)
            .map(|(at, _)| &identity[..at]);
        is_denied(identity) || own.any(is_denied)
    }

    fn denied(&self) -> MutexGuard<'_, HashMap<(String, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_identity_and_all_beside_it_are_denied_until_then() {
        let (denied, metrics) = (Denied::default(), Metrics::new("ND_test"));
        let now = now();
        denied.deny("room", "alice", now + Duration::from_secs(60), &metrics);
        denied.deny("room", "past", now, &metrics);
        for identity in ["alice", "alice#screen", "alice#a#b"] {
            assert!(denied.holds("room", identity), "{identity}");
        }
        for identity in ["alic", "alice2", "#alice", "bob", "past", ""] {
            assert!(!denied.holds("room", identity), "{identity}");
        }
        assert!(!denied.holds("other", "alice"));
        denied.allow("room", "alice");
        assert!(!denied.holds("room", "alice"));
    }

    #[test]
    fn a_flood_takes_no_more_than_its_place_and_what_has_expired_makes_way() {
        let (denied, metrics) = (Denied::default(), Metrics::new("ND_test"));
        let now = now();
        for n in 0..DENIED_MOST {
            denied.deny(
                "room",
                &n.to_string(),
                now + Duration::from_secs(600),
                &metrics,
            );
        }
        denied.deny("room", "late", now + Duration::from_secs(600), &metrics);
        assert!(!denied.holds("room", "late"));
        denied.deny("room", "0", now, &metrics);
        denied.deny("room", "late", now + Duration::from_secs(600), &metrics);
        assert!(denied.holds("room", "late"));
    }
}
