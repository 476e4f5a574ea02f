//! Decoding: checked once as a whole, then iterated.

use super::{LARGE, LOST, SMALL, TICKS_PER_REFERENCE};

/// A feedback packet's content, checked: every chunk and delta is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// First sequence number reported.
    pub base: u16,
    /// Sequence numbers reported.
    pub status_count: u16,
    /// Counts feedback packets.
    pub count: u8,
    /// Reference time in ticks of 250 us; wraps after 24 bits of 64 ms.
    pub reference_ticks: i64,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Parses the body behind the two SSRCs (§3.1); `None` if cut short or with reserved symbols.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = body.split_first_chunk::<8>()?;
        let status_count = u16::from_be_bytes([fixed[2], fixed[3]]);
        // 24 bits with sign.
        let reference = i32::from_be_bytes([fixed[4], fixed[5], fixed[6], 0]) >> 8;
        let (mut covered, mut chunks_len, mut deltas_len) = (0u16, 0, 0);
        while covered < status_count {
            let chunk = Chunk::at(rest, chunks_len)?;
            chunks_len += 2;
            let told = chunk.len().min(status_count - covered);
            deltas_len += chunk.delta_bytes(told)?;
            covered += told;
        }
        let (chunks, deltas) = rest.split_at_checked(chunks_len)?;
        Some(Self {
            base: u16::from_be_bytes([fixed[0], fixed[1]]),
            status_count,
            count: fixed[7],
            reference_ticks: i64::from(reference) * TICKS_PER_REFERENCE,
            chunks,
            deltas: deltas.get(..deltas_len)?,
        })
    }

    /// Every reported sequence number with its arrival in ticks on the scale of the reference time,
    /// `None` for a lost one.
    #[must_use]
    pub const fn statuses(&self) -> Statuses<'a> {
        Statuses {
            feedback: *self,
            next: 0,
            chunk: Chunk(0),
            chunk_left: 0,
            ticks: self.reference_ticks,
        }
    }
}

/// A status chunk (§3.1.3, §3.1.4).
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let chunk = bytes.get(at..)?.first_chunk::<2>()?;
        Some(Self(u16::from_be_bytes(*chunk)))
    }

    /// Symbols it holds.
    const fn len(self) -> u16 {
        match self.0 >> 14 {
            2 => 14,
            3 => 7,
            _ => self.0 & 0x1FFF,
        }
    }

    /// The symbol at `index`, below `len`.
    const fn symbol(self, index: u16) -> u8 {
        match self.0 >> 14 {
            2 => (self.0 >> (13 - index) & 1) as u8,
            3 => (self.0 >> (12 - 2 * index) & 3) as u8,
            _ => (self.0 >> 13) as u8 & 3,
        }
    }

    /// Bytes of delta its first `count` symbols stand for; `None` if one is reserved.
    fn delta_bytes(self, count: u16) -> Option<usize> {
        if self.0 >> 15 == 0 {
            let symbol = self.symbol(0);
            return (symbol <= LARGE).then(|| usize::from(symbol) * usize::from(count));
        }
        (0..count).try_fold(0, |sum, index| {
            let symbol = self.symbol(index);
            (symbol <= LARGE).then(|| sum + usize::from(symbol))
        })
    }
}

/// Iterator of [`Feedback::statuses`].
#[derive(Debug, Clone)]
pub struct Statuses<'a> {
    feedback: Feedback<'a>,
    next: u16,
    chunk: Chunk,
    chunk_left: u16,
    ticks: i64,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.feedback.status_count {
            return None;
        }
        while self.chunk_left == 0 {
            self.chunk = Chunk::at(self.feedback.chunks, 0)?;
            self.feedback.chunks = self.feedback.chunks.get(2..)?;
            self.chunk_left = self.chunk.len();
        }
        let symbol = self.chunk.symbol(self.chunk.len() - self.chunk_left);
        self.chunk_left -= 1;
        let seq = self.feedback.base.wrapping_add(self.next);
        self.next += 1;
        if symbol == LOST {
            return Some((seq, None));
        }
        let (delta, rest) = self.feedback.deltas.split_at_checked(usize::from(symbol))?;
        self.feedback.deltas = rest;
        self.ticks += match *delta {
            [small] if symbol == SMALL => i64::from(small),
            [high, low] => i64::from(i16::from_be_bytes([high, low])),
            _ => return None,
        };
        Some((seq, Some(self.ticks)))
    }
}
