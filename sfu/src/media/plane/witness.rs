//! What a record wants to know beside what comes out: who was looked at, and which keys were agreed.
//!
//! Nothing is kept unless asked for. Called by whoever records or replays.

use super::Plane;
use crate::ids::PeerId;
use crate::media::demux::Sender;
use crate::media::transport::dtls::Keying;
use std::time::Instant;

/// What is kept; `None` where nobody asked.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Keys of connections that came up, not polled yet.
    pub(super) keys: Option<Vec<(Sender, Keying)>>,
    /// Peers looked at when timers ran last: their order is chance's, for the timers of handshakes
    /// and data channels draw their own.
    attended: Option<Vec<PeerId>>,
}

impl Plane {
    /// Keeps the keys of every new connection for [`Self::poll_keys`].
    pub fn keep_keys(&mut self) {
        self.witness.keys = Some(Vec::new());
    }

    /// The keys of a connection that came up, once, if they are kept.
    pub fn poll_keys(&mut self) -> Option<(Sender, Keying)> {
        self.witness.keys.as_mut()?.pop()
    }

    /// Keeps who is looked at when timers run.
    pub fn keep_attended(&mut self) {
        self.witness.attended = Some(Vec::new());
    }

    /// Who was looked at when timers ran last, in order.
    #[must_use]
    pub fn attended(&self) -> &[PeerId] {
        self.witness.attended.as_deref().unwrap_or_default()
    }

    /// Timers run for these peers, whoever's time has come: as another plane did it.
    pub fn handle_timeout_of(&mut self, peers: &[PeerId], now: Instant) {
        self.begin_data();
        for peer in peers {
            if let Some(index) = self.index_of(*peer) {
                self.attend(index, now);
            }
        }
    }

    /// Timers run.
    pub(super) fn note_pass(&mut self) {
        if let Some(attended) = &mut self.witness.attended {
            attended.clear();
        }
    }

    /// A peer is looked at.
    pub(super) fn note_attended(&mut self, index: u32) {
        if let (Some(attended), Some(peer)) = (&mut self.witness.attended, self.peers.at(index)) {
            attended.push(peer.id);
        }
    }
}
