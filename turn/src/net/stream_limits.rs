//! The limits that streams live under. Plain data; `tcp` holds connections to them.

use std::time::Duration;

/// How much of streams there may be, and how slow they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections in all; each takes a descriptor and up to some 300 KiB.
    pub connections: usize,
    /// Connections without an allocation: those who have not proved who they are. One more takes the
    /// place of the oldest, for whoever means it is through within a few round trips.
    pub half_open: usize,
    /// Connections of one address (of IPv6 a /64). Only those with an allocation can be so many: an
    /// office of 170 behind one NAT, with six for each (two peer connections, by TCP, by TLS and by the
    /// port it shares).
    pub of_address: usize,
    /// Of these, without an allocation: that office comes back at once, and some round trips later each
    /// has one. One more takes the place of the oldest of them.
    pub half_open_of_address: usize,
    /// Connections of one /48 of IPv6, which is what the address is to IPv4 for whoever has many.
    pub of_site: usize,
    /// Of these, without an allocation.
    pub half_open_of_site: usize,
    /// Connections accepted a second from one address.
    pub accepts_s: u32,
    /// Of those, how many at once.
    pub accepts_burst: u32,
    /// A handshake of TLS takes no longer.
    pub handshake: Duration,
    /// A connection without an allocation is closed after this.
    pub idle: Duration,
    /// A frame that has begun is whole after this.
    pub frame: Duration,
    /// A client takes something of what waits for it within this.
    pub stalled: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            half_open: 1024,
            of_address: 1024,
            half_open_of_address: 128,
            of_site: 2048,
            half_open_of_site: 256,
            accepts_s: 50,
            accepts_burst: 250,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            frame: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
        }
    }
}
