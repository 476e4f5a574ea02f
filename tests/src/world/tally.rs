//! What TCP connections and TURN servers of the world have counted: for scenarios, which show by it that
//! what they are about has happened.

use super::World;
use super::server::Server;
use super::streams::Stream;
use sfu::media::transport::framing::End;

/// Totals of all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections of ICE-TCP that said for whom they are.
    pub opened: u64,
    /// Those that were closed at the other end.
    pub closed: u64,
    /// Media that servers dropped because a connection was too slow.
    pub late: u64,
    /// Segments sent more than once.
    pub repeated: u64,
    /// Allocations made.
    pub allocated: u64,
    /// Allocations that expired.
    pub expired: u64,
    /// Allocations that ended with their connection.
    pub disconnected: u64,
    /// Payloads that TURN has carried, either way.
    pub relayed: u64,
    /// Allocations that are live.
    pub live: u64,
}

impl World {
    /// What was counted so far.
    pub fn tally(&mut self) -> Tally {
        let open = self.streams.values().map(Stream::repeated).sum::<u64>();
        let mut tally = Tally {
            repeated: self.repeated + open,
            ..Tally::default()
        };
        for counters in self.servers.iter_mut().map(Server::streams) {
            let counters = counters.counters();
            tally.opened += counters.opened;
            tally.closed += counters.ended[End::Closed as usize];
            tally.late += counters.lost_late;
        }
        for turn in &self.turns {
            let stats = turn.stats();
            tally.allocated += stats.allocated;
            tally.expired += stats.expired;
            tally.disconnected += stats.closed;
            tally.relayed += stats.traffic.packets_in + stats.traffic.packets_out;
            tally.live += stats.allocations;
        }
        tally
    }
}
