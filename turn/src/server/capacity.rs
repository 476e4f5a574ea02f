//! Whether there may be one more allocation, and which one gives way to it.
//!
//! One that is in use is never silent for long. Of those that are, a user's own gives way to his next one,
//! and where an address or all have what they may, one of whoever has the most: so nobody uses up what is
//! there for everybody by leaving allocations behind, under however many names.

use super::Server;
use super::answer::Refusal;
use super::authenticate::Caller;
use crate::address::Client;
use crate::allocation::SILENT;
use crate::event::{End, Reason};
use crate::networks::{Block, blocks};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Allocations looked at for one that gives way, so that a flood of requests at a limit holds no packet
/// up. Where there are more they are drawn by lot: of whoever has filled the place many are among them.
const LOOKS: usize = 128;
/// A site has as many as so many of its networks.
const NETWORKS_OF_SITE: usize = 2;

/// What speaks for ending an allocation: how many its network has, or its user if he has more; how many
/// he has; how long it was silent. Its place comes last.
type Weight = (usize, usize, Duration, u32);

impl Server {
    /// Makes room for one more of a caller, within what he, his address and all may have.
    pub(super) fn make_room(
        &mut self,
        client: &Client,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), Refusal> {
        let limits = self.config.limits;
        let is_full = |most: u32, count: usize| most > 0 && count >= most as usize;
        let count = self.users.allocations(&caller.user).len();
        if is_full(limits.user_allocations, count) && !self.displace(caller, None, now) {
            return Err(Refusal::new(486, Reason::UserQuota));
        }
        self.make_room_at(client.remote.ip(), now)?;
        if is_full(limits.allocations, self.allocations.len()) && !self.displace_of(None, now) {
            return Err(Refusal::new(508, Reason::TotalQuota));
        }
        Ok(())
    }

    fn make_room_at(&mut self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        let most = self.config.limits.address_allocations as usize;
        if most == 0 || self.config.shared.has(ip) {
            return Ok(());
        }
        for (block, networks) in blocks(ip).zip([1, NETWORKS_OF_SITE]) {
            let count = self.networks.allocations(block).len();
            if count >= most * networks && !self.displace_of(Some(block), now) {
                return Err(Refusal::new(486, Reason::AddressQuota));
            }
        }
        Ok(())
    }

    /// Ends the most silent allocation of a user, of those from one address of his if one is given: who has
    /// changed networks cannot end what he had there. False if none is silent.
    pub(super) fn displace(&mut self, caller: &Caller, at: Option<IpAddr>, now: Instant) -> bool {
        let heard = |slot: &u32| {
            let allocation = self.allocations.at(*slot)?;
            let is_there = at.is_none_or(|at| allocation.client.remote.ip() == at);
            is_there.then_some((allocation.heard, *slot))
        };
        let all = self.users.allocations(&caller.user).iter();
        let silent = all.filter_map(heard).min();
        let silent = silent.filter(|(heard, _)| now.saturating_duration_since(*heard) >= SILENT);
        if let Some((_, slot)) = silent {
            self.end(slot, End::Displaced, now);
        }
        silent.is_some()
    }

    /// Ends a silent allocation of a network or a site, or of anybody: of those looked at the most silent of
    /// whoever has the most. False if none of them is silent.
    fn displace_of(&mut self, block: Option<Block>, now: Instant) -> bool {
        let count = match block {
            Some(block) => self.networks.allocations(block).len(),
            None => self.allocations.places(),
        };
        let mut worst: Option<Weight> = None;
        for n in 0..count.min(LOOKS) {
            let index = if count > LOOKS {
                (self.chance.word() % count as u64) as usize
            } else {
                n
            };
            let slot = match block {
                Some(block) => self.networks.allocations(block).get(index).copied(),
                None => Some(index as u32),
            };
            worst = worst.max(slot.and_then(|slot| self.weight(slot, now)));
        }
        if let Some((.., slot)) = worst {
            self.end(slot, End::Displaced, now);
        }
        worst.is_some()
    }

    /// What speaks for ending an allocation; `None` if it is in use.
    fn weight(&self, slot: u32, now: Instant) -> Option<Weight> {
        let allocation = self.allocations.at(slot)?;
        let silence = now.saturating_duration_since(allocation.heard);
        if silence < SILENT {
            return None;
        }
        let ip = allocation.client.remote.ip();
        let of_user = self.users.count(allocation.share);
        let of_network = if self.config.shared.has(ip) {
            0
        } else {
            self.networks.count(ip)
        };
        Some((of_network.max(of_user), of_user, silence, slot))
    }
}
