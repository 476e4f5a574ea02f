//! What is remembered of data packets: which were seen, and those for participants still joining.
//! (LK: signalling §8.1, §8.4)
//!
//! Owns the limits of this memory; sends nothing. Used by `data`.

use crate::ids::PeerId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a reliable packet is kept for those still joining.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// Bytes of packets kept in a room; the oldest go first.
const KEPT_BYTES: usize = 100_000;
/// Bytes that may wait for one participant still joining; what is beyond is lost to it.
const WAITING_BYTES: usize = 100_000;
/// An entry weighs this more than its bytes, so that empty packets are bounded too.
const ENTRY_BYTES: usize = 64;
/// Nonces remembered in a room.
const NONCES: usize = 100;
/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 16;

/// To whom a packet goes; without names to everybody. Never to its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Destinations {
    /// In order, each once: a packet has place for twenty thousand, and everybody is looked up.
    identities: Vec<String>,
    /// The same.
    sids: Vec<String>,
    /// Only those who may see metrics.
    pub(super) metrics: bool,
}

impl Destinations {
    /// For these.
    pub(super) fn new(mut identities: Vec<String>, mut sids: Vec<String>) -> Self {
        for names in [&mut identities, &mut sids] {
            names.sort_unstable();
            names.dedup();
        }
        Self {
            identities,
            sids,
            metrics: false,
        }
    }

    /// The identities named.
    pub(super) fn identities(&self) -> &[String] {
        &self.identities
    }

    /// Is it for somebody of this name?
    pub(super) fn name(&self, identity: &str, sid: &str) -> bool {
        let everybody = self.identities.is_empty() && self.sids.is_empty();
        let among = |names: &[String], name: &str| {
            let found = names.binary_search_by(|named| named.as_str().cmp(name));
            found.is_ok()
        };
        everybody || among(&self.identities, identity) || among(&self.sids, sid)
    }
}

/// What a participant's data has come to.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The last sequence number accepted from it.
    last: u32,
    open: bool,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Flow {
    /// Is a reliable packet new? Those without a number always are. Remembers it if so.
    pub(super) fn admit(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return true;
        }
        if sequence <= self.last {
            return false;
        }
        self.last = sequence;
        true
    }

    /// The last sequence number accepted, 0 for none.
    pub(super) const fn last_sequence(&self) -> u32 {
        self.last
    }

    /// Are both channels open?
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// They are; hands out what waited for it.
    pub(super) fn open(&mut self) -> Vec<Bytes> {
        self.open = true;
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Keeps a packet without a number until the channels are open.
    pub(super) fn wait(&mut self, bytes: &Bytes) {
        let weight = bytes.len() + ENTRY_BYTES;
        if self.waiting_bytes + weight <= WAITING_BYTES {
            self.waiting_bytes += weight;
            self.waiting.push(bytes.clone());
        }
    }
}

/// A packet kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sender: PeerId,
    pub(super) bytes: Bytes,
    pub(super) destinations: Destinations,
    pub(super) at: Instant,
}

impl Entry {
    fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

/// The memory of a room.
#[derive(Debug, Default)]
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    nonces: VecDeque<[u8; NONCE_BYTES]>,
}

impl Kept {
    /// Is a nonce new? Remembers it.
    pub(super) fn admit(&mut self, nonce: [u8; NONCE_BYTES]) -> bool {
        if self.nonces.contains(&nonce) {
            return false;
        }
        if self.nonces.len() >= NONCES {
            self.nonces.pop_front();
        }
        self.nonces.push_back(nonce);
        true
    }

    /// Keeps a packet.
    pub(super) fn keep(&mut self, entry: Entry) {
        self.expire(entry.at);
        self.bytes += entry.weight();
        self.entries.push_back(entry);
        while self.bytes > KEPT_BYTES && self.drop_oldest() {}
    }

    /// What is kept and came at `from` or later, oldest first.
    pub(super) fn since(&mut self, from: Instant, now: Instant) -> impl Iterator<Item = &Entry> {
        self.expire(now);
        self.entries.iter().filter(move |entry| entry.at >= from)
    }

    fn expire(&mut self, now: Instant) {
        let old = |entry: &Entry| now.saturating_duration_since(entry.at) > KEPT_FOR;
        while self.entries.front().is_some_and(old) && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else {
            return false;
        };
        self.bytes -= entry.weight();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId {
        worker: 0,
        slot: 1,
        generation: 0,
    };

    fn entry(size: usize, at: Instant) -> Entry {
        Entry {
            sender: PEER,
            bytes: vec![0; size].into(),
            destinations: Destinations::default(),
            at,
        }
    }

    #[test]
    fn packets_are_kept_for_two_seconds_and_a_hundred_thousand_bytes() {
        let start = crate::room::tests::first_moment();
        let mut kept = Kept::default();
        for n in 0..20 {
            kept.keep(entry(10_000, start + Duration::from_millis(n)));
        }
        assert!(kept.bytes <= KEPT_BYTES);
        assert_eq!(kept.since(start, start).count(), 9);
        let late = start + Duration::from_millis(2_015);
        assert_eq!(kept.since(start, late).count(), 5);
        let joined = start + Duration::from_millis(18);
        assert_eq!(kept.since(joined, late).count(), 2);
    }

    #[test]
    fn a_packet_is_for_those_it_names_in_whatever_order_and_for_all_if_it_names_nobody() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        let to = Destinations::new(
            names(&["carol", "alice", "carol"]),
            names(&["PA_2", "PA_1"]),
        );
        assert_eq!(to.identities(), ["alice", "carol"]);
        for (identity, sid, named) in [
            ("alice", "PA_9", true),
            ("carol", "PA_9", true),
            ("bob", "PA_9", false),
            ("bob", "PA_1", true),
            ("bob", "PA_2", true),
        ] {
            assert_eq!(to.name(identity, sid), named, "{identity} {sid}");
        }
        assert!(Destinations::default().name("bob", "PA_9"));
    }

    #[test]
    fn a_nonce_is_new_once_until_a_hundred_others_came() {
        let mut kept = Kept::default();
        assert!(kept.admit([1; NONCE_BYTES]));
        assert!(!kept.admit([1; NONCE_BYTES]));
        for n in 0..NONCES {
            assert!(kept.admit([100 + n as u8; NONCE_BYTES]));
        }
        assert!(kept.admit([1; NONCE_BYTES]));
    }

    #[test]
    fn what_waits_for_a_joining_participant_is_bounded() {
        let mut flow = Flow::default();
        for _ in 0..20 {
            flow.wait(&Bytes::from(vec![0; 10_000]));
        }
        assert_eq!(flow.open().len(), 9);
        assert!(flow.is_open());
    }
}
