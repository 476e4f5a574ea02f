//! Data: from a client to a peer, the SFU or another client, and back. The packet path.
//!
//! It allocates nothing, and answers nothing: what may not pass is dropped and counted.

use super::{PAYLOAD_MAX, Server, Way};
use crate::address::{Client, Family, RelayPort, plain};
use crate::message::Message;
use crate::message::attribute::{DATA, DONT_FRAGMENT, XOR_PEER_ADDRESS};
use crate::message::writer::Head;
use crate::permission::Scope;
use crate::quota::{Direction, Load, Spent};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

/// Attributes of a Send indication that must be understood. (RFC 8656 §11.2)
const KNOWN: [u16; 3] = [XOR_PEER_ADDRESS, DATA, DONT_FRAGMENT];
/// Bytes before the data of a channel.
const CHANNEL_HEAD: usize = 4;

/// A payload on its way out.
struct Outward {
    peer: SocketAddr,
    payload: Range<usize>,
    dont_fragment: bool,
}

impl Server {
    /// ChannelData from a client. (RFC 8656 §12.6)
    pub(super) fn relay_channel(&mut self, client: Client, datagram: &[u8], now: Instant) -> Way {
        let Some(head) = datagram.first_chunk::<CHANNEL_HEAD>() else {
            return self.drop_malformed();
        };
        let number = u16::from_be_bytes([head[0], head[1]]);
        let end = CHANNEL_HEAD + usize::from(u16::from_be_bytes([head[2], head[3]]));
        if end > datagram.len() {
            return self.drop_malformed();
        }
        let found = self.allocations.of_client(&client).and_then(|slot| {
            let allocation = self.allocations.at(slot)?;
            Some((slot, allocation.channels.peer(number, now)?))
        });
        let Some((slot, peer)) = found else {
            self.stats.drops.unbound += 1;
            return Way::Nowhere;
        };
        let outward = Outward {
            peer,
            payload: CHANNEL_HEAD..end,
            dont_fragment: false,
        };
        self.relay_outward(slot, outward, now)
    }

    /// A Send indication from a client. (RFC 8656 §11.2)
    pub(super) fn relay_indication(
        &mut self,
        client: Client,
        message: &Message<'_>,
        now: Instant,
    ) -> Way {
        let peer = message.address(XOR_PEER_ADDRESS);
        let data = message.place(DATA);
        let (Some(peer), Some((at, data))) = (peer, data) else {
            return self.drop_malformed();
        };
        if !message.unknown(&KNOWN).as_slice().is_empty() {
            return self.drop_malformed();
        }
        let Some(slot) = self.allocations.of_client(&client) else {
            self.stats.drops.unbound += 1;
            return Way::Nowhere;
        };
        let outward = Outward {
            peer: plain(peer),
            payload: at..at + data.len(),
            dont_fragment: message.attribute(DONT_FRAGMENT).is_some(),
        };
        self.relay_outward(slot, outward, now)
    }

    fn relay_outward(&mut self, slot: u32, outward: Outward, now: Instant) -> Way {
        let Outward { peer, payload, .. } = outward;
        let to_sfu = self.is_sfu(peer, now);
        let to_relay = !to_sfu && self.is_relay(peer, now);
        let scope = self.scope(peer, now);
        let id = self.allocations.id(slot);
        let Some(allocation) = self.allocations.at_mut(slot) else {
            return Way::Nowhere;
        };
        let open = if to_sfu {
            allocation.permissions.has_ip(peer.ip(), now)
        } else {
            allocation.permissions.routes(scope, now)
        };
        let family = Family::of(peer.ip());
        // Nobody is at port 0, and a system call that fails so would end the socket's batching.
        let relay = allocation
            .relay(family)
            .filter(|_| open && peer.port() != 0);
        let Some(relay) = relay.filter(|_| allocation.expires > now) else {
            return self.drop_unpermitted();
        };
        let load = Load {
            direction: Direction::Outward,
            bytes: payload.len(),
            at: now,
        };
        let budgets = (&mut self.bandwidth, &mut self.users);
        if let Err(spent) = allocation.pass(load, budgets, &mut self.stats.traffic) {
            return self.drop_spent(spent);
        }
        allocation.heard = now;
        if to_sfu {
            return Way::Sfu {
                allocation: id,
                relayed: relay,
                to: peer,
                payload,
            };
        }
        if to_relay {
            return self.relay_across(relay, peer, payload, now);
        }
        Way::Peer {
            from: RelayPort {
                family,
                port: relay.port(),
            },
            source: self.config.own.is_host(relay.ip()).then_some(relay.ip()),
            to: peer,
            payload,
            dont_fragment: outward.dont_fragment,
        }
    }

    const fn drop_spent(&mut self, spent: Spent) -> Way {
        let drops = &mut self.stats.drops;
        let count = match spent {
            Spent::Allocation => &mut drops.bandwidth,
            Spent::User => &mut drops.user_bandwidth,
            Spent::Total => &mut drops.total_bandwidth,
        };
        *count += 1;
        Way::Nowhere
    }

    /// To another allocation of ours, without a socket between.
    fn relay_across(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: Range<usize>,
        now: Instant,
    ) -> Way {
        let route = super::Route {
            port: to.port(),
            scope: Scope::of(from, true),
        };
        match self.routes.get(&route) {
            Some(slot) => self.relay_inward(*slot, from, payload, now),
            None => self.drop_unpermitted(),
        }
    }

    /// A payload from a peer, to the client of an allocation. (RFC 8656 §11.3, §12.7)
    pub(super) fn relay_inward(
        &mut self,
        slot: u32,
        peer: SocketAddr,
        payload: Range<usize>,
        now: Instant,
    ) -> Way {
        let len = payload.len();
        let from_sfu = self.is_sfu(peer, now);
        let scope = self.scope(peer, now);
        let Some(allocation) = self.allocations.at_mut(slot) else {
            return Way::Nowhere;
        };
        let open = if from_sfu {
            allocation.permissions.has_ip(peer.ip(), now)
        } else {
            allocation.permissions.routes(scope, now)
        };
        if !open || allocation.expires <= now || len > PAYLOAD_MAX {
            return self.drop_unpermitted();
        }
        let load = Load {
            direction: Direction::Inward,
            bytes: len,
            at: now,
        };
        let budgets = (&mut self.bandwidth, &mut self.users);
        if let Err(spent) = allocation.pass(load, budgets, &mut self.stats.traffic) {
            return self.drop_spent(spent);
        }
        let to = allocation.client;
        let head = match allocation.channels.number(peer, now) {
            Some(number) => Head::channel(number, len, to.transport.is_stream()),
            None => Head::indication(peer, len, &self.chance.transaction()),
        };
        Way::Client { to, head, payload }
    }
}
