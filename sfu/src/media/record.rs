//! The record of one worker: what went into its plane and what came out, as bytes in a file.
//!
//! Owns the format, which the recorder writes and a replay reads. It holds no secret unless asked
//! to: see `redact`. It opens no file. Called by the worker and by whoever replays.

pub mod redact;
mod datagram;

use crate::ids::PeerId;
use crate::media::counters::Counters;
use crate::media::demux::{Kind, Path, Sender, classify};
use crate::media::message::Command;
use crate::media::plane::tracks::TrackSettings;
use crate::media::plane::{Plane, Population};
use crate::media::transport::candidates::Candidate;
pub use datagram::{Datagram, Form};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The first bytes of a record; the last one is the version.
pub const MAGIC: [u8; 8] = *b"FOCIREC3";
/// Bytes before the body of an entry: tag, time, length.
const HEAD: usize = 13;
/// The longest body: larger than any description or data message as text.
const BODY_MAX: usize = 4 << 20;
/// Addresses whose packets are counted apart: more than clients of a call that somebody records.
const PATHS_MAX: usize = 4096;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// The first one.
    Start(Start),
    /// A command was applied.
    Command(Command),
    /// A datagram came.
    Datagram(Datagram),
    /// What carried a path was gone.
    PathLost(Path),
    /// Clients were told other candidates from then on.
    Advertised(Vec<Candidate>),
    /// Clients were asked from then on at which address they see us, or were not.
    Inquiring(bool),
    /// What had been received was forwarded.
    FanOut,
    /// The media thread had stood still for so long, in nanoseconds.
    Absence(u64),
    /// Timers ran for these peers; `None` if the record ends in the middle of it.
    Timeout(Option<Vec<PeerId>>),
    /// An event came out.
    Event(String),
    /// What was counted up to here.
    Totals(Box<Totals>),
    /// The keys of a connection that came up; only in a record with secrets.
    Keys(Keys),
    /// So many entries are missing here: the disk was too slow.
    Gap(u64),
    /// The last one.
    End(End),
}

/// What a plane was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the server.
    pub version: String,
    /// What names and numbers were drawn from.
    pub chance: [u8; 32],
    /// Where clients were told to find us.
    pub advertised: Vec<Candidate>,
    /// Node, process and worker, as written into every ufrag.
    pub place: [u8; 3],
    /// How tracks are received.
    pub track: TrackSettings,
    /// Clients were asked at which address they see us.
    pub inquiring: bool,
    /// Payloads and passwords were kept.
    pub secrets: bool,
}

impl Start {
    /// Of a plane not used yet.
    #[must_use]
    pub fn of(plane: &Plane, secrets: bool) -> Self {
        let setup = plane.setup();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            chance: plane.chance(),
            advertised: setup.advertised.clone(),
            place: [setup.node, setup.process, setup.worker],
            track: setup.track,
            inquiring: setup.inquiring,
            secrets,
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// By the plane.
    pub counters: Counters,
    /// What lives there.
    pub population: Population,
    /// What each client was sent.
    pub sent: Vec<(Path, Sent)>,
}

/// What one address was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// RTP packets.
    pub media: u64,
    /// RTCP packets.
    pub control: u64,
    /// Of all fixed RTP headers in their order: equal only if the packets are.
    pub digest: u64,
}

/// The keys of a connection, with which a capture of its packets can be opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Whose.
    pub from: Sender,
    /// The SRTP profile's number on the wire.
    pub profile: u16,
    /// Client key, server key, client salt, server salt. (RFC 5764 §4.2)
    pub material: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// Why a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The server stopped.
    Stopped,
    /// The file has its largest size.
    Full,
}

/// Counts what each address is sent.
#[derive(Debug, Default)]
pub struct Outgoing(BTreeMap<Path, Sent>);

impl Outgoing {
    /// Counts what the arena of a plane holds.
    pub fn count(&mut self, plane: &Plane) {
        for run in plane.outgoing() {
            if self.0.len() >= PATHS_MAX && !self.0.contains_key(&run.to) {
                continue;
            }
            let sent = self.0.entry(run.to).or_default();
            for packet in run.bytes.chunks(run.segment.max(1)) {
                match classify(packet) {
                    Kind::Rtp => {
                        sent.media += 1;
                        sent.digest = digest(sent.digest, packet.get(..12).unwrap_or_default());
                    }
                    Kind::Rtcp => sent.control += 1,
                    _ => {}
                }
            }
        }
    }

    /// All totals up to here.
    #[must_use]
    pub fn totals(&self, plane: &Plane) -> Totals {
        Totals {
            counters: *plane.counters(),
            population: plane.population(),
            sent: self.0.iter().map(|(path, sent)| (*path, *sent)).collect(),
        }
    }
}

/// FNV-1a, going on from `from`.
fn digest(from: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(from ^ 0xCBF2_9CE4_8422_2325, step)
}

/// Why bytes are no record, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something else, or of another version.
    #[error("not a record of this version")]
    Foreign,
    /// It ends in the middle of an entry: the server was killed.
    #[error("cut short")]
    Cut,
    /// An entry that cannot be read.
    #[error("entry {0} is damaged")]
    Damaged(usize),
}

/// Appends an entry, `at` after the start.
pub fn write(entry: &Entry, at: Duration, out: &mut Vec<u8>) {
    let tag = match entry {
        Entry::Start(_) => 0,
        Entry::Command(_) => 1,
        Entry::Datagram(_) => 2,
        Entry::FanOut => 3,
        Entry::Timeout(_) => 4,
        Entry::Event(_) => 5,
        Entry::Totals(_) => 6,
        Entry::Gap(_) => 7,
        Entry::End(_) => 8,
        Entry::Keys(_) => 9,
        Entry::Absence(_) => 10,
        Entry::PathLost(_) => 11,
        Entry::Advertised(_) => 12,
        Entry::Inquiring(_) => 13,
    };
    let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    out.push(tag);
    out.extend(nanos.to_be_bytes());
    out.extend([0; 4]);
    let start = out.len();
    let written = match entry {
        Entry::Start(start) => serde_json::to_writer(&mut *out, start),
        Entry::Command(command) => serde_json::to_writer(&mut *out, command),
        Entry::Totals(totals) => serde_json::to_writer(&mut *out, totals),
        Entry::End(end) => serde_json::to_writer(&mut *out, end),
        Entry::Keys(keys) => serde_json::to_writer(&mut *out, keys),
        Entry::Datagram(datagram) => {
            datagram.write(out);
            Ok(())
        }
        Entry::Event(text) => {
            out.extend(text.bytes());
            Ok(())
        }
        Entry::Gap(lost) => {
            out.extend(lost.to_be_bytes());
            Ok(())
        }
        Entry::Timeout(peers) => serde_json::to_writer(&mut *out, peers),
        Entry::FanOut => Ok(()),
        Entry::Absence(away) => serde_json::to_writer(&mut *out, away),
        Entry::PathLost(path) => serde_json::to_writer(&mut *out, path),
        Entry::Advertised(candidates) => serde_json::to_writer(&mut *out, candidates),
        Entry::Inquiring(on) => serde_json::to_writer(&mut *out, on),
    };
    let len = out.len() - start;
    if written.is_err() || len > BODY_MAX {
        // Nobody can read it: better an honest gap.
        out.truncate(start - HEAD);
        return write(&Entry::Gap(1), at, out);
    }
    out[start - 4..start].copy_from_slice(&(len as u32).to_be_bytes());
}

/// Replaces the form of the datagram written last: some is known only after it was taken.
pub fn amend(form: Form, out: &mut Vec<u8>) {
    datagram::amend(form, out);
}

/// Reads a record: each entry with its time. Ends after the first fault.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    count: usize,
    over: bool,
}

impl<'a> Reader<'a> {
    /// Over the bytes of a file.
    ///
    /// # Errors
    /// [`Fault::Foreign`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(Fault::Foreign)?;
        Ok(Self {
            rest,
            count: 0,
            over: false,
        })
    }

    fn entry(&mut self) -> Result<(Duration, Entry), Fault> {
        let (head, rest) = self.rest.split_first_chunk::<HEAD>().ok_or(Fault::Cut)?;
        let [tag, time @ .., l0, l1, l2, l3] = *head;
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if len > BODY_MAX {
            return Err(Fault::Damaged(self.count));
        }
        let (body, rest) = rest.split_at_checked(len).ok_or(Fault::Cut)?;
        self.rest = rest;
        let entry = read(tag, body).ok_or(Fault::Damaged(self.count))?;
        self.count += 1;
        Ok((Duration::from_nanos(u64::from_be_bytes(time)), entry))
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<(Duration, Entry), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over || self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        self.over = entry.is_err();
        Some(entry)
    }
}

fn read(tag: u8, body: &[u8]) -> Option<Entry> {
    Some(match tag {
        0 => Entry::Start(serde_json::from_slice(body).ok()?),
        1 => Entry::Command(serde_json::from_slice(body).ok()?),
        2 => Entry::Datagram(Datagram::read(body)?),
        3 => Entry::FanOut,
        4 => Entry::Timeout(serde_json::from_slice(body).ok()?),
        5 => Entry::Event(String::from_utf8(body.to_vec()).ok()?),
        6 => Entry::Totals(serde_json::from_slice(body).ok()?),
        7 => Entry::Gap(u64::from_be_bytes(body.try_into().ok()?)),
        8 => Entry::End(serde_json::from_slice(body).ok()?),
        9 => Entry::Keys(serde_json::from_slice(body).ok()?),
        10 => Entry::Absence(serde_json::from_slice(body).ok()?),
        11 => Entry::PathLost(serde_json::from_slice(body).ok()?),
        12 => Entry::Advertised(serde_json::from_slice(body).ok()?),
        13 => Entry::Inquiring(serde_json::from_slice(body).ok()?),
        _ => return None,
    })
}
