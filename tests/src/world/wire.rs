//! A client's transport in the world: checks, handshake, keys.
//!
//! Owns one connection's ICE credentials, DTLS association and SRTP numbering. Never decides what
//! is sent. Called by a client for each of its connections; time is given. The handshake's bytes are
//! random, its packets and their times are not.

use crate::{check, shake};
use dimpl::Dtls;
use sfu::media::transport::srtp::{self, Opener, Sealer};
use sfu::rtp::header::Header;
use sfu::units::ExtSeq;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Checks until the handshake is done, then as consent. (RFC 7675 §5.1; browsers do so)
const CHECK_AT_FIRST: Duration = Duration::from_millis(100);
const CHECK_THEN: Duration = Duration::from_millis(2500);
const PASSWORD: &str = "abcdefghijklmnopqrstuvwx";

/// A packet to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Rtp<'a> {
    /// Whose.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Its time.
    pub timestamp: u32,
    /// Its marker bit.
    pub marker: bool,
    /// One-byte header extensions.
    pub extensions: &'a [(u8, &'a [u8])],
    /// What is sealed.
    pub payload: &'a [u8],
}

/// A datagram as it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A media packet: header and payload, with its extended number.
    Rtp(Header, Vec<u8>, u64),
    /// A compound of RTCP.
    Rtcp(Vec<u8>),
    /// A packet that came before, or cannot be authentic.
    Refused,
    /// Not media.
    Other,
}

/// One connection.
pub struct Connection {
    /// Ours.
    pub ufrag: String,
    fingerprint: String,
    dtls: Dtls,
    dtls_at: Option<Instant>,
    keys: Option<(Opener, Sealer)>,
    /// A second opener, for who listens beside the client.
    tap: Option<Opener>,
    /// The server's user name and password.
    remote: Option<(String, String)>,
    check_at: Option<Instant>,
    /// PRIORITY of its checks: what it would rather be reached by has more. (RFC 8445 §5.1.2)
    pub priority: u32,
    /// Where the server says it is: over TCP or not.
    candidates: Vec<(bool, SocketAddr)>,
    next: BTreeMap<u32, u64>,
    out: Vec<Vec<u8>>,
    /// Checks that were answered.
    pub answered: u64,
}

impl Connection {
    /// A connection that knows no server yet; its chance comes from `seed`.
    ///
    /// # Panics
    /// If no certificate can be made.
    #[must_use]
    pub fn new(ufrag: String, seed: u64, now: Instant) -> Self {
        let (dtls, fingerprint) = shake::association(seed, now);
        Self {
            ufrag,
            fingerprint,
            dtls,
            dtls_at: None,
            keys: None,
            tap: None,
            remote: None,
            check_at: None,
            priority: 0x6E00_01FF,
            candidates: Vec::new(),
            next: BTreeMap::new(),
            out: Vec::new(),
            answered: 0,
        }
    }

    /// Media may flow.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.keys.is_some()
    }

    /// The lines of a section that describe this end.
    #[must_use]
    pub fn description(&self, setup: &str) -> String {
        format!(
            "a=setup:{setup}\r\na=ice-ufrag:{}\r\na=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\n",
            self.ufrag, self.fingerprint
        )
    }

    /// The server's description: where its credentials are new, checks begin.
    pub fn set_remote(&mut self, sdp: &str, now: Instant) {
        let value = |name: &str| {
            let line = sdp.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        self.candidates = sdp.lines().filter_map(candidate).collect();
        let found = value("a=ice-ufrag:").zip(value("a=ice-pwd:"));
        if found.is_some() && found != self.remote {
            self.remote = found;
            self.check_at = Some(now);
        }
    }

    /// Where the server says it is, over TCP or not.
    #[must_use]
    pub fn candidate(&self, tcp: bool) -> Option<SocketAddr> {
        let found = self.candidates.iter().find(|(over, _)| *over == tcp);
        found.map(|(_, at)| *at)
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls_at.filter(|_| self.keys.is_none());
        [self.check_at, dtls].into_iter().flatten().min()
    }

    /// Checks and repeated flights that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check_at.is_some_and(|at| at <= now) {
            self.check(now);
        }
        if self.dtls_at.is_some_and(|at| at <= now) && self.keys.is_none() {
            self.dtls_at = None;
            // A handshake that failed for good shows as a connection that never comes up.
            let _ = self.dtls.handle_timeout(now);
            self.drain(now);
        }
    }

    /// Asks whether the path carries, at once: the network has changed.
    pub fn check(&mut self, now: Instant) {
        if let Some((ufrag, password)) = &self.remote {
            let names = format!("{ufrag}:{}", self.ufrag);
            self.out.push(nominating(&names, password, self.priority));
            let wait = if self.is_up() {
                CHECK_THEN
            } else {
                CHECK_AT_FIRST
            };
            self.check_at = Some(now + wait);
        }
    }

    /// The second opener, once, when there are keys.
    pub const fn take_tap(&mut self) -> Option<Opener> {
        self.tap.take()
    }

    /// Datagrams to be sent.
    pub fn take_output(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// A datagram from the server.
    pub fn handle(&mut self, datagram: &[u8], now: Instant) -> Opened {
        match datagram {
            [0..=3, ..] => {
                let first = self.answered == 0;
                self.answered += 1;
                if first {
                    let _ = self.dtls.handle_timeout(now);
                    self.drain(now);
                }
                Opened::Other
            }
            [20..=63, ..] => {
                if self.dtls.handle_packet(datagram).is_ok() {
                    self.drain(now);
                }
                Opened::Other
            }
            [128..=191, 192..=223, ..] => self.open_rtcp(datagram),
            [128..=191, ..] => self.open_rtp(datagram),
            _ => Opened::Other,
        }
    }

    fn open_rtcp(&mut self, datagram: &[u8]) -> Opened {
        let Some((opener, _)) = &mut self.keys else {
            return Opened::Refused;
        };
        let mut bytes = datagram.to_vec();
        match opener.open_rtcp(&mut bytes) {
            Ok(len) => {
                bytes.truncate(len);
                Opened::Rtcp(bytes)
            }
            Err(_) => Opened::Refused,
        }
    }

    fn open_rtp(&mut self, datagram: &[u8]) -> Opened {
        let (Some((opener, _)), Some(header)) = (&mut self.keys, Header::parse(datagram)) else {
            return Opened::Refused;
        };
        let mut bytes = datagram.to_vec();
        let opened = opener.open_rtp(header.header_len, header.ssrc, header.sequence, &mut bytes);
        match opened {
            Ok(opened) => {
                let payload = bytes[header.header_len..opened.len].to_vec();
                Opened::Rtp(header, payload, opened.seq.0)
            }
            Err(_) => Opened::Refused,
        }
    }

    fn drain(&mut self, now: Instant) {
        let flight = shake::flight(&mut self.dtls);
        self.out.extend(flight.packets);
        if let Some(keying) = flight.keying {
            self.keys = shake::keyed(&keying);
            self.tap = shake::keyed(&keying).map(|(opener, _)| opener);
        }
        self.dtls_at = flight.at.map(|at| at.max(now));
    }

    /// Seals a packet under the next number of its stream: the number, and the datagram.
    ///
    /// # Panics
    /// Without keys.
    pub fn seal(&mut self, packet: &Rtp<'_>) -> (u16, Vec<u8>) {
        let next = self
            .next
            .entry(packet.ssrc)
            .or_insert(u64::from(packet.ssrc & 0x7FFF));
        let seq = *next;
        *next += 1;
        let mut bytes = header(packet, seq as u16);
        let front = bytes.len();
        bytes.extend(packet.payload);
        let plain = bytes.len();
        bytes.resize(plain + srtp::OVERHEAD_MAX, 0);
        let (_, sealer) = self.keys.as_ref().expect("keys");
        let len = sealer.seal_rtp(front, plain, ExtSeq(seq), packet.ssrc, &mut bytes);
        bytes.truncate(len.expect("room for the tag"));
        (seq as u16, bytes)
    }

    /// Seals a compound of RTCP.
    ///
    /// # Panics
    /// Without keys.
    pub fn seal_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + srtp::OVERHEAD_MAX, 0);
        let (_, sealer) = self.keys.as_mut().expect("keys");
        let len = sealer.seal_rtcp(&mut bytes, plain.len());
        bytes.truncate(len.expect("room for the tag"));
        bytes
    }
}

fn header(packet: &Rtp<'_>, seq: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, packet.payload_type | (u8::from(packet.marker) << 7)];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(packet.timestamp.to_be_bytes());
    bytes.extend(packet.ssrc.to_be_bytes());
    if !packet.extensions.is_empty() {
        bytes[0] |= 0x10;
        let mut block = Vec::new();
        for (id, data) in packet.extensions {
            block.push((id << 4) | (data.len() as u8 - 1));
            block.extend(*data);
        }
        block.resize(block.len().next_multiple_of(4), 0);
        bytes.extend([0xBE, 0xDE]);
        bytes.extend(((block.len() / 4) as u16).to_be_bytes());
        bytes.extend(block);
    }
    bytes
}

/// Over TCP or not, and where, of a line that describes a candidate. (RFC 8839 §5.1)
fn candidate(line: &str) -> Option<(bool, SocketAddr)> {
    let mut words = line.strip_prefix("a=candidate:")?.split(' ').skip(2);
    let transport = words.next()?;
    let ip = words.nth(1)?.parse().ok()?;
    Some((
        transport == "tcp",
        SocketAddr::new(ip, words.next()?.parse().ok()?),
    ))
}

/// A binding request that nominates. (RFC 8445 §7.1)
fn nominating(names: &str, password: &str, priority: u32) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    message.extend([7; 12]);
    check::attribute(&mut message, check::USERNAME, names.as_bytes());
    for (kind, value) in [
        (0x0024, &priority.to_be_bytes()[..]),
        (0x802A, &1_u64.to_be_bytes()),
        (0x0025, &[]),
    ] {
        check::attribute(&mut message, kind, value);
    }
    check::sign(&mut message, password);
    message
}
