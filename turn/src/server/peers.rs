//! CreatePermission and ChannelBind: which peers an allocation talks with. (RFC 8656 §10, §12)
//!
//! Ports are shared, so a peer on a port belongs to one allocation at a time: a second one is
//! refused with 403. Our own SFU may always be reached, and is nobody's alone.

use super::answer::Refusal;
use super::authenticate::Caller;
use super::{Route, Server};
use crate::address::{Client, Family, plain};
use crate::channel::Unbound;
use crate::credentials::Reach;
use crate::event::Reason;
use crate::message::attribute::{CHANNEL_NUMBER, XOR_PEER_ADDRESS};
use crate::message::{Class, Message, unmask};
use crate::permission::Scope;
use crate::policy::translated;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Peers in one request: as many as an allocation may have by default.
const PEERS_PER_REQUEST: usize = 64;

/// A permission that may be given.
#[derive(Debug, Clone, Copy)]
struct Leave {
    scope: Scope,
    /// The port whose traffic it opens; none: for the SFU alone.
    port: Option<u16>,
}

impl Server {
    pub(super) fn create_permission(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), Refusal> {
        let slot = self
            .allocations
            .of_client(&client)
            .ok_or(Refusal::MISMATCH)?;
        let values = message
            .attributes()
            .filter(|(kind, _)| *kind == XOR_PEER_ADDRESS);
        let mut leaves = Vec::new();
        for (_, value) in values {
            let peer = unmask(value, &message.transaction).ok_or(Refusal::BAD)?;
            if leaves.len() == PEERS_PER_REQUEST {
                return Err(Refusal::new(508, Reason::TooManyPeers));
            }
            leaves.push(self.judge(slot, plain(peer), now)?);
        }
        if leaves.is_empty() {
            return Err(Refusal::BAD);
        }
        // All or none. (RFC 8656 §10.2)
        self.check_room(slot, &leaves)?;
        for leave in leaves {
            self.give(slot, leave, now);
        }
        self.write(client, message, Some(caller), Class::Success, |_| {});
        Ok(())
    }

    pub(super) fn bind_channel(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), Refusal> {
        let slot = self
            .allocations
            .of_client(&client)
            .ok_or(Refusal::MISMATCH)?;
        let number = message
            .attribute(CHANNEL_NUMBER)
            .and_then(|value| value.first_chunk::<2>())
            .map(|number| u16::from_be_bytes(*number));
        let (Some(number), Some(peer)) = (number, message.address(XOR_PEER_ADDRESS)) else {
            return Err(Refusal::BAD);
        };
        let peer = plain(peer);
        if peer.port() == 0 {
            return Err(Refusal::BAD);
        }
        let most = self.config.limits.channels;
        let allocation = self.allocations.at(slot).ok_or(Refusal::MISMATCH)?;
        allocation
            .channels
            .check(number, peer, most, now)
            .map_err(|fault| match fault {
                Unbound::Number | Unbound::Taken => Refusal::BAD,
                Unbound::Full => Refusal::new(508, Reason::TooManyPeers),
            })?;
        let leave = self.judge(slot, peer, now)?;
        self.check_room(slot, &[leave])?;
        self.give(slot, leave, now);
        let until = now + self.config.lifetimes.channel;
        if let Some(allocation) = self.allocations.at_mut(slot) {
            allocation.channels.bind(number, peer, until);
        }
        self.wake_by(slot, until);
        self.write(client, message, Some(caller), Class::Success, |_| {});
        Ok(())
    }

    /// Whether an allocation may talk with a peer, and in which way.
    fn judge(&self, slot: u32, peer: SocketAddr, now: Instant) -> Result<Leave, Refusal> {
        let allocation = self.allocations.at(slot).ok_or(Refusal::MISMATCH)?;
        let relay = allocation
            .relay(Family::of(peer.ip()))
            .ok_or(Refusal::new(443, Reason::FamilyMismatch))?;
        let scope = self.scope(peer, now);
        let may = || self.is_relay(peer, now) || self.lets_in(peer.ip(), now);
        let allowed = allocation.reach == Reach::Peers && may();
        let of_sfu =
            || self.config.own.is_sfu_ip(peer.ip()) || self.former.is_sfu_ip(peer.ip(), now);
        if self.is_sfu(peer, now) || !allowed && of_sfu() {
            return Ok(Leave { scope, port: None });
        }
        if !allowed {
            return Err(Refusal::new(403, Reason::PeerDenied));
        }
        let route = Route {
            port: relay.port(),
            scope,
        };
        let taken = self.routes.get(&route).is_some_and(|other| {
            let live = |other: &crate::allocation::Allocation| other.permissions.routes(scope, now);
            *other != slot && self.allocations.at(*other).is_some_and(live)
        });
        if taken {
            return Err(Refusal::new(403, Reason::PeerTaken));
        }
        Ok(Leave {
            scope,
            port: Some(relay.port()),
        })
    }

    /// Whether a peer may be reached that is neither the SFU nor a relay. What listens at an address of the
    /// machine, of its router or of a neighbour may trust who comes from within, however it is spelled.
    fn lets_in(&self, ip: IpAddr, now: Instant) -> bool {
        let policy = &self.config.peers;
        let is_near = |ip| self.is_ours(ip, now) || self.config.own.is_neighbour(ip);
        let closed = |ip| is_near(ip) && !policy.excepts(ip);
        policy.allows(ip) && !closed(ip) && !translated(ip).is_some_and(closed)
    }

    fn check_room(&self, slot: u32, leaves: &[Leave]) -> Result<(), Refusal> {
        let allocation = self.allocations.at(slot).ok_or(Refusal::MISMATCH)?;
        let had = &allocation.permissions;
        let is_new = |(index, leave): &(usize, &Leave)| {
            let before = leaves.get(..*index).unwrap_or_default();
            !had.contains(leave.scope) && !before.iter().any(|other| other.scope == leave.scope)
        };
        let new = leaves.iter().enumerate().filter(is_new).count();
        if had.len() + new > self.config.limits.permissions.max(had.len()) {
            return Err(Refusal::new(508, Reason::TooManyPeers));
        }
        Ok(())
    }

    fn give(&mut self, slot: u32, leave: Leave, now: Instant) {
        let until = now + self.config.lifetimes.permission;
        if let Some(allocation) = self.allocations.at_mut(slot) {
            allocation
                .permissions
                .give(leave.scope, leave.port.is_some(), until);
            allocation.heard = now;
        }
        if let Some(port) = leave.port {
            let route = Route {
                port,
                scope: leave.scope,
            };
            self.routes.insert(route, slot);
        }
        self.wake_by(slot, until);
    }
}
