//! By which way a connection of a client goes to its server.

use super::turning::Turning;
use std::net::SocketAddr;
use std::time::Instant;

/// How a participant reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Datagrams.
    #[default]
    Udp,
    /// ICE-TCP. (RFC 6544)
    Tcp,
    /// A TURN server.
    Relay {
        /// Beside which server it is: its own, to which it hands over in process, or another.
        at: usize,
        /// It is reached over TCP.
        stream: bool,
        /// Data goes by a channel, or in messages.
        channels: bool,
    },
}

impl Way {
    /// What a check by it says of how much it is wanted. (RFC 8445 §5.1.2; as browsers)
    #[must_use]
    pub const fn priority(self) -> u32 {
        match self {
            Self::Udp => 0x6E00_01FF,
            Self::Tcp => 0x5A00_01FF,
            Self::Relay { stream: false, .. } => 0x0200_01FF,
            Self::Relay { stream: true, .. } => 0x0100_01FF,
        }
    }
}

/// A connection's way.
#[derive(Debug)]
pub struct Access {
    /// Which.
    pub way: Way,
    /// Its own address, as whoever it sends to sees it.
    pub address: SocketAddr,
    /// The TCP connection it has now.
    pub stream: Option<u32>,
    /// Its client of TURN.
    pub turn: Option<Turning>,
}

impl Access {
    /// Nothing is there yet but an address.
    #[must_use]
    pub const fn new(way: Way, address: SocketAddr) -> Self {
        Self {
            way,
            address,
            stream: None,
            turn: None,
        }
    }

    /// When its client of TURN has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.turn.as_ref()?.poll_timeout()
    }

    /// The address its server sees.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        match self.way {
            Way::Relay { .. } => self.turn.as_ref()?.relayed(),
            Way::Udp | Way::Tcp => Some(self.address),
        }
    }
}
