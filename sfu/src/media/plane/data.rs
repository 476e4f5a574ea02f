//! Data messages between peers and the room: who is to be read from, who has something to send.
//!
//! Owns the turns: each peer in its own, so that none holds up another, and no more in one pass than
//! leaves media its time. What waits stays in the channels' own bounded queues.

use super::{Plane, Progress};
use crate::ids::PeerId;
use crate::media::message::{Channel, Event};
use crate::media::transport::data_channel::Sent;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// Packets of data channels sealed in one pass: some two milliseconds, then media has its turn.
const PACKETS_PER_PASS: usize = 256;
/// Packets one peer may send before the next has its turn.
const PACKETS_PER_TURN: usize = 32;

/// Peers in a queue, each at most once.
#[derive(Debug, Default)]
struct Turns {
    queue: VecDeque<u32>,
    /// By the index of a peer: it is in the queue.
    queued: Vec<bool>,
}

impl Turns {
    fn push(&mut self, index: u32) {
        let at = index as usize;
        if at >= self.queued.len() {
            self.queued.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.queued[at], true) {
            self.queue.push_back(index);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let index = self.queue.pop_front()?;
        self.queued[index as usize] = false;
        Some(index)
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Peers with messages to read.
    unread: Turns,
    /// Peers whose channels may have packets to send.
    due: Turns,
    /// Packets sent in this pass.
    sent: usize,
    /// The last pass left something due: we are what is slow, and no receiver is to be blamed.
    behind: bool,
}

impl Data {
    /// Has this pass sent its share? What is still due then waits for the next.
    fn is_spent(&mut self) -> bool {
        self.behind = self.sent >= PACKETS_PER_PASS;
        self.behind
    }
}

impl Plane {
    /// The next data message of the peers for which `has_place` holds, in turn; none while earlier
    /// ones wait to be sent, for a flood would fill the queues of receivers that take what we give
    /// them. What is not taken stays where its sender is stopped by it.
    pub fn poll_data(&mut self, mut has_place: impl FnMut(PeerId) -> bool) -> Option<Event> {
        if self.data.behind {
            return None;
        }
        for _ in 0..self.data.unread.queue.len() {
            let index = self.data.unread.pop()?;
            let Some(peer) = self.peers.at_mut(index) else {
                continue;
            };
            if !has_place(peer.id) {
                self.data.unread.push(index);
                continue;
            }
            let id = peer.id;
            let Some((channel, bytes)) = peer.connections.read_data() else {
                continue;
            };
            self.data.unread.push(index);
            self.data.due.push(index);
            self.counters.data.messages_in += 1;
            self.counters.data.bytes_in += bytes.len() as u64;
            return Some(Event::Data {
                peer: id,
                channel,
                bytes,
            });
        }
        None
    }

    /// Do messages wait that [`Self::poll_data`] was not let take?
    #[must_use]
    pub fn has_unread_data(&self) -> bool {
        !self.data.unread.queue.is_empty()
    }

    /// Puts a message into the queues of its receivers; none waits for another.
    pub(super) fn send_data(
        &mut self,
        channel: Channel,
        bytes: &Bytes,
        peers: &[PeerId],
        now: Instant,
    ) {
        for &id in peers {
            let Some(index) = self.index_of(id) else {
                continue;
            };
            let Some(peer) = self.peers.at_mut(index) else {
                continue;
            };
            match peer
                .connections
                .data_down()
                .transport
                .send_data(channel, bytes, now)
            {
                Sent::Queued => {
                    self.counters.data.messages_out += 1;
                    self.counters.data.bytes_out += bytes.len() as u64;
                    self.data.due.push(index);
                }
                Sent::Dropped => self.counters.dropped.data_late += 1,
                Sent::TooSlow => {
                    self.counters.dropped.data_late += 1;
                    self.events.push_back(Event::DataTooSlow { peer: id });
                }
            }
        }
    }

    /// A pass begins.
    pub(super) fn begin_data(&mut self) {
        self.data.sent = 0;
    }

    /// Something came to a peer's channels, or their time has come.
    pub(super) fn touch_data(&mut self, index: u32) {
        let Some(peer) = self.peers.at_mut(index) else {
            return;
        };
        let (mut any, mut unread, mut refused) = (false, false, 0);
        for (_, connection) in peer.connections.iter_mut() {
            if let Some(channels) = connection.transport.channels_mut() {
                any = true;
                unread |= channels.has_message();
                refused += channels.take_refused();
            }
        }
        self.counters.dropped.data_refused += refused;
        if any {
            self.data.due.push(index);
        }
        if unread {
            self.data.unread.push(index);
        }
    }

    /// Sends what channels have, peer by peer, within the pass's share.
    pub(super) fn flush_data(&mut self, now: Instant) -> Progress {
        while let Some(index) = self.data.due.pop() {
            if self.data.is_spent() {
                // Again in the next pass, which is to come at once.
                self.data.due.push(index);
                self.schedule.wake_by(index, now);
                return Progress::Done;
            }
            // What finds no room is lost, and comes again only when the client misses it.
            if !self
                .arena
                .has_room(PACKETS_PER_TURN, super::fanout::PACKET_ROOM)
            {
                self.data.due.push(index);
                return Progress::More;
            }
            let Some(peer) = self.peers.at_mut(index) else {
                continue;
            };
            let mut more = false;
            for (_, connection) in peer.connections.iter_mut() {
                let transport = &mut connection.transport;
                let sent = transport.flush_data(PACKETS_PER_TURN, &mut self.arena, now);
                self.data.sent += sent;
                more |= sent == PACKETS_PER_TURN;
            }
            self.reschedule(index, now);
            if more {
                self.data.due.push(index);
            }
        }
        Progress::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_while_the_last_pass_left_something_due() {
        let mut data = Data::default();
        assert!(!data.is_spent() && !data.behind);
        data.sent = PACKETS_PER_PASS;
        assert!(data.is_spent() && data.behind);
        // The next pass begins anew, and its first turn finds that there is room again.
        data.sent = 0;
        assert!(!data.is_spent() && !data.behind);
    }

    #[test]
    fn a_peer_waits_for_its_turn_once_however_often_it_is_named() {
        let mut turns = Turns::default();
        for index in [3, 1, 3, 3, 1] {
            turns.push(index);
        }
        assert_eq!(turns.pop(), Some(3));
        turns.push(3);
        assert_eq!(
            [turns.pop(), turns.pop(), turns.pop()],
            [Some(1), Some(3), None]
        );
    }
}
