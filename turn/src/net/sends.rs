//! Datagrams on their way out, gathered over a pass: those to one destination go side by side, so
//! that one system call sends many (GSO).
//!
//! Owns the gathering, not the sockets. The order of the datagrams to one destination is kept.

use crate::hash::{Keyed, Map};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// Bytes of one run: what the kernel takes in one call.
const RUN_BYTES: usize = 61_440;
/// The longest datagram that goes with others: what any path takes whole (IPv6 has no smaller MTU than 1280,
/// less 48 of headers). The kernel refuses a run whose datagrams it would have to fragment, all of it.
const TOGETHER_BYTES: usize = 1232;
/// Bytes gathered before they must go out: about a receive batch of full packets.
const FULL_BYTES: usize = 2 << 20;
/// Runs gathered before they must go out.
const FULL_RUNS: usize = 1024;
/// What a run that is not in use may keep of its buffer.
const KEPT_BYTES: usize = 16 << 10;

/// Where a datagram goes, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Road {
    /// Index of the socket.
    pub(super) socket: u32,
    pub(super) to: SocketAddr,
    /// Our address, where the socket has several.
    pub(super) from: Option<IpAddr>,
    pub(super) dont_fragment: bool,
}

impl Hash for Road {
    fn hash<H: Hasher>(&self, state: &mut H) {
        crate::address::hash_ip(self.to.ip(), state);
        state.write_u64(u64::from(self.to.port()) << 32 | u64::from(self.socket));
    }
}

/// Datagrams of one size to one destination; the last one may be shorter.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) road: Road,
    pub(super) segment: usize,
    pub(super) bytes: Vec<u8>,
    /// The last one was shorter: nothing can follow.
    closed: bool,
}

/// All that is gathered.
#[derive(Debug)]
pub(super) struct Sends {
    runs: Vec<Run>,
    live: usize,
    /// The run that is open for a destination.
    open: Map<Road, usize>,
    last: Option<usize>,
    bytes: usize,
}

impl Sends {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            runs: Vec::new(),
            live: 0,
            open: Map::with_hasher(keyed),
            last: None,
            bytes: 0,
        }
    }

    /// Adds a datagram in parts.
    pub(super) fn add(&mut self, road: Road, parts: [&[u8]; 3]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let index = match self.fitting(&road, len) {
            Some(index) => index,
            None => self.begin(road, len),
        };
        self.last = Some(index);
        self.bytes += len;
        if let Some(run) = self.runs.get_mut(index) {
            for part in parts {
                run.bytes.extend_from_slice(part);
            }
            run.closed = len < run.segment || len == 0;
        }
    }

    /// It is time to send.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.live >= FULL_RUNS
    }

    /// The run that a datagram of this length can follow.
    fn fitting(&self, road: &Road, len: usize) -> Option<usize> {
        let last = self
            .last
            .filter(|last| self.runs.get(*last).is_some_and(|run| run.road == *road));
        let index = last.or_else(|| self.open.get(road).copied())?;
        let run = self.runs.get(index)?;
        let fits = !run.closed
            && len <= run.segment
            && run.segment <= TOGETHER_BYTES
            && run.bytes.len() + len <= RUN_BYTES
            && !road.dont_fragment;
        fits.then_some(index)
    }

    fn begin(&mut self, road: Road, len: usize) -> usize {
        let index = self.live;
        self.live += 1;
        self.open.insert(road, index);
        match self.runs.get_mut(index) {
            Some(run) => {
                run.road = road;
                run.segment = len;
                run.closed = false;
                run.bytes.clear();
            }
            None => self.runs.push(Run {
                road,
                segment: len,
                bytes: Vec::new(),
                closed: false,
            }),
        }
        index
    }

    /// Hands every run over, in the order they were begun, and is empty.
    pub(super) fn drain(&mut self, mut send: impl FnMut(&Run)) {
        if self.live == 0 {
            return;
        }
        for run in self.runs.iter_mut().take(self.live) {
            send(run);
            if run.bytes.capacity() > KEPT_BYTES {
                run.bytes = Vec::new();
            }
        }
        self.live = 0;
        self.bytes = 0;
        self.last = None;
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn road(port: u16) -> Road {
        Road {
            socket: 1,
            to: ([1, 2, 3, 4], port).into(),
            from: None,
            dont_fragment: false,
        }
    }

    fn sends() -> Sends {
        Sends::new(Keyed::new([1, 2]))
    }

    fn sent(sends: &mut Sends) -> Vec<(u16, usize, Vec<u8>)> {
        let mut out = Vec::new();
        sends.drain(|run| out.push((run.road.to.port(), run.segment, run.bytes.clone())));
        out
    }

    #[test]
    fn datagrams_to_one_destination_go_side_by_side_in_order() {
        let mut sends = sends();
        for n in 0..3_u8 {
            sends.add(road(1), [&[n], &[n, n], &[]]);
            sends.add(road(2), [&[], &[n], &[]]);
        }
        let all = sent(&mut sends);
        assert_eq!(
            all,
            [
                (1, 3, vec![0, 0, 0, 1, 1, 1, 2, 2, 2]),
                (2, 1, vec![0, 1, 2])
            ]
        );
        assert_eq!(sent(&mut sends), []);
    }

    #[test]
    fn a_shorter_one_ends_a_run_and_a_longer_one_begins_another() {
        let mut sends = sends();
        for len in [3, 3, 2, 3, 4, 4] {
            sends.add(road(1), [&[0; 8][..len], &[], &[]]);
        }
        let shape: Vec<(usize, usize)> = sent(&mut sends)
            .into_iter()
            .map(|(_, segment, bytes)| (segment, bytes.len()))
            .collect();
        assert_eq!(shape, [(3, 8), (3, 3), (4, 8)]);
    }

    #[test]
    fn runs_and_what_is_gathered_are_bounded() {
        let mut sends = sends();
        while !sends.is_full() {
            sends.add(road(1), [&[0; 1200], &[], &[]]);
        }
        for (_, _, bytes) in sent(&mut sends) {
            assert!(bytes.len() <= RUN_BYTES);
        }
        for port in 0..FULL_RUNS as u16 {
            sends.add(road(port), [b"x", &[], &[]]);
        }
        assert!(sends.is_full());
    }

    #[test]
    fn what_a_path_may_have_to_fragment_goes_alone() {
        let mut sends = sends();
        let large = [7; TOGETHER_BYTES + 1];
        for len in [1232, 1232, 1233, 1233, 8] {
            sends.add(road(1), [&large[..len], &[], &[]]);
        }
        let shape: Vec<(usize, usize)> = sent(&mut sends)
            .into_iter()
            .map(|(_, segment, bytes)| (segment, bytes.len()))
            .collect();
        assert_eq!(shape, [(1232, 2464), (1233, 1233), (1233, 1233), (8, 8)]);
    }

    #[test]
    fn what_must_not_be_fragmented_goes_alone() {
        let mut sends = sends();
        let road = Road {
            dont_fragment: true,
            ..road(1)
        };
        sends.add(road, [b"x", &[], &[]]);
        sends.add(road, [b"y", &[], &[]]);
        assert_eq!(sent(&mut sends).len(), 2);
    }
}
