//! One ICE, DTLS and SRTP association, as the plane sees it.
//!
//! Orders its parts: checks make the path, the path carries the handshake, the handshake yields the
//! keys and carries the data channels. It never looks into media or messages. SDP and negotiation stand beside it.

pub mod candidates;
pub mod framing;
pub mod ice;
pub mod dtls;
pub mod srtp;
pub mod sctp;
pub mod data_channel;
pub mod sdp;
pub mod negotiation;

use crate::media::demux::Path;
use crate::media::message::{Channel, PeerFailure};
use crate::media::pacer::Arena;
use bytes::Bytes;
use data_channel::{Channels, Sent};
use dtls::{Dtls, Keying, Output};
use ice::inquiry::{self, Question};
use ice::stun::response::Response;
use ice::{Credentials, Ice, State, stun};
use negotiation::Remote;
use serde::{Deserialize, Serialize};
use srtp::{Opener, Sealer};
use std::time::{Duration, Instant};

/// What changed at a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Path and keys are there: media may flow. Again when a lost path came back.
    Connected(Path),
    /// Media takes another path, after so long a silence.
    Moved(Path, Duration),
    /// Silent for ten seconds.
    Disconnected,
    /// Lost.
    Failed(PeerFailure),
    /// Checks for this ufrag are over.
    Retired(String),
    /// Both channels for data packets are open. Once.
    DataOpen,
}

/// How far a handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handshake {
    /// Not done.
    Open,
    /// Done; the client may still have to be described.
    Done,
    /// Failed, for good.
    Failed,
}

/// The keys of a finished handshake.
#[derive(Debug)]
struct Srtp {
    opener: Opener,
    sealer: Sealer,
}

/// A transport.
#[derive(Debug)]
pub struct Transport {
    ice: Ice,
    dtls: Dtls,
    srtp: Option<Srtp>,
    /// Made when the client begins to speak SCTP: many never do.
    channels: Option<Box<Channels>>,
    opens_channels: bool,
    /// Somebody asked for the keys: they are kept until taken.
    keeps_keys: bool,
    kept: Option<Keying>,
    fingerprint: String,
    /// The handshake broke; told once.
    broken: Option<PeerFailure>,
    dead: bool,
    /// [`Change::Connected`] was told, and no silence since.
    up: bool,
    /// The path told last.
    told: Option<Path>,
}

impl Transport {
    /// A transport that waits for checks; its own questions are made of `seed`, which nobody else has.
    #[must_use]
    pub fn new(
        (credentials, seed): (Credentials, [u8; 16]),
        shared: &dtls::Shared,
        now: Instant,
    ) -> Self {
        Self {
            ice: Ice::new(credentials, seed, now),
            dtls: Dtls::new(shared, now),
            srtp: None,
            channels: None,
            opens_channels: false,
            keeps_keys: false,
            kept: None,
            fingerprint: format!("sha-256 {}", shared.fingerprint()),
            broken: None,
            dead: false,
            up: false,
            told: None,
        }
    }

    /// Our credentials.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        self.ice.local()
    }

    /// `sha-256 AA:BB:…` of our certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// We open the data channels, not the client: to be said before it connects. (LK: signalling
    /// §6.9)
    pub const fn open_channels(&mut self) {
        self.opens_channels = true;
    }

    /// Do we open the data channels?
    #[must_use]
    pub const fn opens_channels(&self) -> bool {
        self.opens_channels
    }

    /// The keys are asked for: to be said before it connects.
    pub const fn keep_keys(&mut self) {
        self.keeps_keys = true;
    }

    /// The keys, once, if they were asked for.
    pub const fn take_keys(&mut self) -> Option<Keying> {
        self.kept.take()
    }

    /// The client is to come by another path from its next restart on, or by any again.
    pub const fn leave(&mut self, leaves: bool) {
        self.ice.leave(leaves);
    }

    /// New credentials for an ICE restart; keys and path stay until the new ones are used. Those of the
    /// client come with its description.
    pub fn restart(&mut self, credentials: Credentials, now: Instant) {
        self.ice.restart(credentials, now);
    }

    /// The client is asked from then on at which address it sees us, or is not.
    pub const fn handle_inquiring(&mut self, since: Option<Instant>) {
        self.ice.handle_inquiring(since);
    }

    /// The client's side, from its description.
    pub fn set_remote(&mut self, remote: &Remote) {
        self.ice.set_remote(Credentials {
            ufrag: remote.ufrag.clone(),
            pwd: remote.pwd.clone(),
        });
        let sha256 = remote
            .fingerprints
            .iter()
            .filter_map(|line| line.split_once(' '))
            .find(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"));
        let expected = match sha256 {
            Some((hash, hex)) => self.dtls.expect_fingerprint(hash, hex).is_ok(),
            None => false,
        };
        if !expected {
            self.fail(PeerFailure::Handshake);
        }
    }

    /// The client's certificate has become known, perhaps after its handshake.
    pub fn handle_described(&mut self, arena: &mut Arena<Path>, now: Instant) {
        if let Some(path) = self.ice.selected()
            && !self.dead
        {
            self.drain(Ok(()), path, arena, now);
        }
    }

    /// Our own absence is not the client's silence.
    pub fn excuse(&mut self, away: Duration) {
        self.ice.excuse(away);
    }

    /// Answers a connectivity check into the arena; true if it was authentic.
    pub fn handle_check(
        &mut self,
        request: &stun::Request<'_>,
        path: Path,
        arena: &mut Arena<Path>,
        now: Instant,
    ) -> bool {
        let Some(slot) = arena.slot(path, ice::ANSWER_MAX) else {
            return false;
        };
        let answer = self.ice.handle_binding(request, path, slot, now);
        arena.commit(answer.len);
        answer.verdict == ice::Verdict::Accepted
    }

    /// Takes the answer to a question of ours.
    pub fn handle_response(
        &mut self,
        response: &Response<'_>,
        path: Path,
        now: Instant,
    ) -> inquiry::Reply {
        self.ice.handle_response(response, path, now)
    }

    /// Asks the client how it sees us, if it is time to.
    pub fn poll_question(&mut self, arena: &mut Arena<Path>, now: Instant) -> Option<Question> {
        let (path, _) = self.next_question().filter(|(_, at)| *at <= now)?;
        let Some(slot) = arena.slot(path, inquiry::QUESTION_MAX) else {
            return Some(self.ice.ask(&mut [], now));
        };
        let question = self.ice.ask(slot, now);
        arena.commit(question.len);
        Some(question)
    }

    fn next_question(&self) -> Option<(Path, Instant)> {
        self.ice.poll_question().filter(|_| !self.dead)
    }

    /// Takes a DTLS datagram and answers by the path it came; false once the handshake has failed.
    pub fn handle_dtls(
        &mut self,
        datagram: &[u8],
        path: Path,
        arena: &mut Arena<Path>,
        now: Instant,
    ) -> bool {
        if self.dead {
            return false;
        }
        let keyed = self.srtp.is_some();
        let handled = self.dtls.handle(datagram, now);
        self.drain(handled, path, arena, now);
        if !keyed && self.srtp.is_some() {
            self.ice.handle_authenticated(path, now);
        }
        !self.dead
    }

    /// Sends what the handshake wants sent, takes the keys when it is done, and data.
    fn drain(
        &mut self,
        handled: Result<(), dtls::DtlsError>,
        path: Path,
        arena: &mut Arena<Path>,
        now: Instant,
    ) {
        let mut buffer = [0; dtls::BUFFER];
        let mut outcome = handled;
        while outcome.is_ok() {
            match self.dtls.poll(&mut buffer) {
                Ok(Some(Output::Transmit(bytes))) => {
                    if let Some(slot) = arena.slot(path, bytes.len()) {
                        slot.copy_from_slice(bytes);
                        arena.commit(bytes.len());
                    }
                }
                Ok(Some(Output::Connected(keying))) => {
                    let keys = srtp::keyed(&keying, srtp::Side::Server);
                    self.kept = self.keeps_keys.then_some(keying);
                    self.srtp = keys.map(|(opener, sealer)| Srtp { opener, sealer });
                    if self.srtp.is_none() {
                        self.fail(PeerFailure::Handshake);
                    }
                }
                Ok(Some(Output::Data(packet))) => {
                    let opens = self.opens_channels;
                    self.channels
                        .get_or_insert_with(|| Box::new(Channels::new(opens)))
                        .handle(packet, now);
                }
                // A closing client says so in signalling.
                Ok(Some(Output::Closed)) => {}
                Ok(None) => return,
                Err(error) => outcome = Err(error),
            }
        }
        if let Err(error) = outcome {
            tracing::debug!(%error, remote = %path.remote, "handshake failed");
            self.fail(PeerFailure::Handshake);
        }
    }

    fn fail(&mut self, reason: PeerFailure) {
        if !self.dead {
            self.dead = true;
            self.broken = Some(reason);
        }
    }

    /// How far the handshake is.
    #[must_use]
    pub const fn handshake(&self) -> Handshake {
        match (self.dead, self.dtls.is_finished()) {
            (true, _) => Handshake::Failed,
            (false, true) => Handshake::Done,
            (false, false) => Handshake::Open,
        }
    }

    /// The data channels, if the client speaks SCTP.
    pub fn channels_mut(&mut self) -> Option<&mut Channels> {
        self.channels.as_deref_mut()
    }

    /// Queues a data message for the client.
    pub fn send_data(&mut self, channel: Channel, message: &Bytes, now: Instant) -> Sent {
        match &mut self.channels {
            Some(channels) => channels.send(channel, message, now),
            None => Sent::Dropped,
        }
    }

    /// Sends what the data channels have, at most `max` packets; how many.
    pub fn flush_data(&mut self, max: usize, arena: &mut Arena<Path>, now: Instant) -> usize {
        let Some(path) = self.ice.selected().filter(|_| !self.dead) else {
            return 0;
        };
        for sent in 0..max {
            let packet = self
                .channels
                .as_mut()
                .and_then(|channels| channels.poll_packet(now));
            let Some(packet) = packet else {
                return sent;
            };
            let handed = self.dtls.send(&packet);
            self.drain(handed, path, arena, now);
        }
        max
    }

    /// Opens media; `None` before the handshake is done.
    pub fn opener(&mut self) -> Option<&mut Opener> {
        self.srtp.as_mut().map(|srtp| &mut srtp.opener)
    }

    /// Authentic media or feedback came by `path`; true if there is a change to tell of.
    pub fn handle_authenticated(&mut self, path: Path, now: Instant) -> bool {
        self.ice.handle_authenticated(path, now);
        !self.up || self.told != Some(path)
    }

    /// What carried a path is gone.
    pub fn handle_lost(&mut self, path: Path, now: Instant) {
        self.ice.handle_lost(path, now);
    }

    /// Where it was heard of last, and when; `None` before there are keys.
    #[must_use]
    pub fn last_heard(&self) -> Option<(Path, Instant)> {
        self.srtp.as_ref()?;
        Some((self.ice.selected()?, self.ice.heard()))
    }

    /// Where to send and with what; `None` until there are both.
    #[must_use]
    pub fn sending(&self) -> Option<(Path, &Sealer)> {
        Some((self.ice.selected()?, &self.srtp.as_ref()?.sealer))
    }

    /// The same for feedback, whose sealer counts.
    pub fn sending_mut(&mut self) -> Option<(Path, &mut Sealer)> {
        Some((self.ice.selected()?, &mut self.srtp.as_mut()?.sealer))
    }

    /// Path and keys are there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.sending().is_some()
    }

    /// The client looks for a path, or for another one.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        !self.is_connected() || self.ice.is_searching()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, arena: &mut Arena<Path>, now: Instant) {
        self.ice.handle_timeout(now);
        if let Some(channels) = self.channels.as_mut().filter(|_| !self.dead) {
            channels.handle_timeout(now);
        }
        if self.dead || self.dtls.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let Some(path) = self.ice.selected() else {
            return;
        };
        let handled = self.dtls.handle_timeout(now);
        self.drain(handled, path, arena, now);
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_question`] are wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self
            .dtls
            .poll_timeout()
            .filter(|_| !self.dead && self.ice.selected().is_some());
        let channels = self.channels.as_ref().filter(|_| !self.dead);
        let data = channels.and_then(|channels| channels.poll_timeout());
        let question = self.next_question().map(|(_, at)| at);
        [self.ice.poll_timeout(), question, dtls, data]
            .into_iter()
            .flatten()
            .min()
    }

    /// What changed; to be asked until there is nothing.
    pub fn poll_change(&mut self) -> Option<Change> {
        if let Some(reason) = self.broken.take() {
            return Some(Change::Failed(reason));
        }
        while let Some(event) = self.ice.poll_event() {
            match event {
                ice::Event::Retired(ufrag) => return Some(Change::Retired(ufrag)),
                ice::Event::State(State::Disconnected) => {
                    self.up = false;
                    return Some(Change::Disconnected);
                }
                ice::Event::State(State::Failed) => {
                    self.up = false;
                    return Some(Change::Failed(PeerFailure::ConsentExpired));
                }
                ice::Event::Selected(_) | ice::Event::State(_) => {}
            }
        }
        if let Some(change) = self.poll_path() {
            return Some(change);
        }
        let opened = self.channels.as_mut()?.poll_opened();
        opened.then_some(Change::DataOpen)
    }

    /// Tells of a connection once, and then of each path that differs from the one told before.
    fn poll_path(&mut self) -> Option<Change> {
        let usable = self.srtp.is_some() && !self.dead && self.ice.state() == State::Connected;
        let path = self.ice.selected().filter(|_| usable)?;
        let told = self.told.replace(path);
        if !self.up {
            self.up = true;
            return Some(Change::Connected(path));
        }
        (told != Some(path)).then(|| Change::Moved(path, self.ice.silence()))
    }
}
