//! Encoding: as many arrivals as fit one packet, in the fewest chunks a greedy rule finds.

use crate::rtp::rtcp;

use super::{Arrival, HEAD_LEN, Head, LARGE, LOST, MAX_RUN, SMALL, TICKS_PER_REFERENCE};

/// Symbols of a one-bit vector.
const ONE_BIT_SYMBOLS: usize = 14;
/// Symbols of a two-bit vector.
const TWO_BIT_SYMBOLS: usize = 7;

/// What [`encode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes written.
    pub len: usize,
    /// Arrivals reported; the others need another packet.
    pub arrivals: usize,
}

/// Writes one feedback packet for the first of `arrivals`, which ascend strictly in `seq` from
/// `head.base` on; numbers left out between are reported lost. It ends early where the buffer is
/// full, a delta does not fit 16 bits, or 65,535 packets are reported. `None` if not even the first
/// arrival could be told.
pub fn encode(out: &mut [u8], head: &Head, arrivals: &[Arrival]) -> Option<Encoded> {
    let first = arrivals.first()?;
    let reference = first.ticks.div_euclid(TICKS_PER_REFERENCE);
    let base_ticks = reference * TICKS_PER_REFERENCE;
    let mut chunks = Chunks::new(out.get_mut(HEAD_LEN..)?);
    let (mut next, mut ticks) = (head.base, base_ticks);
    let mut told = 0;
    for arrival in arrivals {
        let Some(delta) = delta_symbol(arrival.ticks - ticks) else {
            break;
        };
        let Some(gap) = arrival.seq.checked_sub(next) else {
            break;
        };
        let count = arrival.seq - head.base + 1;
        if count > u64::from(u16::MAX) || !chunks.takes(gap, delta) {
            break;
        }
        chunks.push_run(LOST, gap as u16);
        chunks.push(delta);
        (next, ticks) = (arrival.seq + 1, arrival.ticks);
        told += 1;
    }
    if told == 0 {
        return None;
    }
    let chunk_len = chunks.finish();
    let mut at = HEAD_LEN + chunk_len;
    ticks = base_ticks;
    for arrival in &arrivals[..told] {
        at = put_delta(out, at, arrival.ticks - ticks)?;
        ticks = arrival.ticks;
    }
    let len = at.next_multiple_of(4);
    pad(out, at, len)?;
    put_head(out, head, (next - head.base) as u16, reference, len)?;
    if len != at {
        out[0] |= 0x20;
    }
    Some(Encoded {
        len,
        arrivals: told,
    })
}

/// The symbol that can carry a delta in ticks.
const fn delta_symbol(delta: i64) -> Option<u8> {
    match delta {
        0..=0xFF => Some(SMALL),
        -0x8000..=0x7FFF => Some(LARGE),
        _ => None,
    }
}

fn put_delta(out: &mut [u8], at: usize, delta: i64) -> Option<usize> {
    if delta_symbol(delta)? == SMALL {
        *out.get_mut(at)? = delta as u8;
        return Some(at + 1);
    }
    out.get_mut(at..at + 2)?
        .copy_from_slice(&(delta as i16).to_be_bytes());
    Some(at + 2)
}

/// Zero bytes up to a word; the last one counts them (RFC 3550 §6.4.1).
fn pad(out: &mut [u8], at: usize, len: usize) -> Option<()> {
    let padding = out.get_mut(at..len)?;
    padding.fill(0);
    let count = padding.len() as u8;
    if let Some(last) = padding.last_mut() {
        *last = count;
    }
    Some(())
}

fn put_head(out: &mut [u8], head: &Head, count: u16, reference: i64, len: usize) -> Option<()> {
    let words = u16::try_from(len / 4 - 1).ok()?;
    let fixed = out.first_chunk_mut::<HEAD_LEN>()?;
    fixed[0] = 2 << 6 | rtcp::FMT_TWCC;
    fixed[1] = rtcp::RTPFB;
    fixed[2..4].copy_from_slice(&words.to_be_bytes());
    fixed[4..8].copy_from_slice(&head.sender.to_be_bytes());
    fixed[8..12].copy_from_slice(&head.media.to_be_bytes());
    fixed[12..14].copy_from_slice(&(head.base as u16).to_be_bytes());
    fixed[14..16].copy_from_slice(&count.to_be_bytes());
    let last = (reference as u32) << 8 | u32::from(head.count);
    fixed[16..20].copy_from_slice(&last.to_be_bytes());
    Some(())
}

/// Symbols on their way into chunks: either a run of one symbol or a few mixed ones.
struct Chunks<'a> {
    out: &'a mut [u8],
    written: usize,
    delta_bytes: usize,
    pending: [u8; ONE_BIT_SYMBOLS],
    count: u16,
    uniform: bool,
}

impl<'a> Chunks<'a> {
    const fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            written: 0,
            delta_bytes: 0,
            pending: [LOST; ONE_BIT_SYMBOLS],
            count: 0,
            uniform: true,
        }
    }

    /// Would a gap and then this symbol still fit, with deltas and padding? Errs on the safe side
    /// by a chunk or two.
    fn takes(&self, gap: u64, symbol: u8) -> bool {
        // One chunk each for what is pending, the gap's rest and the symbol.
        let chunks = 3 + usize::try_from(gap / u64::from(MAX_RUN)).unwrap_or(usize::MAX / 4);
        let need = self.written + 2 * chunks + self.delta_bytes + usize::from(symbol) + 3;
        need <= self.out.len()
    }

    fn push_run(&mut self, symbol: u8, mut count: u16) {
        while count > 0 {
            if self.is_run_of(symbol) {
                self.pending[0] = symbol;
                let more = count.min(MAX_RUN - self.count);
                self.count += more;
                count -= more;
                if count > 0 {
                    self.flush();
                }
            } else {
                self.push(symbol);
                count -= 1;
            }
        }
    }

    fn push(&mut self, symbol: u8) {
        while !self.joins(symbol) {
            self.flush();
        }
        if self.is_run_of(symbol) {
            self.pending[0] = symbol;
        } else {
            self.unfold();
            self.pending[usize::from(self.count)] = symbol;
        }
        self.count += 1;
        // A symbol's value is the length of its delta.
        self.delta_bytes += usize::from(symbol);
    }

    /// All pending symbols, if any, equal this one, and a run can take more.
    fn is_run_of(&self, symbol: u8) -> bool {
        self.count == 0 || self.uniform && self.pending[0] == symbol && self.count < MAX_RUN
    }

    /// Whether the symbol can share a chunk with those pending.
    fn joins(&self, symbol: u8) -> bool {
        let count = usize::from(self.count);
        let told = if self.uniform { count.min(1) } else { count };
        let has_large = self.pending[..told].contains(&LARGE);
        self.is_run_of(symbol)
            || count < TWO_BIT_SYMBOLS
            || count < ONE_BIT_SYMBOLS && !has_large && symbol != LARGE
    }

    /// Turns a short run into symbols, before a different one joins it.
    fn unfold(&mut self) {
        if self.uniform {
            let count = usize::from(self.count).min(ONE_BIT_SYMBOLS);
            let symbol = self.pending[0];
            self.pending[..count].fill(symbol);
            self.uniform = false;
        }
    }

    /// Writes one chunk of what is pending. Every vector is full, so that none of its symbols is
    /// taken for a later packet's; up to six stay behind.
    fn flush(&mut self) {
        let count = usize::from(self.count);
        if self.uniform {
            self.put(u16::from(self.pending[0]) << 13 | self.count);
            self.keep_after(count.min(ONE_BIT_SYMBOLS));
            return;
        }
        if count == ONE_BIT_SYMBOLS {
            self.put(self.vector(0x8000, count, 1));
            self.keep_after(count);
        } else {
            let taken = count.min(TWO_BIT_SYMBOLS);
            self.put(self.vector(0xC000, taken, 2));
            self.keep_after(taken);
        }
    }

    /// The first `count` symbols behind `kind`'s two bits, each `bits` wide.
    fn vector(&self, kind: u16, count: usize, bits: u32) -> u16 {
        let mut shift = 14;
        self.pending[..count].iter().fold(kind, |chunk, symbol| {
            shift -= bits;
            chunk | u16::from(*symbol) << shift
        })
    }

    fn keep_after(&mut self, taken: usize) {
        let count = if self.uniform {
            taken
        } else {
            usize::from(self.count)
        };
        self.pending.copy_within(taken..count, 0);
        self.count = (count - taken) as u16;
        let left = &self.pending[..usize::from(self.count)];
        self.uniform = left.iter().all(|symbol| *symbol == left[0]);
    }

    fn put(&mut self, chunk: u16) {
        if let Some(place) = self.out.get_mut(self.written..self.written + 2) {
            place.copy_from_slice(&chunk.to_be_bytes());
        }
        self.written += 2;
    }

    /// Writes what is pending and returns the chunks' length.
    fn finish(mut self) -> usize {
        let count = usize::from(self.count);
        if !self.uniform && count > TWO_BIT_SYMBOLS && !self.pending[..count].contains(&LARGE) {
            self.put(self.vector(0x8000, count, 1));
            return self.written;
        }
        while self.count > 0 {
            self.flush();
        }
        self.written
    }
}
