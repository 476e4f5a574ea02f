//! What waits to be taken by the embedder: answers and events, both bounded.
//!
//! Owns the two queues. Answers are small and are taken after every call, so a full outbox means an
//! embedder that does not; what finds it full is dropped, for a client asks again.

use crate::address::Client;
use crate::event::Event;
use std::collections::VecDeque;

/// Bytes of answers that may wait: hundreds of them.
const BYTES: usize = 64 << 10;
/// Events that may wait: a burst of joins. What finds no place is counted.
const EVENTS: usize = 1024;
/// Of these, refusals: anybody causes as many as he likes, and must not crowd out that allocations are made.
const REFUSALS: usize = EVENTS / 4;

#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    answers: VecDeque<(Client, usize, usize)>,
    events: VecDeque<Event>,
    /// Of these, ends: whoever takes them must hear of each, so they have places of their own.
    ends: usize,
    /// As many as there may be allocations.
    most_ends: usize,
}

impl Outbox {
    /// For a server with so many allocations at most; 0: there is no limit, and none for their ends.
    pub(crate) fn new(allocations: u32) -> Self {
        let most_ends = match allocations {
            0 => usize::MAX,
            // A few may come and go within one pass.
            some => some as usize + EVENTS,
        };
        Self {
            bytes: Vec::new(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            ends: 0,
            most_ends,
        }
    }

    /// Writes an answer; false if there was no place.
    pub(crate) fn answer(&mut self, client: Client, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.answers.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        if start >= BYTES {
            return false;
        }
        write(&mut self.bytes);
        self.answers.push_back((client, start, self.bytes.len()));
        true
    }

    pub(crate) fn poll_answer(&mut self) -> Option<(Client, &[u8])> {
        let (client, start, end) = self.answers.pop_front()?;
        Some((client, self.bytes.get(start..end)?))
    }

    /// Keeps an event; false if there was no place.
    pub(crate) fn event(&mut self, event: Event) -> bool {
        let others = self.events.len() - self.ends;
        let room = match event {
            Event::Ended { .. } => self.ends < self.most_ends,
            Event::Refused { .. } => others < REFUSALS,
            Event::Allocated { .. } => others < EVENTS,
        };
        if room {
            self.ends += usize::from(is_end(&event));
            self.events.push_back(event);
        }
        room
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.ends -= usize::from(is_end(&event));
        Some(event)
    }
}

const fn is_end(event: &Event) -> bool {
    matches!(event, Event::Ended { .. })
}
