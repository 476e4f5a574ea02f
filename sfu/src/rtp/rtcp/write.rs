//! The writer: packets are put behind one another into a caller's buffer, whole or not at all.

use super::{
    BLOCK_LEN, BYE, DelayBlock, FMT_NACK, FMT_PLI, MAX_BLOCKS, PSFB, RR, RTPFB, ReportBlock, SDES,
    SR, SenderInfo, XR, XR_DLRR, XR_REFERENCE_TIME,
};

/// SDES items: the canonical name (RFC 3550 §6.5.1) and the mid (RFC 8843 §15.1).
const SDES_CNAME: u8 = 1;
const SDES_MID: u8 = 15;

/// The buffer cannot take the packet; it holds what it held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for the RTCP packet")]
pub struct Full;

/// Writes a compound packet.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// An empty compound at the front of `out`.
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Nothing written?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes left.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// SR of `ssrc` with at most 31 blocks; more are left out.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), Full> {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let mut body = self.packet(SR, blocks.len() as u8, 24 + BLOCK_LEN * blocks.len())?;
        body.word(ssrc);
        body.word((info.ntp >> 32) as u32);
        body.word(info.ntp as u32);
        body.word(info.rtp);
        body.word(info.packets);
        body.word(info.bytes);
        body.blocks(blocks);
        Ok(())
    }

    /// RR of `ssrc` with at most 31 blocks; more are left out.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Result<(), Full> {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let mut body = self.packet(RR, blocks.len() as u8, 4 + BLOCK_LEN * blocks.len())?;
        body.word(ssrc);
        body.blocks(blocks);
        Ok(())
    }

    /// SDES of `ssrc` with its canonical name and perhaps its mid. Texts end after 255 bytes.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn source_description(
        &mut self,
        ssrc: u32,
        cname: &str,
        mid: Option<&str>,
    ) -> Result<(), Full> {
        let items = [(SDES_CNAME, Some(cname)), (SDES_MID, mid)];
        let items = items.map(|(kind, text)| (kind, text.map(item_bytes)));
        let text: usize = items.iter().flat_map(|(_, t)| t).map(|t| 2 + t.len()).sum();
        // At least one zero byte ends the list, then zeros up to a word (RFC 3550 §6.5).
        let mut body = self.packet(SDES, 1, 4 + (text + 1).next_multiple_of(4))?;
        body.word(ssrc);
        for (kind, text) in items {
            if let Some(text) = text {
                body.bytes(&[kind, text.len() as u8]);
                body.bytes(text);
            }
        }
        body.fill_zero();
        Ok(())
    }

    /// BYE of at most 31 sources; more are left out.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn goodbye(&mut self, ssrcs: &[u32]) -> Result<(), Full> {
        let ssrcs = &ssrcs[..ssrcs.len().min(MAX_BLOCKS)];
        let mut body = self.packet(BYE, ssrcs.len() as u8, 4 * ssrcs.len())?;
        ssrcs.iter().for_each(|ssrc| body.word(*ssrc));
        Ok(())
    }

    /// NACK for `lost`, sorted ascending (in the sense of wrapping numbers). Returns how many of
    /// them were written: all, or as many as the buffer takes.
    pub fn nack(&mut self, sender: u32, media: u32, lost: &[u16]) -> usize {
        let room_for_pairs = self.room().saturating_sub(12) / 4;
        let (pairs, covered) = nack_size(lost, room_for_pairs);
        if pairs == 0 {
            return 0;
        }
        let Ok(mut body) = self.packet(RTPFB, FMT_NACK, 8 + 4 * pairs) else {
            return 0;
        };
        body.word(sender);
        body.word(media);
        let mut rest = &lost[..covered];
        while let Some((pair, after)) = nack_pair(rest) {
            body.word(pair);
            rest = after;
        }
        covered
    }

    /// PLI.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn picture_loss(&mut self, sender: u32, media: u32) -> Result<(), Full> {
        let mut body = self.packet(PSFB, FMT_PLI, 8)?;
        body.word(sender);
        body.word(media);
        Ok(())
    }

    /// XR with a DLRR block: answers to reference times.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn delays(&mut self, sender: u32, blocks: &[DelayBlock]) -> Result<(), Full> {
        let mut body = self.packet(XR, 0, 8 + 12 * blocks.len())?;
        body.word(sender);
        body.bytes(&[XR_DLRR, 0]);
        body.bytes(&((3 * blocks.len()) as u16).to_be_bytes());
        for block in blocks {
            body.word(block.ssrc);
            body.word(block.last_reference);
            body.word(block.delay);
        }
        Ok(())
    }

    /// XR with a reference time block: our wall clock.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn reference_time(&mut self, sender: u32, ntp: u64) -> Result<(), Full> {
        let mut body = self.packet(XR, 0, 16)?;
        body.word(sender);
        body.bytes(&[XR_REFERENCE_TIME, 0, 0, 2]);
        body.bytes(&ntp.to_be_bytes());
        Ok(())
    }

    /// Writes the common header and hands out a body of exactly `len` bytes, a multiple of four.
    fn packet(&mut self, packet_type: u8, count: u8, len: usize) -> Result<Body<'_>, Full> {
        let words = u16::try_from(len / 4).map_err(|_| Full)?;
        let whole = self
            .out
            .get_mut(self.len..)
            .and_then(|rest| rest.get_mut(..4 + len))
            .ok_or(Full)?;
        self.len += 4 + len;
        let mut body = Body { rest: whole };
        body.bytes(&[2 << 6 | count & 0x1F, packet_type]);
        body.bytes(&words.to_be_bytes());
        Ok(body)
    }
}

/// An SDES item's text, cut to what its length byte can say.
fn item_bytes(text: &str) -> &[u8] {
    let bytes = text.as_bytes();
    &bytes[..bytes.len().min(usize::from(u8::MAX))]
}

/// How many pairs `lost` takes, at most `limit`, and how many of its numbers those cover.
fn nack_size(lost: &[u16], limit: usize) -> (usize, usize) {
    let (mut pairs, mut rest) = (0, lost);
    while pairs < limit
        && let Some((_, after)) = nack_pair(rest)
    {
        pairs += 1;
        rest = after;
    }
    (pairs, lost.len() - rest.len())
}

/// The first pair of a sorted list, and the numbers it does not cover (RFC 4585 §6.2.1).
fn nack_pair(lost: &[u16]) -> Option<(u32, &[u16])> {
    let (&base, mut rest) = lost.split_first()?;
    let mut mask = 0u32;
    while let Some((&next, after)) = rest.split_first() {
        let distance = next.wrapping_sub(base);
        if !(1..=16).contains(&distance) {
            break;
        }
        mask |= 1 << (distance - 1);
        rest = after;
    }
    Some((u32::from(base) << 16 | mask, rest))
}

/// A packet's body being filled; its length was checked when it was cut out.
struct Body<'a> {
    rest: &'a mut [u8],
}

impl Body<'_> {
    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        if let Some((front, back)) = rest.split_at_mut_checked(bytes.len()) {
            front.copy_from_slice(bytes);
            self.rest = back;
        } else {
            debug_assert!(false, "body longer than announced");
        }
    }

    fn fill_zero(&mut self) {
        self.rest.fill(0);
    }

    fn blocks(&mut self, blocks: &[ReportBlock]) {
        for block in blocks {
            let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
            self.word(block.ssrc);
            self.word(u32::from(block.fraction_lost) << 24 | lost);
            self.word(block.highest);
            self.word(block.jitter);
            self.word(block.last_report);
            self.word(block.delay);
        }
    }
}
