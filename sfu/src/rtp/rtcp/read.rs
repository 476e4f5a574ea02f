//! The walk over a compound packet: typed views, bounds checked once, nothing copied.

use super::{
    BLOCK_LEN, BYE, DelayBlock, FMT_ALFB, FMT_FIR, FMT_NACK, FMT_PLI, FMT_TWCC, PSFB, RR, RTPFB,
    ReportBlock, SDES, SR, SenderInfo, XR, XR_DLRR, XR_REFERENCE_TIME,
};

/// Something in the datagram does not fit its own lengths; nothing after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed RTCP")]
pub struct Malformed;

/// One packet of a compound.
#[derive(Debug, Clone)]
pub enum Packet<'a> {
    /// SR.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// Its clocks and counts.
        info: SenderInfo,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// The reporter.
        ssrc: u32,
        /// What it received.
        blocks: Blocks<'a>,
    },
    /// SDES: names we already know from signalling.
    SourceDescription,
    /// BYE.
    Goodbye(Ssrcs<'a>),
    /// Generic NACK (RFC 4585 §6.2.1).
    Nack {
        /// Who asks.
        sender: u32,
        /// The stream with losses.
        media: u32,
        /// The lost sequence numbers.
        lost: LostSequences<'a>,
    },
    /// Transport-wide feedback: from the base sequence number on, for `rtp::twcc`.
    TransportFeedback {
        /// Who reports.
        sender: u32,
        /// Body after the two SSRCs, padding removed.
        body: &'a [u8],
    },
    /// PLI (RFC 4585 §6.3.1).
    PictureLoss {
        /// Who asks.
        sender: u32,
        /// The stream.
        media: u32,
    },
    /// FIR (RFC 5104 §4.3.1).
    FullIntraRequest {
        /// Who asks.
        sender: u32,
        /// The streams, with the request's sequence number.
        requests: FirRequests<'a>,
    },
    /// REMB (draft-alvestrand-rmcat-remb-03).
    MaxBitrate {
        /// Bits per second.
        bps: u64,
        /// The streams it covers.
        ssrcs: Ssrcs<'a>,
    },
    /// XR (RFC 3611).
    ExtendedReport {
        /// The reporter.
        ssrc: u32,
        /// Its blocks.
        blocks: XrBlocks<'a>,
    },
    /// Anything else, skipped by its length.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// Walks a datagram; the last item is an error if its tail is malformed.
#[must_use]
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// Iterator of [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = split(self.rest).and_then(|(head, body, rest)| {
            self.rest = rest;
            parse(head, body)
        });
        if parsed.is_none() {
            self.rest = &[];
        }
        Some(parsed.ok_or(Malformed))
    }
}

/// The two fields of the common header that tell packets apart.
struct Head {
    count: u8,
    packet_type: u8,
}

/// Cuts one packet off: its header, its body without padding, the rest of the datagram.
fn split(datagram: &[u8]) -> Option<(Head, &[u8], &[u8])> {
    let &[first, packet_type, l0, l1] = datagram.first_chunk::<4>()?;
    if first >> 6 != 2 {
        return None;
    }
    let len = 4 * usize::from(u16::from_be_bytes([l0, l1]));
    let (mut body, rest) = datagram.get(4..)?.split_at_checked(len)?;
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        let end = body.len().checked_sub(padding).filter(|_| padding != 0)?;
        body = body.get(..end)?;
    }
    let head = Head {
        count: first & 0x1F,
        packet_type,
    };
    Some((head, body, rest))
}

fn parse<'a>(head: Head, body: &'a [u8]) -> Option<Packet<'a>> {
    Some(match head.packet_type {
        SR => {
            let (info, rest) = body.get(4..)?.split_at_checked(20)?;
            Packet::SenderReport {
                ssrc: word(body, 0)?,
                info: SenderInfo {
                    ntp: u64::from(word(info, 0)?) << 32 | u64::from(word(info, 4)?),
                    rtp: word(info, 8)?,
                    packets: word(info, 12)?,
                    bytes: word(info, 16)?,
                },
                blocks: Blocks::new(head.count, rest)?,
            }
        }
        RR => Packet::ReceiverReport {
            ssrc: word(body, 0)?,
            blocks: Blocks::new(head.count, body.get(4..)?)?,
        },
        SDES => Packet::SourceDescription,
        BYE => Packet::Goodbye(Ssrcs {
            bytes: body.get(..4 * usize::from(head.count))?,
        }),
        RTPFB => transport_feedback(head, body)?,
        PSFB => payload_feedback(head, body)?,
        XR => Packet::ExtendedReport {
            ssrc: word(body, 0)?,
            blocks: XrBlocks {
                rest: body.get(4..)?,
            },
        },
        packet_type => Packet::Other { packet_type },
    })
}

fn transport_feedback<'a>(head: Head, body: &'a [u8]) -> Option<Packet<'a>> {
    let (sender, media) = (word(body, 0)?, word(body, 4)?);
    let body = body.get(8..)?;
    Some(match head.count {
        FMT_NACK => Packet::Nack {
            sender,
            media,
            lost: LostSequences::new(body),
        },
        FMT_TWCC => Packet::TransportFeedback { sender, body },
        _ => Packet::Other { packet_type: RTPFB },
    })
}

fn payload_feedback<'a>(head: Head, body: &'a [u8]) -> Option<Packet<'a>> {
    let (sender, media) = (word(body, 0)?, word(body, 4)?);
    let body = body.get(8..)?;
    Some(match head.count {
        FMT_PLI => Packet::PictureLoss { sender, media },
        FMT_FIR => Packet::FullIntraRequest {
            sender,
            requests: FirRequests { rest: body },
        },
        FMT_ALFB if body.starts_with(b"REMB") => max_bitrate(body.get(4..)?)?,
        _ => Packet::Other { packet_type: PSFB },
    })
}

fn max_bitrate(body: &[u8]) -> Option<Packet<'_>> {
    let &[count, high, mid, low] = body.first_chunk::<4>()?;
    let mantissa = u64::from(high & 0x03) << 16 | u64::from(mid) << 8 | u64::from(low);
    let exponent = u32::from(high >> 2);
    // 18 bits shifted by up to 63: what does not fit means "no limit".
    let bps = u64::try_from(u128::from(mantissa) << exponent).unwrap_or(u64::MAX);
    let ssrcs = Ssrcs {
        bytes: body.get(4..)?.get(..4 * usize::from(count))?,
    };
    Some(Packet::MaxBitrate { bps, ssrcs })
}

/// The big-endian word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let chunk = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*chunk))
}

/// Iterator over report blocks.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
}

impl<'a> Blocks<'a> {
    fn new(count: u8, bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..BLOCK_LEN * usize::from(count))?;
        Some(Self { bytes })
    }
}

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<Self::Item> {
        let (block, rest) = self.bytes.split_at_checked(BLOCK_LEN)?;
        self.bytes = rest;
        let loss = word(block, 4)?;
        Some(ReportBlock {
            ssrc: word(block, 0)?,
            fraction_lost: (loss >> 24) as u8,
            // Sign extension of the low 24 bits.
            cumulative_lost: (loss << 8) as i32 >> 8,
            highest: word(block, 8)?,
            jitter: word(block, 12)?,
            last_report: word(block, 16)?,
            delay: word(block, 20)?,
        })
    }
}

/// Iterator over SSRCs.
#[derive(Debug, Clone)]
pub struct Ssrcs<'a> {
    bytes: &'a [u8],
}

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<Self::Item> {
        let ssrc = word(self.bytes, 0)?;
        self.bytes = self.bytes.get(4..)?;
        Some(ssrc)
    }
}

/// Iterator over the sequence numbers of a NACK, each pair in ascending order.
#[derive(Debug, Clone)]
pub struct LostSequences<'a> {
    rest: &'a [u8],
    base: u16,
    /// Bit 0 is the packet id itself, bits 1 to 16 the mask after it.
    pending: u32,
}

impl<'a> LostSequences<'a> {
    const fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            base: 0,
            pending: 0,
        }
    }
}

impl Iterator for LostSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending == 0 {
            let pair = word(self.rest, 0)?;
            self.rest = self.rest.get(4..)?;
            self.base = (pair >> 16) as u16;
            self.pending = (pair & 0xFFFF) << 1 | 1;
        }
        let offset = self.pending.trailing_zeros();
        self.pending &= self.pending - 1;
        Some(self.base.wrapping_add(offset as u16))
    }
}

/// Iterator over the entries of a FIR: the stream and the request's sequence number.
#[derive(Debug, Clone)]
pub struct FirRequests<'a> {
    rest: &'a [u8],
}

impl Iterator for FirRequests<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, rest) = self.rest.split_at_checked(8)?;
        self.rest = rest;
        Some((word(entry, 0)?, *entry.get(4)?))
    }
}

/// A block of an extended report.
#[derive(Debug, Clone)]
pub enum XrBlock<'a> {
    /// RRTR: the receiver's wall clock, to be answered with DLRR.
    ReferenceTime {
        /// 32.32 fixed point since 1900.
        ntp: u64,
    },
    /// DLRR.
    Delays(DelayBlocks<'a>),
    /// Anything else.
    Other,
}

/// Iterator over the blocks of an extended report; ends where one is cut short.
#[derive(Debug, Clone)]
pub struct XrBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for XrBlocks<'a> {
    type Item = XrBlock<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let &[block_type, _, l0, l1] = self.rest.first_chunk::<4>()?;
        let len = 4 * usize::from(u16::from_be_bytes([l0, l1]));
        let (body, rest) = self.rest.get(4..)?.split_at_checked(len)?;
        self.rest = rest;
        Some(match (block_type, word(body, 0), word(body, 4)) {
            (XR_REFERENCE_TIME, Some(high), Some(low)) => XrBlock::ReferenceTime {
                ntp: u64::from(high) << 32 | u64::from(low),
            },
            (XR_DLRR, ..) => XrBlock::Delays(DelayBlocks { rest: body }),
            _ => XrBlock::Other,
        })
    }
}

/// Iterator over the entries of a DLRR block.
#[derive(Debug, Clone)]
pub struct DelayBlocks<'a> {
    rest: &'a [u8],
}

impl Iterator for DelayBlocks<'_> {
    type Item = DelayBlock;

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, rest) = self.rest.split_at_checked(12)?;
        self.rest = rest;
        Some(DelayBlock {
            ssrc: word(entry, 0)?,
            last_reference: word(entry, 4)?,
            delay: word(entry, 8)?,
        })
    }
}
