//! What waits for one client on one channel.
//!
//! Owns the two policies: reliable messages wait up to a limit, beyond which the client is too slow;
//! lossy ones wait only as long as they are worth something. Used by `data_channel`.

use super::super::sctp::{Protocol, Sctp};
use super::Sent;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reliable bytes that may wait for one client. A picture sent to a slow line fits; who is further
/// behind would only fall back more. Messages are shared by all who wait for them.
pub(super) const RELIABLE_MAX: usize = 4 * 1024 * 1024;
/// Reliable messages that may wait for one client: small ones cost more than their bytes.
pub(super) const RELIABLE_MESSAGES_MAX: usize = 32 * 1024;
/// Bytes of a channel handed to SCTP ahead of their sending: enough to fill 20 Mbit/s at 100 ms
/// round trip.
const FED_MAX: usize = 256 * 1024;
/// Lossy messages are dropped when more waits than is sent in this time. (LK: signalling §6.9)
const LOSSY_WITHIN: Duration = Duration::from_millis(100);
/// What may wait however slow the client is. (LK: signalling §6.9)
const LOSSY_MIN: usize = 8 * 1024;
/// What may wait however fast it is: more is no burst.
const LOSSY_MAX: usize = 1024 * 1024;
/// Bytes per second assumed of a client until it shows what it takes.
const RATE_INITIAL: f64 = 1_000_000.0;
/// The rate is measured over this time.
const RATE_WINDOW: Duration = Duration::from_millis(200);

/// The queue of a reliable channel.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    /// Where it is sent.
    pub(super) stream: Option<u16>,
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// In SCTP when last looked.
    fed: usize,
    /// It fell behind: nothing more is queued.
    given_up: bool,
}

impl Reliable {
    pub(super) fn push(&mut self, message: &Bytes) -> Sent {
        if self.stream.is_none() || self.given_up {
            return Sent::Dropped;
        }
        if self.bytes + message.len() > RELIABLE_MAX || self.messages.len() >= RELIABLE_MESSAGES_MAX
        {
            self.given_up = true;
            return Sent::TooSlow;
        }
        self.bytes += message.len();
        self.messages.push_back(message.clone());
        Sent::Queued
    }

    pub(super) const fn waiting(&self) -> usize {
        self.bytes
    }

    /// Nothing waits, here or in SCTP.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.fed == 0
    }

    /// How much SCTP got rid of since last asked.
    pub(super) fn settle(&mut self, sctp: &mut Sctp) -> usize {
        let before = self.fed;
        self.fed = self.stream.map_or(0, |stream| sctp.buffered(stream));
        before.saturating_sub(self.fed)
    }

    pub(super) fn feed(&mut self, sctp: &mut Sctp) {
        let Some(stream) = self.stream else { return };
        while self.fed < FED_MAX
            && let Some(message) = self.messages.pop_front()
        {
            self.bytes -= message.len();
            if sctp.write(stream, Protocol::User, &message) {
                self.fed += message.len();
            }
        }
    }
}

/// The queue of a lossy channel.
#[derive(Debug, Default)]
pub(super) struct Lossy {
    /// Where it is sent.
    pub(super) stream: Option<u16>,
    messages: VecDeque<Bytes>,
    bytes: usize,
    rate: Option<Rate>,
    /// Bytes written to SCTP in all.
    written: usize,
}

impl Lossy {
    /// Another stream takes over.
    pub(super) fn move_to(&mut self, stream: u16) {
        self.stream = Some(stream);
        self.written = 0;
        self.rate = None;
    }

    pub(super) fn push(&mut self, message: &Bytes, sctp: &mut Sctp, now: Instant) -> Sent {
        let Some(stream) = self.stream else {
            return Sent::Dropped;
        };
        let backlog = self.bytes + sctp.buffered(stream);
        let limit = self
            .rate
            .map_or_else(|| limit(RATE_INITIAL), |rate| limit(rate.value));
        // What finds nothing before it is never too late.
        if backlog > 0 && backlog + message.len() > limit {
            return Sent::Dropped;
        }
        self.rate.get_or_insert_with(|| Rate::new(now));
        self.bytes += message.len();
        self.messages.push_back(message.clone());
        Sent::Queued
    }

    pub(super) const fn waiting(&self) -> usize {
        self.bytes
    }

    /// Hands SCTP the next message; its size, or `None` if there is none.
    pub(super) fn feed(&mut self, sctp: &mut Sctp, now: Instant) -> Option<usize> {
        let stream = self.stream?;
        let buffered = sctp.buffered(stream);
        if let Some(rate) = &mut self.rate {
            rate.handle_sent(self.written.wrapping_sub(buffered), buffered == 0, now);
        }
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        if sctp.write(stream, Protocol::User, &message) {
            self.written = self.written.wrapping_add(message.len());
        }
        Some(message.len())
    }
}

/// What may wait for a client that takes `rate` bytes a second.
fn limit(rate: f64) -> usize {
    let bytes = rate * LOSSY_WITHIN.as_secs_f64();
    (bytes as usize).clamp(LOSSY_MIN, LOSSY_MAX)
}

/// What a client takes, measured while something waits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    value: f64,
    since: Instant,
    /// What had been sent in all at the start of the window.
    base: usize,
    /// Nothing waited at some moment of the window: the client might have taken more.
    idle: bool,
}

impl Rate {
    const fn new(now: Instant) -> Self {
        Self {
            value: RATE_INITIAL,
            since: now,
            base: 0,
            idle: true,
        }
    }

    fn handle_sent(&mut self, sent: usize, idle: bool, now: Instant) {
        self.idle |= idle;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < RATE_WINDOW {
            return;
        }
        let measured = sent.saturating_sub(self.base) as f64 / elapsed.as_secs_f64();
        self.value = if self.idle {
            self.value.max(measured)
        } else {
            (self.value + measured) / 2.0
        };
        self.since = now;
        self.base = sent;
        self.idle = idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    #[test]
    fn a_client_that_lags_is_measured_and_one_that_rests_is_not_thought_slow() {
        let start = instant();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = Rate::new(start);
        rate.handle_sent(1000, true, at(1000));
        assert_eq!(rate.value, RATE_INITIAL, "it sent all there was");
        for second in 2..10_usize {
            rate.handle_sent(1000 + second * 10_000, false, at(1000 * second as u64));
        }
        assert!(rate.value < 30_000.0, "{}", rate.value);
        assert_eq!(limit(rate.value), LOSSY_MIN);
        assert_eq!(limit(RATE_INITIAL), 100_000);
        assert_eq!(limit(1e12), LOSSY_MAX);
    }
}
