//! The server: datagrams in, ways and answers out. It waits for nothing and reads no clock.
//!
//! Owns all state of TURN. The embedder (the shell's `net`, or a test) feeds it what clients, peers
//! and the SFU send, carries payloads the [`Way`] it says, and takes answers and events. Relaying
//! allocates nothing.

mod former;
mod authenticate;
mod answer;
mod capacity;
mod allocate;
mod refresh;
mod peers;
mod relay;

#[cfg(test)]
mod tests;

use crate::address::{AllocationId, Client, Family, RelayPort, plain};
use crate::allocation::Allocations;
use crate::auth::{Chance, Nonces};
use crate::config::{Config, Own, Wall};
use crate::credentials::{Credentials, Userhashes};
use crate::event::{End, Event};
use crate::hash::{Keyed, Map};
use crate::limiter::Limiters;
use crate::message::writer::Head;
use crate::message::{Class, Message, Method};
use crate::networks::Networks;
use crate::outbox::Outbox;
use crate::permission::Scope;
use crate::ports::Ports;
use crate::quota::{Bandwidth, Rates, Users};
use crate::retired::Retired;
use crate::stats::Stats;
use former::Former;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

/// Allocations looked at in one call of [`Server::handle_timeout`], so that a burst that expires
/// together holds no packet up for long.
const TIMERS_PER_CALL: usize = 256;
/// Likewise users who are gone, each with as many allocations as one may have.
const RETIRED_PER_CALL: usize = 16;
/// Longest payload carried: what still fits a STUN message with its head.
pub const PAYLOAD_MAX: usize = 65_000;
/// Longest request looked at: the longest name, realm and nonce with 64 peers have some 3,000 bytes. What
/// is longer would only be signed over for nothing.
pub const REQUEST_MAX: usize = 4096;

/// Where a payload goes. Ranges are of the bytes handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Nowhere; an answer may wait in the outbox.
    Nowhere,
    /// To a peer, from a relay socket.
    Peer {
        /// The socket.
        from: RelayPort,
        /// The relayed address, which it must leave from, where that is the machine's. Else a router puts
        /// it in.
        source: Option<IpAddr>,
        /// The peer.
        to: SocketAddr,
        /// What of the bytes.
        payload: Range<usize>,
        /// It must not be fragmented on its way. (RFC 8656 §14)
        dont_fragment: bool,
    },
    /// To our SFU, in process.
    Sfu {
        /// Whose it is: several allocations have one relayed address, so the SFU must go by this.
        allocation: AllocationId,
        /// The address the client thinks it talks from.
        relayed: SocketAddr,
        /// Which address of the SFU.
        to: SocketAddr,
        /// What of the bytes.
        payload: Range<usize>,
    },
    /// To a client: a head, the payload, the head's padding.
    Client {
        /// Whom.
        to: Client,
        /// What stands before the payload.
        head: Head,
        /// What of the bytes.
        payload: Range<usize>,
    },
}

/// A way of a peer: the relay port it comes to, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Route {
    port: u16,
    scope: Scope,
}

/// A TURN server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    former: Former,
    nonces: Nonces,
    userhashes: Userhashes,
    limiters: Limiters,
    allocations: Allocations,
    users: Users,
    networks: Networks,
    retired: Retired,
    bandwidth: Bandwidth,
    ports: Ports,
    /// Which allocation a peer's datagram is for.
    routes: Map<Route, u32>,
    /// When which allocation must be looked at; one entry each.
    timers: BTreeSet<(Instant, u32)>,
    outbox: Outbox,
    stats: Stats,
    chance: Chance,
}

impl Server {
    /// A server; all its chance comes from the seed, which must be kept from clients.
    #[must_use]
    pub fn new(config: Config, seed: &[u8; 32], now: Instant) -> Self {
        let mut chance = Chance::new(seed);
        let mut keyed = || Keyed::new([chance.word(), chance.word()]);
        let limits = config.limits;
        let rates = Rates {
            allocation: limits.allocation_bytes_s,
            user: limits.user_bytes_s,
            total: limits.total_bytes_s,
        };
        let (first, last) = config.relay_ports;
        let credentials = config.credentials.clone();
        let mut server = Self {
            nonces: Nonces::new(seed, config.lifetimes.nonce, now),
            userhashes: Userhashes::default(),
            limiters: Limiters::new(
                limits.unknown_answers_s,
                limits.unknown_answers_burst,
                &mut keyed,
                now,
            ),
            allocations: Allocations::new(keyed()),
            users: Users::new(keyed(), rates.user),
            networks: Networks::new(keyed()),
            retired: Retired::new(keyed()),
            bandwidth: Bandwidth::new(rates, now),
            ports: Ports::new(first, last),
            routes: Map::with_hasher(keyed()),
            timers: BTreeSet::new(),
            outbox: Outbox::new(limits.allocations),
            former: Former::default(),
            stats: Stats::default(),
            chance,
            config,
        };
        server.set_credentials(credentials);
        server
    }

    /// A datagram, or a frame of a stream, from a client.
    pub fn handle_client(&mut self, client: Client, datagram: &[u8], now: Instant) -> Way {
        // An answer to port 0 cannot be sent, and trying spoils the socket's batching.
        let first = datagram.first().filter(|_| client.remote.port() != 0);
        match first.map(|first| first >> 6) {
            Some(1) => self.relay_channel(client, datagram, now),
            Some(0) => match Message::parse(datagram) {
                Ok(message) if message.class == Class::Request && datagram.len() > REQUEST_MAX => {
                    self.drop_malformed()
                }
                Ok(message) => self.take_message(client, &message, now),
                Err(_) => self.drop_malformed(),
            },
            _ => self.drop_malformed(),
        }
    }

    /// A datagram of so many bytes that came to a relay socket.
    pub fn handle_peer(
        &mut self,
        at: RelayPort,
        peer: SocketAddr,
        len: usize,
        now: Instant,
    ) -> Way {
        let peer = plain(peer);
        let scope = self.scope(peer, now);
        let route = Route {
            port: at.port,
            scope,
        };
        match self.routes.get(&route) {
            Some(slot) if Family::of(peer.ip()) == at.family && peer.port() != 0 => {
                self.relay_inward(*slot, peer, 0..len, now)
            }
            _ => self.drop_unpermitted(),
        }
    }

    /// A datagram of so many bytes from an address of our SFU for an allocation.
    pub fn handle_sfu(
        &mut self,
        allocation: AllocationId,
        from: SocketAddr,
        len: usize,
        now: Instant,
    ) -> Way {
        match self.allocations.slot(allocation) {
            Some(slot) => self.relay_inward(slot, plain(from), 0..len, now),
            None => {
                self.stats.drops.stale += 1;
                Way::Nowhere
            }
        }
    }

    /// A client's connection has closed.
    pub fn handle_closed(&mut self, client: &Client, now: Instant) {
        if let Some(slot) = self.allocations.of_client(client) {
            self.end(slot, End::Closed, now);
        }
    }

    /// Lets expire what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..TIMERS_PER_CALL {
            let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.timers.remove(&(at, slot));
            self.look_at(slot, now);
        }
        for _ in 0..RETIRED_PER_CALL {
            let Some(user) = self.retired.poll(now) else {
                break;
            };
            for slot in self.users.allocations(&user).to_vec() {
                self.end(slot, End::Left, now);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.retired.next_end()).min()
    }

    /// The next answer. To be called until there is none after each datagram of a client.
    pub fn poll_output(&mut self) -> Option<(Client, &[u8])> {
        self.outbox.poll_answer()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.poll_event()
    }

    /// Whether a client has an allocation: a connection without one is not kept for long.
    #[must_use]
    pub fn has_allocation(&self, client: &Client) -> bool {
        self.allocations.of_client(client).is_some()
    }

    /// When the client of an allocation last made use of it; `None` if it has none.
    #[must_use]
    pub fn heard(&self, client: &Client) -> Option<Instant> {
        let slot = self.allocations.of_client(client)?;
        self.allocations.at(slot).map(|allocation| allocation.heard)
    }

    /// Totals.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            allocations: self.allocations.len() as u64,
            ..self.stats
        }
    }

    /// A payload was to leave by a relay that has no socket.
    pub fn note_no_relay(&mut self) {
        self.stats.drops.no_relay += 1;
    }

    /// Our addresses have changed. Allocations keep what they were told; permissions are judged
    /// anew when they are refreshed. What was the SFU's or the relays' is so for the lifetime of a
    /// permission more.
    pub fn set_own(&mut self, own: Own, now: Instant) {
        let until = now + self.config.lifetimes.permission;
        self.former.note((&self.config.own, &own), until, now);
        self.config.own = own;
    }

    /// Who may allocate has changed. Allocations live on.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.nonces
            .announce_anonymity(credentials.can_be_anonymous());
        self.userhashes = Userhashes::of(&credentials, &self.config.realm);
        self.config.credentials = credentials;
    }

    /// A user is gone for good: he makes no allocation any more, and what he has ends in a minute.
    pub fn retire(&mut self, user: &str, now: Instant) {
        self.retired.add(user, now);
    }

    /// What time it is now; to be told again when the clock was set.
    pub fn set_wall(&mut self, wall: Wall) {
        self.config.wall = wall;
    }

    fn take_message(&mut self, client: Client, message: &Message<'_>, now: Instant) -> Way {
        match (message.method, message.class) {
            (Some(Method::Send), Class::Indication) => {
                return self.relay_indication(client, message, now);
            }
            (Some(Method::Binding), Class::Request) => self.answer_binding(client, message, now),
            (
                Some(
                    method @ (Method::Allocate
                    | Method::Refresh
                    | Method::CreatePermission
                    | Method::ChannelBind),
                ),
                Class::Request,
            ) => self.answer_request(client, method, message, now),
            // A Binding indication keeps a NAT open and wants nothing. (RFC 8489 §6.3.2)
            (Some(Method::Binding), Class::Indication) => {}
            // Methods that are not ours, and classes that a method does not have. (RFC 8489 §6.3)
            _ => return self.drop_malformed(),
        }
        Way::Nowhere
    }

    /// What of an allocation has expired goes, the allocation itself if it is due.
    fn look_at(&mut self, slot: u32, now: Instant) {
        let Some(allocation) = self.allocations.at_mut(slot) else {
            return;
        };
        if allocation.expires <= now {
            return self.end(slot, End::Expired, now);
        }
        let mut dropped = Vec::new();
        let permission = allocation
            .permissions
            .sweep(now, |gone| dropped.push(gone.scope));
        let channel = allocation.channels.sweep(now);
        let next = [permission, channel].into_iter().flatten();
        let wake = next.fold(allocation.expires, Instant::min);
        allocation.wake = wake;
        self.timers.insert((wake, slot));
        for scope in dropped {
            self.unroute(slot, scope);
        }
    }

    /// An allocation must be looked at by then.
    fn wake_by(&mut self, slot: u32, at: Instant) {
        let Some(allocation) = self.allocations.at_mut(slot) else {
            return;
        };
        if at < allocation.wake {
            self.timers.remove(&(allocation.wake, slot));
            allocation.wake = at;
            self.timers.insert((at, slot));
        }
    }

    /// A peer's datagrams no longer reach an allocation.
    fn unroute(&mut self, slot: u32, scope: Scope) {
        let Some(relay) = self
            .allocations
            .at(slot)
            .and_then(|allocation| allocation.relay(Family::of(scope.ip)))
        else {
            return;
        };
        let route = Route {
            port: relay.port(),
            scope,
        };
        // Another may have it by now: what had expired was his to take.
        if self.routes.get(&route) == Some(&slot) {
            self.routes.remove(&route);
        }
    }

    /// Whether an address is the SFU's, or was a short while ago.
    fn is_sfu(&self, address: SocketAddr, now: Instant) -> bool {
        self.config.own.is_sfu(address) || self.former.is_sfu(address, now)
    }

    /// Whether an address is that of a relay of ours.
    fn is_relay(&self, address: SocketAddr, now: Instant) -> bool {
        let ip = address.ip();
        let told = || self.config.own.external.contains(&ip) || self.former.is_relays(ip, now);
        self.ports.contains(address.port()) && told()
    }

    /// Whether it is any of ours.
    fn is_ours(&self, ip: IpAddr, now: Instant) -> bool {
        self.config.own.has(ip) || self.former.has(ip, now)
    }

    /// What a permission for a peer is for.
    fn scope(&self, peer: SocketAddr, now: Instant) -> Scope {
        Scope::of(peer, self.is_ours(peer.ip(), now))
    }

    fn end(&mut self, slot: u32, reason: End, now: Instant) {
        let Some(allocation) = self.allocations.at(slot) else {
            return;
        };
        let scopes: Vec<Scope> = allocation.permissions.iter().map(|had| had.scope).collect();
        for scope in scopes {
            self.unroute(slot, scope);
        }
        let Some((id, allocation)) = self.allocations.remove(slot) else {
            return;
        };
        self.timers.remove(&(allocation.wake, slot));
        self.users.remove(allocation.share, slot, now);
        let ip = allocation.client.remote.ip();
        self.networks.remove(ip, slot);
        for port in allocation.ports() {
            self.ports.release(port);
        }
        match reason {
            End::Released => self.stats.released += 1,
            End::Expired => self.stats.expired += 1,
            End::Closed => self.stats.closed += 1,
            End::Displaced => self.stats.displaced += 1,
            End::Left => self.stats.left += 1,
        }
        self.tell(Event::Ended {
            allocation: id,
            client: allocation.client,
            user: allocation.user.into(),
            relayed: allocation.relays.into_iter().flatten().collect(),
            reason,
            lived: now.saturating_duration_since(allocation.made),
            traffic: allocation.traffic,
        });
    }

    fn tell(&mut self, event: Event) {
        if !self.outbox.event(event) {
            self.stats.drops.events += 1;
        }
    }

    const fn drop_malformed(&mut self) -> Way {
        self.stats.drops.malformed += 1;
        Way::Nowhere
    }

    const fn drop_unpermitted(&mut self) -> Way {
        self.stats.drops.unpermitted += 1;
        Way::Nowhere
    }
}
