//! Whose datagram is it: STUN by ufrag, everything else by address.
//!
//! Owns the kinds of datagram, the path a datagram took, the place written into our ufrags, and one
//! worker's tables from ufrag and from address to connection. It never decides whether a datagram is
//! genuine: an address is entered only when the caller has authenticated a STUN check or a sealed
//! packet that came from it. Called by the plane for every datagram, and by the shell to find the owner of a foreign one.

use crate::ids::PeerId;
use crate::media::message::{PathTransport, Side};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

#[cfg(test)]
mod tests;

/// Remote addresses of one connection. A browser with Wi-Fi, Ethernet, VPN and LTE in both families has
/// fewer; the one not checked for longest makes room.
pub const ADDRESSES_PER_CONNECTION: usize = 16;
/// Ufrags of one connection: the current one, the one before an ICE restart, and as many for a client that
/// restarts again before the first restart took effect. The oldest makes room.
pub const UFRAGS_PER_CONNECTION: usize = 4;
/// Connections of one worker; a core is busy long before. One more is refused.
pub const CONNECTIONS: usize = 16_384;

/// Bytes of a STUN header. (RFC 8489 §5)
pub const STUN_HEADER: usize = 20;
/// The magic cookie of every STUN message. (RFC 8489 §5)
pub const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// Type of a binding request. (RFC 8489 §5)
pub const STUN_BINDING_REQUEST: u16 = 0x0001;
/// Type of the USERNAME attribute. (RFC 8489 §14.3)
pub const STUN_USERNAME: u16 = 0x0006;

/// What carries the datagrams of a path. The plane only compares carriers, the worker takes datagrams
/// from them and hands datagrams to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Carrier {
    /// The worker's UDP socket of this number.
    Udp(u8),
    /// The worker's TCP connection of this number (RFC 4571). Counted up, so that the path of a
    /// connection that is gone is never that of another.
    Tcp(u32),
    /// An allocation of the TURN server in this process, by its place there and how often that was
    /// taken. Several have one relayed address, and are told apart by this alone.
    Relay {
        /// The place.
        slot: u32,
        /// Counts those who had it.
        generation: u32,
    },
}

impl Carrier {
    /// The transport it is.
    #[must_use]
    pub const fn transport(self) -> PathTransport {
        match self {
            Self::Udp(_) => PathTransport::Udp,
            Self::Tcp(_) => PathTransport::Tcp,
            Self::Relay { .. } => PathTransport::Turn,
        }
    }
}

/// Between which two addresses a datagram travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// What it came in by, and is answered by.
    pub carrier: Carrier,
    /// The local address it was sent to, where the kernel told: the answer must leave from it.
    pub local: Option<IpAddr>,
    /// Of a relay, the port of ours that was named beside that address: several may lead here, as where
    /// a router forwards another one. 0 where the carrier is bound to one.
    #[serde(default)]
    pub port: u16,
    /// The client's address as seen here.
    pub remote: SocketAddr,
}

/// What the first bytes of a datagram say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// STUN: a connectivity check.
    Stun,
    /// A DTLS record.
    Dtls,
    /// Media, still sealed.
    Rtp,
    /// Feedback and reports, still sealed.
    Rtcp,
    /// Nothing we speak (TURN channels and ZRTP among it).
    Other,
}

/// Tells the kind of a datagram. (RFC 7983 §7, RFC 5761 §4)
#[must_use]
pub fn classify(datagram: &[u8]) -> Kind {
    let (Some(&first), Some(&second)) = (datagram.first(), datagram.get(1)) else {
        return Kind::Other;
    };
    match (first, second, datagram.len()) {
        (0..=3, _, STUN_HEADER..) => Kind::Stun,
        // A record header is 13 bytes.
        (20..=63, _, 13..) => Kind::Dtls,
        // An RTCP header with its sender is 8 bytes, an RTP header 12.
        (128..=191, 192..=223, 8..) => Kind::Rtcp,
        (128..=191, 0..=191 | 224..=255, 12..) => Kind::Rtp,
        _ => Kind::Other,
    }
}

/// Walks the attributes of a STUN message: type, offset of the attribute in the message, value.
/// Stops at the first one that does not fit. (RFC 8489 §14)
#[derive(Debug, Clone)]
pub struct StunAttributes<'a> {
    message: &'a [u8],
    offset: usize,
}

impl<'a> StunAttributes<'a> {
    /// Over the attributes of `message`, header included.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self {
            message,
            offset: STUN_HEADER,
        }
    }

    /// Where the next attribute would begin: the message's end if all of them were sound.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl<'a> Iterator for StunAttributes<'a> {
    type Item = (u16, usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.offset;
        let rest = self.message.get(at..)?;
        let (head, body) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = body.get(..len)?;
        body.get(..len.next_multiple_of(4))?;
        self.offset = at + 4 + len.next_multiple_of(4);
        Some((u16::from_be_bytes([head[0], head[1]]), at, value))
    }
}

/// Our half of the USERNAME of a STUN binding request, unchecked: the ufrag before the colon.
#[must_use]
pub fn username(datagram: &[u8]) -> Option<&str> {
    let header = datagram.first_chunk::<STUN_HEADER>()?;
    if header[..2] != STUN_BINDING_REQUEST.to_be_bytes() || header[4..8] != STUN_COOKIE {
        return None;
    }
    let (_, _, value) = StunAttributes::of(datagram).find(|&(kind, _, _)| kind == STUN_USERNAME)?;
    let ours = value.split(|&byte| byte == b':').next()?;
    std::str::from_utf8(ours).ok()
}

/// Who owns the peer behind a ufrag: written into fixed places of every ufrag of ours, so that
/// another process or worker can hand a foreign datagram to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The node in its cluster.
    pub node: u8,
    /// Counts the node's processes, modulo 256: an old one serves its calls until they end.
    pub generation: u8,
    /// The worker in its process.
    pub worker: u8,
}

/// Characters of a ufrag that hold the place: three bytes.
const PLACE_CHARS: usize = 4;
/// Characters of a ufrag drawn at random: 66 bits.
const RANDOM_CHARS: usize = 11;
/// Characters of a ufrag of ours.
pub const UFRAG_CHARS: usize = PLACE_CHARS + RANDOM_CHARS;
/// ice-char, six bits each. (RFC 8839 §5.4)
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Place {
    /// Draws a ufrag that names this place.
    #[must_use]
    pub fn ufrag(self, rng: &mut impl Rng) -> String {
        let bits = u32::from_be_bytes([0, self.node, self.generation, self.worker]);
        let place = [18, 12, 6, 0].map(|shift| ICE_CHARS[(bits >> shift) as usize & 63]);
        let mut text: String = place.iter().copied().map(char::from).collect();
        text.push_str(&ice_chars(RANDOM_CHARS, rng));
        text
    }

    /// The place a ufrag names, if it can be one of ours.
    #[must_use]
    pub fn of(ufrag: &str) -> Option<Self> {
        if ufrag.len() != UFRAG_CHARS {
            return None;
        }
        let mut bits = 0u32;
        for (position, byte) in ufrag.bytes().enumerate() {
            let value = ICE_CHARS.iter().position(|&char| char == byte)? as u32;
            if position < PLACE_CHARS {
                bits = bits << 6 | value;
            }
        }
        let [_, node, generation, worker] = bits.to_be_bytes();
        Some(Self {
            node,
            generation,
            worker,
        })
    }
}

/// Draws `count` characters of six random bits each.
#[must_use]
pub fn ice_chars(count: usize, rng: &mut impl Rng) -> String {
    (0..count)
        .map(|_| char::from(ICE_CHARS[rng.random_range(0..ICE_CHARS.len())]))
        .collect()
}

/// Who sends by an address: a connection of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sender {
    /// The peer.
    pub peer: PeerId,
    /// Which of its connections.
    pub side: Side,
}

/// Where a connection is looked up by address: the carrier tells apart equal addresses of two networks.
type Address = (Carrier, SocketAddr);

/// The worker's table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this worker has {CONNECTIONS} connections, its limit")]
pub struct Full;

/// From ufrag and from address to connection, for one worker.
#[derive(Debug, Default)]
pub struct Demux {
    ufrags: HashMap<String, Sender>,
    addresses: HashMap<Address, Sender>,
    routes: HashMap<Sender, Routes>,
    dropped: u64,
}

/// What leads to one connection, oldest first.
#[derive(Debug, Default)]
struct Routes {
    ufrags: Vec<String>,
    addresses: Vec<Address>,
}

impl Demux {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes checks for `ufrag` to `sender`.
    ///
    /// # Errors
    /// [`Full`] when the connection would be one too many.
    pub fn insert(&mut self, ufrag: &str, sender: Sender) -> Result<(), Full> {
        if self.routes.len() >= CONNECTIONS && !self.routes.contains_key(&sender) {
            return Err(Full);
        }
        if let Some(before) = self.ufrags.insert(ufrag.to_owned(), sender)
            && let Some(routes) = self.routes.get_mut(&before)
        {
            routes.ufrags.retain(|known| known != ufrag);
        }
        let routes = self.routes.entry(sender).or_default();
        if routes.ufrags.len() >= UFRAGS_PER_CONNECTION {
            self.ufrags.remove(&routes.ufrags.remove(0));
            self.dropped += 1;
        }
        routes.ufrags.push(ufrag.to_owned());
        Ok(())
    }

    /// Routes `ufrag` no longer: an ICE restart has replaced it.
    pub fn retire(&mut self, ufrag: &str) {
        if let Some(sender) = self.ufrags.remove(ufrag)
            && let Some(routes) = self.routes.get_mut(&sender)
        {
            routes.ufrags.retain(|known| known != ufrag);
        }
    }

    /// Routes what comes by `path` to `sender`, from whom an authentic check or packet has come by it. The
    /// newest claim wins, as a client may reuse its port for its next call; whoever lost an address
    /// wrongly has it back with its next check. Ignored for a connection without a ufrag here.
    pub fn learn(&mut self, path: &Path, sender: Sender) {
        let address = (path.carrier, path.remote);
        let Some(routes) = self.routes.get_mut(&sender) else {
            return;
        };
        if let Some(at) = routes.addresses.iter().position(|&known| known == address) {
            routes.addresses[at..].rotate_left(1);
            return;
        }
        if routes.addresses.len() >= ADDRESSES_PER_CONNECTION {
            self.addresses.remove(&routes.addresses.remove(0));
            self.dropped += 1;
        }
        routes.addresses.push(address);
        if let Some(before) = self.addresses.insert(address, sender)
            && let Some(routes) = self.routes.get_mut(&before)
        {
            routes.addresses.retain(|&known| known != address);
        }
    }

    /// Routes nothing by `path` any more: what carried it is gone. Whose it was.
    pub fn forget(&mut self, path: &Path) -> Option<Sender> {
        let address = (path.carrier, path.remote);
        let sender = self.addresses.remove(&address)?;
        if let Some(routes) = self.routes.get_mut(&sender) {
            routes.addresses.retain(|&known| known != address);
        }
        Some(sender)
    }

    /// The connection that a check with this ufrag is for.
    #[must_use]
    pub fn by_ufrag(&self, ufrag: &str) -> Option<Sender> {
        self.ufrags.get(ufrag).copied()
    }

    /// The connection that everything else by this path is from.
    #[must_use]
    pub fn by_path(&self, path: &Path) -> Option<Sender> {
        self.addresses.get(&(path.carrier, path.remote)).copied()
    }

    /// Forgets all that leads to `peer`.
    pub fn remove(&mut self, peer: PeerId) {
        for side in [Side::Publisher, Side::Subscriber] {
            let routes = self.routes.remove(&Sender { peer, side });
            let routes = routes.unwrap_or_default();
            for ufrag in &routes.ufrags {
                self.ufrags.remove(ufrag);
            }
            for address in &routes.addresses {
                self.addresses.remove(address);
            }
        }
    }

    /// Addresses and ufrags that made room for newer ones, so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}
