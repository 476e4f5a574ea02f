//! The memory of well-known files: what each said, and until when to believe it.
//!
//! Bounded in entries and in time. Used by `discovery`.

use crate::matrix::ServerName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Hosts remembered, some 300 bytes each. Whoever asks for tokens chooses the names; when it is
/// full, the entry that would be the first to go goes.
const MAX_KNOWN: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

/// How long to believe something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime(Duration);

impl Lifetime {
    /// What a file says that says nothing about it. (Matrix: 24 hours)
    pub(super) const DEFAULT: Self = Self(MINUTE.saturating_mul(24 * 60));
    /// That there is no file, or a useless one.
    pub(super) const ABSENT: Self = Self(MINUTE.saturating_mul(10));
    /// That nobody answers.
    pub(super) const UNREACHABLE: Self = Self(MINUTE);
    /// The most anybody is believed. (Matrix: 48 hours)
    const MOST: Self = Self(MINUTE.saturating_mul(48 * 60));
    /// The least: joins to one call come within seconds.
    const LEAST: Self = Self(MINUTE);

    /// As long as a file asks for, within bounds.
    pub(super) fn seconds(seconds: u64) -> Self {
        let asked = Duration::from_secs(seconds);
        Self(asked.clamp(Self::LEAST.0, Self::MOST.0))
    }
}

struct Entry {
    server: Option<ServerName>,
    until: Instant,
}

/// Shared by all requests; locked for a look-up in a map and no longer.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Entry>>);

impl Known {
    /// What is known of `host`: the server it delegates to, or that it does not. `None`: nothing.
    pub(super) fn of(&self, host: &str) -> Option<Option<ServerName>> {
        let now = Instant::now();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(host).filter(|entry| entry.until > now)?;
        Some(entry.server.clone())
    }

    pub(super) fn keep(&self, host: &str, server: Option<ServerName>, lifetime: Lifetime) {
        let now = Instant::now();
        let until = now + lifetime.0;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(host) {
            known.retain(|_, entry| entry.until > now);
        }
        if known.len() >= MAX_KNOWN && !known.contains_key(host) {
            let first = known.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(host) = first.map(|(host, _)| host.clone()) {
                known.remove(&host);
            }
        }
        known.insert(host.to_owned(), Entry { server, until });
    }

    pub(super) fn forget(&self, host: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Option<ServerName> {
        ServerName::parse("b.example:443")
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_believed_for_its_lifetime() {
        let known = Known::default();
        assert_eq!(known.of("a.example"), None);
        known.keep("a.example", server(), Lifetime::seconds(120));
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(known.of("a.example"), Some(server()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(known.of("a.example"), None);
        known.keep("a.example", None, Lifetime::ABSENT);
        assert_eq!(known.of("a.example"), Some(None));
        known.forget("a.example");
        assert_eq!(known.of("a.example"), None);
    }

    #[test]
    fn a_lifetime_keeps_its_bounds() {
        assert_eq!(Lifetime::seconds(0), Lifetime::LEAST);
        assert_eq!(Lifetime::seconds(u64::MAX), Lifetime::MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_takes_no_more_than_its_place() {
        let known = Known::default();
        known.keep("first.example", server(), Lifetime::DEFAULT);
        for n in 0..2 * MAX_KNOWN {
            known.keep(&format!("{n}.example"), None, Lifetime::ABSENT);
        }
        assert_eq!(known.0.lock().expect("not poisoned").len(), MAX_KNOWN);
        assert_eq!(known.of("first.example"), Some(server()));
        tokio::time::advance(Lifetime::ABSENT.0).await;
        known.keep("last.example", None, Lifetime::ABSENT);
        assert_eq!(known.0.lock().expect("not poisoned").len(), 2);
    }
}
