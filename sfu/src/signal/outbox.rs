//! What waits to be sent on one signalling socket.
//!
//! Owns the queue and its limits; never a socket. A client that reads too slowly is cut off rather
//! than waited for: it resumes and is told everything anew. Called by `http/websocket`.

use proto::signal::FrameBuf;
use std::collections::VecDeque;

/// The most frames that wait. A join is told of its permission for each of up to 4096 tracks in one
/// go; more than twice that unread is a client that has stopped reading.
pub const MAX_FRAMES: usize = 8_192;

/// The most bytes that wait, unless a single frame is larger: a join response of a large room with
/// long metadata is a few megabytes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The client reads too slowly: the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client reads too slowly")]
pub struct Overflow;

/// The frames of one connection that are not written yet.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<FrameBuf>,
    bytes: usize,
}

impl Outbox {
    /// Appends a frame.
    ///
    /// # Errors
    /// The queue is full; the frame is dropped.
    pub fn push(&mut self, frame: FrameBuf) -> Result<(), Overflow> {
        let bytes = self.bytes.saturating_add(frame.len());
        let full = self.frames.len() >= MAX_FRAMES || bytes > MAX_BYTES;
        if full && !self.frames.is_empty() {
            return Err(Overflow);
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        Ok(())
    }

    /// Takes the oldest frame.
    pub fn pop(&mut self) -> Option<FrameBuf> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        Some(frame)
    }

    /// Does nothing wait?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> FrameBuf {
        FrameBuf::Binary(vec![0; bytes])
    }

    #[test]
    fn frames_leave_in_the_order_they_came() {
        let mut outbox = Outbox::default();
        for bytes in 1..=3 {
            outbox.push(frame(bytes)).expect("room");
        }
        let sizes: Vec<usize> = std::iter::from_fn(|| outbox.pop())
            .map(|frame| frame.len())
            .collect();
        assert_eq!(sizes, [1, 2, 3]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn too_many_frames_overflow() {
        let mut outbox = Outbox::default();
        for _ in 0..MAX_FRAMES {
            outbox.push(frame(0)).expect("room");
        }
        assert_eq!(outbox.push(frame(0)), Err(Overflow));
        outbox.pop();
        assert_eq!(outbox.push(frame(0)), Ok(()));
    }

    #[test]
    fn too_many_bytes_overflow_and_a_sent_frame_makes_room() {
        let mut outbox = Outbox::default();
        outbox.push(frame(MAX_BYTES - 1)).expect("room");
        assert_eq!(outbox.push(frame(2)), Err(Overflow));
        assert_eq!(outbox.push(frame(1)), Ok(()));
        outbox.pop();
        assert_eq!(outbox.push(frame(MAX_BYTES - 1)), Ok(()));
    }

    #[test]
    fn a_single_frame_passes_whatever_its_size() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(frame(MAX_BYTES + 1)), Ok(()));
        assert_eq!(outbox.push(frame(0)), Err(Overflow));
    }
}
