//! What waits to be written to one connection.
//!
//! A stream that is slower than what is sent to it must not make a call late: what has waited too
//! long is dropped, as a queue on a UDP road would, media first. Only whole frames are, for a stream
//! cut inside a frame says nothing any more.

use super::HEAD;
use crate::media::demux::{Kind, classify};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that may wait: half a second of 4 Mbit/s.
pub const QUEUE_BYTES: usize = 256 * 1024;
/// How long a frame may wait. Later than this no picture and no word is of use.
pub const QUEUE_TIME: Duration = Duration::from_millis(500);
/// What is left of both after media was dropped, so that not each further frame drops one.
const LEFT: usize = 2;

/// What is late is looked for no more often: it moves all that waits, and a front that is no media
/// stays late.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A frame that waits.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Bytes, head included.
    len: usize,
    since: Instant,
    /// RTP: of no use when it is late, and asked for again where it matters.
    media: bool,
}

/// The queue is full of what cannot be dropped: the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{QUEUE_BYTES} bytes wait that are no media")]
pub struct Refused;

/// Frames in the order they were sent, as bytes and by their lengths.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: VecDeque<u8>,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written.
    written: usize,
    /// Frames of media dropped so far.
    dropped: u64,
    /// When media was dropped last.
    cut: Option<Instant>,
}

impl Queue {
    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Frames that wait, one that is written in part too.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Frames of media dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Since when the first frame has waited.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.frames.front().map(|frame| frame.since)
    }

    /// Puts a datagram behind the others as a frame. Media that is late, or for which there is no
    /// place, is dropped, the oldest first.
    ///
    /// # Errors
    /// [`Refused`] when there is no place even so.
    pub fn push(&mut self, datagram: &[u8], now: Instant) -> Result<(), Refused> {
        let len = datagram.len() + HEAD;
        let Ok(head) = u16::try_from(datagram.len()) else {
            return Ok(()); // Larger than any datagram: nothing of ours.
        };
        let late = |since| now.saturating_duration_since(since) > QUEUE_TIME;
        let due = self
            .cut
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY);
        let full = self.bytes.len() + len > QUEUE_BYTES;
        if full || due && self.since().is_some_and(late) {
            self.drop_late_media(now);
        }
        let media = classify(datagram) == Kind::Rtp;
        if self.bytes.len() + len > QUEUE_BYTES {
            self.dropped += u64::from(media);
            return if media { Ok(()) } else { Err(Refused) };
        }
        self.bytes.extend(head.to_be_bytes());
        self.bytes.extend(datagram);
        self.frames.push_back(Frame {
            len,
            since: now,
            media,
        });
        Ok(())
    }

    /// What to write next; ask again after [`Self::wrote`].
    #[must_use]
    pub fn front(&self) -> &[u8] {
        let (front, behind) = self.bytes.as_slices();
        if front.is_empty() { behind } else { front }
    }

    /// So many bytes of [`Self::front`] are written.
    pub fn wrote(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.written += count;
        while let Some(first) = self
            .frames
            .front()
            .filter(|first| first.len <= self.written)
        {
            self.written -= first.len;
            self.frames.pop_front();
        }
    }

    /// Drops media from the front until half of the place is free and none has waited half of the
    /// time. A frame that is partly written stays, and so does all that is no media.
    fn drop_late_media(&mut self, now: Instant) {
        self.cut = Some(now);
        let bytes = self.bytes.make_contiguous();
        let mut over = bytes.len().saturating_sub(QUEUE_BYTES / LEFT);
        let (mut from, mut to, mut written) = (0, 0, self.written);
        let dropped = &mut self.dropped;
        self.frames.retain(|frame| {
            let begun = std::mem::take(&mut written);
            let len = frame.len - begun;
            let old = now.saturating_duration_since(frame.since) > QUEUE_TIME / LEFT as u32;
            let drops = frame.media && begun == 0 && (old || over > 0);
            if drops {
                *dropped += 1;
                over = over.saturating_sub(len);
            } else {
                bytes.copy_within(from..from + len, to);
                to += len;
            }
            from += len;
            !drops
        });
        self.bytes.truncate(to);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Deframer;
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn start() -> Instant {
        Instant::now()
    }

    fn media(number: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![number; len];
        (packet[0], packet[1]) = (0x80, 96);
        packet
    }

    fn control(number: u8) -> Vec<u8> {
        let mut packet = vec![number; 30];
        packet[0] = 22;
        packet
    }

    /// Writes all, so many bytes at a time; the frames the other side sees.
    fn read(queue: &mut Queue, pieces: usize) -> Vec<Vec<u8>> {
        let (mut deframer, mut seen) = (Deframer::default(), Vec::new());
        while !queue.is_empty() {
            let room = deframer.room();
            let len = pieces.min(queue.front().len()).min(room.len());
            room[..len].copy_from_slice(&queue.front()[..len]);
            deframer.filled(len);
            queue.wrote(len);
            while let Some(body) = deframer.next_frame().expect("sound") {
                seen.push(body.to_vec());
            }
        }
        assert_eq!(deframer.waiting(), 0);
        seen
    }

    #[test]
    fn frames_leave_in_their_order_and_whole() {
        let (mut queue, now) = (Queue::default(), start());
        let sent = [media(1, 40), control(2), media(3, 1200)];
        for packet in &sent {
            queue.push(packet, now).expect("place");
        }
        assert_eq!(queue.since(), Some(now));
        assert_eq!(read(&mut queue, 7), sent);
        assert_eq!(queue.since(), None);
    }

    #[test]
    fn media_that_waited_too_long_is_dropped_and_nothing_else_is() {
        let (mut queue, now) = (Queue::default(), start());
        for packet in [media(1, 100), media(2, 100), control(3)] {
            queue.push(&packet, now).expect("place");
        }
        queue.wrote(1); // The first has begun to leave.
        queue.push(&media(4, 100), now + ms(400)).expect("place");
        queue.push(&media(5, 100), now + ms(501)).expect("place");
        assert_eq!(queue.dropped(), 1);
        queue.wrote(101); // And leaves whole.
        let seen: Vec<u8> = read(&mut queue, 4000).iter().map(|body| body[5]).collect();
        assert_eq!(seen, [3, 4, 5]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_media_and_refuses_only_for_the_rest() {
        let (mut queue, now) = (Queue::default(), start());
        for number in 0..=255 {
            queue.push(&media(number, 1200), now).expect("place");
            assert!(queue.len() <= QUEUE_BYTES);
        }
        assert!(queue.dropped() > 0);
        let seen = read(&mut queue, 999);
        assert_eq!(seen.len() as u64 + queue.dropped(), 256);
        let numbers: Vec<u8> = seen.iter().map(|body| body[5]).collect();
        assert!(numbers.is_sorted() && numbers.last() == Some(&255));
        let mut sent = 0;
        while queue.push(&control(1), now).is_ok() {
            sent += 32;
        }
        assert!(sent <= QUEUE_BYTES && sent + 32 > QUEUE_BYTES);
        assert_eq!(
            queue.push(&media(1, 100), now),
            Ok(()),
            "dropped, not refused"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_dropped_the_stream_stays_one_of_whole_frames(
            steps in proptest::collection::vec((0_u64..300, 12_usize..3000, any::<bool>(), 0_usize..4000), 0..200),
        ) {
            let (mut queue, mut now) = (Queue::default(), start());
            let (mut deframer, mut seen, mut pushed) = (Deframer::default(), 0_u64, 0_u64);
            for (pause, len, is_media, written) in steps {
                now += ms(pause);
                let packet = if is_media { media(1, len) } else { control(1) };
                pushed += u64::from(queue.push(&packet, now).is_ok());
                let len = written.min(queue.front().len());
                deframer.room()[..len].copy_from_slice(&queue.front()[..len]);
                deframer.filled(len);
                queue.wrote(len);
                while let Some(body) = deframer.next_frame().expect("sound") {
                    prop_assert!(body[0] == 0x80 || body[0] == 22);
                    seen += 1;
                }
            }
            prop_assert_eq!(seen + queue.frames.len() as u64 + queue.dropped(), pushed);
        }
    }
}
