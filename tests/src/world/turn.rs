//! A TURN server of the world: the pure core of the crate `turn`, the lanes to the SFU beside it, and
//! no sockets.
//!
//! Owns what the shell of the crate owns when it runs: a payload goes the way the core says. Judges
//! that nothing passes for an allocation that has ended. Driven by the world.

use super::server::{TURN_PORT, tickets};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use turn::address::{AllocationId, Client, Family, RelayPort};
use turn::config::{Config, Lifetimes, Own, Wall};
use turn::credentials::{Credentials, Login, Reach, Secret};
use turn::event::{Event, Reason};
use turn::net::{Door, End};
use turn::policy::Prefix;
use turn::server::{Server, Way};
use turn::stats::Stats;

/// What a TURN server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// To a client.
    Client(Client, Vec<u8>),
    /// From a relayed address to a foreign peer.
    Peer {
        /// The relayed address.
        from: SocketAddr,
        /// The peer.
        to: SocketAddr,
        /// The payload.
        bytes: Vec<u8>,
    },
}

/// One TURN server.
pub struct Turn {
    /// Where clients come.
    pub at: SocketAddr,
    server: Server,
    door: Door,
    outputs: VecDeque<Output>,
    allocated: Vec<(AllocationId, Client, SocketAddr)>,
    ended: BTreeSet<AllocationId>,
    /// The same with the addresses they had, as long as nobody has taken them.
    gone: Vec<(AllocationId, SocketAddr)>,
    broken: Vec<String>,
}

impl Turn {
    /// The one beside the SFU at `sfu`, which has the other ends of `door`'s lanes.
    #[must_use]
    pub fn new(sfu: SocketAddr, door: Door, seed: u64, (unix_s, now): (u64, Instant)) -> Self {
        let mut config = Config::new("sim", Wall { at: now, unix_s });
        config.own = Own {
            external: vec![sfu.ip()],
            sfu: vec![sfu],
            host: vec![sfu.ip()],
            links: Vec::new(),
        };
        config.lifetimes = short();
        // The world's addresses are those of documents, which are nobody's outside.
        config.peers.allow = [[192, 0, 2, 0], [198, 51, 100, 0]]
            .into_iter()
            .filter_map(|net| Prefix::new(net.into(), 24).ok())
            .collect();
        config.credentials = Credentials {
            lookup: Some(std::sync::Arc::new(|name: &str| {
                let ticket = tickets().ticket(name)?;
                Some(Login {
                    password: Secret::new(ticket.password.reveal()),
                    user: ticket.participant,
                    // As a homeserver has it: a foreign server may be reached.
                    reach: Reach::Peers,
                    expires_unix_s: Some(ticket.expires_unix_s),
                })
            })),
            ..Credentials::default()
        };
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            at: SocketAddr::new(sfu.ip(), TURN_PORT),
            server: Server::new(config, &bytes, now),
            door,
            outputs: VecDeque::new(),
            allocated: Vec::new(),
            ended: BTreeSet::new(),
            gone: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// A datagram or frame of a client; false if it went nowhere.
    pub fn handle_client(&mut self, client: Client, bytes: &[u8], now: Instant) -> bool {
        let way = self.server.handle_client(client, bytes, now);
        let passed = way != Way::Nowhere;
        self.carry(way, bytes);
        while let Some((to, answer)) = self.server.poll_output() {
            let answer = Output::Client(to, answer.to_vec());
            self.outputs.push_back(answer);
        }
        self.note_events();
        passed
    }

    /// A foreign peer's datagram came to a relayed address; false if it went nowhere.
    pub fn handle_peer(
        &mut self,
        at: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> bool {
        let port = RelayPort {
            family: Family::of(at.ip()),
            port: at.port(),
        };
        let way = self.server.handle_peer(port, from, bytes.len(), now);
        let passed = way != Way::Nowhere;
        self.carry(way, bytes);
        passed
    }

    /// What the SFU has put into the lane.
    pub fn take_from_sfu(&mut self, now: Instant) {
        while let Some(batch) = self.door.from_sfu.take() {
            for (packet, bytes) in batch.packets() {
                let (id, from) = (packet.allocation, packet.sfu);
                let way = self.server.handle_sfu(id, from, bytes.len(), now);
                self.carry(way, bytes);
            }
            self.door.from_sfu.give_back(batch);
        }
    }

    /// A client's connection has closed.
    pub fn handle_closed(&mut self, client: &Client, now: Instant) {
        self.server.handle_closed(client, now);
        self.note_events();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
        self.note_events();
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    /// The next thing it sends.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Allocations that ended since this was asked last, and the addresses told.
    pub fn take_gone(&mut self) -> Vec<(AllocationId, SocketAddr)> {
        std::mem::take(&mut self.gone)
    }

    /// Allocations that were made since this was asked last: of whom, and the address told.
    pub fn take_allocated(&mut self) -> Vec<(AllocationId, Client, SocketAddr)> {
        std::mem::take(&mut self.allocated)
    }

    /// Is this the address of a relay here?
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        let (first, last) = turn::config::RELAY_PORTS;
        address.ip() == self.at.ip() && (first..=last).contains(&address.port())
    }

    /// How long it keeps a permission and a channel.
    #[must_use]
    pub fn keeps(&self) -> (Duration, Duration) {
        let lifetimes = short();
        (lifetimes.permission, lifetimes.channel)
    }

    /// Totals.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.server.stats()
    }

    /// What passed for allocations that had ended.
    pub fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Takes an allocation for ended: for tests that break what is judged.
    #[cfg(test)]
    pub(super) fn believe_ended(&mut self, allocation: AllocationId) {
        self.ended.insert(allocation);
    }

    fn carry(&mut self, way: Way, bytes: &[u8]) {
        match way {
            Way::Nowhere => {}
            Way::Sfu {
                allocation,
                relayed,
                to,
                payload,
            } => {
                if self.ended.contains(&allocation) {
                    self.broken.push(format!("{allocation:?} after its end"));
                }
                let lane = &mut self.door.to_sfu;
                lane.push(allocation, to, relayed, &bytes[payload]);
                lane.flush();
            }
            Way::Peer {
                from, to, payload, ..
            } => self.outputs.push_back(Output::Peer {
                from: SocketAddr::new(self.at.ip(), from.port),
                to,
                bytes: bytes[payload].to_vec(),
            }),
            Way::Client { to, head, payload } => {
                if !self.server.has_allocation(&to) {
                    let what = format!("data for {} after its end", to.remote);
                    self.broken.push(what);
                }
                let whole = [head.bytes(), &bytes[payload], head.padding()].concat();
                self.outputs.push_back(Output::Client(to, whole));
            }
        }
    }

    fn note_events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Allocated {
                    allocation,
                    client,
                    relayed,
                    ..
                } => self.allocated.push((allocation, client, relayed)),
                Event::Ended {
                    allocation,
                    relayed,
                    ..
                } => {
                    self.ended.insert(allocation);
                    for relayed in relayed {
                        self.gone.push((allocation, relayed));
                        self.door.to_sfu.end(End {
                            allocation,
                            relayed,
                        });
                    }
                    self.door.to_sfu.flush();
                }
                // Whoever lost his allocation learns it so; nothing else is asked for in vain.
                Event::Refused {
                    reason: Reason::Mismatch,
                    ..
                } => {}
                Event::Refused { code, reason, .. } => {
                    self.broken.push(format!("refused with {code}: {reason}"));
                }
            }
        }
    }
}

/// Lifetimes of which each passes several times in a scenario, a nonce's among them.
const fn short() -> Lifetimes {
    Lifetimes {
        allocation: Duration::from_secs(6),
        allocation_max: Duration::from_secs(36),
        permission: Duration::from_secs(3),
        channel: Duration::from_secs(4),
        nonce: Duration::from_secs(5),
        reservation: Duration::from_secs(30),
    }
}
