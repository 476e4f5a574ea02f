//! Frames that wait for a stream to take them: bounded in bytes, and media in age.
//!
//! A stream that is slower than its media must lose some, and what comes late is worth nothing: a
//! frame of media that has waited too long is dropped, unless a part of it is on its way already. An answer
//! is never too late, for nobody asks again over a stream (RFC 8489 §6.2.2): it goes before the media that
//! waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of media that wait: half a second of 4 Mbit/s.
pub(super) const WAITING_BYTES: usize = 256 << 10;
/// A frame of media waits no longer.
pub(super) const WAITING_TIME: Duration = Duration::from_millis(500);
/// Bytes of answers that wait besides: a hundred of them, which no client asks for that reads.
pub(super) const ANSWER_BYTES: usize = 16 << 10;

/// What is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer to a request.
    Answer,
    /// Something that is relayed.
    Media,
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    answers: Queue,
    media: Queue,
}

impl Outgoing {
    /// Adds a frame in parts; false if there is no place.
    pub(super) fn add(&mut self, kind: Kind, parts: [&[u8]; 3], now: Instant) -> bool {
        match kind {
            Kind::Answer => self.answers.add(parts, ANSWER_BYTES, now),
            Kind::Media => self.media.add(parts, WAITING_BYTES, now),
        }
    }

    /// Drops media that has waited too long; tells how many frames.
    pub(super) fn drop_late(&mut self, now: Instant) -> u64 {
        self.media.drop_late(now)
    }

    /// Frames that wait, one that is written in part too.
    pub(super) fn frames(&self) -> usize {
        self.answers.frames.len() + self.media.frames.len()
    }

    /// What is to be written next: as much of all that waits as lies side by side.
    pub(super) fn next(&self) -> &[u8] {
        if self.media.begun > 0 && !self.answers.is_empty() {
            return self.media.next_frame();
        }
        self.first().next()
    }

    /// What is left of the first frame.
    pub(super) fn next_frame(&self) -> &[u8] {
        self.first().next_frame()
    }

    /// So many bytes of it were written.
    pub(super) fn advance(&mut self, count: usize) {
        if self.is_media_first() {
            self.media.advance(count);
        } else {
            self.answers.advance(count);
        }
    }

    pub(super) const fn waiting(&self) -> usize {
        self.answers.waiting() + self.media.waiting()
    }

    /// A frame of media that has begun is to be whole before an answer.
    const fn is_media_first(&self) -> bool {
        self.media.begun > 0 || self.answers.is_empty()
    }

    const fn first(&self) -> &Queue {
        if self.is_media_first() {
            &self.media
        } else {
            &self.answers
        }
    }
}

/// Frames of one kind.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// What of `bytes` is gone already.
    gone: usize,
    frames: VecDeque<Frame>,
    /// What of the first frame is gone already.
    begun: usize,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    since: Instant,
    len: usize,
}

impl Queue {
    fn add(&mut self, parts: [&[u8]; 3], most: usize, now: Instant) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.waiting() + len > most {
            return false;
        }
        if self.gone > most {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.frames.push_back(Frame { since: now, len });
        true
    }

    fn drop_late(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while self.begun == 0
            && let Some(first) = self.frames.front()
            && now.saturating_duration_since(first.since) > WAITING_TIME
        {
            self.gone += first.len;
            self.frames.pop_front();
            dropped += 1;
        }
        dropped
    }

    fn next(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    fn next_frame(&self) -> &[u8] {
        let len = self
            .frames
            .front()
            .map_or(0, |first| first.len - self.begun);
        self.next().get(..len).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.gone += count;
        self.begun += count;
        while let Some(first) = self.frames.front()
            && first.len <= self.begun
        {
            self.begun -= first.len;
            self.frames.pop_front();
        }
        if self.gone >= self.bytes.len() {
            self.gone = 0;
            self.bytes.clear();
            // A burst does not keep its memory.
            if self.bytes.capacity() > WAITING_BYTES / 8 {
                self.bytes = Vec::new();
            }
        }
    }

    const fn waiting(&self) -> usize {
        self.bytes.len() - self.gone
    }

    const fn is_empty(&self) -> bool {
        self.waiting() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Kind::{Answer, Media};
    use super::*;

    #[test]
    fn frames_come_out_in_order_and_late_ones_are_dropped_unless_begun() {
        let now = Instant::now();
        let later = now + Duration::from_millis(501);
        let mut outgoing = Outgoing::default();
        assert!(outgoing.add(Media, [b"ab", b"c", b""], now));
        assert!(outgoing.add(Media, [b"def", b"", b""], now));
        assert!(outgoing.add(Media, [b"ghi", b"", b""], later));
        assert_eq!(outgoing.next_frame(), b"abc");
        outgoing.advance(1);
        assert_eq!(
            (outgoing.next_frame(), outgoing.next()),
            (&b"bc"[..], &b"bcdefghi"[..])
        );
        assert_eq!(outgoing.drop_late(later), 0, "the first one has begun");
        outgoing.advance(2);
        assert_eq!(outgoing.drop_late(later), 1);
        assert_eq!(outgoing.next(), b"ghi");
        outgoing.advance(3);
        assert_eq!((outgoing.next(), outgoing.waiting()), (&b""[..], 0));
    }

    #[test]
    fn an_answer_is_never_late_finds_its_place_and_goes_before_media_that_has_not_begun() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut outgoing = Outgoing::default();
        while outgoing.add(Media, [&[7; 1000], &[], &[]], now) {}
        outgoing.advance(400);
        assert!(outgoing.add(Answer, [b"yes", b"", b""], now));
        assert!(outgoing.add(Answer, [b"no", b"", b""], now));
        assert_eq!(outgoing.next(), [7; 600], "the rest of what has begun");
        assert_eq!(outgoing.next_frame(), [7; 600]);
        outgoing.advance(600);
        assert_eq!(outgoing.next_frame(), b"yes");
        let media = WAITING_BYTES / 1000 - 1;
        assert_eq!(outgoing.drop_late(later), media as u64);
        assert_eq!((outgoing.next(), outgoing.frames()), (&b"yesno"[..], 2));
        outgoing.advance(4);
        assert_eq!((outgoing.next(), outgoing.waiting()), (&b"o"[..], 1));
        assert!(outgoing.add(Media, [b"on", b"", b""], later));
        outgoing.advance(1);
        assert_eq!(outgoing.next(), b"on");
    }

    #[test]
    fn no_more_waits_than_the_limit() {
        let now = Instant::now();
        for (kind, most) in [(Media, WAITING_BYTES), (Answer, ANSWER_BYTES)] {
            let mut outgoing = Outgoing::default();
            let mut taken = 0;
            while outgoing.add(kind, [&[0; 1000], &[], &[]], now) {
                taken += 1;
            }
            assert_eq!(taken, most / 1000);
            for _ in 0..10_000 {
                outgoing.advance(1000);
                assert!(outgoing.add(kind, [&[0; 1000], &[], &[]], now));
            }
            let queues = [&outgoing.media, &outgoing.answers];
            let held = queues.map(|queue| queue.bytes.capacity());
            assert!(held.iter().sum::<usize>() < 4 * most);
        }
    }
}
