//! Media from an address that passed no check: whose is it?
//!
//! A NAT that forgets gives a client a new port in mid-call, and the client learns nothing of it: its
//! next check is seconds away. Its packets tell sooner, by the keys that open them. Owns who may have
//! moved and how much is tried for it; the ciphers decide. Called by the plane for sealed packets
//! from unknown addresses, which cost nothing but a look at the clock when there are too many.
//!
//! Who publishes goes on sending until he is found. Who only watches sends one more report, right
//! after he was heard of at his old port, and then has nothing to report: that one is kept, and tried
//! once he has been silent long enough to have moved.

use super::Plane;
use super::opened::{Open, Opened, Reason};
use crate::media::demux::{Carrier, Kind, Path, Sender, classify};
use crate::rtp::header::Header;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Who was heard of more recently than this has not moved. Longer than the pause between two packets
/// of a client that sends or receives anything: feedback goes every 100 ms at most.
const SILENT_FOR: Duration = Duration::from_millis(150);
/// Everybody is looked at no more often than this: it touches each connection.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So many that may have moved are kept: those heard of last.
const SUSPECTS: usize = 64;
/// So many keys are tried on one datagram.
const KEYS_PER_DATAGRAM: usize = 16;
/// So many datagrams are tried in each [`LOOK_EVERY`]: with a key's cost of 1 to 2 µs that is half a
/// percent of a core at most, beside the look itself.
const DATAGRAMS_PER_LOOK: usize = 8;
/// So many of them from one address: rubbish from one must not keep others from being found.
const DATAGRAMS_PER_ADDRESS: usize = 4;
/// And so many from one port of it: who sends much must not keep a neighbour from being found.
const DATAGRAMS_PER_PORT: usize = 2;
/// A report waits so long. The last look before then, [`LOOK_EVERY`] old at most, finds its sender silent
/// if he was heard of by his old port no later than as long after it came, as packets that were overtaken are.
const KEPT_FOR: Duration = SILENT_FOR.saturating_add(LOOK_EVERY.saturating_mul(2));
/// So many reports wait; with more, the new ones are refused. They are tried beside the others, for half
/// of what those cost.
const REPORTS: usize = 16;
/// And so many from one address, for the same reason as above.
const REPORTS_PER_ADDRESS: usize = 4;
/// The packet type of a sender report, in the clear in SRTCP too. (RFC 3550 §6.4.1)
const SENDER_REPORT: u8 = 200;
/// What SRTP and SRTCP add at least to a header: the shortest tag. (RFC 3711 §5.2)
const TAG_LEAST: usize = 10;

/// Who may have moved.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// With the address each is silent at.
    suspects: VecDeque<(Sender, IpAddr)>,
    looked: Option<Instant>,
    /// Whose datagrams were tried since the last look.
    tried: Vec<SocketAddr>,
    /// Reports that wait, the oldest first.
    reports: VecDeque<Waiting>,
    /// The next datagram that is opened has waited: it does not wait again.
    again: bool,
    /// The one that is opened has.
    waited: bool,
    /// What comes is what was recorded: nothing waits, and whoever was found is to be found.
    recorded: bool,
    /// Kept for its allocation: a datagram as it came, for a wrong key spoils it.
    kept: Vec<u8>,
    /// Kept for its allocation: all who are silent.
    silent: Vec<(Reverse<Instant>, Sender, IpAddr)>,
}

/// A report of somebody who was heard of elsewhere just before, or of nobody.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    path: Path,
    datagram: Vec<u8>,
}

impl Strays {
    /// A datagram as it came, in a buffer to be given back.
    pub(super) fn keep(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        kept.extend_from_slice(datagram);
        kept
    }

    /// The buffer again.
    pub(super) fn give_back(&mut self, kept: Vec<u8>) {
        self.kept = kept;
    }

    /// May another datagram from this address be tried? Then it counts.
    fn admits(&mut self, from: SocketAddr) -> bool {
        let tried = |same: fn(&SocketAddr, &SocketAddr) -> bool| {
            self.tried.iter().filter(|one| same(one, &from)).count()
        };
        let admits = self.tried.len() < DATAGRAMS_PER_LOOK
            && tried(|one, other| one.ip() == other.ip()) < DATAGRAMS_PER_ADDRESS
            && tried(|one, other| one == other) < DATAGRAMS_PER_PORT;
        if admits {
            self.tried.push(from);
        }
        admits
    }

    /// A datagram is opened.
    pub(super) fn begin(&mut self) {
        self.waited = std::mem::take(&mut self.again);
    }

    /// Keeps a report until its sender has been silent for long enough, if there is room.
    fn wait(&mut self, path: &Path, report: &[u8], now: Instant) -> bool {
        if self.recorded || self.waited || !may_wait(path, report) {
            return false;
        }
        let from = path.remote.ip();
        let own = self
            .reports
            .iter()
            .filter(|one| one.path.remote.ip() == from);
        if self.reports.len() >= REPORTS || own.count() >= REPORTS_PER_ADDRESS {
            return false;
        }
        self.reports.push_back(Waiting {
            until: now + KEPT_FOR,
            path: *path,
            datagram: report.to_vec(),
        });
        true
    }

    /// When a report has waited for long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.reports.front().map(|one| one.until)
    }
}

impl Plane {
    /// What comes was recorded: what waited then comes once, when it was taken.
    pub fn replay(&mut self) {
        self.strays.recorded = true;
    }

    /// The next datagram that has waited for its sender's silence: it is to be taken at once, as if it
    /// came now.
    pub fn poll_waiting(&mut self, now: Instant) -> Option<(Path, Vec<u8>)> {
        let due = |one: &Waiting| one.until <= now;
        let one = self.strays.reports.pop_front_if(|one| due(one))?;
        self.strays.again = true;
        Some((one.path, one.datagram))
    }

    /// Opens a datagram from an address where nobody is known, or nobody who can have sent it, with the
    /// keys of those who may have moved. Whoever has, is known there from now on.
    pub(super) fn open_stray(
        &mut self,
        path: &Path,
        datagram: &mut [u8],
        now: Instant,
        open: Open,
    ) -> Result<Opened, Reason> {
        // Rubbish costs nobody his turn.
        if !is_plausible(datagram) {
            return Err(Reason::Unknown);
        }
        let found = self.find(path, datagram, now, open);
        if found == Err(Reason::Unknown) && self.strays.wait(path, datagram, now) {
            return Ok(Opened::Waiting);
        }
        found
    }

    fn find(
        &mut self,
        path: &Path,
        datagram: &mut [u8],
        now: Instant,
        open: Open,
    ) -> Result<Opened, Reason> {
        let stale = |looked| now.saturating_duration_since(looked) >= LOOK_EVERY;
        if self.strays.looked.is_none_or(stale) {
            self.suspect(now);
        }
        let free = self.strays.waited || self.strays.recorded;
        if self.strays.suspects.is_empty() || !(free || self.strays.admits(path.remote)) {
            return Err(Reason::Unknown);
        }
        let kept = self.strays.keep(datagram);
        let found = self.try_keys((path, now), datagram, &kept, open);
        self.strays.give_back(kept);
        let opened = found.ok_or(Reason::Unknown)?;
        if let Some(from) = opened.from() {
            self.demux.learn(path, from);
            self.counters.traffic.strays_found += 1;
        }
        Ok(opened)
    }

    /// May the datagram of a known address be somebody else's? Its owner is silent, and a NAT may have
    /// given his port to another.
    pub(super) fn may_be_a_stray(&mut self, (index, from): (u32, Sender), now: Instant) -> bool {
        let connection = self.peers.connection_mut(index, from.side);
        connection.is_some_and(|one| {
            let heard = one.transport.last_heard();
            heard.is_some_and(|(_, at)| now.saturating_duration_since(at) >= SILENT_FOR)
        })
    }

    fn try_keys(
        &mut self,
        (path, now): (&Path, Instant),
        datagram: &mut [u8],
        kept: &[u8],
        open: Open,
    ) -> Option<Opened> {
        // A NAT mostly keeps the address and changes the port.
        let near = path.remote.ip();
        let neighbours = self.strays.suspects.iter().filter(|(_, ip)| *ip == near);
        let neighbours: Vec<Sender> = neighbours
            .map(|(from, _)| *from)
            .take(KEYS_PER_DATAGRAM)
            .collect();
        let others = KEYS_PER_DATAGRAM.min(self.strays.suspects.len()) - neighbours.len();
        let mut tried = 0;
        for from in neighbours {
            if let Some(opened) = self.try_key(from, now, datagram, kept, open) {
                return Some(opened);
            }
        }
        // The next datagram begins with others.
        for _ in 0..self.strays.suspects.len() {
            if tried == others {
                break;
            }
            let suspect = self.strays.suspects.pop_front()?;
            self.strays.suspects.push_back(suspect);
            if suspect.1 == near {
                continue;
            }
            tried += 1;
            if let Some(opened) = self.try_key(suspect.0, now, datagram, kept, open) {
                return Some(opened);
            }
        }
        None
    }

    fn try_key(
        &mut self,
        from: Sender,
        now: Instant,
        datagram: &mut [u8],
        kept: &[u8],
        open: Open,
    ) -> Option<Opened> {
        let index = self.peers.index(from.peer)?;
        // He may have been heard of since everybody was looked at.
        if !self.may_be_a_stray((index, from), now) {
            return None;
        }
        let opened = open(self, (index, from), datagram).ok();
        if opened.is_none() {
            datagram.copy_from_slice(kept);
        }
        opened
    }

    /// Collects connections that are silent where they were, those heard of last.
    fn suspect(&mut self, now: Instant) {
        let mut silent = std::mem::take(&mut self.strays.silent);
        silent.clear();
        for peer in self.peers.iter_mut() {
            let id = peer.id;
            for (side, connection) in peer.connections.iter_mut() {
                let Some((last, heard)) = connection.transport.last_heard() else {
                    continue;
                };
                if now.saturating_duration_since(heard) >= SILENT_FOR {
                    let from = Sender { peer: id, side };
                    silent.push((Reverse(heard), from, last.remote.ip()));
                }
            }
        }
        if silent.len() > SUSPECTS {
            silent.select_nth_unstable(SUSPECTS);
            silent.truncate(SUSPECTS);
        }
        silent.sort_unstable();
        self.strays.suspects.clear();
        let names = silent.iter().map(|(_, from, ip)| (*from, *ip));
        self.strays.suspects.extend(names);
        self.strays.silent = silent;
        self.strays.looked = Some(now);
        self.strays.tried.clear();
    }
}

/// Has it a header, and room for a tag behind it?
fn is_plausible(datagram: &[u8]) -> bool {
    match classify(datagram) {
        Kind::Rtp => Header::parse(datagram)
            .is_some_and(|header| datagram.len() >= header.header_len + TAG_LEAST),
        // Header, sender, and the index behind.
        Kind::Rtcp => datagram.len() >= 8 + 4 + TAG_LEAST,
        _ => false,
    }
}

/// May it be all that a client who has moved has to say? A publisher says more, and its sender reports
/// must not come late: clocks are read from them. A router moves datagrams; who comes by a connection
/// comes by a new one.
fn may_wait(path: &Path, datagram: &[u8]) -> bool {
    let sender_report = datagram.get(1) == Some(&SENDER_REPORT);
    matches!(path.carrier, Carrier::Udp(_)) && classify(datagram) == Kind::Rtcp && !sender_report
}
