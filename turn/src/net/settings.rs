//! What the shell is started with, and what it tells.

use super::lane::Door;
use super::stream_limits::StreamLimits;
use super::tcp::StreamCounters;
use super::tls::Certificates;
use super::udp::UdpCounters;
use crate::config::Config;
use crate::event::Event;
use crate::stats::Stats;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Settings of the shell.
pub struct Settings {
    /// Settings of the server.
    pub server: Config,
    /// Its chance, from the system.
    pub seed: [u8; 32],
    /// Addresses to listen on for UDP. An unspecified one answers from the address asked.
    pub udp: Vec<SocketAddr>,
    /// Addresses to listen on for plain TCP.
    pub tcp: Vec<SocketAddr>,
    /// Addresses to listen on for TLS; needs `certificates`.
    pub tls: Vec<SocketAddr>,
    /// Certificate and key.
    pub certificates: Option<Certificates>,
    /// IPs the relay sockets bind, one for each family that is to be relayed.
    pub relay: Vec<IpAddr>,
    /// How much of streams there may be.
    pub streams: StreamLimits,
    /// The SFU beside us.
    pub sfu: Option<SfuSide>,
    /// Is told events as they come, and totals once a second. Runs on the thread of TURN: it must
    /// not wait.
    pub observe: Observe,
}

impl Settings {
    /// A server without listeners.
    #[must_use]
    pub fn new(server: Config, seed: [u8; 32]) -> Self {
        Self {
            server,
            seed,
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            certificates: None,
            relay: Vec::new(),
            streams: StreamLimits::default(),
            sfu: None,
            observe: Box::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("server", &self.server)
            .field("udp", &self.udp)
            .field("tcp", &self.tcp)
            .field("tls", &self.tls)
            .field("relay", &self.relay)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// Tells which door a datagram for the SFU belongs to, if it can be told from its bytes: a STUN
/// message has its owner's name in it.
pub type Steer = Arc<dyn Fn(&[u8]) -> Option<usize> + Send + Sync>;

/// The ways to the SFU: one door for each of its workers.
pub struct SfuSide {
    /// The doors.
    pub doors: Vec<Door>,
    /// Asked for datagrams that begin like STUN; all others follow the last of their allocation.
    /// Without it, all go through the first door.
    pub steer: Option<Steer>,
}

impl fmt::Debug for SfuSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SfuSide")
            .field("doors", &self.doors.len())
            .finish_non_exhaustive()
    }
}

/// What is listened on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// UDP.
    pub udp: Vec<SocketAddr>,
    /// TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS.
    pub tls: Vec<SocketAddr>,
}

/// What the embedder is told.
#[derive(Debug)]
pub enum Observation<'a> {
    /// Something happened.
    Event(Event),
    /// All counters, once a second while there is something to do, else twice a minute.
    Totals(&'a Totals),
}

/// Whom observations go to.
pub type Observe = Box<dyn FnMut(Observation<'_>) + Send>;

/// All counters, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The server's.
    pub server: Stats,
    /// Those of UDP.
    pub udp: UdpCounters,
    /// Those of streams.
    pub streams: StreamCounters,
    /// Packets that found no place on their way to the SFU.
    pub sfu_full: u64,
}
