//! What truly arrived of a publisher's streams, beside what receiver reports tell it was lost.
//!
//! Owns the numbers that reached the server, by SSRC, and what the report before said. Compares
//! from report to report, so that it need not know from which packet on a server counts. Called by
//! the world for each datagram that arrives and each report that leaves.

use super::invariants::{Broken, loss};
use sfu::rtp::header::Header;
use sfu::rtp::rtcp::ReportBlock;
use sfu::units::ExtSeq;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// After a new address it takes a check until the server takes packets from there.
const UNSURE: Duration = Duration::from_secs(3);

/// What was told of a stream, and how many packets had come then.
#[derive(Debug, Clone, Copy)]
struct Told {
    highest: u32,
    lost: i64,
    arrived: usize,
}

#[derive(Debug, Default)]
struct Arrived {
    first: Option<ExtSeq>,
    numbers: BTreeSet<u64>,
    newest: Option<ExtSeq>,
    told: Option<Told>,
}

/// All streams of one publisher.
#[derive(Debug, Default)]
pub struct Losses {
    streams: BTreeMap<u32, Arrived>,
    unsure_until: Option<Instant>,
    /// Reports compared.
    pub compared: u64,
}

impl Losses {
    /// A packet reached the server.
    pub fn arrived(&mut self, header: &Header) {
        let stream = self.streams.entry(header.ssrc).or_default();
        let first = ExtSeq(0x1_0000 + u64::from(header.sequence));
        let number = stream
            .newest
            .map_or(first, |newest| newest.nearest(header.sequence));
        stream.newest = stream.newest.max(Some(number));
        // What was sent before the first that came is not expected. (RFC 3550 §A.3)
        if number >= *stream.first.get_or_insert(number) {
            stream.numbers.insert(number.0);
        }
    }

    /// The publisher's address changes: for a while what arrives may not be taken.
    pub fn unsure(&mut self, now: Instant) {
        self.unsure_until = Some(now + UNSURE);
    }

    /// Packets that the server has told were lost so far, of all streams.
    #[must_use]
    pub fn told(&self) -> i64 {
        let told = self.streams.values().filter_map(|stream| stream.told);
        told.map(|told| told.lost).sum()
    }

    /// The server reports on a stream.
    ///
    /// # Errors
    /// It tells another loss than there was since the report before.
    pub fn reported(&mut self, block: &ReportBlock, now: Instant) -> Result<(), Broken> {
        let stream = self.streams.entry(block.ssrc).or_default();
        let told = Told {
            highest: block.highest,
            lost: i64::from(block.cumulative_lost),
            arrived: stream.numbers.len(),
        };
        let before = stream.told.replace(told);
        let Some(before) = before.filter(|_| self.unsure_until.is_none_or(|until| until <= now))
        else {
            return Ok(());
        };
        self.compared += 1;
        let expected = i64::from(told.highest.wrapping_sub(before.highest));
        let lost = expected - (told.arrived - before.arrived) as i64;
        loss(told.lost - before.lost, lost)?;
        // Late ones can be more than are missing. (RFC 3550 §A.3)
        let fraction = (lost.max(0) * 256).checked_div(expected).unwrap_or(0);
        loss(block.fraction_lost.into(), fraction.min(255))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 5;

    fn packet(sequence: u16) -> Header {
        let mut bytes = vec![0x80, 96];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(SSRC.to_be_bytes());
        Header::parse(&bytes).expect("a header")
    }

    const fn block(highest: u32, lost: i32, fraction_lost: u8) -> ReportBlock {
        ReportBlock {
            ssrc: SSRC,
            fraction_lost,
            cumulative_lost: lost,
            highest,
            jitter: 0,
            last_report: 0,
            delay: 0,
        }
    }

    /// What is made of a second report, after ten numbers of which two never came.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn second(told: &ReportBlock, unsure: bool) -> bool {
        let (mut losses, now) = (Losses::default(), Instant::now());
        losses.arrived(&packet(65_530));
        losses
            .reported(&block(65_530, 7, 0), now)
            .expect("nothing to compare with");
        for sequence in [65_529, 65_531, 65_533, 65_533, 0, 65_534, 65_535, 1, 3, 4] {
            losses.arrived(&packet(sequence));
        }
        if unsure {
            losses.unsure(now);
        }
        losses.reported(told, now).is_ok()
    }

    #[test]
    fn a_report_that_tells_the_loss_there_was_is_right_and_any_other_is_not() {
        assert!(second(&block(65_540, 9, 51), false));
        assert!(!second(&block(65_540, 8, 51), false));
        assert!(!second(&block(65_540, 10, 51), false));
        assert!(!second(&block(65_540, 9, 50), false));
        assert!(!second(&block(65_541, 9, 51), false));
    }

    #[test]
    fn while_an_address_is_new_nothing_is_compared() {
        assert!(second(&block(65_540, 99, 0), true));
    }
}
