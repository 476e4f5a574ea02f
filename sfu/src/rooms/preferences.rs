//! By what the media of somebody came best when he was in a room last. (LK: signalling §7.5)
//!
//! Owns this memory, which outlives a room that has become empty. A room's task writes it, and asks it for
//! each join.

use crate::metrics::Metrics;
use crate::room::preference::{NOTICED_WITHIN, Preference, REMEMBERED};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Remembered at a time, some 200 bytes each: those with trouble in the last five minutes. One more is not
/// kept, and counted: it finds its way again.
const REMEMBERED_MOST: usize = 10_000;

/// Rooms and identities, by what, and until when. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Preferences(Arc<Mutex<Table>>);

type Table = HashMap<(String, String), (Preference, Instant)>;

impl Preferences {
    /// Remembers it for a while.
    pub(super) fn keep(
        &self,
        room: &str,
        identity: &str,
        preference: Preference,
        metrics: &Metrics,
    ) {
        let key = (room.to_owned(), identity.to_owned());
        let (mut table, now) = (self.table(), now());
        if preference == Preference::Any {
            table.remove(&key);
            return;
        }
        if table.len() >= REMEMBERED_MOST && !table.contains_key(&key) {
            table.retain(|_, (_, until)| *until > now);
            if table.len() >= REMEMBERED_MOST {
                return metrics.limit_reached("preferences");
            }
        }
        table.insert(key, (preference, now + REMEMBERED));
    }

    /// One of our addresses is another one: what was found since it may have been so says nothing.
    pub(super) fn forget_late(&self) {
        let before = now() + (REMEMBERED - NOTICED_WITHIN);
        self.table().retain(|_, (_, until)| *until <= before);
    }

    /// What is remembered of somebody.
    pub(super) fn of(&self, room: &str, identity: &str) -> Preference {
        let mut table = self.table();
        if table.is_empty() {
            return Preference::Any;
        }
        let key = (room.to_owned(), identity.to_owned());
        match table.get(&key) {
            Some((preference, until)) if now() < *until => *preference,
            Some(_) => {
                table.remove(&key);
                Preference::Any
            }
            None => Preference::Any,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
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

    #[tokio::test(start_paused = true)]
    async fn a_preference_is_remembered_for_five_minutes_by_room_and_identity() {
        let (known, metrics) = (Preferences::default(), Metrics::new("ND_test"));
        known.keep("room", "alice", Preference::Tcp, &metrics);
        known.keep("room", "bob", Preference::Relay, &metrics);
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(known.of("room", "alice"), Preference::Tcp);
        assert_eq!(known.of("room", "bob"), Preference::Relay);
        for (room, identity) in [("other", "alice"), ("room", "carol")] {
            assert_eq!(known.of(room, identity), Preference::Any);
        }
        known.keep("room", "bob", Preference::Any, &metrics);
        assert_eq!(known.of("room", "bob"), Preference::Any);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(known.of("room", "alice"), Preference::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_while_an_address_may_have_been_another_one_is_forgotten() {
        let (known, metrics) = (Preferences::default(), Metrics::new("ND_test"));
        known.keep("room", "alice", Preference::Tcp, &metrics);
        tokio::time::advance(Duration::from_secs(1)).await;
        known.keep("room", "bob", Preference::Relay, &metrics);
        tokio::time::advance(NOTICED_WITHIN - Duration::from_secs(1)).await;
        known.forget_late();
        assert_eq!(known.of("room", "alice"), Preference::Tcp);
        assert_eq!(known.of("room", "bob"), Preference::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_remembered_than_the_limit_and_old_ones_make_way() {
        let (known, metrics) = (Preferences::default(), Metrics::new("ND_test"));
        for n in 0..=REMEMBERED_MOST {
            known.keep("room", &n.to_string(), Preference::Tcp, &metrics);
        }
        let last = REMEMBERED_MOST.to_string();
        assert_eq!(known.of("room", &last), Preference::Any);
        assert_eq!(known.of("room", "0"), Preference::Tcp);
        tokio::time::advance(REMEMBERED).await;
        known.keep("room", &last, Preference::Tcp, &metrics);
        assert_eq!(known.of("room", &last), Preference::Tcp);
    }
}
