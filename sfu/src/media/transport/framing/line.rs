//! One connection without its socket: frames both ways, and how long it is kept.
//!
//! Owns what is left of a frame, what waits to be written, and when something came and went last.
//! Decides when a connection is of no use any more; whoever has the socket closes it. Called by the
//! worker for each connection, and by the simulated world.

use super::{Deframer, Queue};
use std::time::{Duration, Instant};

/// Whoever sends nothing for so long has another path: checks come each half minute on a path that
/// is only kept in reserve.
const IDLE: Duration = Duration::from_secs(60);
/// A connection that takes nothing for so long is dead: a client counts as away after as long.
const STALLED: Duration = Duration::from_secs(10);
/// A check that is refused (a role to be settled, a password that was just changed) may be followed by
/// a better one: so many datagrams and so long a connection may be without a good one.
const STRANGE_DATAGRAMS: u8 = 8;
/// See [`STRANGE_DATAGRAMS`].
const STRANGE_FOR: Duration = Duration::from_secs(2);
/// How often [`Line::verdict`] is to be asked for.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed it, or the network broke it.
    Closed,
    /// It sent what is no frame.
    Malformed,
    /// Nobody here has passed a check on it, or he is gone.
    Unknown,
    /// Nothing came for a minute.
    Idle,
    /// It takes nothing any more.
    Stalled,
}

impl End {
    /// Every end; an end's place is its index where they are counted.
    pub const ALL: [Self; 5] = [
        Self::Closed,
        Self::Malformed,
        Self::Unknown,
        Self::Idle,
        Self::Stalled,
    ];

    /// In one word, as metrics have it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
        }
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whoever sent it is known by now: a connection begins with a check that makes him so.
    pub known: bool,
    /// Nothing more is taken before this is forwarded.
    pub full: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Line {
    deframer: Deframer,
    queue: Queue,
    /// Datagrams that came while nobody here was known behind it.
    strange: u8,
    /// When it came.
    since: Instant,
    /// When something came last.
    heard: Instant,
    /// When something was written last, or nothing waited.
    moved: Instant,
}

impl Line {
    /// A connection of which `deframer` holds what was read already.
    #[must_use]
    pub fn new(deframer: Deframer, now: Instant) -> Self {
        Self {
            deframer,
            queue: Queue::default(),
            strange: 0,
            since: now,
            heard: now,
            moved: now,
        }
    }

    /// Room to read into; never empty once [`Self::cut`] has cut all there was.
    pub fn room(&mut self) -> &mut [u8] {
        self.deframer.room()
    }

    /// So many bytes of [`Self::room`] were read.
    pub fn filled(&mut self, count: usize) {
        self.deframer.filled(count);
    }

    /// Hands on every frame that is whole, or those before `take` was full: false then, and it is to
    /// be called again before more is read.
    ///
    /// # Errors
    /// Why it is to be closed.
    pub fn cut(
        &mut self,
        now: Instant,
        mut take: impl FnMut(&mut [u8]) -> Taken,
    ) -> Result<bool, End> {
        while let Some(datagram) = self.deframer.next_frame().map_err(|_| End::Malformed)? {
            self.heard = now;
            let taken = take(datagram);
            if !taken.known {
                self.strange += 1;
                if self.strange >= STRANGE_DATAGRAMS {
                    return Err(End::Unknown);
                }
            }
            if taken.full {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a datagram behind the others as a frame.
    ///
    /// # Errors
    /// [`End::Stalled`]: there is no place, and nothing that could make some.
    pub fn push(&mut self, datagram: &[u8], now: Instant) -> Result<(), End> {
        if self.queue.is_empty() {
            self.moved = now;
        }
        self.queue.push(datagram, now).map_err(|_| End::Stalled)
    }

    /// Frames of media dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Frames that wait, one that is written in part too.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.queue.frames()
    }

    /// Something waits to be written.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What to write next; ask again after [`Self::wrote`].
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.queue.front()
    }

    /// So many bytes of [`Self::front`] are written.
    pub fn wrote(&mut self, count: usize, now: Instant) {
        self.moved = now;
        self.queue.wrote(count);
    }

    /// Is it of no use any more? `known`: somebody here is behind it.
    #[must_use]
    pub fn verdict(&self, known: bool, now: Instant) -> Option<End> {
        let past = |since, limit| now.saturating_duration_since(since) >= limit;
        if past(self.since, STRANGE_FOR) && !known {
            Some(End::Unknown)
        } else if self.waits() && past(self.moved, STALLED) {
            Some(End::Stalled)
        } else if past(self.heard, IDLE) {
            Some(End::Idle)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn line() -> (Line, Instant) {
        let now = Instant::now();
        (Line::new(Deframer::default(), now), now)
    }

    /// Reads so many frames of one byte, of somebody who is known or not.
    fn hear(line: &mut Line, frames: usize, known: bool, now: Instant) -> Result<bool, End> {
        for _ in 0..frames {
            line.room()[..3].copy_from_slice(&[0, 1, 7]);
            line.filled(3);
        }
        line.cut(now, |_| Taken { known, full: false })
    }

    #[test]
    fn who_is_not_known_has_so_many_datagrams_and_so_long() {
        let (mut stranger, now) = line();
        let most = usize::from(STRANGE_DATAGRAMS) - 1;
        assert_eq!(hear(&mut stranger, most, false, now), Ok(true));
        assert_eq!(hear(&mut stranger, 1, false, now), Err(End::Unknown));
        let (mut friend, now) = line();
        assert_eq!(hear(&mut friend, 100, true, now), Ok(true));
        let soon = now + STRANGE_FOR - MS;
        assert_eq!(friend.verdict(false, soon), None);
        assert_eq!(friend.verdict(false, soon + MS), Some(End::Unknown));
        assert_eq!(friend.verdict(true, soon + MS), None);
    }

    #[test]
    fn what_is_not_taken_now_is_there_the_next_time() {
        let (mut line, now) = line();
        line.room()[..9].copy_from_slice(&[0, 1, 1, 0, 1, 2, 0, 1, 3]);
        line.filled(9);
        let mut seen = Vec::new();
        for whole in [false, true] {
            let cut = line.cut(now, |frame| {
                seen.push(frame[0]);
                let full = seen.len() == 2;
                Taken { known: true, full }
            });
            assert_eq!(cut, Ok(whole));
        }
        assert_eq!(seen, [1, 2, 3]);
    }

    #[test]
    fn who_says_nothing_for_a_minute_is_idle() {
        let (mut line, now) = line();
        hear(&mut line, 1, true, now + MS).expect("kept");
        assert_eq!(line.verdict(true, now + IDLE), None);
        assert_eq!(line.verdict(true, now + IDLE + MS), Some(End::Idle));
    }

    #[test]
    fn who_takes_nothing_while_something_waits_is_stalled() {
        let (mut line, now) = line();
        let later = now + Duration::from_secs(20);
        line.push(b"one", later).expect("place");
        assert_eq!(
            line.verdict(true, later + STALLED - MS),
            None,
            "nothing waited before"
        );
        line.wrote(2, later + MS);
        assert_eq!(line.verdict(true, later + STALLED), None, "some went");
        let stalled = line.verdict(true, later + STALLED + MS);
        assert_eq!(stalled, Some(End::Stalled));
        line.wrote(3, later + STALLED + MS);
        assert_eq!(line.verdict(true, later + 2 * STALLED), None);
    }

    #[test]
    fn a_line_that_sends_no_frames_or_takes_only_control_is_told() {
        let (mut line, now) = line();
        line.room()[..2].copy_from_slice(&[0xFF, 0xFF]);
        line.filled(2);
        let taken = Taken {
            known: true,
            full: false,
        };
        assert_eq!(line.cut(now, |_| taken), Err(End::Malformed));
        let record = [22; 1000];
        let refused = (0..1000).find_map(|_| line.push(&record, now).err());
        assert_eq!(refused, Some(End::Stalled));
    }
}
