//! Asking clients at which address they see us, and their answers.
//!
//! Whom to ask when each connection's agent decides; what is made of the answers, `advertise`. Called by
//! the plane.

use super::Plane;
use crate::media::demux::Path;
use crate::media::sighting::Sighting;
use crate::media::transport::ice::inquiry::Reply;
use crate::media::transport::ice::stun::response::Response;
use rand::Rng;
use std::time::{Duration, Instant};

/// Sightings that wait to be taken: those of one pass. One more is dropped, and counted: the client is asked
/// again within a minute.
const WAITING: usize = 256;
/// Over so long the first questions are spread where all who are here are to be asked.
const SPREAD: Duration = Duration::from_secs(60);

impl Plane {
    /// Clients are asked from now on at which address they see us, or are not any more. Those who are here
    /// spread over a minute.
    pub fn handle_inquiring(&mut self, on: bool, now: Instant) {
        self.setup.inquiring = on;
        for index in self.peers.indices() {
            let phase = SPREAD.mul_f64(self.rng.random());
            let Some(peer) = self.peers.at_mut(index) else {
                continue;
            };
            for (_, connection) in peer.connections.iter_mut() {
                let transport = &mut connection.transport;
                transport.handle_inquiring(on.then_some(now + phase));
            }
            self.reschedule(index, now);
        }
    }

    /// Asks a peer whose time has come.
    pub(super) fn ask_client(&mut self, index: u32, now: Instant) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let mut silent = None;
        for (_, connection) in peer.connections.iter_mut() {
            let transport = &mut connection.transport;
            let Some(question) = transport.poll_question(&mut self.arena, now) else {
                continue;
            };
            if question.len == 0 {
                self.counters.dropped.limit += 1;
            } else {
                self.counters.questions.asked += 1;
            }
            if let Some((path, _)) = transport.last_heard().filter(|_| question.for_silence) {
                silent = Some(path.remote.ip().to_canonical());
            }
        }
        if let Some(by) = silent {
            self.sight(Sighting::Silent { by });
        }
    }

    /// Takes what may be the answer to a question of ours.
    pub(super) fn handle_response(&mut self, path: Path, datagram: &[u8], now: Instant) {
        let (Some((index, from)), Ok(response)) =
            (self.sender_of(&path), Response::parse(datagram))
        else {
            self.counters.dropped.stun += 1;
            return;
        };
        let Some(connection) = self.peers.connection_mut(index, from.side) else {
            return;
        };
        match connection.transport.handle_response(&response, path, now) {
            Reply::Foreign => self.counters.dropped.stun += 1,
            Reply::Refused => self.counters.questions.refused += 1,
            Reply::Seen(at) => {
                self.counters.questions.answered += 1;
                self.sight(Sighting::Seen {
                    by: path.remote.ip().to_canonical(),
                    at: at.ip().to_canonical(),
                });
                self.tell_changes(index, now);
                self.stir(index);
            }
        }
    }

    fn sight(&mut self, sighting: Sighting) {
        if self.sightings.len() >= WAITING {
            self.counters.questions.lost += 1;
            return;
        }
        self.sightings.push_back(sighting);
    }
}
