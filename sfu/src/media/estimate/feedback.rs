//! What a publisher's congestion control must hear: which packets arrived, and when.
//!
//! Owns the arrivals not yet reported of one publisher's transport, for every SSRC, RTX and probes
//! included. Never judges them. Driven by packets and by a timer, so that a sender that stops still
//! gets its last report. Called by the peer. (LK: sfu-media §1.7, §9 trap 1)

use crate::rtp::twcc::{self, Arrival, Head, TICK_MICROS};
use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// Most of a second's packets must not wait longer than this. (LK: sfu-media §8.15)
const INTERVAL: Duration = Duration::from_millis(50);
/// Senders below 20 packets a second are not worth a report for each packet.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Packets that make a report due at once.
const REPORT_AT: usize = 100;
/// Arrivals held if nobody polls: one receive loop's worth. The oldest are dropped beyond.
pub const HELD_LIMIT: usize = 512;
/// Numbers this far behind the last report are of no use to the sender's estimate.
const LATE_LIMIT: u64 = 1000;
/// Largest feedback packet, a datagram's safe payload.
pub const FEEDBACK_LIMIT: usize = 1200;
/// Arrival times begin here, so that none is negative.
const FIRST_TICK: i64 = 1 << 16;

/// The recorder of one publisher's transport.
#[derive(Debug)]
pub struct FeedbackRecorder {
    sender: u32,
    media: u32,
    count: u8,
    origin: Option<Instant>,
    highest: Option<ExtSeq>,
    /// First number not reported yet.
    next: Option<u64>,
    /// Ascending.
    held: Vec<Arrival>,
    due: Option<Instant>,
    last_packet: Option<Instant>,
    dropped: u64,
}

impl FeedbackRecorder {
    /// A recorder that signs its reports with our SSRC of that transport.
    #[must_use]
    pub const fn new(sender: u32) -> Self {
        Self {
            sender,
            media: 0,
            count: 0,
            origin: None,
            highest: None,
            next: None,
            held: Vec::new(),
            due: None,
            last_packet: None,
            dropped: 0,
        }
    }

    /// A packet with this transport-wide number came on the stream `media`.
    pub fn record(&mut self, sequence: u16, media: u32, now: Instant) {
        if self.held.capacity() == 0 {
            self.held.reserve_exact(HELD_LIMIT);
        }
        self.media = media;
        // One round above zero: a number older than the first has its place.
        let first = ExtSeq(0x1_0000 + u64::from(sequence));
        let seq = self
            .highest
            .map_or(first, |highest| highest.nearest(sequence));
        let too_old = self.next.is_some_and(|next| seq.0 + LATE_LIMIT < next);
        if too_old || !self.hold(seq, now) {
            self.dropped += 1;
            return;
        }
        self.highest = self.highest.max(Some(seq));
        let slow = self
            .last_packet
            .is_none_or(|last| now.saturating_duration_since(last) > INTERVAL);
        self.last_packet = Some(now);
        let interval = if slow { SLOW_INTERVAL } else { INTERVAL };
        let due = self.due.map_or(now + interval, |due| due);
        self.due = Some(if self.held.len() >= REPORT_AT {
            now
        } else {
            due
        });
    }

    /// Inserts an arrival in order; false if it is already there.
    fn hold(&mut self, seq: ExtSeq, now: Instant) -> bool {
        let Err(mut at) = self.held.binary_search_by_key(&seq.0, |held| held.seq) else {
            return false;
        };
        let origin = *self.origin.get_or_insert(now);
        let micros = now.saturating_duration_since(origin).as_micros();
        let ticks = i64::try_from(micros / u128::from(TICK_MICROS)).unwrap_or(i64::MAX / 2);
        if self.held.len() == HELD_LIMIT {
            if at == 0 {
                return false;
            }
            self.held.remove(0);
            self.dropped += 1;
            at -= 1;
        }
        self.held.insert(
            at,
            Arrival {
                seq: seq.0,
                ticks: FIRST_TICK.saturating_add(ticks),
            },
        );
        true
    }

    /// When a report is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Writes one feedback packet, if due, and returns its length; to be called until `None`.
    pub fn poll_feedback(&mut self, out: &mut [u8], now: Instant) -> Option<usize> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let limit = out.len().min(FEEDBACK_LIMIT);
        let first = self.held.first()?.seq;
        let next = self.next.unwrap_or(first);
        // What was reported lost and came after all is reported alone: its neighbours' arrivals
        // are forgotten, and must not be called lost.
        let (base, end) = if first < next {
            (first, self.late_run(next))
        } else {
            (next, self.held.len())
        };
        let head = Head {
            sender: self.sender,
            media: self.media,
            count: self.count,
            base,
        };
        let run = self.held.get(..end)?;
        let Some(written) = out
            .get_mut(..limit)
            .and_then(|out| twcc::encode(out, &head, run))
        else {
            return self.skip(first);
        };
        let last = run.get(written.arrivals - 1)?.seq;
        self.next = Some(next.max(last + 1));
        self.held.drain(..written.arrivals);
        self.count = self.count.wrapping_add(1);
        if self.held.is_empty() {
            self.due = None;
        }
        Some(written.len)
    }

    /// How many of the first arrivals follow one another below `next`.
    fn late_run(&self, next: u64) -> usize {
        let first = self.held.first().map_or(0, |held| held.seq);
        let run = (first..next).zip(&self.held);
        run.take_while(|(seq, held)| *seq == held.seq).count()
    }

    /// The first arrival could not be told (the gap before it is longer than a report, or the
    /// buffer too small): starts anew with it next time.
    fn skip(&mut self, first: u64) -> Option<usize> {
        if self.next == Some(first) {
            self.dropped += self.held.len() as u64;
            self.held.clear();
            self.due = None;
        }
        self.next = Some(first);
        None
    }

    /// Arrivals not reported: duplicates, far too late, or held too long.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    type Statuses = Vec<(u16, Option<i64>)>;

    /// The next feedback packet, if one is due.
    fn poll(recorder: &mut FeedbackRecorder, now: Instant) -> Option<Statuses> {
        let mut out = [0; 1500];
        let len = recorder.poll_feedback(&mut out, now)?;
        assert!(len <= FEEDBACK_LIMIT);
        let packet = rtcp::packets(&out[..len]).next().expect("packet");
        let Ok(rtcp::Packet::TransportFeedback { sender: 9, body }) = packet else {
            panic!("not feedback: {packet:?}");
        };
        let feedback = twcc::Feedback::parse(body).expect("feedback");
        Some(feedback.statuses().collect())
    }

    fn numbers(statuses: &Statuses) -> Vec<(u16, bool)> {
        statuses
            .iter()
            .map(|(seq, at)| (*seq, at.is_some()))
            .collect()
    }

    #[test]
    fn a_fast_sender_is_reported_each_50_ms_and_a_slow_one_each_100() {
        let start = instant();
        let mut recorder = FeedbackRecorder::new(9);
        assert_eq!(recorder.poll_timeout(), None);
        recorder.record(1, 5, start);
        assert_eq!(recorder.poll_timeout(), Some(start + ms(100)));
        assert_eq!(poll(&mut recorder, start + ms(99)), None);
        assert!(poll(&mut recorder, start + ms(100)).is_some());
        assert_eq!(recorder.poll_timeout(), None);
        recorder.record(2, 5, start + ms(105));
        recorder.record(3, 5, start + ms(110));
        assert!(poll(&mut recorder, start + ms(205)).is_some());
        recorder.record(4, 5, start + ms(210));
        recorder.record(5, 5, start + ms(215));
        poll(&mut recorder, start + ms(310));
        recorder.record(6, 5, start + ms(220));
        assert_eq!(recorder.poll_timeout(), Some(start + ms(270)));
    }

    #[test]
    fn a_hundred_packets_are_reported_at_once() {
        let now = instant();
        let mut recorder = FeedbackRecorder::new(9);
        for sequence in 0..100 {
            recorder.record(sequence, 5, now);
        }
        assert_eq!(poll(&mut recorder, now).map(|found| found.len()), Some(100));
    }

    #[test]
    fn a_loss_between_two_reports_is_told() {
        let now = instant();
        let mut recorder = FeedbackRecorder::new(9);
        recorder.record(0xFFFE, 5, now);
        let first = poll(&mut recorder, now + ms(100)).expect("report");
        assert_eq!(numbers(&first), [(0xFFFE, true)]);
        recorder.record(1, 5, now + ms(100));
        let second = poll(&mut recorder, now + ms(200)).expect("report");
        assert_eq!(numbers(&second), [(0xFFFF, false), (0, false), (1, true)]);
        let ticks = second[2].1.expect("arrival") - first[0].1.expect("arrival");
        assert_eq!(ticks, 400);
    }

    #[test]
    fn what_was_called_lost_and_came_is_reported_alone() {
        let now = instant();
        let mut recorder = FeedbackRecorder::new(9);
        for sequence in [1, 2, 5] {
            recorder.record(sequence, 5, now);
        }
        poll(&mut recorder, now + ms(100)).expect("report");
        for sequence in [4, 3, 6] {
            recorder.record(sequence, 5, now + ms(100));
        }
        let later = now + ms(200);
        let late = poll(&mut recorder, later).expect("late ones");
        assert_eq!(numbers(&late), [(3, true), (4, true)]);
        let rest = poll(&mut recorder, later).expect("the rest");
        assert_eq!(numbers(&rest), [(6, true)]);
        assert_eq!(poll(&mut recorder, later), None);
    }

    #[test]
    fn duplicates_and_ancient_numbers_are_dropped() {
        let now = instant();
        let mut recorder = FeedbackRecorder::new(9);
        recorder.record(5000, 5, now);
        recorder.record(5000, 5, now);
        poll(&mut recorder, now + ms(100)).expect("report");
        recorder.record(4000, 5, now + ms(100));
        assert_eq!(recorder.dropped(), 2);
        assert_eq!(recorder.poll_timeout(), None);
    }

    #[test]
    fn a_recorder_nobody_polls_is_bounded() {
        let now = instant();
        let mut recorder = FeedbackRecorder::new(9);
        for sequence in 0..2000u16 {
            recorder.record(sequence, 5, now);
        }
        assert_eq!(recorder.held.len(), HELD_LIMIT);
        assert_eq!(recorder.dropped(), 2000 - HELD_LIMIT as u64);
        let found = poll(&mut recorder, now).expect("report");
        assert_eq!(found.last().map(|(seq, _)| *seq), Some(1999));
    }

    proptest! {
        /// Every packet is reported received exactly once, whatever order and pauses.
        #[test]
        fn every_arrival_is_reported_once(
            start: u16,
            steps in proptest::collection::vec((0u16..6, 0u16..5, 0u64..40), 1..300),
        ) {
            let mut now = instant();
            let mut recorder = FeedbackRecorder::new(9);
            let mut sent = BTreeMap::new();
            let mut told = BTreeMap::new();
            let mut sequence = 100u16;
            let mut collect = |recorder: &mut FeedbackRecorder, now| {
                while let Some(found) = poll(recorder, now) {
                    for (seq, at) in found {
                        if at.is_some() {
                            *told.entry(seq).or_insert(0) += 1;
                        }
                    }
                }
            };
            for (ahead, back, wait) in steps {
                now += ms(wait);
                sequence += ahead;
                let number = start.wrapping_add(sequence - back);
                if sent.insert(number, ()).is_none() {
                    recorder.record(number, 5, now);
                }
                collect(&mut recorder, now);
            }
            now += ms(100);
            collect(&mut recorder, now);
            prop_assert_eq!(recorder.poll_timeout(), None);
            prop_assert_eq!(told.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
            prop_assert!(told.values().all(|times| *times == 1));
        }

        #[test]
        fn any_numbers_are_recorded_without_panic_or_growth(
            packets in proptest::collection::vec((any::<u16>(), 0u64..20_000), 0..400),
        ) {
            let mut now = instant();
            let mut recorder = FeedbackRecorder::new(9);
            for (sequence, wait) in packets {
                now += ms(wait);
                recorder.record(sequence, 1, now);
                if sequence % 7 == 0 {
                    let mut polls = 0;
                    while poll(&mut recorder, now).is_some() {
                        polls += 1;
                        prop_assert!(polls <= HELD_LIMIT);
                    }
                }
                prop_assert!(recorder.held.len() <= HELD_LIMIT);
                prop_assert!(recorder.held.is_sorted_by_key(|held| held.seq));
            }
        }
    }
}
