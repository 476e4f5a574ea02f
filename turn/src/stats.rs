//! What the server counts: plain totals since the start, for metrics.

/// Totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Allocations that are live.
    pub allocations: u64,
    /// Allocations made.
    pub allocated: u64,
    /// Allocations ended by their client.
    pub released: u64,
    /// Allocations that expired.
    pub expired: u64,
    /// Allocations ended with their connection.
    pub closed: u64,
    /// Silent allocations ended for another.
    pub displaced: u64,
    /// Allocations ended after their user had gone for good.
    pub left: u64,
    /// Requests that were answered with an error after they were authenticated.
    pub refused: u64,
    /// Of these, those for a peer that another allocation talks with through the same port.
    pub peer_taken: u64,
    /// Requests whose name or password was wrong.
    pub denied: u64,
    /// Binding requests answered.
    pub bindings: u64,
    /// Relayed traffic.
    pub traffic: Traffic,
    /// What was dropped.
    pub drops: Drops,
}

/// Relayed datagrams and their payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients.
    pub packets_in: u64,
    /// From clients.
    pub bytes_in: u64,
    /// To clients.
    pub packets_out: u64,
    /// To clients.
    pub bytes_out: u64,
}

impl Traffic {
    /// A payload of so many bytes from a client.
    pub(crate) const fn note_in(&mut self, bytes: usize) {
        self.packets_in += 1;
        self.bytes_in += bytes as u64;
    }

    /// A payload of so many bytes to a client.
    pub(crate) const fn note_out(&mut self, bytes: usize) {
        self.packets_out += 1;
        self.bytes_out += bytes as u64;
    }
}

/// Dropped without a word, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Neither STUN nor ChannelData, or damaged.
    pub malformed: u64,
    /// Data of a client without allocation or channel.
    pub unbound: u64,
    /// Data to or from a peer without permission.
    pub unpermitted: u64,
    /// More than the bandwidth of its allocation.
    pub bandwidth: u64,
    /// More than the bandwidth of its user.
    pub user_bandwidth: u64,
    /// More than the bandwidth of all.
    pub total_bandwidth: u64,
    /// Answers to an address that asks too often without proof of who it is.
    pub unknown_answers: u64,
    /// Answers that found the outbox full.
    pub outbox: u64,
    /// Events that nobody took.
    pub events: u64,
    /// For an allocation that is gone.
    pub stale: u64,
    /// From a relay that has no socket.
    pub no_relay: u64,
}
