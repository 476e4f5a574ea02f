//! Frames that wait for a stream to take them: bounded in bytes and in age.
//!
//! A stream that is slower than its media must lose some, and what comes late is worth nothing: a
//! frame that has waited too long is dropped, unless a part of it is on its way already.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that wait: half a second of 4 Mbit/s.
pub(super) const WAITING_BYTES: usize = 256 << 10;
/// A frame waits no longer.
pub(super) const WAITING_TIME: Duration = Duration::from_millis(500);

/// The frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
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

impl Outgoing {
    /// Adds a frame in parts; false if there is no place.
    pub(super) fn add(&mut self, parts: [&[u8]; 3], now: Instant) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.waiting() + len > WAITING_BYTES {
            return false;
        }
        if self.gone > WAITING_BYTES {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.frames.push_back(Frame { since: now, len });
        true
    }

    /// Drops frames that have waited too long; tells how many.
    pub(super) fn drop_late(&mut self, now: Instant) -> u64 {
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

    /// Frames that wait, one that is written in part too.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// What is to be written next: all that waits.
    pub(super) fn next(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    /// What is left of the first frame.
    pub(super) fn next_frame(&self) -> &[u8] {
        let len = self
            .frames
            .front()
            .map_or(0, |first| first.len - self.begun);
        self.next().get(..len).unwrap_or_default()
    }

    /// So many bytes of it were written.
    pub(super) fn advance(&mut self, count: usize) {
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

    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_order_and_late_ones_are_dropped_unless_begun() {
        let now = Instant::now();
        let later = now + Duration::from_millis(501);
        let mut outgoing = Outgoing::default();
        assert!(outgoing.add([b"ab", b"c", b""], now));
        assert!(outgoing.add([b"def", b"", b""], now));
        assert!(outgoing.add([b"ghi", b"", b""], later));
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
    fn no_more_waits_than_the_limit() {
        let now = Instant::now();
        let mut outgoing = Outgoing::default();
        let mut taken = 0;
        while outgoing.add([&[0; 1000], &[], &[]], now) {
            taken += 1;
        }
        assert_eq!(taken, WAITING_BYTES / 1000);
        for _ in 0..10_000 {
            outgoing.advance(1000);
            assert!(outgoing.add([&[0; 1000], &[], &[]], now));
        }
        assert!(outgoing.bytes.capacity() < 4 * WAITING_BYTES);
    }
}
