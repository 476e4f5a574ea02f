//! What a name has: which of the addresses in its answers are told.
//!
//! Owns how much it takes to believe another address, and when one that is missing is gone. Each family is
//! judged by itself: its records change, and fail to be looked up, without those of the other.

use super::{Belief, Family};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A name of many addresses may have some of them in each answer only, and an answer none of a family: one
/// that is missing in so many look-ups, a minute each where nothing is configured, is gone.
pub(super) const GONE_LOOKUPS: u32 = 10;
/// Addresses of a name that are told: more make every client's checks slow.
const MOST_NAMED: usize = 16;

/// What a name has.
#[derive(Debug, Default)]
pub(super) struct Named {
    families: [OfFamily; 2],
    /// Nobody has looked it up yet: what is known was said by somebody else before.
    stale: bool,
}

impl Named {
    /// Nobody has looked it up yet; until then these addresses do.
    pub(super) fn after(ips: impl Iterator<Item = IpAddr>) -> Self {
        let mut named = Self {
            stale: true,
            ..Self::default()
        };
        for ip in ips.take(MOST_NAMED) {
            named.families[Family::of(ip) as usize].known.push((ip, 0));
        }
        named
    }

    /// Its addresses.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.families.iter().flat_map(OfFamily::ips)
    }

    /// Has it ever been looked up?
    pub(super) fn is_known(&self) -> bool {
        !self.stale && self.ips().next().is_some()
    }

    /// An answer that has some address; what it makes of each family.
    pub(super) fn handle(&mut self, ips: &BTreeSet<IpAddr>) -> [Belief; 2] {
        if self.stale {
            *self = Self::default();
        }
        [Family::V4, Family::V6].map(|family| {
            let others = self.ips().filter(|ip| Family::of(*ip) != family).count();
            let of_it = ips.iter().filter(|ip| Family::of(**ip) == family);
            let place = MOST_NAMED.saturating_sub(others);
            self.families[family as usize].handle(&of_it.copied().collect::<Vec<_>>(), place)
        })
    }
}

/// What it has of one family.
#[derive(Debug, Default)]
struct OfFamily {
    /// Its addresses, and in how many answers each has been missing since.
    known: Vec<(IpAddr, u32)>,
    /// Those that one answer had besides.
    doubt: Vec<IpAddr>,
}

impl OfFamily {
    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.known.iter().map(|(ip, _)| *ip)
    }

    /// What an answer has of this family, in order. It may be wrong: what is new must be said twice, and
    /// whatever some of the known ones are still said with is not all there is.
    fn handle(&mut self, ips: &[IpAddr], place: usize) -> Belief {
        let is_known = |ip: &IpAddr| self.ips().any(|known| known == *ip);
        let new: Vec<IpAddr> = ips.iter().copied().filter(|ip| !is_known(ip)).collect();
        let goes_on = ips.is_empty() || ips.iter().any(is_known);
        let certain = self.known.is_empty() || new.iter().all(|ip| self.doubt.contains(ip));
        if !certain {
            // Whoever says something else each time is asked again at his usual turn.
            let first = self.doubt.is_empty();
            self.doubt = new;
            return if first {
                Belief::Doubted
            } else {
                Belief::Settled
            };
        }
        if !ips.is_empty() {
            self.doubt.clear();
        }
        for (ip, missing) in &mut self.known {
            *missing = if ips.contains(ip) { 0 } else { *missing + 1 };
        }
        let before = self.known.len();
        self.known
            .retain(|(_, missing)| *missing == 0 || (goes_on && *missing < GONE_LOOKUPS));
        let place = place.saturating_sub(self.known.len());
        let new: Vec<(IpAddr, u32)> = new.into_iter().take(place).map(|ip| (ip, 0)).collect();
        let changed = self.known.len() != before || !new.is_empty();
        self.known.extend(new);
        self.known.sort_unstable();
        if changed {
            Belief::Learned
        } else {
            Belief::Settled
        }
    }
}
