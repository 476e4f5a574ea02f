//! Media from an address that passed no check: whose is it?
//!
//! A NAT that forgets gives a client a new port in mid-call, and the client learns nothing of it: its
//! next check is seconds away. Its packets tell sooner, by the keys that open them. Owns who may have
//! moved and how much is tried for it; the ciphers decide. Called by the plane for sealed packets
//! from unknown addresses, which cost nothing but a look at the clock when there are too many.

use super::Plane;
use super::opened::{Open, Opened, Reason};
use crate::media::demux::{Path, Sender};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Who was heard of more recently than this has not moved. Longer than the pause between two packets
/// of a client that sends or receives anything: feedback goes every 100 ms at most.
const SILENT_FOR: Duration = Duration::from_millis(150);
/// Everybody is looked at no more often than this: it touches each connection.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many that may have moved are kept: those nearest to the stranger's address and heard of last.
const SUSPECTS: usize = 64;
/// So many keys are tried on one datagram.
const KEYS_PER_DATAGRAM: usize = 16;
/// So many datagrams are tried in each [`LOOK_EVERY`]: with a packet's cost of 1 to 2 µs a flood takes
/// no more than half a percent of a core.
const DATAGRAMS_PER_LOOK: usize = 16;

/// Who may have moved.
#[derive(Debug, Default)]
pub(super) struct Strays {
    suspects: VecDeque<Sender>,
    looked: Option<Instant>,
    /// Datagrams that may be tried before the next look.
    left: usize,
    /// Kept for its allocation: a datagram as it came, for a wrong key spoils it.
    kept: Vec<u8>,
}

impl Plane {
    /// Opens a datagram from an unknown address with the keys of those who may have moved.
    pub(super) fn open_stray(
        &mut self,
        path: &Path,
        datagram: &mut [u8],
        now: Instant,
        open: Open,
    ) -> Result<Opened, Reason> {
        if self
            .strays
            .looked
            .is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY)
        {
            self.suspect(path, now);
        }
        if self.strays.left == 0 || self.strays.suspects.is_empty() {
            return Err(Reason::Unknown);
        }
        self.strays.left -= 1;
        let mut kept = std::mem::take(&mut self.strays.kept);
        kept.clear();
        kept.extend_from_slice(datagram);
        let found = self.try_keys(datagram, &kept, open);
        self.strays.kept = kept;
        found.ok_or(Reason::Unknown)
    }

    fn try_keys(&mut self, datagram: &mut [u8], kept: &[u8], open: Open) -> Option<Opened> {
        for _ in 0..self.strays.suspects.len().min(KEYS_PER_DATAGRAM) {
            let from = self.strays.suspects.pop_front()?;
            let Some(index) = self.peers.index(from.peer) else {
                continue;
            };
            if let Ok(opened) = open(self, (index, from), datagram) {
                return Some(opened);
            }
            datagram.copy_from_slice(kept);
            // The next datagram begins with others.
            self.strays.suspects.push_back(from);
        }
        None
    }

    /// Collects connections that are silent where they were, first those at the stranger's address.
    fn suspect(&mut self, path: &Path, now: Instant) {
        let mut silent = Vec::new();
        for peer in self.peers.iter_mut() {
            let id = peer.id;
            for (side, connection) in peer.connections.iter_mut() {
                let Some((last, heard)) = connection.transport.last_heard() else {
                    continue;
                };
                if now.saturating_duration_since(heard) >= SILENT_FOR {
                    let far = last.remote.ip() != path.remote.ip();
                    silent.push((far, Reverse(heard), Sender { peer: id, side }));
                }
            }
        }
        silent.sort_unstable();
        silent.truncate(SUSPECTS);
        self.strays.suspects.clear();
        let names = silent.into_iter().map(|(_, _, from)| from);
        self.strays.suspects.extend(names);
        self.strays.looked = Some(now);
        self.strays.left = DATAGRAMS_PER_LOOK;
    }

    /// A connection is at another address than before.
    pub(super) fn handle_moved(&mut self, path: &Path, from: Sender) {
        if self.demux.by_path(path).is_none() {
            self.counters.traffic.strays_found += 1;
        }
        self.demux.learn(path, from);
    }
}
