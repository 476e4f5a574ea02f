//! At which address clients say they see us, and when that is believed.
//!
//! Each word is a stranger's. So only public addresses count, that are said from public ones; each network has
//! one voice, however many clients it has; and an address is believed when several networks have said it
//! lately and fewer say another, and for as long as somebody goes on saying it. What is told for it is
//! `advertise`'s.

use super::Family;
use crate::crowd::is_public;
use std::net::IpAddr;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// So many networks must say the same.
const QUORUM: usize = 2;
/// What was said counts for so long: the next two answers may be lost, each client being asked every minute.
const COUNTS_FOR: Duration = Duration::from_secs(150);
/// What is believed is not changed more often than this, whatever is said: all are told each time.
const SETTLED_FOR: Duration = Duration::from_secs(60);
/// Networks whose word is kept. There is no room for more: who is here first and goes on saying something
/// cannot be driven out by many.
const NETWORKS: usize = 256;
/// Bits of an address that tell whose network it is, roughly: one of a provider's blocks, or a provider.
const NETWORK_BITS: [u32; 2] = [16, 32];

/// What one network says.
#[derive(Debug, Clone, Copy)]
struct View {
    by: IpAddr,
    at: IpAddr,
    heard: Instant,
}

/// What is believed of one family.
#[derive(Debug, Clone, Copy)]
struct Belief {
    at: IpAddr,
    /// When somebody last said so.
    said: Instant,
    /// When it took the place of another.
    since: Option<Instant>,
}

/// What all say.
#[derive(Debug, Default)]
pub(super) struct Views {
    views: Vec<View>,
    believed: [Option<Belief>; 2],
}

impl Views {
    /// A client at `by` sees us `at` an address; true if another one is believed for it than before.
    pub(super) fn handle_seen(&mut self, by: IpAddr, at: IpAddr, now: Instant) -> bool {
        let (by, at) = (by.to_canonical(), at.to_canonical());
        let family = Family::of(at);
        if !(is_public(by) && is_public(at)) || Family::of(by) != family {
            return false;
        }
        self.views
            .retain(|view| now.saturating_duration_since(view.heard) < COUNTS_FOR);
        let by = network(by);
        let heard = now;
        let full = self.views.len() >= NETWORKS;
        match self.views.iter_mut().find(|view| view.by == by) {
            Some(view) => *view = View { by, at, heard },
            None if full => return false,
            None => self.views.push(View { by, at, heard }),
        }
        let of_family = self
            .views
            .iter()
            .filter(|view| Family::of(view.at) == family);
        let (agree, differ): (Vec<&View>, Vec<&View>) = of_family.partition(|view| view.at == at);
        let believed = &mut self.believed[family as usize];
        if let Some(known) = believed.as_mut().filter(|known| known.at == at) {
            known.said = now;
            return false;
        }
        let lately = |since| now.saturating_duration_since(since) < SETTLED_FOR;
        let since = believed.and_then(|known| known.since);
        let settled = since.is_some_and(lately);
        let certain = agree.len() >= QUORUM && agree.len() > differ.len();
        let changes = certain && !settled;
        if changes {
            *believed = Some(Belief {
                at,
                said: now,
                since: believed.map(|_| now),
            });
        }
        changes
    }

    /// Somebody better has said something new of this family: what was heard before is of an address that we
    /// may have no more.
    pub(super) fn forget(&mut self, family: Family) {
        self.views.retain(|view| Family::of(view.at) != family);
        self.believed[family as usize] = None;
    }

    /// Time has passed: of the families for which somebody better has a word, what nobody has said for long
    /// is believed no more.
    pub(super) fn handle_timeout(&mut self, better: impl Fn(Family) -> bool, now: Instant) {
        for belief in &mut self.believed {
            let _ = belief.take_if(|known| {
                let unsaid = now.saturating_duration_since(known.said) >= COUNTS_FOR;
                unsaid && better(Family::of(known.at))
            });
        }
    }

    /// When [`Self::handle_timeout`] is wanted.
    pub(super) fn poll_timeout(&self, better: impl Fn(Family) -> bool) -> Option<Instant> {
        let believed = self.believed.iter().flatten();
        let mortal = believed.filter(|known| better(Family::of(known.at)));
        mortal.map(|known| known.said + COUNTS_FOR).min()
    }

    /// What is believed.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.believed.iter().flatten().map(|known| known.at)
    }
}

fn network(ip: IpAddr) -> IpAddr {
    let bits = NETWORK_BITS[Family::of(ip) as usize];
    match ip {
        IpAddr::V4(ip) => {
            let rest = u32::BITS - bits;
            IpAddr::V4((ip.to_bits() >> rest << rest).into())
        }
        IpAddr::V6(ip) => {
            let rest = u128::BITS - bits;
            IpAddr::V6((ip.to_bits() >> rest << rest).into())
        }
    }
}
