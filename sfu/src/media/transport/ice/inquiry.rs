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
/// the time, and browsers check each two and a half seconds.
const QUIET_AFTER: Duration = Duration::from_secs(3);
/// And then this often, until it is heard of or given up: twelve times.
const QUIET_EVERY: Duration = Duration::from_secs(1);
/// Whose last question for this is not answered either has gone, or we have: no client's checks pause longer.
/// (RFC 7675 §5.1: 6 s)
const SILENT_AFTER: Duration = Duration::from_millis(6500);

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

/// The questions to one client.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// Of this connection: nobody else can tell the next transaction.
    name: [u8; 8],
    on: bool,
    /// The client does not answer such questions.
    refused: bool,
    count: u32,
    last: Option<(Path, Instant)>,
    /// It is silent.
    silent: bool,
}

impl Inquiry {
    pub(super) const fn new(name: [u8; 8]) -> Self {
        Self {
            name,
            on: false,
            refused: false,
            count: 0,
            last: None,
            silent: false,
        }
    }

    pub(super) const fn switch(&mut self, on: bool) {
        self.on = on;
    }

    /// When the client is to be asked that was last heard of then.
    pub(super) fn due(&self, heard: Instant) -> Option<Instant> {
        if !self.on || self.refused {
            return None;
        }
        let Some((_, last)) = self.last else {
            return Some(heard);
        };
        let quiet = (heard + QUIET_AFTER).max(last + QUIET_EVERY);
        Some(quiet.min(last + EVERY))
    }

    /// The transaction of the next question.
    pub(super) fn ask(&mut self, path: Path, now: Instant) -> Transaction {
        self.count = self.count.wrapping_add(1);
        self.last = Some((path, now));
        self.transaction()
    }

    /// Is it silent, and has not been told so in this silence?
    pub(super) fn begins_silence(&mut self, heard: Instant, now: Instant) -> bool {
        let silent = now.saturating_duration_since(heard) >= SILENT_AFTER;
        silent && !std::mem::replace(&mut self.silent, silent)
    }

    /// Is this the answer to the last question? The address of ours it came to does not matter.
    pub(super) fn is_answer(&self, transaction: &Transaction, path: &Path) -> bool {
        let asked = self.last.map(|(path, _)| (path.carrier, path.remote));
        asked == Some((path.carrier, path.remote)) && *transaction == self.transaction()
    }

    /// The client has answered; or has refused to, and is not asked again.
    pub(super) const fn handle_answer(&mut self, refused: bool) {
        self.silent = false;
        self.refused = refused;
    }

    fn transaction(&self) -> Transaction {
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.name);
        transaction[8..].copy_from_slice(&self.count.to_be_bytes());
        transaction
    }
}

impl Ice {
    /// Is the client to be asked now and then how it sees us?
    pub const fn inquire(&mut self, on: bool) {
        self.inquiry.switch(on);
    }

    /// By which path the client is to be asked now.
    #[must_use]
    pub fn question_due(&self, now: Instant) -> Option<Path> {
        let (path, at) = self.next_question()?;
        (at <= now).then_some(path)
    }

    /// Writes the question that is due into `out`, for which [`QUESTION_MAX`] bytes suffice.
    pub fn ask(&mut self, out: &mut [u8], now: Instant) -> Question {
        let (Some((path, _)), Some(remote)) = (self.next_question(), &self.current.remote) else {
            return Question::default();
        };
        let transaction = self.inquiry.ask(path, now);
        let for_silence = self.inquiry.begins_silence(self.consent.heard, now);
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
        let asked = self.inquiry.is_answer(&response.transaction, &path);
        let Some(remote) = self.current.remote.as_ref().filter(|_| asked) else {
            return Reply::Foreign;
        };
        if !response.verify(&Key::new(&remote.pwd)) {
            return Reply::Foreign;
        }
        let Some(seen) = response.mapped.filter(|_| response.error.is_none()) else {
            self.inquiry.handle_answer(true);
            return Reply::Refused;
        };
        self.inquiry.handle_answer(false);
        self.consent.renew(now);
        Reply::Seen(seen)
    }

    /// By which path the client is asked next, and when; if there is one whose answer tells anything: the
    /// one of media, over UDP, and not while an ICE restart is on its way.
    pub(super) fn next_question(&self) -> Option<(Path, Instant)> {
        let path = self.selection.path?;
        let alive = matches!(self.consent.state, State::Connected | State::Disconnected);
        let asked = alive
            && self.current.remote.is_some()
            && self.selection.followed.is_some()
            && self.previous.is_none()
            && path.carrier.transport() == PathTransport::Udp;
        let at = self.inquiry.due(self.consent.heard).filter(|_| asked)?;
        Some((path, at))
    }
}
