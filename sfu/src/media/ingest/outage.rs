//! Was the road of a stream broken for so long that what was lost is of no use any more?
//!
//! Owns where the stream stood before a long pause, and where an outage ended. Never asks for anything.
//! Called by `upstream`.

use crate::units::ExtSeq;
use std::time::{Duration, Instant};

/// What was lost in a pause this long is of no use any more: senders keep about a second of it, it would
/// hold up the key frame, and push it out of our history.
const LEAST: Duration = Duration::from_secs(1);
/// So many packets in a row, right after a pause, are more than a slow picture loses.
const PACKETS: u64 = 16;
/// Of the packets that come after a pause the first may be old ones. Others are not waited for longer.
const LATELY: Duration = Duration::from_millis(300);

/// The last long pause of a stream.
#[derive(Debug, Default)]
pub struct Outage {
    /// When it ended, and the highest number before it.
    paused: Option<(Instant, ExtSeq)>,
    /// The first number after an outage.
    end: Option<ExtSeq>,
}

impl Outage {
    /// A packet came after such a pause; `highest` is the highest number before.
    pub fn handle_pause(&mut self, pause: Duration, highest: Option<ExtSeq>, now: Instant) {
        if let Some(highest) = highest.filter(|_| pause >= LEAST) {
            self.paused = Some((now, highest));
        }
    }

    /// Numbers were passed over, `gap` of them before `next`: true if they were lost in an outage.
    #[must_use]
    pub fn handle_gap(&mut self, gap: u64, next: ExtSeq, now: Instant) -> bool {
        let Some((at, highest)) = self.paused else {
            return false;
        };
        // What is lost in the burst that a slow picture is comes again soon.
        let is_one = gap >= PACKETS
            && next.0 - gap == highest.0 + 1
            && now.saturating_duration_since(at) < LATELY;
        if is_one {
            self.paused = None;
            self.end = Some(next);
        }
        is_one
    }

    /// A key frame begins with this number: true if decoders can go on with it after the last outage. One of
    /// before it, that comes late, shows nothing.
    #[must_use]
    pub fn is_over(&self, key_frame: ExtSeq) -> bool {
        self.end.is_none_or(|end| key_frame >= end)
    }
}
