//! Who and where: transports, families, clients, allocations by name.
//!
//! Owns the words for addresses so that they cannot be mixed up. It decides nothing; everybody uses
//! it.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// How a client reaches us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain stream.
    Tcp,
    /// A stream within TLS.
    Tls,
}

impl Transport {
    /// Streams carry frames one behind the other and pad ChannelData. (RFC 8656 §12.5)
    #[must_use]
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// An address family. (RFC 8656 §18.6)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }

    /// From its number on the wire.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// A client: the 5-tuple of RFC 8656 §2.2, and the name its embedder has for the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// How it reaches us.
    pub transport: Transport,
    /// Our address it sent to.
    pub local: SocketAddr,
    /// Its address as we see it.
    pub remote: SocketAddr,
    /// This address is that of a proxy, who tells nobody apart: it is limited for nobody's sake.
    pub shared: bool,
    /// The socket or connection, in the embedder's numbers: handed back, never read.
    pub link: u32,
}

impl Client {
    /// One over this transport `from` its own address `to` one of ours.
    #[must_use]
    pub const fn new(transport: Transport, from: SocketAddr, to: SocketAddr, link: u32) -> Self {
        Self {
            transport,
            local: to,
            remote: from,
            shared: false,
            link,
        }
    }
}

impl Hash for Client {
    /// The remote address and the link tell clients apart well enough; equality looks at all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_ip(self.remote.ip(), state);
        state.write_u64(u64::from(self.remote.port()) << 32 | u64::from(self.link));
    }
}

pub(crate) fn hash_ip<H: Hasher>(ip: IpAddr, state: &mut H) {
    match ip {
        IpAddr::V4(ip) => state.write_u64(u64::from(ip.to_bits())),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            state.write_u64((bits >> 64) as u64);
            state.write_u64(bits as u64);
        }
    }
}

/// An allocation. Never the same twice: the generation tells a new one in an old place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId {
    /// Its place; counted up from zero and used again.
    pub slot: u32,
    /// Which one in that place.
    pub generation: u32,
}

/// A relay socket: one for each port and family, shared by allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayPort {
    /// The family of the socket.
    pub family: Family,
    /// The port.
    pub port: u16,
}

/// IPv4 in IPv6 clothes is IPv4: policies and routes must not be passed by in them. Flow and scope
/// of IPv6 do not tell peers apart and are left off.
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
