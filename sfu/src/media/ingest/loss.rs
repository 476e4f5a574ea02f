//! What is missing from one upstream and when to ask for it again (RFC 4585 NACK).
//!
//! Owns the list of missing numbers and their due times. Never writes RTCP. Driven by gaps and by a
//! timer: the lost end of a burst is asked for though nothing follows it. (LK: sfu-media §9 traps 1, 2)

use crate::units::ExtSeq;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Missing packets at once; beyond it a key frame is cheaper than repairs.
pub const MISSING_LIMIT: usize = 500;
/// Grace for mere reordering before the first NACK.
pub const FIRST_NACK: Duration = Duration::from_millis(20);
/// A retry sooner than this would cross its own answer.
pub const MIN_RETRY: Duration = Duration::from_millis(20);
/// A retry later than this comes too late for any jitter buffer.
pub const MAX_RETRY: Duration = Duration::from_millis(400);
/// NACKs for one packet.
pub const TRIES: u8 = 5;
/// NACKs for one packet on a short path, where each costs little time.
pub const TRIES_SHORT: u8 = 10;
/// So many NACKs in vain, of a stream that pads, mean padding, which is never sent again: that each
/// question or its answer was lost is a matter of one in ten thousand with 5 % lost each way, and the
/// last but one had time to be answered. Decoders need not wait for it any longer; a key frame is still
/// asked for once it is given up, should it have been media.
pub const UNANSWERED: u8 = 4;
/// The same on a short path, where they follow each other within less than a burst of losses.
pub const UNANSWERED_SHORT: u8 = 8;
/// Paths below this are short.
pub const SHORT_RTT: Duration = Duration::from_millis(30);
/// Assumed until measured.
pub const DEFAULT_RTT: Duration = Duration::from_millis(70);

/// What was asked for in vain, newer than the last key frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "what is given up may need a key frame"]
pub struct GivenUp {
    /// Media: decoders cannot go on.
    pub media: bool,
    /// What most likely carried nothing: decoders go on, and are wrong if it did.
    pub likely_nothing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    seq: ExtSeq,
    due: Instant,
    tries: u8,
    /// Nobody waits for it: most likely it carried nothing.
    idle: bool,
    /// It was told that nobody answers.
    told: bool,
}

/// The missing packets of one upstream, in the publisher's own numbering.
#[derive(Debug, Default)]
pub struct Losses {
    /// Ascending; gaps only open above all others.
    missing: VecDeque<Missing>,
    /// No entry is due before this.
    next_due: Option<Instant>,
    newest_key_frame: Option<ExtSeq>,
    abandoned: u64,
}

impl Losses {
    /// These numbers were passed over; `idle` if nobody waits for them. True if so much is missing
    /// that the list was cut: from now on only a key frame helps.
    #[must_use = "a cut list needs a key frame"]
    pub fn handle_gap(&mut self, gap: Range<ExtSeq>, idle: bool, now: Instant) -> bool {
        let count = gap.end.0.saturating_sub(gap.start.0);
        if count == 0 {
            return false;
        }
        if self.missing.capacity() == 0 {
            self.missing.reserve_exact(MISSING_LIMIT);
        }
        let fits = |held: usize| held as u64 + count <= MISSING_LIMIT as u64;
        let mut cut = false;
        if !fits(self.missing.len()) {
            cut = !self.forget_before_key_frame() || !fits(self.missing.len());
        }
        if cut {
            self.abandon(count);
            return true;
        }
        let due = now + FIRST_NACK;
        self.missing
            .extend((gap.start.0..gap.end.0).map(|seq| Missing {
                seq: ExtSeq(seq),
                due,
                tries: 0,
                idle,
                told: false,
            }));
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        false
    }

    /// So many numbers more are missing, and none of all is worth asking for.
    pub fn abandon(&mut self, count: u64) {
        self.abandoned += self.missing.len() as u64 + count;
        self.clear();
    }

    /// A packet came, however late: it is not missing any more.
    pub fn handle_arrival(&mut self, seq: ExtSeq) {
        if let Ok(at) = self.missing.binary_search_by_key(&seq, |entry| entry.seq) {
            self.missing.remove(at);
        }
    }

    /// What is missing from `first` on, below `end`, carried nothing.
    pub fn handle_settled(&mut self, first: ExtSeq, end: ExtSeq) {
        let from = self.missing.partition_point(|entry| entry.seq < first);
        let to = self.missing.partition_point(|entry| entry.seq < end);
        self.missing.drain(from..to);
    }

    /// The first packet of a key frame came: what is older matters less.
    pub fn handle_key_frame(&mut self, seq: ExtSeq) {
        self.newest_key_frame = self.newest_key_frame.max(Some(seq));
    }

    /// Drops what a decoder no longer needs; false if nothing was dropped.
    fn forget_before_key_frame(&mut self) -> bool {
        let Some(key_frame) = self.newest_key_frame else {
            return false;
        };
        let old = self.missing.partition_point(|entry| entry.seq < key_frame);
        self.missing.drain(..old);
        self.abandoned += old as u64;
        old > 0
    }

    /// Nothing is missing any more: the upstream was muted.
    pub fn clear(&mut self) {
        self.missing.clear();
        self.next_due = None;
    }

    /// When [`poll_nacks`](Self::poll_nacks) has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_due.filter(|_| !self.missing.is_empty())
    }

    /// Is the packet newer than the last key frame, so that decoders miss it?
    #[must_use]
    pub fn is_missed(&self, seq: ExtSeq) -> bool {
        Some(seq) > self.newest_key_frame
    }

    /// Appends the numbers to ask for now, ascending, at most [`MISSING_LIMIT`]. Those asked for
    /// often enough are given up. With `unanswered`, those asked for [`UNANSWERED`] times are appended
    /// there, once; they are asked for all the same.
    pub fn poll_nacks(
        &mut self,
        rtt: Option<Duration>,
        now: Instant,
        out: &mut Vec<u16>,
        mut unanswered: Option<&mut Vec<ExtSeq>>,
    ) -> GivenUp {
        let mut given_up = GivenUp::default();
        if self.poll_timeout().is_none_or(|due| now < due) {
            return given_up;
        }
        let rtt = rtt.unwrap_or(DEFAULT_RTT);
        let (tries, hopeless) = if rtt < SHORT_RTT {
            (TRIES_SHORT, UNANSWERED_SHORT)
        } else {
            (TRIES, UNANSWERED)
        };
        let key_frame = self.newest_key_frame;
        self.missing.retain(|entry| {
            let keeps = entry.due > now || entry.tries < tries;
            if !keeps {
                self.abandoned += 1;
                let missed = Some(entry.seq) > key_frame;
                given_up.media |= missed && !entry.idle;
                given_up.likely_nothing |= missed && entry.idle;
            }
            keeps
        });
        let mut next_due = None::<Instant>;
        for entry in &mut self.missing {
            if entry.due <= now {
                if entry.tries >= hopeless
                    && !(entry.idle || entry.told)
                    && let Some(unanswered) = unanswered.as_deref_mut()
                {
                    entry.told = true;
                    unanswered.push(entry.seq);
                }
                out.push(entry.seq.wire());
                entry.due = now + retry_delay(rtt, entry.tries);
                entry.tries += 1;
            }
            next_due = Some(next_due.map_or(entry.due, |next| next.min(entry.due)));
        }
        self.next_due = next_due;
        given_up
    }

    /// Missing packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// Nothing missing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Packets given up so far.
    #[must_use]
    pub const fn abandoned(&self) -> u64 {
        self.abandoned
    }
}

/// How long after a NACK, `earlier` of which went before it, the next one is due: RTT x 1.25^k.
fn retry_delay(rtt: Duration, earlier: u8) -> Duration {
    // Beyond a few tries the cap holds anyway.
    let factor = 1.25f64.powi(i32::from(earlier.min(TRIES_SHORT)));
    rtt.min(MAX_RETRY)
        .mul_f64(factor)
        .clamp(MIN_RETRY, MAX_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Milliseconds after the gap at which one lost packet is asked for.
    fn asked_at(rtt: Duration) -> Vec<u64> {
        let start = instant();
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(9)..ExtSeq(10), false, start));
        let (mut times, mut harmed) = (Vec::new(), false);
        while let Some(due) = losses.poll_timeout() {
            let mut out = Vec::new();
            harmed |= losses.poll_nacks(Some(rtt), due, &mut out, None).media;
            times.extend(out.iter().map(|_| (due - start).as_millis() as u64));
        }
        assert_eq!((losses.abandoned(), harmed), (1, true));
        times
    }

    #[test]
    fn nacks_follow_the_table() {
        // First after 20 ms, then 70, 87.5, 109.4 and 136.7 ms apart.
        assert_eq!(asked_at(ms(70)), [20, 90, 177, 286, 423]);
        // The lower and the upper bound.
        assert_eq!(asked_at(ms(5)).len(), 10);
        assert_eq!(asked_at(ms(5))[..4], [20, 40, 60, 80]);
        assert_eq!(asked_at(ms(1000)), [20, 420, 820, 1220, 1620]);
    }

    #[test]
    fn nothing_is_asked_before_the_reorder_grace() {
        let now = instant();
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(1)..ExtSeq(3), false, now));
        let mut out = Vec::new();
        assert_eq!(
            losses.poll_nacks(None, now + ms(19), &mut out, None),
            GivenUp::default()
        );
        assert!(out.is_empty());
        losses.handle_arrival(ExtSeq(1));
        assert_eq!(
            losses.poll_nacks(None, now + ms(20), &mut out, None),
            GivenUp::default()
        );
        assert_eq!(out, [2]);
        losses.handle_arrival(ExtSeq(2));
        assert_eq!(losses.poll_timeout(), None);
    }

    #[test]
    fn too_many_losses_fall_back_on_the_newest_key_frame() {
        let now = instant();
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(0)..ExtSeq(400), false, now));
        losses.handle_key_frame(ExtSeq(300));
        assert!(!losses.handle_gap(ExtSeq(500)..ExtSeq(700), false, now));
        assert_eq!(losses.len(), 300);
        // Nothing older than the key frame is left to drop now.
        assert!(losses.handle_gap(ExtSeq(1000)..ExtSeq(1300), false, now));
        assert!(losses.is_empty());
        assert_eq!(losses.abandoned(), 300 + 300 + 300);
        assert_eq!(losses.poll_timeout(), None);
    }

    #[test]
    fn what_a_key_frame_has_made_useless_is_given_up_in_silence() {
        let mut losses = Losses::default();
        let mut now = instant();
        assert!(!losses.handle_gap(ExtSeq(1)..ExtSeq(2), false, now));
        losses.handle_key_frame(ExtSeq(5));
        while let Some(due) = losses.poll_timeout() {
            now = due;
            assert_eq!(
                losses.poll_nacks(None, now, &mut Vec::new(), None),
                GivenUp::default()
            );
        }
        assert_eq!(losses.abandoned(), 1);
    }

    #[test]
    fn what_carried_nothing_is_not_asked_for() {
        let now = instant();
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(1)..ExtSeq(7), false, now));
        losses.handle_settled(ExtSeq(3), ExtSeq(6));
        let mut out = Vec::new();
        assert_eq!(
            losses.poll_nacks(None, now + ms(20), &mut out, None),
            GivenUp::default()
        );
        assert_eq!(out, [1, 2, 6]);
        assert_eq!(losses.abandoned(), 0);
    }

    #[test]
    fn what_nobody_waits_for_is_asked_for_and_told_apart_when_given_up() {
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(1)..ExtSeq(2), true, instant()));
        let (mut out, mut told) = (Vec::new(), GivenUp::default());
        while let Some(due) = losses.poll_timeout() {
            told = losses.poll_nacks(None, due, &mut out, None);
        }
        assert!(told.likely_nothing && !told.media);
        assert_eq!((out.len(), losses.abandoned()), (usize::from(TRIES), 1));
    }

    #[test]
    fn what_was_asked_for_often_in_vain_is_told_once_and_asked_for_all_the_same() {
        let mut losses = Losses::default();
        assert!(!losses.handle_gap(ExtSeq(1)..ExtSeq(3), false, instant()));
        losses.handle_arrival(ExtSeq(2));
        let (mut out, mut unanswered, mut told) = (Vec::new(), Vec::new(), GivenUp::default());
        while let Some(due) = losses.poll_timeout() {
            told = losses.poll_nacks(None, due, &mut out, Some(&mut unanswered));
            let hopeless = out.len() > usize::from(UNANSWERED);
            assert_eq!(unanswered.len(), usize::from(hopeless));
        }
        assert_eq!(unanswered, [ExtSeq(1)]);
        assert_eq!(out.len(), usize::from(TRIES));
        // If it was media, decoders are wrong.
        assert!(told.media && !told.likely_nothing);
    }

    #[test]
    fn a_jump_over_more_than_the_limit_asks_for_a_key_frame_at_once() {
        let mut losses = Losses::default();
        assert!(losses.handle_gap(ExtSeq(0)..ExtSeq(30000), false, instant()));
        assert!(losses.is_empty());
    }

    proptest! {
        #[test]
        fn the_list_stays_sorted_and_bounded(
            steps in proptest::collection::vec((1u64..700, 0u64..100, any::<bool>()), 1..60),
        ) {
            let mut now = instant();
            let mut losses = Losses::default();
            let mut next = 0;
            for (count, wait, key) in steps {
                now += ms(wait);
                let _ = losses.handle_gap(ExtSeq(next)..ExtSeq(next + count), false, now);
                next += count + 1;
                if key {
                    losses.handle_key_frame(ExtSeq(next - 1));
                }
                losses.handle_arrival(ExtSeq(next.saturating_sub(3)));
                prop_assert!(losses.len() <= MISSING_LIMIT);
                let mut out = Vec::new();
                let _ = losses.poll_nacks(Some(ms(wait)), now, &mut out, None);
                prop_assert!(out.len() <= MISSING_LIMIT);
                let seqs: Vec<_> = losses.missing.iter().map(|entry| entry.seq).collect();
                prop_assert!(seqs.is_sorted());
                if !losses.is_empty() {
                    prop_assert!(losses.poll_timeout().is_some_and(|due| due > now));
                }
            }
        }
    }
}
