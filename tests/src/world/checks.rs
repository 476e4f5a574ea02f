//! What must hold of every packet a server sends, whatever the roads do.
//!
//! Owns what was seen of each stream, by the clear part of its packets, in the order of sending. A
//! rule that is broken is noted with what broke it; scenarios fail if anything was noted. Called by
//! the world for each datagram before it goes on its road.

use super::invariants::print;
use sfu::rtp::header::Header;
use std::collections::BTreeMap;

/// Broken rules noted at most: one is enough to fail.
const BROKEN_MAX: usize = 20;
/// Numbers of a stream remembered, to tell what is sent again.
const REMEMBERED: usize = 20_000;
/// What SRTP puts behind a payload: AES-GCM's tag. (RFC 7714 §5.2)
const TAG_BYTES: usize = 16;

/// A rule. (See `ARCHITECTURE.md`, invariants)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The same number of a stream under the same key never seals two different packets.
    SealedOnce,
    /// A stream's timestamps never run backwards, and after the end of a picture they go on.
    TimeRunsForward,
    /// Nothing is sent to somebody who has left.
    NothingAfterLeave,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// By what.
    pub what: String,
}

#[derive(Debug, Default)]
struct Seen {
    highest: u64,
    timestamp: u32,
    marker: bool,
    count: u64,
    repairs: bool,
    sealed: BTreeMap<u64, u64>,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Checks {
    streams: BTreeMap<(usize, u32), Seen>,
    broken: Vec<Broken>,
}

/// The SSRC of a datagram that is RTP.
#[must_use]
pub fn media_ssrc(datagram: &[u8]) -> Option<u32> {
    let media = matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second));
    let header = Header::parse(datagram).filter(|_| media)?;
    Some(header.ssrc)
}

impl Checks {
    /// A server sends a datagram to participant `who`, who may have left. It may be of a stream that
    /// repairs another one: its times go as the losses, and what is not lost is not repaired.
    pub fn sent(&mut self, who: usize, datagram: &[u8], (gone, repairs): (bool, bool)) {
        if media_ssrc(datagram).is_none() {
            return;
        }
        let Some(header) = Header::parse(datagram) else {
            return;
        };
        if gone {
            let what = format!("stream {:#x} to {who}", header.ssrc);
            self.note(Rule::NothingAfterLeave, what);
        }
        let seen = self.streams.entry((who, header.ssrc)).or_default();
        let seq = extend(seen, header.sequence);
        let sealed = print(datagram);
        let what = || format!("stream {:#x} to {who}, number {seq}", header.ssrc);
        if let Some(before) = seen.sealed.get(&seq) {
            if *before != sealed {
                let what = what();
                self.note(Rule::SealedOnce, what);
            }
            return;
        }
        seen.sealed.insert(seq, sealed);
        if seen.sealed.len() > REMEMBERED {
            seen.sealed.pop_first();
        }
        seen.repairs |= repairs;
        seen.count += 1;
        let empty = datagram.len() <= header.header_len + TAG_BYTES;
        if seen.count > 1 && seq > seen.highest {
            let forward = header.timestamp.wrapping_sub(seen.timestamp) as i32;
            // The marker ends a picture; of sound it begins a spurt, and each packet has its time.
            let stands = forward == 0 && seen.marker && seq == seen.highest + 1 && !empty;
            if !repairs && (forward < 0 || stands) {
                let what = format!("{}: by {forward}", what());
                self.note(Rule::TimeRunsForward, what);
                return;
            }
        }
        if seen.count == 1 || seq > seen.highest {
            seen.highest = seq;
            seen.timestamp = header.timestamp;
            // Padding belongs to the picture before it.
            seen.marker = header.marker || (empty && seen.marker);
        }
    }

    /// What was broken.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    fn note(&mut self, rule: Rule, what: String) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(Broken { rule, what });
        }
    }
}

fn extend(seen: &Seen, seq: u16) -> u64 {
    if seen.count == 0 {
        return 0x1_0000 + u64::from(seq);
    }
    let ahead = seq.wrapping_sub(seen.highest as u16) as i16;
    seen.highest.saturating_add_signed(i64::from(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet as a server would send it: 30 frames of three packets.
    fn packet(n: u16) -> Vec<u8> {
        let mut bytes = vec![0x80, 96 | (u8::from(n % 3 == 2) << 7)];
        bytes.extend((65_500_u16.wrapping_add(n)).to_be_bytes());
        bytes.extend(
            (u32::MAX - 9000 + u32::from(n / 3) * 3000)
                .wrapping_add(0)
                .to_be_bytes(),
        );
        bytes.extend(7_u32.to_be_bytes());
        bytes.extend([n as u8; 40]);
        bytes
    }

    /// Feeds the stream with one packet changed; the rules broken.
    fn broken(change: impl Fn(u16, &mut Vec<u8>) -> bool, gone_from: u16) -> Vec<Rule> {
        broken_of(false, change, gone_from)
    }

    fn broken_of(
        repairs: bool,
        change: impl Fn(u16, &mut Vec<u8>) -> bool,
        gone_from: u16,
    ) -> Vec<Rule> {
        let mut checks = Checks::default();
        for n in 0..9 {
            let mut bytes = packet(n);
            if change(n, &mut bytes) {
                checks.sent(0, &bytes, (n >= gone_from, repairs));
            }
        }
        // Sent again as it was.
        let mut again = packet(4);
        if change(4, &mut again) {
            checks.sent(0, &packet(4), (false, repairs));
        }
        let mut rules: Vec<Rule> = checks.broken().iter().map(|broken| broken.rule).collect();
        rules.dedup();
        rules
    }

    #[test]
    fn a_sound_stream_breaks_no_rule_also_when_it_wraps_and_repeats() {
        assert_eq!(broken(|_, _| true, 99), []);
    }

    #[test]
    fn a_number_sealed_twice_is_seen() {
        let change = |n, bytes: &mut Vec<u8>| {
            bytes[20] ^= u8::from(n == 4);
            true
        };
        assert_eq!(broken(change, 99), [Rule::SealedOnce]);
    }

    #[test]
    fn time_that_stands_or_runs_backwards_is_seen() {
        for time in [u32::MAX - 9000, u32::MAX - 12_000] {
            let change = |n, bytes: &mut Vec<u8>| {
                if n == 3 {
                    bytes[4..8].copy_from_slice(&time.to_be_bytes());
                }
                true
            };
            let rules = broken(change, 99);
            assert_eq!(rules.first(), Some(&Rule::TimeRunsForward), "{time}");
        }
    }

    #[test]
    fn a_packet_to_who_has_left_is_seen() {
        assert_eq!(broken(|_, _| true, 8), [Rule::NothingAfterLeave]);
    }

    #[test]
    fn a_stream_that_repairs_another_goes_as_the_losses_but_is_sealed_once_and_ends() {
        let at_random = |n, bytes: &mut Vec<u8>| {
            bytes[4] ^= (n as u8 % 2) << 7;
            n != 6
        };
        assert_eq!(broken_of(true, at_random, 99), []);
        assert_eq!(broken_of(true, at_random, 8), [Rule::NothingAfterLeave]);
        let twice = |n, bytes: &mut Vec<u8>| {
            bytes[20] ^= u8::from(n == 4);
            true
        };
        assert_eq!(broken_of(true, twice, 99), [Rule::SealedOnce]);
    }
}
