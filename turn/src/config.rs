//! What the server is told at its start. Plain data with defaults; it checks only itself.

use crate::address::Family;
use crate::credentials::Credentials;
use crate::policy::{PeerPolicy, Prefix};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The relay range of the house: 21 ports for any number of participants.
pub const RELAY_PORTS: (u16, u16) = (30_000, 30_020);

/// Settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// REALM, up to 127 characters. (RFC 8489 §14.9)
    pub realm: Arc<str>,
    /// SOFTWARE; empty: none is told.
    pub software: String,
    /// Who may allocate.
    pub credentials: Credentials,
    /// First and last relay port.
    pub relay_ports: (u16, u16),
    /// Our own addresses.
    pub own: Own,
    /// Which peers may be reached.
    pub peers: PeerPolicy,
    /// Addresses of clients that are many people's.
    pub shared: Shared,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// How much there may be.
    pub limits: Limits,
    /// What time it is, once: expiries of credentials are told in Unix time.
    pub wall: Wall,
}

impl Config {
    /// A server of this realm with all defaults, without users, addresses or peers.
    #[must_use]
    pub fn new(realm: impl Into<Arc<str>>, wall: Wall) -> Self {
        Self {
            realm: realm.into(),
            software: String::new(),
            credentials: Credentials::default(),
            relay_ports: RELAY_PORTS,
            own: Own::default(),
            peers: PeerPolicy::default(),
            shared: Shared::default(),
            lifetimes: Lifetimes::default(),
            limits: Limits::default(),
            wall,
        }
    }
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    /// Monotonic.
    pub at: Instant,
    /// Unix seconds then.
    pub unix_s: u64,
}

impl Wall {
    /// Unix seconds at another moment.
    #[must_use]
    pub fn unix_s(&self, now: Instant) -> u64 {
        self.unix_s + now.saturating_duration_since(self.at).as_secs()
    }
}

/// Addresses that are ours. May be replaced while running.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// The address told as relayed address, for each family that has relays.
    pub external: Vec<IpAddr>,
    /// What our SFU advertises, and what it may be called besides: traffic to these is handed over
    /// in process, whatever the policy says.
    pub sfu: Vec<SocketAddr>,
    /// Addresses of this machine: as peers they are refused, and so are the others here, for what listens
    /// behind them may trust the machine itself. The SFU, the relays and what the policy lets in by name
    /// are excepted.
    pub host: Vec<IpAddr>,
    /// The networks this machine is in: what is in them is refused likewise, for it may trust its
    /// neighbours, or stand behind a router that lets nobody else in.
    pub links: Vec<Prefix>,
}

impl Own {
    /// The address told for relays of a family.
    #[must_use]
    pub fn external(&self, family: Family) -> Option<IpAddr> {
        let mut all = self.external.iter().copied();
        all.find(|ip| Family::of(*ip) == family)
    }

    /// Whether this is an address of the SFU.
    #[must_use]
    pub fn is_sfu(&self, address: SocketAddr) -> bool {
        self.sfu.contains(&address)
    }

    /// Whether the SFU has an address with this IP.
    #[must_use]
    pub fn is_sfu_ip(&self, ip: IpAddr) -> bool {
        self.sfu.iter().any(|address| address.ip() == ip)
    }

    /// Whether the machine itself is behind this IP.
    #[must_use]
    pub fn is_host(&self, ip: IpAddr) -> bool {
        self.host.contains(&ip)
    }

    /// Whether no router is between us and this IP.
    #[must_use]
    pub fn is_neighbour(&self, ip: IpAddr) -> bool {
        self.links.iter().any(|link| link.contains(ip))
    }

    /// Whether it is any of ours: permissions are then for an exact address, for many clients share
    /// these IPs.
    #[must_use]
    pub fn has(&self, ip: IpAddr) -> bool {
        self.external.contains(&ip) || self.is_sfu_ip(ip) || self.is_host(ip)
    }
}

/// Tells which addresses are many people's, as a proxy's are: they may have any number of allocations. It
/// is called for each allocation that is asked for: it must be quick, and must not wait.
#[derive(Clone, Default)]
pub struct Shared(Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>);

impl Shared {
    /// Those this says.
    #[must_use]
    pub fn new(is_shared: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_shared)))
    }

    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|is_shared| is_shared(ip))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(..)")
    }
}

/// How long things last. (RFC 8656 §7, §9, §12)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// An allocation, unless asked for longer.
    pub allocation: Duration,
    /// The longest one may ask for.
    pub allocation_max: Duration,
    /// A permission.
    pub permission: Duration,
    /// A channel.
    pub channel: Duration,
    /// A nonce.
    pub nonce: Duration,
    /// A reserved port waits for its allocation.
    pub reservation: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            allocation: Duration::from_secs(600),
            allocation_max: Duration::from_secs(3600),
            permission: Duration::from_secs(300),
            channel: Duration::from_secs(600),
            nonce: Duration::from_secs(600),
            reservation: Duration::from_secs(30),
        }
    }
}

/// How much there may be. Zero: no limit, where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Allocations of one user; 0: no limit. A browser makes one for each peer connection, network and
    /// address it is told of (up to eight for a connection on one network of both families), and after an
    /// ICE restart all anew while it still has those of before: two connections on two such networks
    /// come to 64.
    pub user_allocations: u32,
    /// Allocations of one client address, or of an IPv6 /64; 0: no limit. A /48 may have twice that. Only
    /// those that are not [`Shared`] are limited. An office of 170 behind one NAT, with a dozen for each,
    /// and still a fifth of all there may be.
    pub address_allocations: u32,
    /// Allocations in all; 0: no limit. Each has about a kilobyte; this bounds what a stolen secret can take.
    pub allocations: u32,
    /// Bytes a second of one allocation, each way; 0: no limit. What is more is dropped.
    pub allocation_bytes_s: u64,
    /// Likewise of all allocations of one user.
    pub user_bytes_s: u64,
    /// Likewise of all there are: what the line should keep for others.
    pub total_bytes_s: u64,
    /// Permissions of one allocation: a client has one for each candidate of its peers.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
    /// Answers a second to one address that has not proved who it is: as many to Binding requests, to
    /// requests without a name, and to those who came by a connection. All clients behind one NAT share
    /// them; each needs three to begin.
    pub unknown_answers_s: u32,
    /// Of those, how many at once.
    pub unknown_answers_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            user_allocations: 64,
            address_allocations: 2048,
            allocations: 10_000,
            allocation_bytes_s: 0,
            user_bytes_s: 0,
            total_bytes_s: 0,
            permissions: 64,
            channels: 64,
            unknown_answers_s: 50,
            unknown_answers_burst: 250,
        }
    }
}
