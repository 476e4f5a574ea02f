//! Media that comes and goes through the TURN server of this process: no socket between the two.
//!
//! Owns one worker's ends of the lanes. An allocation is a path as any other to the plane; that the
//! addresses of several are the same does not matter, for a path is known by its allocation. It never
//! waits.

use crate::media::demux::{Carrier, Path};
use crate::media::pacer::Run;
use std::net::SocketAddr;
use turn::address::AllocationId;
use turn::net::{Batch, LaneReceiver, LaneSender};

/// One worker's way to and from TURN.
#[derive(Debug)]
pub struct Relay {
    to_turn: LaneSender,
    from_turn: LaneReceiver,
    /// A batch that was not read to its end, and how far it was.
    begun: Option<(Batch, usize)>,
    /// Paths that ended with their allocations: no more than one batch tells.
    lost: Vec<Path>,
}

impl Relay {
    /// The ends of two lanes.
    #[must_use]
    pub const fn new(to_turn: LaneSender, from_turn: LaneReceiver) -> Self {
        Self {
            to_turn,
            from_turn,
            begun: None,
            lost: Vec::new(),
        }
    }

    /// Reads a batch, or what is left of one, as long as `each` tells to go on; true if there was one,
    /// so that there may be another.
    pub fn receive(&mut self, mut each: impl FnMut(Path, &mut [u8]) -> bool) -> bool {
        let next = || Some((self.from_turn.take()?, 0));
        let Some((mut batch, read)) = self.begun.take().or_else(next) else {
            return false;
        };
        let len = batch.len();
        let mut packets = batch.packets_mut().enumerate().skip(read);
        let stopped = packets.find_map(|(count, (packet, datagram))| {
            let path = Path {
                carrier: carrier(packet.allocation),
                local: Some(packet.sfu.ip()),
                port: packet.sfu.port(),
                remote: packet.relayed,
            };
            let next = count + 1;
            (!each(path, datagram) && next < len).then_some(next)
        });
        drop(packets);
        match stopped {
            Some(next) => self.begun = Some((batch, next)),
            None => {
                self.lost.extend(batch.ends().iter().map(|end| Path {
                    carrier: carrier(end.allocation),
                    local: None,
                    port: 0,
                    remote: end.relayed,
                }));
                self.from_turn.give_back(batch);
            }
        }
        true
    }

    /// A path that has ended with its allocation, whatever local address it came to.
    pub fn poll_lost(&mut self) -> Option<Path> {
        self.lost.pop()
    }

    /// Sends datagrams; what TURN has no place for is dropped and counted.
    pub fn push(&mut self, run: &Run<'_, Path>) {
        let (Carrier::Relay { slot, generation }, Some(local)) = (run.to.carrier, run.to.local)
        else {
            return;
        };
        let allocation = AllocationId { slot, generation };
        let sfu = SocketAddr::new(local, run.to.port);
        for datagram in run.bytes.chunks(run.segment) {
            self.to_turn.push(allocation, sfu, run.to.remote, datagram);
        }
    }

    /// Hands over what was pushed.
    pub fn flush(&mut self) {
        self.to_turn.flush();
    }

    /// The worker is about to sleep; false if something came in the meantime.
    pub fn may_sleep(&mut self) -> bool {
        self.begun.is_none() && self.from_turn.may_sleep()
    }

    /// The worker is awake.
    pub fn woke(&self) {
        self.from_turn.woke();
    }

    /// Datagrams that TURN had no place for, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.to_turn.dropped()
    }
}

const fn carrier(AllocationId { slot, generation }: AllocationId) -> Carrier {
    Carrier::Relay { slot, generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn::net::{End, lane};

    #[test]
    fn an_allocation_that_ends_is_a_path_lost_after_all_that_came_by_it() {
        let (mut turn_out, from_turn) = lane();
        let mut relay = Relay::new(lane().0, from_turn);
        let sfu: SocketAddr = "192.0.2.1:7882".parse().expect("an address");
        let relayed: SocketAddr = "192.0.2.1:30000".parse().expect("an address");
        let allocation = AllocationId {
            slot: 1,
            generation: 9,
        };
        turn_out.push(allocation, sfu, relayed, &[1]);
        turn_out.end(End {
            allocation,
            relayed,
        });
        turn_out.flush();
        let mut came = None;
        let each = |path, _: &mut [u8]| {
            came = Some(path);
            true
        };
        assert!(relay.receive(each));
        let lost = relay.poll_lost().expect("it is told");
        let came = came.expect("a packet");
        assert_eq!((lost.carrier, lost.remote), (came.carrier, came.remote));
        assert_eq!(relay.poll_lost(), None);
    }

    #[test]
    fn what_comes_of_an_allocation_goes_back_to_it_from_the_address_asked() {
        let (mut turn_out, from_turn) = lane();
        let (to_turn, mut turn_in) = lane();
        let mut relay = Relay::new(to_turn, from_turn);
        // Two allocations, one relayed address, and a port that a router forwards to ours.
        let relayed: SocketAddr = "192.0.2.1:30000".parse().expect("an address");
        let asked = [(1, 7882), (2, 7882), (2, 40_000)].map(|(slot, port)| {
            let id = AllocationId {
                slot,
                generation: 9,
            };
            (id, SocketAddr::from(([192, 0, 2, 1], port)))
        });
        for ((id, sfu), byte) in asked.into_iter().zip(1..) {
            turn_out.push(id, sfu, relayed, &[byte; 3]);
        }
        turn_out.flush();
        let mut paths = Vec::new();
        assert!(relay.receive(|path, datagram| {
            datagram[0] ^= 0x80;
            paths.push((path, datagram.to_vec()));
            true
        }));
        assert!(!relay.receive(|_, _| true));
        assert_ne!(paths[0].0, paths[1].0);
        assert_ne!(paths[1].0, paths[2].0);
        for (to, bytes) in &paths {
            relay.push(&Run {
                to: *to,
                bytes,
                segment: 2,
                count: 2,
            });
        }
        relay.flush();
        let back = turn_in.take().expect("a batch");
        let back: Vec<_> = back
            .packets()
            .map(|(p, b)| (p.allocation, p.sfu, b.to_vec()))
            .collect();
        let expected: Vec<_> = [
            (0, vec![0x81, 1]),
            (0, vec![1]),
            (1, vec![0x82, 2]),
            (1, vec![2]),
            (2, vec![0x83, 3]),
            (2, vec![3]),
        ]
        .map(|(n, bytes)| (asked[n].0, asked[n].1, bytes))
        .into();
        assert_eq!(back, expected);
        assert_eq!(relay.dropped(), 0);
    }

    #[test]
    fn what_is_left_of_a_batch_comes_the_next_time() {
        let (mut turn_out, from_turn) = lane();
        let (to_turn, _turn_in) = lane();
        let mut relay = Relay::new(to_turn, from_turn);
        let id = AllocationId {
            slot: 1,
            generation: 1,
        };
        let at: SocketAddr = "192.0.2.1:30000".parse().expect("an address");
        for byte in 0..3 {
            turn_out.push(id, at, at, &[byte]);
        }
        turn_out.flush();
        let mut seen = Vec::new();
        for asleep in [false, true] {
            assert!(relay.receive(|_, datagram| {
                seen.push(datagram[0]);
                seen.len() != 2
            }));
            assert_eq!(relay.may_sleep(), asleep);
        }
        assert_eq!(seen, [0, 1, 2]);
        assert!(!relay.receive(|_, _| true));
    }

    #[test]
    fn what_turn_has_no_place_for_is_counted() {
        let (_turn_out, from_turn) = lane();
        let (to_turn, turn_in) = lane();
        let mut relay = Relay::new(to_turn, from_turn);
        drop(turn_in);
        let path = Path {
            carrier: Carrier::Relay {
                slot: 1,
                generation: 1,
            },
            local: "192.0.2.1".parse().ok(),
            port: 7882,
            remote: "192.0.2.1:30000".parse().expect("an address"),
        };
        relay.push(&Run {
            to: path,
            bytes: &[1, 2, 3],
            segment: 2,
            count: 2,
        });
        relay.flush();
        assert_eq!(relay.dropped(), 2);
    }
}
