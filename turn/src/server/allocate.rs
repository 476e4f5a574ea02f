//! Allocate: what is asked for, whether it may be had, which port it is told. (RFC 8656 §7)

use super::Server;
use super::answer::{Refusal, phrase};
use super::authenticate::Caller;
use crate::address::{AllocationId, Client, Family, RelayPort};
use crate::allocation::{Allocation, Allocations};
use crate::channel::Channels;
use crate::event::{Event, Reason};
use crate::message::attribute::{
    ADDITIONAL_ADDRESS_FAMILY, EVEN_PORT, LIFETIME, REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT,
    RESERVATION_TOKEN, XOR_MAPPED_ADDRESS, XOR_RELAYED_ADDRESS, word,
};
use crate::message::{Class, Message};
use crate::permission::Permissions;
use crate::ports::Parity;
use crate::quota::Users;
use crate::stats::Traffic;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// UDP in REQUESTED-TRANSPORT: the only one there is. (RFC 8656 §18.8)
const UDP: u8 = 17;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    family: Family,
    /// IPv6 besides.
    both: bool,
    parity: Parity,
    token: Option<[u8; 8]>,
}

/// What it is given.
#[derive(Debug, Default)]
struct Grant {
    relays: [Option<SocketAddr>; 2],
    /// Keeps the next port.
    token: Option<[u8; 8]>,
    /// Why the second family could not be had.
    missing: Option<Refusal>,
}

impl Server {
    pub(super) fn allocate(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), Refusal> {
        if let Some(slot) = self.allocations.of_client(&client) {
            // A request that was lost on its way back is answered once more. (RFC 8656 §7.2)
            let same = |allocation: &Allocation| allocation.transaction == message.transaction;
            if !self.allocations.at(slot).is_some_and(same) {
                return Err(Refusal::MISMATCH);
            }
            self.tell_allocation(slot, message, caller, now);
            return Ok(());
        }
        let (wish, asked) = (wish(message)?, asked_lifetime(message)?);
        if self.has_expired(caller, now) {
            return Err(Refusal::new(401, Reason::CredentialExpired));
        }
        self.make_room(&client, caller, now)?;
        let grant = match self.grant(&wish, &client, caller, now) {
            // Those he left at this address may have all the ports.
            Err(Refusal {
                reason: Reason::NoPort,
                ..
            }) if self.displace(caller, Some(client.remote.ip()), now) => {
                self.grant(&wish, &client, caller, now)?
            }
            grant => grant?,
        };
        let lifetime = self.lifetime(asked);
        let allocation = Allocation {
            client,
            user: caller.user.clone(),
            share: 0,
            username: caller.username.clone(),
            keys: caller.keys,
            reach: caller.reach,
            transaction: message.transaction,
            reservation: grant.token,
            missing: grant.missing.map(|refusal| refusal.code),
            relays: grant.relays,
            made: now,
            heard: now,
            expires: now + lifetime,
            wake: now + lifetime,
            permissions: Permissions::default(),
            channels: Channels::default(),
            traffic: Traffic::default(),
            budgets: self.bandwidth.of_allocation(now),
        };
        let id = self.enter(allocation, now);
        self.tell_allocation(id.slot, message, caller, now);
        Ok(())
    }

    /// Puts an allocation in its place, and tells of it.
    fn enter(&mut self, allocation: Allocation, now: Instant) -> AllocationId {
        for port in allocation.ports() {
            self.ports.take(port);
        }
        let event = (allocation.client, allocation.user.clone());
        let relayed = allocation.relays.into_iter().flatten().next();
        let wake = allocation.wake;
        let id = self.allocations.add(allocation);
        let share = self.users.add(&event.1, id.slot, now);
        if let Some(allocation) = self.allocations.at_mut(id.slot) {
            allocation.share = share;
        }
        self.networks.add(event.0.remote.ip(), id.slot);
        self.timers.insert((wake, id.slot));
        self.stats.allocated += 1;
        if let Some(relayed) = relayed {
            self.tell(Event::Allocated {
                allocation: id,
                client: event.0,
                user: event.1.into(),
                relayed,
            });
        }
        id
    }

    /// How long an allocation shall live. (RFC 8656 §7.2: between the default and the maximum)
    pub(super) fn lifetime(&self, asked: Option<u32>) -> Duration {
        let lifetimes = &self.config.lifetimes;
        let asked = asked.unwrap_or(0);
        let most = lifetimes.allocation_max.max(lifetimes.allocation);
        Duration::from_secs(u64::from(asked)).clamp(lifetimes.allocation, most)
    }

    fn grant(
        &mut self,
        wish: &Wish,
        client: &Client,
        caller: &Caller,
        now: Instant,
    ) -> Result<Grant, Refusal> {
        let mut grant = Grant::default();
        if let Some(token) = wish.token {
            let at = self
                .ports
                .redeem(&token, &caller.user, now)
                .ok_or(Refusal::new(508, Reason::NoReservation))?;
            // It may have been given to another allocation of this client by then.
            rank(&self.users, &self.allocations, (client, caller), at)
                .ok_or(Refusal::new(508, Reason::NoPort))?;
            grant.relays[at.family.index()] = Some(self.relay_address(at)?);
            return Ok(grant);
        }
        let first = self.relay_for(wish.family, wish.parity, client, caller);
        if wish.both {
            let second = self.relay_for(Family::V6, Parity::Any, client, caller);
            grant.missing = first.err().or(second.err());
            grant.relays = [first.ok(), second.ok()];
            if grant.relays == [None, None] {
                return Err(grant.missing.unwrap_or(Refusal::BAD));
            }
            return Ok(grant);
        }
        let relay = first?;
        grant.relays[wish.family.index()] = Some(relay);
        if wish.parity == Parity::EvenAndNext {
            grant.token = Some(self.reserve(relay, caller, now)?);
        }
        Ok(grant)
    }

    fn reserve(
        &mut self,
        relay: SocketAddr,
        caller: &Caller,
        now: Instant,
    ) -> Result<[u8; 8], Refusal> {
        let token = self.chance.word().to_be_bytes();
        let at = RelayPort {
            family: Family::of(relay.ip()),
            port: relay.port() + 1,
        };
        let until = now + self.config.lifetimes.reservation;
        if self.ports.reserve(token, at, &caller.user, until, now) {
            Ok(token)
        } else {
            Err(Refusal::new(508, Reason::NoPort))
        }
    }

    fn relay_for(
        &mut self,
        family: Family,
        parity: Parity,
        client: &Client,
        caller: &Caller,
    ) -> Result<SocketAddr, Refusal> {
        if self.config.own.external(family).is_none() {
            return Err(Refusal::new(440, Reason::FamilyUnsupported));
        }
        let Self {
            ports,
            users,
            allocations,
            ..
        } = self;
        let chosen = ports.choose(family, parity, |port| {
            rank(
                users,
                allocations,
                (client, caller),
                RelayPort { family, port },
            )
        });
        let port = chosen.ok_or(Refusal::new(508, Reason::NoPort))?;
        self.relay_address(RelayPort { family, port })
    }

    fn relay_address(&self, at: RelayPort) -> Result<SocketAddr, Refusal> {
        let external = self.config.own.external(at.family);
        let external = external.ok_or(Refusal::new(440, Reason::FamilyUnsupported))?;
        Ok(SocketAddr::new(external, at.port))
    }

    fn tell_allocation(&mut self, slot: u32, message: &Message<'_>, caller: &Caller, now: Instant) {
        let Some(allocation) = self.allocations.at(slot) else {
            return;
        };
        let (client, relays) = (allocation.client, allocation.relays);
        let (reservation, missing) = (allocation.reservation, allocation.missing);
        let left = allocation.expires.saturating_duration_since(now).as_secs();
        self.write(client, message, Some(caller), Class::Success, |writer| {
            for relay in relays.into_iter().flatten() {
                writer.address(XOR_RELAYED_ADDRESS, relay);
            }
            writer.word(LIFETIME, left as u32);
            if let Some(token) = reservation {
                writer.bytes(RESERVATION_TOKEN, &token);
            }
            writer.address(XOR_MAPPED_ADDRESS, client.remote);
            if let Some(code) = missing {
                let family = if relays[0].is_none() {
                    Family::V4
                } else {
                    Family::V6
                };
                writer.address_error(family, code, phrase(code));
            }
        });
    }
}

/// How unwelcome a port is to a client: out of the question if he has it already, for nothing would
/// tell the two apart; unwelcome if his user has it elsewhere.
fn rank(
    users: &Users,
    allocations: &Allocations,
    (client, caller): (&Client, &Caller),
    at: RelayPort,
) -> Option<u32> {
    let mut rank = 0;
    for slot in users.allocations(&caller.user) {
        let other = allocations.at(*slot)?;
        let has = other.relay(at.family).map(|relay| relay.port());
        if has == Some(at.port) {
            if other.client.remote.ip() == client.remote.ip() {
                return None;
            }
            rank += 1;
        }
    }
    Some(rank)
}

/// The lifetime that is asked for, if one is.
pub(super) fn asked_lifetime(message: &Message<'_>) -> Result<Option<u32>, Refusal> {
    let value = message.attribute(LIFETIME);
    value
        .map(|value| word(value).ok_or(Refusal::BAD))
        .transpose()
}

/// Reads what is asked for. (RFC 8656 §7.2, the checks in its order)
fn wish(message: &Message<'_>) -> Result<Wish, Refusal> {
    let first = |kind| message.attribute(kind).map(|value| value.first().copied());
    match first(REQUESTED_TRANSPORT) {
        Some(Some(UDP)) => {}
        Some(Some(_)) => return Err(Refusal::new(442, Reason::TransportUnsupported)),
        _ => return Err(Refusal::BAD),
    }
    let parity = match first(EVEN_PORT) {
        None => Parity::Any,
        Some(None) => return Err(Refusal::BAD),
        Some(Some(flags)) if flags & 0x80 != 0 => Parity::EvenAndNext,
        Some(_) => Parity::Even,
    };
    let token = match message.attribute(RESERVATION_TOKEN) {
        None => None,
        Some(value) => Some(value.try_into().map_err(|_| Refusal::BAD)?),
    };
    let requested = first(REQUESTED_ADDRESS_FAMILY);
    let additional = first(ADDITIONAL_ADDRESS_FAMILY);
    let clash = token.is_some()
        && (parity != Parity::Any || requested.is_some() || additional.is_some())
        || requested.is_some() && additional.is_some()
        || additional.is_some() && parity == Parity::EvenAndNext;
    // Only IPv6 can be additional. (RFC 8656 §18.11)
    if clash || additional.is_some_and(|family| family != Some(Family::V6.number())) {
        return Err(Refusal::BAD);
    }
    let family = match requested {
        None => Family::V4,
        Some(None) => return Err(Refusal::BAD),
        Some(Some(number)) => {
            Family::from_number(number).ok_or(Refusal::new(440, Reason::FamilyUnsupported))?
        }
    };
    Ok(Wish {
        family,
        both: additional.is_some(),
        parity,
        token,
    })
}
