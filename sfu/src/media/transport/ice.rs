//! One peer's ICE-lite agent: it answers checks, follows the client's path, watches its consent.
//!
//! Owns credentials, valid paths, the selected one and the state of the connection. It has no
//! candidates (those are text, `candidates.rs`), and trusts an address only after a check from it was
//! signed with our password, or media from it sealed with the client's keys. It checks nothing itself,
//! but may ask a client how it sees us (`inquiry.rs`). Called by the transport for every STUN datagram
//! and for everything else that has been authenticated.
//!
//! Inputs are `handle_*`; what changed is fetched with [`Ice::poll_event`].

use crate::media::demux::{Path, Place, ice_chars};
use crate::media::message::{DISCONNECTED_AFTER, FAILED_AFTER};
use inquiry::Inquiry;
use rand::Rng;
use std::fmt;
use std::time::{Duration, Instant};

pub mod stun;
pub mod inquiry;

#[cfg(test)]
mod tests;

/// Valid paths remembered per peer; the demultiplexer routes as many addresses. The one silent for
/// longest makes room, but not the selected one.
pub const PATHS: usize = crate::media::demux::ADDRESSES_PER_CONNECTION;
/// Room an answer never exceeds: 20 header, 28 error, 20 unknown attributes, 24 signature, 8
/// fingerprint.
pub const ANSWER_MAX: usize = 128;
/// A path not heard of for this long no longer outdoes a freshly nominated one. Above the longest
/// pause of a client's consent checks, 6 s (RFC 7675 §5.1), and below [`DISCONNECTED_AFTER`].
const SILENT_AFTER: Duration = Duration::from_secs(8);
/// So long nothing is sent by a path that the client is to leave. libwebrtc tries no other one before it has
/// heard nothing by the old one for 2.5 s, looks each half a second, and takes the other one when that has
/// been better for a second. If there is none the old one serves on.
const HOLD_BACK: Duration = Duration::from_secs(6);
/// Characters of a password of ours: 144 bits. (RFC 8839 §5.4 wants 128)
const PASSWORD_CHARS: usize = 24;

/// The ufrag and password of one half of an ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Ours names the place of the peer too.
    pub ufrag: String,
    /// Signs checks of it and answers to them; a secret.
    pub pwd: String,
}

impl Credentials {
    /// Draws credentials of a peer at `place`: what everybody may see by `open`, the password by
    /// `secret`.
    #[must_use]
    pub fn random(place: Place, open: &mut impl Rng, secret: &mut impl Rng) -> Self {
        Self {
            ufrag: place.ufrag(open),
            pwd: ice_chars(PASSWORD_CHARS, secret),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// One ICE session: our half with its key, and the client's.
#[derive(Debug)]
struct Side {
    local: Credentials,
    key: stun::Key,
    remote: Option<Credentials>,
}

impl Side {
    fn new(local: Credentials) -> Self {
        Self {
            key: stun::Key::new(&local.pwd),
            local,
            remote: None,
        }
    }

    /// Is this `ours:theirs` of the session? Theirs counts once it is known.
    fn is_named(&self, username: &[u8]) -> bool {
        let Some(at) = username.iter().position(|&byte| byte == b':') else {
            return false;
        };
        let (ours, theirs) = (&username[..at], &username[at + 1..]);
        let expected = self.remote.as_ref().map(|remote| remote.ufrag.as_bytes());
        ours == self.local.ufrag.as_bytes() && expected.is_none_or(|expected| theirs == expected)
    }
}

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No check has come yet. Not timed here: the room gives a joining client its deadline.
    New,
    /// Heard of lately.
    Connected,
    /// Silent for [`DISCONNECTED_AFTER`].
    Disconnected,
    /// Silent for [`FAILED_AFTER`]. A check brings it back, for who has not given the peer up.
    Failed,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send there from now on.
    Selected(Path),
    /// The state of the connection; told after the path it came with.
    State(State),
    /// An ICE restart has taken effect, or a further one overtook it: this ufrag is over.
    Retired(String),
}

/// What became of a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Authentic: the address is the peer's.
    Accepted,
    /// Nobody we know signed it: 400 or 401.
    Unauthorized,
    /// Signed, but the client claims to be controlled, which a lite agent always is: 487.
    RoleConflict,
    /// Signed, but with attributes we do not understand: 420.
    UnknownAttributes,
}

/// The answer to a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Bytes written, to be sent back by the path the request came; 0 if they did not fit.
    pub len: usize,
    /// What became of the request.
    pub verdict: Verdict,
}

/// Numbers for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Checks accepted.
    pub accepted: u64,
    /// Checks refused, for whatever reason.
    pub refused: u64,
    /// Valid paths that made room for newer ones.
    pub paths_dropped: u64,
}

/// A path by which an authentic check has come.
#[derive(Debug, Clone, Copy)]
struct Valid {
    path: Path,
    /// PRIORITY of the check.
    priority: u32,
    /// Number of the ICE session in which the client nominated it, if it did.
    nominated: Option<u32>,
    heard: Instant,
}

/// Consent to send. (RFC 7675, LK: signalling §7.1)
#[derive(Debug)]
struct Consent {
    state: State,
    /// When something authentic last came.
    heard: Instant,
}

impl Consent {
    fn renew(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.state = State::Connected;
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::New | State::Failed => None,
            State::Connected => Some(self.heard + DISCONNECTED_AFTER),
            State::Disconnected => Some(self.heard + FAILED_AFTER),
        }
    }
}

/// Where to send.
#[derive(Debug, Default)]
struct Selection {
    path: Option<Path>,
    /// Authenticated media or DTLS last came by `path` then; before any has, priority decides.
    followed: Option<Instant>,
    /// When it last came by any.
    heard: Option<Instant>,
    /// So long none had come when another path took over.
    silence: Duration,
    /// Until then by no path but one that was checked since the last restart.
    held_until: Option<Instant>,
}

impl Selection {
    /// Another path takes over, by which no media has come yet.
    fn take(&mut self, path: Option<Path>, now: Instant) {
        let since = |heard| now.saturating_duration_since(heard);
        self.silence = self.heard.map_or(Duration::ZERO, since);
        self.followed = None;
        self.path = path;
    }
}

/// What has been told by [`Ice::poll_event`], and what has not.
#[derive(Debug)]
struct Told {
    path: Option<Path>,
    state: State,
    retired: Vec<String>,
}

/// The agent.
#[derive(Debug)]
pub struct Ice {
    current: Side,
    /// The session before a restart, until the new one is in use.
    previous: Option<Side>,
    /// The client is to come by another path from the next restart on.
    leaves: bool,
    /// Counts restarts.
    session: u32,
    valid: Vec<Valid>,
    selection: Selection,
    consent: Consent,
    told: Told,
    inquiry: Inquiry,
    counts: Counts,
}

impl Ice {
    /// Waits for checks; its own questions are made of `seed`, which nobody else has.
    #[must_use]
    pub fn new(local: Credentials, seed: [u8; 16], now: Instant) -> Self {
        Self {
            inquiry: Inquiry::new(seed),
            current: Side::new(local),
            previous: None,
            leaves: false,
            session: 0,
            valid: Vec::with_capacity(PATHS),
            selection: Selection::default(),
            consent: Consent {
                state: State::New,
                heard: now,
            },
            told: Told {
                path: None,
                state: State::New,
                retired: Vec::new(),
            },
            counts: Counts::default(),
        }
    }

    /// Our credentials, for the answer.
    #[must_use]
    pub const fn local(&self) -> &Credentials {
        &self.current.local
    }

    /// The client's half, from its description; checks must name it from now on.
    pub fn set_remote(&mut self, remote: Credentials) {
        self.current.remote = Some(remote);
    }

    /// The client is to come by another path than it does from its next restart on; or by any again, from now
    /// on.
    pub const fn leave(&mut self, leaves: bool) {
        self.leaves = leaves;
        if !leaves {
            self.selection.held_until = None;
        }
    }

    /// Begins a new ICE session, as the client asked by changing its ufrag or password, or as we offer.
    /// The client's half comes by [`Self::set_remote`]. The old credentials stay valid until the client
    /// uses a path it nominated with the new ones. If it is to leave its path they are not, and nothing is
    /// sent by it for a while; what comes by it is taken all the same.
    pub fn restart(&mut self, local: Credentials, now: Instant) {
        let old = std::mem::replace(&mut self.current, Side::new(local));
        let overtaken = self.previous.replace(old);
        self.told
            .retired
            .extend(overtaken.map(|side| side.local.ufrag));
        self.session = self.session.wrapping_add(1);
        self.inquiry.handle_restart();
        let held = self.selection.held_until.take();
        // A client that starts over once more has not found another one yet.
        let lost = self.selection.followed.is_none();
        let is_held = lost && held.is_some_and(|until| now < until);
        if std::mem::take(&mut self.leaves) || is_held {
            let left = self.previous.take();
            self.told.retired.extend(left.map(|side| side.local.ufrag));
            self.valid.clear();
            self.selection = Selection {
                held_until: now.checked_add(HOLD_BACK),
                heard: self.selection.heard,
                ..Selection::default()
            };
        }
    }

    /// Checks a binding request that came by `path` and writes the answer into `out`, for which
    /// [`ANSWER_MAX`] bytes suffice. (RFC 8489 §6.3, §9.1.3, RFC 8445 §7.3)
    pub fn handle_binding(
        &mut self,
        request: &stun::Request<'_>,
        path: Path,
        out: &mut [u8],
        now: Instant,
    ) -> Answer {
        let answer = self.answer(request, path, out);
        if answer.verdict != Verdict::Accepted {
            self.counts.refused += 1;
            return answer;
        }
        self.counts.accepted += 1;
        let nominated = request.use_candidate && self.is_current(request);
        self.note(path, request.priority.unwrap_or(0), nominated, now);
        self.consent.renew(now);
        self.reselect(path, nominated, now);
        answer
    }

    /// Authenticated SRTP, SRTCP or DTLS came by `path`: send there, and go on sending.
    pub fn handle_authenticated(&mut self, path: Path, now: Instant) {
        self.consent.renew(now);
        if self.is_held_back(path, now) {
            return;
        }
        if self.selection.path != Some(path) {
            self.selection.take(Some(path), now);
        }
        self.selection.followed = Some(now);
        self.selection.heard = Some(now);
        if self.previous.is_some() {
            self.complete_restart(path);
        }
    }

    /// How long no media had come when this path took over.
    #[must_use]
    pub const fn silence(&self) -> Duration {
        self.selection.silence
    }

    /// What carried a path is gone: send by the best of the others, and by none if there is none.
    /// The client is not silent for it; it may come by another path while its consent lasts. To which
    /// address of ours the path came makes no difference.
    pub fn handle_lost(&mut self, path: Path, now: Instant) {
        let gone = |other: Path| (other.carrier, other.remote) == (path.carrier, path.remote);
        self.valid.retain(|valid| !gone(valid.path));
        if self.selection.path.is_some_and(gone) {
            self.selection.take(self.best(now), now);
        }
    }

    /// We were away for so long and heard nobody: that is not the client's silence. To be called
    /// before anything that came meanwhile is read.
    pub fn excuse(&mut self, away: Duration) {
        self.consent.heard += away;
        self.inquiry.excuse(away);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(deadline) = self.consent.deadline()
            && now >= deadline
        {
            self.consent.state = match self.consent.state {
                State::Connected => State::Disconnected,
                _ => State::Failed,
            };
        }
    }

    /// When to call [`Self::handle_timeout`] at the latest. It moves with what arrives; asking again
    /// when it is due is enough.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.consent.deadline()
    }

    /// What changed since it was last asked; to be asked until there is nothing.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(ufrag) = self.told.retired.pop() {
            return Some(Event::Retired(ufrag));
        }
        if self.told.path != self.selection.path {
            self.told.path = self.selection.path;
            if let Some(path) = self.told.path {
                return Some(Event::Selected(path));
            }
        }
        if self.told.state != self.consent.state {
            self.told.state = self.consent.state;
            return Some(Event::State(self.told.state));
        }
        None
    }

    /// Where to send: where authenticated media or DTLS last came from; before any did, the
    /// nominated path of highest priority; before any was nominated, the best that was checked.
    #[must_use]
    pub const fn selected(&self) -> Option<Path> {
        self.selection.path
    }

    /// When something authentic came last, by any path.
    #[must_use]
    pub const fn heard(&self) -> Instant {
        self.consent.heard
    }

    /// How the connection stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.consent.state
    }

    /// Has the client no path that serves it, as far as we know: has it fallen silent, is a restart not
    /// through yet, or has nothing come yet by a path that it was not to leave?
    #[must_use]
    pub const fn is_searching(&self) -> bool {
        let left = self.selection.held_until.is_some() && self.selection.followed.is_none();
        let lives = matches!(self.consent.state, State::Connected);
        !lives || self.previous.is_some() || left
    }

    /// Numbers for the metrics.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Decides on a request and writes the answer.
    fn answer(&self, request: &stun::Request<'_>, path: Path, out: &mut [u8]) -> Answer {
        let refuse = |out, code, reason| Answer {
            len: stun::Writer::error(out, request, code, reason)
                .finish()
                .unwrap_or(0),
            verdict: Verdict::Unauthorized,
        };
        let Some(username) = request.username.filter(|_| request.is_signed()) else {
            return refuse(out, 400, "Bad Request");
        };
        let side = self.sides().find(|side| side.is_named(username));
        let Some(side) = side.filter(|side| request.verify(&side.key)) else {
            return refuse(out, 401, "Unauthorized");
        };
        let (writer, verdict) = if !request.unknown.as_slice().is_empty() {
            let writer = stun::Writer::error(out, request, 420, "Unknown Attribute");
            (writer.unknown(&request.unknown), Verdict::UnknownAttributes)
        } else if request.role == Some(stun::Role::Controlled) {
            let writer = stun::Writer::error(out, request, 487, "Role Conflict");
            (writer, Verdict::RoleConflict)
        } else {
            let writer = stun::Writer::success(out, request);
            (
                writer.mapped(path.remote, &request.transaction),
                Verdict::Accepted,
            )
        };
        Answer {
            len: writer.sign(&side.key).finish().unwrap_or(0),
            verdict,
        }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Was the (accepted) request signed for the current session?
    fn is_current(&self, request: &stun::Request<'_>) -> bool {
        request
            .username
            .is_some_and(|username| self.current.is_named(username))
    }

    /// Remembers a path by which an authentic check came.
    fn note(&mut self, path: Path, priority: u32, nominated: bool, now: Instant) {
        let nominated = nominated.then_some(self.session);
        if let Some(valid) = self.valid.iter_mut().find(|valid| valid.path == path) {
            valid.priority = priority;
            valid.nominated = nominated.or(valid.nominated);
            valid.heard = now;
            return;
        }
        if self.valid.len() >= PATHS {
            let selected = self.selection.path;
            let others = self
                .valid
                .iter()
                .enumerate()
                .filter(|(_, valid)| Some(valid.path) != selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, valid)| valid.heard) {
                self.valid.remove(oldest);
                self.counts.paths_dropped += 1;
            }
        }
        self.valid.push(Valid {
            path,
            priority,
            nominated,
            heard: now,
        });
    }

    /// Is it a path that the client is to leave, which it may not have had time for?
    fn is_held_back(&self, path: Path, now: Instant) -> bool {
        // Where another one is checked already the client is about to take it.
        let longer = if self.valid.is_empty() {
            Duration::ZERO
        } else {
            HOLD_BACK
        };
        let held = self.selection.held_until;
        held.is_some_and(|until| now < until + longer)
            && !self.valid.iter().any(|valid| valid.path == path)
    }

    /// A check came by `path`: does the selection change? Media outdoes checks as long as its path is
    /// alive and no newer session was nominated.
    fn reselect(&mut self, path: Path, nominated: bool, now: Instant) {
        if let Some(followed) = self.selection.followed {
            if self.selection.path == Some(path) {
                self.selection.followed = Some(followed.max(now));
                return;
            }
            let restarted = self.previous.is_some() && !self.is_nominated_anew(self.selection.path);
            let silent = now.saturating_duration_since(followed) >= SILENT_AFTER;
            if !(nominated && (silent || restarted)) {
                return;
            }
        }
        self.selection.take(self.best(now), now);
    }

    /// The best of the valid paths: alive, nominated in this session, nominated at all, of highest
    /// priority, in this order.
    fn best(&self, now: Instant) -> Option<Path> {
        let best = self.valid.iter().rev().max_by_key(|valid| {
            let alive = now.saturating_duration_since(valid.heard) < SILENT_AFTER;
            let anew = valid.nominated == Some(self.session);
            (alive, anew, valid.nominated.is_some(), valid.priority)
        });
        best.map(|valid| valid.path)
    }

    fn is_nominated_anew(&self, path: Option<Path>) -> bool {
        let mut nominated = self
            .valid
            .iter()
            .filter(|valid| valid.nominated == Some(self.session));
        nominated.any(|valid| Some(valid.path) == path)
    }

    /// Ends the old session once the client uses a path it nominated in the new one.
    fn complete_restart(&mut self, path: Path) {
        if self.is_nominated_anew(Some(path))
            && let Some(side) = self.previous.take()
        {
            self.told.retired.push(side.local.ufrag);
        }
    }
}
