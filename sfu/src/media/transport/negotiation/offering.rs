//! Our offers on the connection a client receives by, and its answers.
//!
//! Owns the table of our m-lines, which of them carries which forwarded track, and whose turn it is.
//! A removed track's section becomes inactive and then takes another track, so that a call of many
//! hours does not grow. It never sees a packet, never draws an SSRC, knows no name but the opaque
//! labels it is given. Called by the plane. (LK: signalling §4.5, §6, §7.2)

mod formats;
mod section;
mod turn;

use super::line::{Forwarding, Sending};
use super::remote::Remote;
use super::{MAX_FORWARDED, OfferError, TrackError};
use crate::config::codecs::Codec;
use crate::ids::TrackKey;
use crate::media::message::SubscriberSetup;
use crate::media::transport::sdp::{
    self, Local, LocalDescription, LocalSection, RemoteDescription, Role,
};
use section::OwnSection;
use std::time::Instant;
use turn::Turn;

/// Why an answer cannot be used. All are the client's fault; it must start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not readable at all.
    #[error(transparent)]
    Unreadable(#[from] sdp::ParseError),
    /// Its transport is not what we can speak with.
    #[error(transparent)]
    Transport(#[from] OfferError),
    /// Its sections are not those of our offer.
    #[error("the answer's sections are not those of the offer")]
    OtherSections,
}

/// What an offer is to be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The credentials in force.
    Offer,
    /// New ones: it restarts ICE.
    Restart,
}

/// An offer. It has no `Debug`: the SDP holds our password.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnOffer {
    /// Its number; the answer repeats it.
    pub id: u32,
    /// The offer.
    pub sdp: String,
    /// Every section that sends a track: mid and track.
    pub mids: Vec<(String, TrackKey)>,
}

/// What an answer brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The client's transport.
    pub remote: Remote,
    /// Every section we send a track in.
    pub sending: Vec<Sending>,
    /// Forwarded tracks the client has no codec for; they are dropped.
    pub refused: Vec<TrackKey>,
}

/// Our half of a peer's negotiation.
#[derive(Debug)]
pub struct Offering {
    codecs: Vec<Codec>,
    setup: SubscriberSetup,
    sections: Vec<OwnSection>,
    turn: Turn,
    /// The last offer's number, and how many there were.
    id: u32,
    offers: u64,
    remote: Option<Remote>,
    /// The next offer restarts ICE; not before the client has answered the first.
    restart: bool,
}

impl Offering {
    /// Nothing offered yet. `codecs` are those the client may receive, `first_id` is what offers are
    /// counted from.
    #[must_use]
    pub fn new(codecs: &[Codec], setup: SubscriberSetup, first_id: u32) -> Self {
        let channels = setup.data_channels;
        let application = channels.then(|| OwnSection::application("0".to_owned()));
        Self {
            codecs: codecs.to_vec(),
            setup,
            sections: application.into_iter().collect(),
            turn: Turn::default(),
            id: first_id,
            offers: 0,
            remote: None,
            restart: false,
        }
    }

    /// A track is to be sent to the client, from the next offer on.
    ///
    /// # Errors
    /// [`TrackError::NoCommonCodec`] if the setup or the answers so far show that it cannot be
    /// received, [`TrackError::TooMany`].
    pub fn subscribe(&mut self, forwarding: Forwarding, now: Instant) -> Result<(), TrackError> {
        // Never twice: the old stream would keep its section for ever.
        self.unsubscribe(forwarding.track, now);
        if self.hopeless(&forwarding) {
            return Err(TrackError::NoCommonCodec);
        }
        let kind = forwarding.kind();
        let full = self.sections.len() >= MAX_FORWARDED;
        let mut sections = self.sections.iter_mut();
        let free = sections.find(|section| section.is_free(kind));
        match free {
            Some(section) if self.setup.reuse_sections || full => section.assign(forwarding),
            _ if full => return Err(TrackError::TooMany),
            _ => {
                let mut section = OwnSection::media(self.sections.len().to_string(), kind);
                section.assign(forwarding);
                self.sections.push(section);
            }
        }
        self.turn.trigger(now);
        Ok(())
    }

    /// A track is no longer to be sent.
    pub fn unsubscribe(&mut self, track: TrackKey, now: Instant) {
        let carries = |section: &&mut OwnSection| {
            let out = section.outgoing();
            out.is_some_and(|out| out.track == track)
        };
        if let Some(section) = self.sections.iter_mut().find(carries) {
            section.release();
            self.turn.trigger(now);
        }
        // Only at the end: the others keep their place and name.
        while self.sections.last().is_some_and(OwnSection::is_needless) {
            self.sections.pop();
        }
    }

    /// Offers at once, or right after the answer that is awaited.
    pub fn negotiate(&mut self, now: Instant) {
        self.turn.force(now);
    }

    /// The client has come back by a new signalling connection: ICE starts over. An offer whose
    /// answer may be lost is made again; only a first one must be answered before. (LK: signalling
    /// §7.2)
    pub fn restart(&mut self, now: Instant) {
        if self.offers == 0 {
            return;
        }
        self.turn.withdraw();
        self.restart = true;
        self.turn.force(now);
    }

    /// Is an offer to be made now? Then [`Self::offer`] is to be called.
    pub fn poll_due(&mut self, now: Instant) -> Option<Due> {
        // A description needs a section.
        if self.sections.is_empty() || !self.turn.poll(now) {
            return None;
        }
        // A first offer never answered is repeated as it was.
        if self.remote.is_some() && std::mem::take(&mut self.restart) {
            return Some(Due::Restart);
        }
        Some(Due::Offer)
    }

    /// The offer that was due.
    pub fn offer(&mut self, local: &Local) -> OwnOffer {
        // 0 means to clients that there is no number.
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.offers += 1;
        let sections = self.sections.iter_mut();
        let sections: Vec<LocalSection> = sections
            .map(|section| section.offer(&self.codecs))
            .collect();
        let offer = LocalDescription {
            role: if self.setup.passive {
                Role::PassiveOffer
            } else {
                Role::Offer
            },
            version: self.offers,
            extmap_allow_mixed: true,
            sections,
        };
        OwnOffer {
            id: self.id,
            sdp: offer.write(local),
            mids: self.mids(),
        }
    }

    /// Takes the answer to an offer; `id` is the offer's, or 0 from clients that do not know it.
    /// `None` if no offer waits for it: it was withdrawn since, or is answered already.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn handle_answer(
        &mut self,
        id: u32,
        sdp: &str,
        now: Instant,
    ) -> Result<Option<Accepted>, AnswerError> {
        let withdrawn = id != 0 && id < self.id && u64::from(self.id - id) < self.offers;
        if withdrawn || !self.turn.is_outstanding() {
            return Ok(None);
        }
        let mut answer = RemoteDescription::parse(sdp)?;
        if self.setup.passive {
            // Pion says `passive` all the same, and then does as it was told.
            for section in &mut answer.sections {
                section.transport.setup = None;
            }
        }
        let remote = Remote::read(&answer, self.remote.as_ref())?;
        let pairs = self.sections.iter().zip(&answer.sections);
        // Sections made since stand in the next offer.
        let known = self.sections.iter().filter(|section| section.is_known());
        let same = pairs
            .take(answer.sections.len())
            .all(|(ours, theirs)| ours.is_answered_by(theirs));
        if known.count() != answer.sections.len() || !same {
            return Err(AnswerError::OtherSections);
        }
        let answered = self.sections.iter_mut().zip(answer.sections);
        let refused = answered
            .filter_map(|(ours, theirs)| ours.handle_answer(theirs))
            .collect();
        self.remote = Some(remote.clone());
        self.turn.handle_answer(now);
        if self.restart {
            self.turn.force(now);
        }
        Ok(Some(Accepted {
            remote,
            sending: self.sending(),
            refused,
        }))
    }

    /// Has a client that is connected left an offer unanswered for too long?
    pub fn poll_overdue(&mut self, connected: bool, now: Instant) -> bool {
        self.turn.poll_overdue(connected, now)
    }

    /// When [`Self::poll_due`] or [`Self::poll_overdue`] may have something to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.turn.timeout().filter(|_| !self.sections.is_empty())
    }

    fn mids(&self) -> Vec<(String, TrackKey)> {
        let sending = |section: &OwnSection| {
            let out = section.outgoing()?;
            Some((section.mid().to_owned(), out.track))
        };
        self.sections.iter().filter_map(sending).collect()
    }

    fn sending(&self) -> Vec<Sending> {
        let sections = self.sections.iter();
        sections
            .filter_map(|section| section.sending(&self.codecs))
            .collect()
    }

    /// Do the setup, or all answers so far, lack its codec?
    fn hopeless(&self, forwarding: &Forwarding) -> bool {
        if !self.codecs.contains(&forwarding.needs()) {
            return true;
        }
        let speaks = |section: &&OwnSection| section.speaks_for(forwarding.kind());
        let mut answered = self.sections.iter().filter(speaks).peekable();
        answered.peek().is_some() && !answered.any(|section| section.takes(forwarding))
    }
}

#[cfg(test)]
mod tests;
