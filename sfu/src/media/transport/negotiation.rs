//! Offer and answer of one peer: the client's offers and our answers here, ours in `offering`.
//!
//! Owns the table of m-lines, which announced track each receiving section belongs to, which section
//! carries each forwarded track, and when the client must offer again. It never sees a packet, never
//! draws an SSRC, knows no name but the opaque labels it is given. Called by `media/peer.rs`.
//! (LK: signalling §4.4, §5.1, §6)

mod codecs;
mod demand;
mod extensions;
mod layers;
mod line;
mod remote;
pub mod offering;

pub use crate::media::transport::sdp::Local;
pub use codecs::Feedback;
pub use line::{AnnouncedSsrcs, Forwarding, Receiving, Sending, SentFormat};
pub use remote::Remote;

use crate::ids::TrackKey;
use crate::media::message::{PeerSetup, TrackSpec};
use crate::media::transport::sdp::{
    self, LocalDescription, RemoteDescription, Role, Section, SectionKind,
};
use demand::{Demand, Sections};
use line::{Announced, Incoming, Line};
use std::time::Instant;

/// Announced tracks without media; the room refuses the twenty-first, this is the second fence.
pub const MAX_ANNOUNCED: usize = 64;
/// Tracks forwarded to one peer: each needs a section of its own.
pub const MAX_FORWARDED: usize = sdp::MAX_SECTIONS;

/// Why an offer cannot be answered. All are the client's fault; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Not readable at all.
    #[error(transparent)]
    Unreadable(#[from] sdp::ParseError),
    /// Not all sections are in one BUNDLE group.
    #[error("the client wants more than one transport: a section is not bundled")]
    NotBundled,
    /// Bundled sections with different credentials or fingerprints.
    #[error("bundled sections have different credentials or fingerprints")]
    SeveralTransports,
    /// No section has ICE credentials.
    #[error("the description has no ICE credentials")]
    NoTransport,
    /// ICE credentials outside the grammar of RFC 8839 §5.4.
    #[error("the description's ICE credentials are malformed")]
    BadCredentials,
    /// No certificate fingerprint.
    #[error("the description has no certificate fingerprint")]
    NoFingerprint,
    /// The client insists on being the DTLS server, which we are.
    #[error("the description does not let us be the DTLS server")]
    NotDtlsClient,
    /// RTCP on a port of its own.
    #[error("the description does not multiplex RTCP")]
    NoRtcpMux,
    /// Fewer sections than before (RFC 3264 §8).
    #[error("the offer has fewer sections than the one before")]
    SectionsMissing,
    /// A live section changed its mid or kind.
    #[error("section {0} of the offer is another one than before")]
    SectionChanged(usize),
}

/// Why a track was not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// The client cannot receive it, by its setup or its last offer.
    #[error("no codec in common")]
    NoCommonCodec,
    /// [`MAX_ANNOUNCED`] or [`MAX_FORWARDED`] is reached.
    #[error("too many tracks")]
    TooMany,
}

/// The outcome of an offer. It has no `Debug`: the SDP holds our password.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub sdp: String,
    /// Every section that sends a track: mid and track.
    pub mids: Vec<(String, TrackKey)>,
    /// The client's transport.
    pub remote: Remote,
    /// Every section the client sends in.
    pub receiving: Vec<Receiving>,
    /// Every section we send a track in.
    pub sending: Vec<Sending>,
    /// Published tracks that ended with this offer.
    pub ended: Vec<TrackKey>,
    /// Forwarded tracks the client has no codec for; they are dropped.
    pub refused: Vec<TrackKey>,
}

/// The negotiation of one peer.
#[derive(Debug)]
pub struct Negotiation {
    setup: PeerSetup,
    lines: Vec<Line>,
    /// Announced tracks without a section, in the order announced.
    announced: Vec<Announced>,
    /// Forwarded tracks without a section, in the order subscribed.
    waiting: Vec<Forwarding>,
    demand: Demand,
    remote: Option<Remote>,
    answers: u64,
}

impl Negotiation {
    /// A peer that has not offered yet.
    #[must_use]
    pub fn new(setup: &PeerSetup) -> Self {
        Self {
            setup: setup.clone(),
            lines: Vec::new(),
            announced: Vec::new(),
            waiting: Vec::new(),
            demand: Demand::default(),
            remote: None,
            answers: 0,
        }
    }

    /// The client announced a track, before or after the offer that carries it. Returns its section
    /// if that was answered already.
    ///
    /// # Errors
    /// [`TrackError::TooMany`].
    pub fn publish(
        &mut self,
        track: TrackKey,
        spec: TrackSpec,
        now: Instant,
    ) -> Result<Option<Receiving>, TrackError> {
        if self.knows(track) {
            return Ok(None);
        }
        if self.announced.len() >= MAX_ANNOUNCED {
            return Err(TrackError::TooMany);
        }
        self.announced.push(Announced { track, spec });
        self.match_tracks();
        let bound = self.lines.iter().find(|line| is_bound(line, track));
        let receiving = bound.and_then(Line::receiving);
        // Bound, but to a section we answered `inactive`.
        if bound.is_some() && receiving.is_none() {
            self.demand.trigger(now);
        }
        Ok(receiving)
    }

    /// A published track is over for us.
    pub fn unpublish(&mut self, track: TrackKey) {
        self.announced.retain(|announced| announced.track != track);
        for line in self.lines.iter_mut().filter(|line| is_bound(line, track)) {
            line.incoming = Incoming::Ended;
        }
    }

    /// A track is to be sent to the client, in a section of its next offer.
    ///
    /// # Errors
    /// [`TrackError::NoCommonCodec`] if the setup or the last offer shows that it cannot be received,
    /// [`TrackError::TooMany`].
    pub fn subscribe(&mut self, forwarding: Forwarding, now: Instant) -> Result<(), TrackError> {
        // Never twice: the old stream would keep its section for ever.
        self.unsubscribe(forwarding.track, now);
        let sent = self.lines.iter().filter(|line| line.outgoing.is_some());
        if sent.count() + self.waiting.len() >= MAX_FORWARDED {
            return Err(TrackError::TooMany);
        }
        if self.hopeless(&forwarding) {
            return Err(TrackError::NoCommonCodec);
        }
        self.waiting.push(forwarding);
        self.demand.trigger(now);
        Ok(())
    }

    /// A track is no longer to be sent.
    pub fn unsubscribe(&mut self, track: TrackKey, now: Instant) {
        self.waiting.retain(|forwarding| forwarding.track != track);
        for line in &mut self.lines {
            if line.outgoing.as_ref().is_some_and(|out| out.track == track) {
                line.outgoing = None;
                line.released = true;
                self.demand.trigger(now);
            }
        }
    }

    /// Does this offer restart ICE? The answer then needs new credentials of ours too (RFC 8839
    /// §4.4.1.1). An offer that cannot be read restarts nothing.
    #[must_use]
    pub fn restarting(&self, sdp: &str) -> bool {
        let before = self.remote.as_ref();
        let offer = before.and_then(|_| RemoteDescription::parse(sdp).ok());
        let remote = offer.and_then(|offer| Remote::read(&offer, before).ok());
        remote.is_some_and(|remote| remote.ice_restart)
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// [`OfferError`]; the negotiation is as before the offer then.
    pub fn handle_offer(
        &mut self,
        sdp: &str,
        local: &Local,
        now: Instant,
    ) -> Result<Answered, OfferError> {
        let offer = RemoteDescription::parse(sdp)?;
        let remote = Remote::read(&offer, self.remote.as_ref())?;
        self.check_lines(&offer)?;
        let extmap_allow_mixed = offer.extmap_allow_mixed;
        let (ended, fresh) = self.take_sections(offer.sections);
        self.match_tracks();
        let refused = self.place();
        self.answers += 1;
        let answer = LocalDescription {
            role: Role::Answer,
            version: self.answers,
            extmap_allow_mixed,
            sections: self
                .lines
                .iter_mut()
                .map(|line| line.answer(&self.setup))
                .collect(),
        };
        self.demand.handle_answered(fresh, remote.ice_restart, now);
        self.ask_again(now);
        self.remote = Some(remote.clone());
        Ok(Answered {
            sdp: answer.write(local),
            mids: self.mids(),
            remote,
            receiving: self.receiving(),
            sending: self.sending(),
            ended,
            refused,
        })
    }

    /// What to ask of the client now: this many more receiving sections (audio, video), or with none
    /// of either just a new offer.
    pub fn poll_sections_needed(&mut self, now: Instant) -> Option<(u32, u32)> {
        // The first offer comes unasked.
        if self.answers == 0 {
            return None;
        }
        let (missing, _) = self.shortfall();
        let room = self.room();
        let request = self.demand.poll(missing, room, now)?;
        Some((request.audio, request.video))
    }

    /// When [`Self::poll_sections_needed`] may have something to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.demand.timeout().filter(|_| self.answers > 0)
    }

    /// Every section that sends a track: mid and track.
    #[must_use]
    pub fn mids(&self) -> Vec<(String, TrackKey)> {
        let sending = |line: &Line| {
            let out = line.outgoing.as_ref()?;
            Some((line.section.mid.clone(), out.track))
        };
        self.lines.iter().filter_map(sending).collect()
    }

    /// Every section the client sends in, as last answered.
    #[must_use]
    pub fn receiving(&self) -> Vec<Receiving> {
        self.lines.iter().filter_map(Line::receiving).collect()
    }

    /// Every section we send a track in, as last answered.
    #[must_use]
    pub fn sending(&self) -> Vec<Sending> {
        let sending = |line: &Line| line.sending(&self.setup);
        self.lines.iter().filter_map(sending).collect()
    }

    fn knows(&self, track: TrackKey) -> bool {
        self.announced
            .iter()
            .any(|announced| announced.track == track)
            || self.lines.iter().any(|line| is_bound(line, track))
    }

    /// Sections a client may still add.
    fn room(&self) -> usize {
        sdp::MAX_SECTIONS.saturating_sub(self.lines.len())
    }

    /// Lines keep their place; only a stopped one may become another (RFC 8829 §5.2.2).
    fn check_lines(&self, offer: &RemoteDescription) -> Result<(), OfferError> {
        if offer.sections.len() < self.lines.len() {
            return Err(OfferError::SectionsMissing);
        }
        for (index, (line, section)) in self.lines.iter().zip(&offer.sections).enumerate() {
            let named = section.mid.is_empty() || line.section.mid == section.mid;
            if line.accepted && !(named && line.section.kind == section.kind) {
                return Err(OfferError::SectionChanged(index));
            }
        }
        Ok(())
    }

    /// Takes the offer's sections into the table. Returns the published tracks that ended and how
    /// many sections the client added to receive in.
    fn take_sections(&mut self, sections: Vec<Section>) -> (Vec<TrackKey>, Sections) {
        let mut ended = Vec::new();
        let mut fresh = Sections::NONE;
        let mut data = false;
        for (index, section) in sections.into_iter().enumerate() {
            let mut line = Line::new(section, data, &self.setup);
            data |= line.accepted && line.section.kind == SectionKind::Application;
            match self.lines.get_mut(index) {
                Some(known) if line.section.mid.is_empty() => {
                    line.section.mid.clone_from(&known.section.mid);
                    ended.extend(known.handle_offer(line));
                }
                Some(known) if known.section.mid == line.section.mid => {
                    ended.extend(known.handle_offer(line));
                }
                known => {
                    if let Some(kind) = line.kind().filter(|_| line.spare()) {
                        fresh.add(kind);
                    }
                    match known {
                        Some(stopped) => *stopped = line,
                        None => self.lines.push(line),
                    }
                }
            }
        }
        (ended, fresh)
    }

    /// Gives waiting sections their tracks: by the client's id first, then the first announced track
    /// of the kind. (LK: signalling §5.1)
    fn match_tracks(&mut self) {
        for by_id in [true, false] {
            for line in &mut self.lines {
                let open = match line.incoming {
                    Incoming::Waiting => true,
                    Incoming::Ended => by_id,
                    Incoming::Nothing | Incoming::Bound(_) => false,
                };
                if !open {
                    continue;
                }
                let fits = |announced: &Announced| {
                    let spec = &announced.spec;
                    Some(spec.kind) == line.kind()
                        && (!by_id || spec.cids.iter().any(|cid| line.track_id() == Some(cid)))
                };
                if let Some(index) = self.announced.iter().position(fits) {
                    line.incoming = Incoming::Bound(self.announced.remove(index));
                }
            }
        }
    }

    /// Puts forwarded tracks into sections, in the order of both. Returns those no section could
    /// ever carry.
    fn place(&mut self) -> Vec<TrackKey> {
        let mut homeless = Vec::new();
        for line in &mut self.lines {
            let Some(out) = line.outgoing.take() else {
                continue;
            };
            if line.receives() && line.carries(&out) {
                line.outgoing = Some(out);
            } else {
                homeless.push(out);
            }
        }
        homeless.append(&mut self.waiting);
        let mut refused = Vec::new();
        for forwarding in homeless {
            let free = self
                .lines
                .iter()
                .position(|line| line.spare() && !line.released && line.carries(&forwarding));
            match free {
                Some(index) => self.lines[index].outgoing = Some(forwarding),
                None if self.hopeless(&forwarding) => refused.push(forwarding.track),
                None => self.waiting.push(forwarding),
            }
        }
        refused
    }

    /// Do the setup, or the sections the client would receive such a track in, lack its codec?
    fn hopeless(&self, forwarding: &Forwarding) -> bool {
        if !self.setup.subscribe.contains(&forwarding.needs()) {
            return true;
        }
        let receives = |line: &&Line| {
            line.kind() == Some(forwarding.kind())
                && !line.section.rejected
                && line.section.direction.receives()
        };
        let mut lines = self.lines.iter().filter(receives).peekable();
        lines.peek().is_some() && !lines.any(|line| line.carries(forwarding))
    }

    /// Of the waiting tracks, those that the next offers find no section for as things stand, and
    /// whether there is one for any of them.
    fn shortfall(&self) -> (Sections, bool) {
        let mut spare: Vec<&Line> = self.lines.iter().filter(|line| line.spare()).collect();
        let mut missing = Sections::NONE;
        let mut placeable = false;
        for forwarding in &self.waiting {
            let fits = |line: &&Line| line.carries(forwarding);
            match spare.iter().position(fits) {
                Some(index) => {
                    spare.swap_remove(index);
                    placeable = true;
                }
                None => missing.add(forwarding.kind()),
            }
        }
        (missing, placeable)
    }

    /// After an answer: tracks still wait, for a section just emptied or for one not there yet.
    fn ask_again(&mut self, now: Instant) {
        let (missing, placeable) = self.shortfall();
        if placeable || self.demand.lacks(missing, self.room()) {
            self.demand.trigger(now);
        }
    }
}

fn is_bound(line: &Line, track: TrackKey) -> bool {
    matches!(&line.incoming, Incoming::Bound(announced) if announced.track == track)
}

#[cfg(test)]
mod tests;
