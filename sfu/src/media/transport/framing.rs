//! Datagrams over a stream: frames of two bytes of length and a body. (RFC 4571 §2)
//!
//! Owns how frames are cut out of what a connection brings, what waits to be written to it, and how
//! long it is kept. It reads and writes no socket. Called by the worker for each ICE-TCP connection.

mod queue;
mod line;

pub use line::{End, LOOK_EVERY, Line, Taken};
pub use queue::{QUEUE_BYTES, QUEUE_TIME, Queue, Refused};

/// Bytes before the body of a frame: its length.
pub const HEAD: usize = 2;
/// The longest body taken. Clients send what fits an Ethernet frame, as on UDP; more is none of
/// ours, and the stream cannot be trusted after it.
pub const FRAME_MAX: usize = 4096;
/// Bytes read at a time; each connection keeps so many. Several full frames, so that a system call
/// brings more than one.
pub const READ_BYTES: usize = 16 * 1024;

/// A frame that is longer than [`FRAME_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub struct TooLong(pub usize);

/// Cuts a stream into frames. It holds [`READ_BYTES`], however the stream was cut on its way.
#[derive(Debug)]
pub struct Deframer {
    bytes: Box<[u8]>,
    /// Where the next frame begins.
    start: usize,
    /// Where what was read ends.
    end: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self {
            bytes: vec![0; READ_BYTES].into(),
            start: 0,
            end: 0,
        }
    }
}

impl Deframer {
    /// Room to read into; never empty once [`Self::next_frame`] found nothing more.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of [`Self::room`] were read.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// Bytes that wait for the rest of their frame, or to be asked for.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.end - self.start
    }

    /// The body of the first frame, without taking it.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn peek(&self) -> Result<Option<&[u8]>, TooLong> {
        let body = self.body()?;
        Ok(body.map(|(start, end)| &self.bytes[start..end]))
    }

    /// The body of the next frame that is whole; it may be written over. Empty frames say nothing
    /// and are left out.
    ///
    /// # Errors
    /// [`TooLong`]: where the next frame begins is not known any more.
    pub fn next_frame(&mut self) -> Result<Option<&mut [u8]>, TooLong> {
        while let Some((start, end)) = self.body()? {
            self.start = end;
            if start < end {
                return Ok(Some(&mut self.bytes[start..end]));
            }
        }
        Ok(None)
    }

    /// Where the body of the first frame is, if it is whole.
    fn body(&self) -> Result<Option<(usize, usize)>, TooLong> {
        let waiting = &self.bytes[self.start..self.end];
        let Some((head, _)) = waiting.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*head));
        if len > FRAME_MAX {
            return Err(TooLong(len));
        }
        let start = self.start + HEAD;
        Ok((start + len <= self.end).then_some((start, start + len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for body in bodies {
            stream.extend((body.len() as u16).to_be_bytes());
            stream.extend(body);
        }
        stream
    }

    /// Feeds `stream` in pieces of these sizes, again and again.
    fn cut(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut deframer = Deframer::default();
        let (mut rest, mut bodies) = (stream, Vec::new());
        let mut sizes = pieces.iter().cycle();
        while !rest.is_empty() {
            let size = *sizes.next().unwrap_or(&1);
            let room = deframer.room();
            let len = size.clamp(1, rest.len()).min(room.len());
            assert!(len > 0, "there is always room");
            room[..len].copy_from_slice(&rest[..len]);
            deframer.filled(len);
            rest = &rest[len..];
            while let Some(body) = deframer.next_frame()? {
                bodies.push(body.to_vec());
            }
        }
        Ok(bodies)
    }

    #[test]
    fn a_frame_is_peeked_at_before_it_is_taken() {
        let mut deframer = Deframer::default();
        assert_eq!(deframer.peek(), Ok(None));
        deframer.room()[..4].copy_from_slice(&[0, 2, 7, 8]);
        deframer.filled(3);
        assert_eq!(deframer.peek(), Ok(None));
        deframer.filled(1);
        assert_eq!(deframer.peek(), Ok(Some(&[7, 8][..])));
        assert_eq!(deframer.next_frame(), Ok(Some(&mut [7, 8][..])));
        assert_eq!(deframer.waiting(), 0);
    }

    #[test]
    fn a_frame_beyond_the_limit_ends_the_stream_before_it_is_kept() {
        let head = ((FRAME_MAX + 1) as u16).to_be_bytes();
        assert_eq!(cut(&head, &[2]), Err(TooLong(FRAME_MAX + 1)));
        let full = vec![vec![1; FRAME_MAX]; 9];
        assert_eq!(cut(&framed(&full), &[READ_BYTES]), Ok(full));
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_was_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..40),
            pieces in proptest::collection::vec(1_usize..3000, 1..20),
        ) {
            let found = cut(&framed(&bodies), &pieces).expect("sound");
            let full: Vec<_> = bodies.into_iter().filter(|body| !body.is_empty()).collect();
            prop_assert_eq!(found, full);
        }

        #[test]
        fn any_bytes_are_cut_without_panic(stream in proptest::collection::vec(any::<u8>(), 0..5000), piece in 1_usize..700) {
            let _ = cut(&stream, &[piece]);
        }
    }
}
