//! A datagram in a record: whose, what it was, and its bytes with runs of zeros left out.

use crate::ids::PeerId;
use crate::media::demux::{Carrier, Path, Sender};
use crate::media::message::Side;
use crate::media::plane::opened::Reason;
use crate::media::transport::Handshake;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The longest datagram there is.
const LONGEST: usize = 65_535;
/// Bytes of a form: what, and a number.
const FORM: usize = 9;
/// Shorter runs of zeros are not worth leaving out.
const RUN: usize = 8;
/// The carrier of what came through TURN; with it stands the port of ours. (Never again 2: that had none.)
const RELAY: u8 = 3;

/// A datagram that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came by.
    pub path: Path,
    /// Whose address that was.
    pub from: Option<Sender>,
    /// Its bytes: opened, as far as it could be; what is secret is zeros.
    pub bytes: Vec<u8>,
    /// What it was.
    pub form: Form,
}

/// What a datagram was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A connectivity check.
    Check {
        /// Signed with the right password.
        authentic: bool,
    },
    /// Part of a handshake, or data behind it: without its bytes.
    Handshake {
        /// How far the handshake was before.
        before: Handshake,
        /// And after.
        after: Handshake,
    },
    /// Media, opened.
    Media {
        /// Its SRTP index.
        seq: u64,
    },
    /// RTCP, opened.
    Control,
    /// Not taken; its payload is left out.
    Refused(Reason),
}

const STAGES: [Handshake; 3] = [Handshake::Open, Handshake::Done, Handshake::Failed];
const REASONS: [Reason; 7] = [
    Reason::Foreign,
    Reason::Unknown,
    Reason::Malformed,
    Reason::NotReady,
    Reason::Forged,
    Reason::Repeated,
    Reason::Limit,
];

impl Form {
    fn to_bytes(self) -> [u8; FORM] {
        let place = |stage| STAGES.iter().position(|one| *one == stage).unwrap_or(0) as u64;
        let (tag, number) = match self {
            Self::Check { authentic } => (0, u64::from(authentic)),
            Self::Handshake { before, after } => (1, place(before) << 8 | place(after)),
            Self::Media { seq } => (2, seq),
            Self::Control => (3, 0),
            Self::Refused(reason) => {
                let at = REASONS.iter().position(|one| *one == reason);
                (4, at.unwrap_or(0) as u64)
            }
        };
        let mut out = [tag; FORM];
        out[1..].copy_from_slice(&number.to_be_bytes());
        out
    }

    fn read(bytes: [u8; FORM]) -> Option<Self> {
        let [tag, number @ ..] = bytes;
        let number = u64::from_be_bytes(number);
        let stage = |at: u64| STAGES.get(usize::try_from(at).ok()?).copied();
        Some(match tag {
            0 => Self::Check {
                authentic: number != 0,
            },
            1 => Self::Handshake {
                before: stage(number >> 8)?,
                after: stage(number & 0xFF)?,
            },
            2 => Self::Media { seq: number },
            3 => Self::Control,
            4 => Self::Refused(*REASONS.get(usize::try_from(number).ok()?)?),
            _ => return None,
        })
    }
}

/// Replaces the form at the end of what was written last; its length stays.
pub(super) fn amend(form: Form, out: &mut Vec<u8>) {
    if let Some(at) = out.len().checked_sub(FORM) {
        out.truncate(at);
        out.extend(form.to_bytes());
    }
}

impl Datagram {
    /// Appends the body of its entry. The form stands at the end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (carrier, number, more) = match self.path.carrier {
            Carrier::Udp(socket) => (0, u32::from(socket), None),
            Carrier::Tcp(connection) => (1, connection, None),
            Carrier::Relay { slot, generation } => (RELAY, slot, Some(generation)),
        };
        out.push(carrier);
        out.extend(number.to_be_bytes());
        if let Some(generation) = more {
            out.extend(generation.to_be_bytes());
            out.extend(self.path.port.to_be_bytes());
        }
        write_ip(self.path.local, out);
        write_ip(Some(self.path.remote.ip()), out);
        out.extend(self.path.remote.port().to_be_bytes());
        let scope = match self.path.remote {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        out.extend(scope.to_be_bytes());
        let Sender { peer, side } = self.from.unwrap_or(Sender {
            peer: PeerId {
                worker: 0,
                slot: 0,
                generation: 0,
            },
            side: Side::Publisher,
        });
        out.push(match (self.from, side) {
            (None, _) => 0,
            (Some(_), Side::Publisher) => 1,
            (Some(_), Side::Subscriber) => 2,
        });
        out.push(peer.worker);
        out.extend(peer.slot.to_be_bytes());
        out.extend(peer.generation.to_be_bytes());
        pack(&self.bytes, out);
        out.extend(self.form.to_bytes());
    }

    /// Reads the body of an entry.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (body, form) = body.split_last_chunk::<FORM>()?;
        let mut rest = body;
        let [carrier] = chunk(&mut rest)?;
        let number = u32::from_be_bytes(chunk(&mut rest)?);
        let (carrier, own_port) = match carrier {
            0 => (Carrier::Udp(u8::try_from(number).ok()?), 0),
            1 => (Carrier::Tcp(number), 0),
            RELAY => {
                let generation = u32::from_be_bytes(chunk(&mut rest)?);
                let slot = number;
                let port = u16::from_be_bytes(chunk(&mut rest)?);
                (Carrier::Relay { slot, generation }, port)
            }
            _ => return None,
        };
        let local = read_ip(&mut rest)?;
        let remote = read_ip(&mut rest)??;
        let port = u16::from_be_bytes(chunk(&mut rest)?);
        let scope = u32::from_be_bytes(chunk(&mut rest)?);
        let remote = match remote {
            IpAddr::V4(_) => SocketAddr::new(remote, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        };
        let [known, worker] = chunk(&mut rest)?;
        let peer = PeerId {
            worker,
            slot: u32::from_be_bytes(chunk(&mut rest)?),
            generation: u32::from_be_bytes(chunk(&mut rest)?),
        };
        let side = match known {
            0 => None,
            1 => Some(Side::Publisher),
            2 => Some(Side::Subscriber),
            _ => return None,
        };
        Some(Self {
            path: Path {
                carrier,
                local,
                port: own_port,
                remote,
            },
            from: side.map(|side| Sender { peer, side }),
            bytes: unpack(rest)?,
            form: Form::read(*form)?,
        })
    }
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*front)
}

/// Family, then sixteen bytes.
fn write_ip(ip: Option<IpAddr>, out: &mut Vec<u8>) {
    let (family, bytes) = match ip {
        None => (0, [0; 16]),
        Some(IpAddr::V4(ip)) => (4, ip.to_ipv6_mapped().octets()),
        Some(IpAddr::V6(ip)) => (6, ip.octets()),
    };
    out.push(family);
    out.extend(bytes);
}

fn read_ip(rest: &mut &[u8]) -> Option<Option<IpAddr>> {
    let [family] = chunk(rest)?;
    let ip = Ipv6Addr::from(chunk::<16>(rest)?);
    match family {
        0 => Some(None),
        4 => Some(Some(ip.to_ipv4_mapped()?.into())),
        6 => Some(Some(ip.into())),
        _ => None,
    }
}

/// Writes bytes as pieces: how many zeros, how many bytes behind them, these bytes.
fn pack(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes.get(..LONGEST).unwrap_or(bytes);
    while !rest.is_empty() {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        let behind = &rest[zeros..];
        let ends = behind
            .windows(RUN)
            .position(|window| window.iter().all(|byte| *byte == 0));
        let (literal, next) = behind.split_at(ends.unwrap_or(behind.len()));
        out.extend((zeros as u16).to_be_bytes());
        out.extend((literal.len() as u16).to_be_bytes());
        out.extend(literal);
        rest = next;
    }
}

fn unpack(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let zeros = usize::from(u16::from_be_bytes(chunk(&mut rest)?));
        let len = usize::from(u16::from_be_bytes(chunk(&mut rest)?));
        let (literal, behind) = rest.split_at_checked(len)?;
        if out.len() + zeros + len > LONGEST {
            return None;
        }
        out.resize(out.len() + zeros, 0);
        out.extend(literal);
        rest = behind;
    }
    Some(out)
}
