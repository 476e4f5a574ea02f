//! When a client is asked at which address it sees us, and what was asked.
//!
//! A question is a connectivity check by the path that is in use. A lite agent owes none (RFC 8445 §2.5), and
//! every full one answers: with the address the check came from, which is ours as the client sees it
//! (RFC 8445 §7.2.5.3.1). Where our address has changed behind our back the check comes from the new one,
//! and a client whose own network lets it in finds us there. Owns whom to ask when, and what of the answers
//! is to be believed of this client; what is made of them is `advertise`'s.

use super::stun::response::Response;
use super::stun::{Key, Transaction, Writer};
use super::{Ice, State};
use crate::media::demux::Path;
use crate::media::message::PathTransport;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Room a question never exceeds: 20 header, 4 and 272 for the longest two ufrags, 8 priority, 12 role, 24
/// signature, 8 fingerprint.
pub const QUESTION_MAX: usize = 352;

/// A client that is heard of is asked so often: as often as a STUN server would be.
const EVERY: Duration = Duration::from_secs(60);
/// One that has not been heard of for so long is asked at once: who sends or watches anything is heard of all
/// the time, and Chromium checks each two and a half seconds.
const QUIET_AFTER: Duration = Duration::from_secs(3);
/// And then this often, until it is heard of or given up: twelve times.
const QUIET_EVERY: Duration = Duration::from_secs(1);
/// Whose last question for this is not answered either has gone, or we have: no client's checks pause longer.
/// (RFC 7675 §5.1: 6 s) Whoever has answered such a question, and is only quiet, is asked no sooner.
const SILENT_AFTER: Duration = Duration::from_millis(6500);
/// Answers to so many questions are awaited: as many seconds a round trip may last.
const OPEN: u32 = 4;

/// A question to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Question {
    /// Bytes written; 0 if they did not fit.
    pub len: usize,
    /// The client has turned out to be silent with it: told once of each silence.
    pub for_silence: bool,
}

/// What an answer to a question of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// None: to no question that is open, or not signed by the client.
    Foreign,
    /// The client does not want to be asked, and is not any more.
    Refused,
    /// It sees us there.
    Seen(SocketAddr),
}

/// What the transactions of one connection are made of. A client that has been asked can tell none that comes
/// later, or it could answer from addresses where it never was.
struct Seed([u8; 16]);

impl Seed {
    fn transaction(&self, number: u32) -> Transaction {
        Key::of(&self.0).transaction(number)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The questions to one client.
#[derive(Debug)]
pub(super) struct Inquiry {
    seed: Seed,
    /// Since when it is on.
    since: Option<Instant>,
    /// The client does not answer such questions.
    refused: bool,
    /// It is quiet for longer than others, and there all the same.
    patient: bool,
    /// Questions so far, and how many of them are answered, or not to be any more.
    asked: u32,
    closed: u32,
    last: Option<(Path, Instant)>,
    /// When it was last heard of before it was told silent.
    silent_since: Option<Instant>,
}

impl Inquiry {
    pub(super) const fn new(seed: [u8; 16]) -> Self {
        Self {
            seed: Seed(seed),
            since: None,
            refused: false,
            patient: false,
            asked: 0,
            closed: 0,
            last: None,
            silent_since: None,
        }
    }

    /// The client may think otherwise of questions in its next session.
    pub(super) const fn handle_restart(&mut self) {
        self.refused = false;
        self.closed = self.asked;
    }

    /// Nothing could be heard for so long.
    pub(super) fn excuse(&mut self, away: Duration) {
        if let Some((_, last)) = &mut self.last {
            *last += away;
        }
    }

    /// When the client is to be asked that was last heard of then.
    fn due(&self, heard: Instant) -> Option<Instant> {
        let since = self.since.filter(|_| !self.refused)?;
        let Some((_, last)) = self.last else {
            return Some(since.max(heard));
        };
        let quiet_after = if self.patient {
            SILENT_AFTER
        } else {
            QUIET_AFTER
        };
        let quiet = (heard + quiet_after).max(last + QUIET_EVERY);
        Some(quiet.min(last + EVERY).max(since))
    }

    /// The transaction of the next question.
    fn ask(&mut self, path: Path, now: Instant) -> Transaction {
        if self.last.is_some_and(|(last, _)| !is_same(&last, &path)) {
            self.closed = self.asked;
        }
        self.asked = self.asked.wrapping_add(1);
        self.last = Some((path, now));
        self.seed.transaction(self.asked)
    }

    /// Is it silent that was last heard of then, though it has been asked since, and has not been told so?
    fn begins_silence(&mut self, heard: Instant, now: Instant) -> bool {
        let asked = self.last.is_some_and(|(_, at)| at > heard);
        let silent = asked && now.saturating_duration_since(heard) >= SILENT_AFTER;
        silent && self.silent_since.replace(heard) != Some(heard)
    }

    /// Which question this is the answer to, if to one that is open. The address of ours it came to does
    /// not matter.
    fn answered(&self, transaction: &Transaction, path: &Path) -> Option<u32> {
        self.last.filter(|(last, _)| is_same(last, path))?;
        let open = self.asked.wrapping_sub(self.closed).min(OPEN);
        let mut open = (0..open).map(|back| self.asked.wrapping_sub(back));
        open.find(|number| self.seed.transaction(*number) == *transaction)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    (one.carrier, one.remote) == (other.carrier, other.remote)
}

impl Ice {
    /// The client is asked how it sees us from then on, or is not.
    pub const fn handle_inquiring(&mut self, since: Option<Instant>) {
        self.inquiry.since = since;
    }

    /// By which path the client is asked next, and when; if there is one whose answer tells anything: the
    /// one of media, over UDP, and not while an ICE restart is on its way. The time moves with what arrives,
    /// as other deadlines do.
    #[must_use]
    pub fn poll_question(&self) -> Option<(Path, Instant)> {
        let path = self.selected()?;
        let alive = matches!(self.consent.state, State::Connected | State::Disconnected);
        let asked = alive
            && self.current.remote.is_some()
            && self.selection.followed.is_some()
            && self.previous.is_none()
            && path.carrier.transport() == PathTransport::Udp;
        let at = self.inquiry.due(self.consent.heard).filter(|_| asked)?;
        Some((path, at))
    }

    /// Writes the next question into `out`, for which [`QUESTION_MAX`] bytes suffice. Where there is no room
    /// for it it counts as asked all the same, and is lost.
    pub fn ask(&mut self, out: &mut [u8], now: Instant) -> Question {
        let (Some((path, _)), Some(remote)) = (self.poll_question(), &self.current.remote) else {
            return Question::default();
        };
        let for_silence = self.inquiry.begins_silence(self.consent.heard, now);
        let transaction = self.inquiry.ask(path, now);
        let names = [remote.ufrag.as_str(), self.current.local.ufrag.as_str()];
        let key = Key::new(&remote.pwd);
        let check = Writer::check(out, &transaction, names).sign(&key);
        Question {
            len: check.finish().unwrap_or(0),
            for_silence,
        }
    }

    /// An answer came by `path`: that the client agrees to be sent media is renewed with it, too. (RFC 7675
    /// §5.1)
    pub fn handle_response(&mut self, response: &Response<'_>, path: Path, now: Instant) -> Reply {
        let answered = self.inquiry.answered(&response.transaction, &path);
        let (Some(number), Some(remote)) = (answered, &self.current.remote) else {
            return Reply::Foreign;
        };
        if !response.verify(&Key::new(&remote.pwd)) {
            return Reply::Foreign;
        }
        self.inquiry.closed = number;
        let Some(seen) = response.mapped.filter(|_| response.error.is_none()) else {
            self.inquiry.refused = true;
            return Reply::Refused;
        };
        // It has said nothing else meanwhile, and is there.
        self.inquiry.patient |= now.saturating_duration_since(self.consent.heard) >= QUIET_AFTER;
        self.consent.renew(now);
        Reply::Seen(seen)
    }
}
