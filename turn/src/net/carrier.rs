//! Carries payloads the way the server says: into runs of datagrams, into streams, to the SFU.
//!
//! Owns the server and everything a payload can go into; reads nothing from sockets.

use super::lane::{Batch, Door, End};
use super::outgoing::Kind;
use super::sends::{Road, Sends};
use super::settings::{SfuSide, Steer};
use super::tcp::{Fault, Streams};
use crate::address::{AllocationId, Client, Family, RelayPort};
use crate::config::Own;
use crate::server::{Server, Way};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Batches taken from one lane in one pass, so that the SFU's media does not starve the clients'.
const BATCHES_PER_PASS: usize = 8;

/// The carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) server: Server,
    pub(super) sends: Sends,
    pub(super) streams: Streams,
    pub(super) doors: Doors,
    /// Sockets of the relays, by family and port from the first one.
    pub(super) relays: Relays,
}

/// Which socket is which relay's.
#[derive(Debug, Default)]
pub(super) struct Relays {
    pub(super) first: u16,
    pub(super) sockets: [Vec<u32>; 2],
}

impl Relays {
    /// Relays are told of in families that have sockets, and in no others (440). What is left out is no
    /// peer all the same.
    pub(super) fn told(&self, mut own: Own) -> Own {
        let has = |ip: &IpAddr| {
            let sockets = self.sockets.get(Family::of(*ip).index());
            sockets.is_some_and(|sockets| !sockets.is_empty())
        };
        let (told, left): (Vec<IpAddr>, Vec<IpAddr>) = own.external.into_iter().partition(has);
        own.external = told;
        own.host.extend(left);
        own
    }

    fn socket(&self, port: RelayPort) -> Option<u32> {
        let index = usize::from(port.port.checked_sub(self.first)?);
        self.sockets.get(port.family.index())?.get(index).copied()
    }
}

impl Carrier {
    /// Bytes of a client: a datagram or a frame.
    pub(super) fn handle_client(&mut self, client: Client, bytes: &[u8], now: Instant) {
        let way = self.server.handle_client(client, bytes, now);
        if way == Way::Nowhere {
            self.send_answers(now);
        } else {
            self.carry(way, bytes, now);
        }
    }

    /// A datagram that came to a relay.
    pub(super) fn handle_peer(
        &mut self,
        port: RelayPort,
        peer: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) {
        let way = self.server.handle_peer(port, peer, bytes.len(), now);
        self.carry(way, bytes, now);
    }

    /// What the SFU has for clients. Tells whether there may be more.
    pub(super) fn take_from_sfu(&mut self, now: Instant) -> bool {
        let mut more = false;
        for index in 0..self.doors.doors.len() {
            for count in 0..=BATCHES_PER_PASS {
                if count == BATCHES_PER_PASS {
                    more = true;
                    break;
                }
                let door = self.doors.doors.get_mut(index);
                let Some(batch) = door.and_then(|door| door.from_sfu.take()) else {
                    break;
                };
                self.carry_batch(&batch, now);
                if let Some(door) = self.doors.doors.get(index) {
                    door.from_sfu.give_back(batch);
                }
            }
        }
        more
    }

    fn carry_batch(&mut self, batch: &Batch, now: Instant) {
        for (packet, bytes) in batch.packets() {
            let way = self
                .server
                .handle_sfu(packet.allocation, packet.sfu, bytes.len(), now);
            self.carry(way, bytes, now);
        }
    }

    fn carry(&mut self, way: Way, bytes: &[u8], now: Instant) {
        match way {
            Way::Nowhere => {}
            Way::Peer {
                from,
                source,
                to,
                payload,
                dont_fragment,
            } => {
                let Some(socket) = self.relays.socket(from) else {
                    return self.server.note_no_relay();
                };
                let road = Road {
                    socket,
                    to,
                    from: source,
                    dont_fragment,
                };
                let bytes = bytes.get(payload).unwrap_or_default();
                self.sends.add(road, [bytes, &[], &[]]);
            }
            Way::Sfu {
                allocation,
                relayed,
                to,
                payload,
            } => {
                let bytes = bytes.get(payload).unwrap_or_default();
                self.doors.push(allocation, to, relayed, bytes);
            }
            Way::Client { to, head, payload } => {
                let bytes = bytes.get(payload).unwrap_or_default();
                let parts = [head.bytes(), bytes, head.padding()];
                let frame = (Kind::Media, parts);
                send_to(&mut self.sends, &mut self.streams, to, frame, now);
            }
        }
    }

    fn send_answers(&mut self, now: Instant) {
        while let Some((client, bytes)) = self.server.poll_output() {
            let frame = (Kind::Answer, [bytes, &[], &[]]);
            send_to(&mut self.sends, &mut self.streams, client, frame, now);
        }
    }

    /// Closes a connection, and ends its allocation.
    pub(super) fn close(&mut self, slot: u32, fault: Fault, now: Instant) {
        if let Some(client) = self.streams.close(slot, fault) {
            self.server.handle_closed(&client, now);
        }
    }
}

fn send_to(
    sends: &mut Sends,
    streams: &mut Streams,
    to: Client,
    (kind, parts): (Kind, [&[u8]; 3]),
    now: Instant,
) {
    if to.transport.is_stream() {
        streams.send(to.link, (kind, parts), now);
        return;
    }
    let road = Road {
        socket: to.link,
        to: to.remote,
        // From the address it asked.
        from: (!to.local.ip().is_unspecified()).then_some(to.local.ip()),
        dont_fragment: false,
    };
    sends.add(road, parts);
}

/// The doors of the SFU, and through which each allocation went last.
#[derive(Default)]
pub(super) struct Doors {
    pub(super) doors: Vec<Door>,
    steer: Option<Steer>,
    /// By place: the generation, and the door.
    last: Vec<(u32, usize)>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors")
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}

impl Doors {
    pub(super) fn new(side: Option<SfuSide>) -> Self {
        side.map_or_else(Self::default, |side| Self {
            doors: side.doors,
            steer: side.steer,
            last: Vec::new(),
        })
    }

    fn push(&mut self, id: AllocationId, sfu: SocketAddr, relayed: SocketAddr, bytes: &[u8]) {
        let index = self.index(id, bytes);
        if let Some(door) = self.doors.get_mut(index) {
            door.to_sfu.push(id, sfu, relayed, bytes);
        }
    }

    /// An allocation is gone: those behind every door are told, for it may have gone through several.
    pub(super) fn end(&mut self, allocation: AllocationId, relayed: &[SocketAddr]) {
        for door in &mut self.doors {
            for relayed in relayed {
                door.to_sfu.end(End {
                    allocation,
                    relayed: *relayed,
                });
            }
        }
    }

    fn index(&mut self, id: AllocationId, bytes: &[u8]) -> usize {
        let Some(steer) = &self.steer else {
            return 0;
        };
        let slot = id.slot as usize;
        if self.last.len() <= slot {
            self.last.resize(slot + 1, (u32::MAX, 0));
        }
        let Some(last) = self.last.get_mut(slot) else {
            return 0;
        };
        if last.0 != id.generation {
            *last = (id.generation, 0);
        }
        let stun = bytes.first().is_some_and(|first| *first < 4);
        if stun && let Some(told) = steer(bytes) {
            last.1 = told;
        }
        last.1
    }

    /// Sends what was pushed in this pass.
    pub(super) fn flush(&mut self) {
        for door in &mut self.doors {
            door.to_sfu.flush();
        }
    }

    /// Announces sleep; false if something came in the meantime.
    pub(super) fn may_sleep(&mut self) -> bool {
        let mut may = true;
        for door in &mut self.doors {
            may &= door.from_sfu.may_sleep();
        }
        may
    }

    pub(super) fn woke(&self) {
        for door in &self.doors {
            door.from_sfu.woke();
        }
    }

    /// Packets that found no place.
    pub(super) fn dropped(&self) -> u64 {
        self.doors.iter().map(|door| door.to_sfu.dropped()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::lane::lane;
    use std::sync::Arc;

    #[test]
    fn relays_are_told_of_in_families_that_have_sockets_alone() {
        let ips = ["192.0.2.1", "2600::1"].map(|text| text.parse().expect("an address"));
        let own = Own {
            external: ips.into(),
            ..Own::default()
        };
        let relays = Relays {
            first: 30_000,
            sockets: [vec![7], Vec::new()],
        };
        let told = relays.told(own);
        assert_eq!((told.external, told.host), (vec![ips[0]], vec![ips[1]]));
    }

    #[test]
    fn a_datagram_goes_through_the_door_its_name_tells_and_others_follow_it() {
        let (first, mut one) = lane();
        let (second, mut two) = lane();
        let doors = [first, second].map(|to_sfu| Door {
            to_sfu,
            from_sfu: lane().1,
        });
        let mut doors = Doors::new(Some(SfuSide {
            doors: doors.into(),
            steer: Some(Arc::new(|bytes| {
                bytes.get(1).map(|door| usize::from(*door))
            })),
        }));
        let id = |slot, generation| AllocationId { slot, generation };
        let at: SocketAddr = ([1, 1, 1, 1], 1).into();
        let mut push = |id, bytes: &[u8]| doors.push(id, at, at, bytes);
        push(id(5, 0), &[0, 1]);
        push(id(5, 0), &[0x80, 0]);
        push(id(5, 1), &[0x80, 0]);
        push(id(6, 0), &[0, 0]);
        push(id(6, 0), &[0, 7]);
        doors.flush();
        let packets = |batch: Option<Batch>| {
            let batch = batch.unwrap_or_default();
            let ids: Vec<AllocationId> = batch
                .packets()
                .map(|(packet, _)| packet.allocation)
                .collect();
            ids
        };
        assert_eq!(packets(two.take()), [id(5, 0), id(5, 0)]);
        assert_eq!(
            packets(one.take()),
            [id(5, 1), id(6, 0)],
            "no door 7: dropped"
        );
    }
}
