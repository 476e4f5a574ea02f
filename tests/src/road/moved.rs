//! How long clients whose NAT has forgotten say nothing: nobody can find them sooner.
//!
//! A client learns nothing of its new port. One that only watches gets nothing, so it has nothing to
//! acknowledge, and speaks at its next check or report: seconds away, or later when that is lost.

use super::nat::Inner;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Who got anything so shortly before the NAT forgot is in a call.
const LIVELY: Duration = Duration::from_secs(1);

/// Clients by their inner UDP port. No more than the NAT has mappings.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// When each last got anything.
    reached: HashMap<Inner, Instant>,
    /// When the NAT last forgot.
    at: Option<Instant>,
    /// Who was in a call then, and when the first packet by the new port arrived.
    heard: HashMap<Inner, Option<Instant>>,
}

impl Moved {
    /// A client gets a packet.
    pub(super) fn reach(&mut self, client: Inner, now: Instant) {
        self.reached.insert(client, now);
    }

    /// A client's packet arrives.
    pub(super) fn hear(&mut self, client: Inner, now: Instant) {
        if let Some(heard) = self.heard.get_mut(&client) {
            heard.get_or_insert(now);
        }
    }

    /// The NAT forgets.
    pub(super) fn forget(&mut self, now: Instant) {
        let lively = self
            .reached
            .iter()
            .filter(|(_, at)| now.saturating_duration_since(**at) < LIVELY);
        self.heard = lively.map(|(client, _)| (*client, None)).collect();
        self.at = Some(now);
    }

    /// How long who was silent longest of them has been so, or was.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        let Some(at) = self.at else {
            return Duration::ZERO;
        };
        let silent = self
            .heard
            .values()
            .map(|heard| heard.unwrap_or(now).saturating_duration_since(at));
        silent.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn who_was_in_a_call_is_silent_until_a_packet_by_the_new_port_arrives() {
        let start = Instant::now();
        let client = |port| (Ipv4Addr::new(192, 168, 77, 2), port);
        let mut moved = Moved::default();
        assert_eq!(moved.silent(start), Duration::ZERO, "nothing was forgotten");
        moved.reach(client(1), start);
        for port in [2, 3] {
            moved.reach(client(port), start + 1500 * MS);
        }
        moved.forget(start + 2000 * MS);
        assert_eq!(moved.silent(start + 2100 * MS), 100 * MS);
        moved.hear(client(2), start + 2200 * MS);
        assert_eq!(
            moved.silent(start + 2900 * MS),
            900 * MS,
            "the other is silent yet"
        );
        moved.hear(client(3), start + 3000 * MS);
        moved.hear(client(3), start + 4000 * MS);
        assert_eq!(moved.silent(start + 5000 * MS), 1000 * MS);
        moved.forget(start + 9000 * MS);
        assert_eq!(
            moved.silent(start + 9500 * MS),
            Duration::ZERO,
            "nobody was in a call"
        );
    }
}
