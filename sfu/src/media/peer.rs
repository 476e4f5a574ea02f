//! A participant's media endpoint: its connections, what it publishes, what it receives.
//!
//! Composed of named parts with their own state; it decides nothing itself. Owned by the plane.

pub mod connections;
pub mod downlink;
pub mod link;
pub mod uplink;

use crate::ids::{PeerId, TrackKey};
use crate::media::estimate::feedback::FeedbackRecorder;
use crate::media::estimate::heavy_loss::HeavyLoss;
use crate::media::message::PeerSetup;
use crate::media::transport::candidates::Told;
use crate::media::transport::negotiation::offering::Offering;
use crate::media::transport::negotiation::{Forwarding, Negotiation, TrackError};
use connections::Connections;
use downlink::Downlink;
use link::Link;
use std::time::Instant;
use uplink::Uplink;

/// A peer.
#[derive(Debug)]
pub struct Peer {
    /// Who it is.
    pub id: PeerId,
    /// ICE, DTLS, SRTP: once, or once for each direction.
    pub connections: Connections,
    /// The client's offers and our answers.
    pub negotiation: Negotiation,
    /// Our offers, on the connection of the subscriber if there is one.
    pub offering: Option<Offering>,
    /// What it publishes.
    pub uplink: Uplink,
    /// What it receives.
    pub downlink: Downlink,
    /// Transport-wide feedback owed to it.
    pub feedback: FeedbackRecorder,
    /// Round trip, report times, announced tracks.
    pub link: Link,
    /// Of what it sends.
    pub loss_up: HeavyLoss,
    /// Of what it is sent.
    pub loss_down: HeavyLoss,
    /// It knows of packet trailers.
    pub reads_trailers: bool,
    /// Which of our addresses it is told.
    pub told: Told,
    /// Waits in the plane's list of peers whose deadlines may have moved.
    pub stirred: bool,
}

impl Peer {
    /// A peer that waits for its first offer.
    #[must_use]
    pub fn new(id: PeerId, setup: &PeerSetup, connections: Connections, link: Link) -> Self {
        Self {
            id,
            connections,
            negotiation: Negotiation::new(setup),
            offering: None,
            uplink: Uplink::default(),
            downlink: Downlink::default(),
            feedback: FeedbackRecorder::new(link.ssrc),
            link,
            loss_up: HeavyLoss::default(),
            loss_down: HeavyLoss::default(),
            reads_trailers: setup.reads_trailers,
            told: Told {
                outside_only: setup.outside_only,
                tcp_only: false,
            },
            stirred: false,
        }
    }

    /// A track is to be sent to the client, in a section of its next offer or of ours.
    ///
    /// # Errors
    /// [`TrackError`].
    pub fn subscribe(&mut self, forwarding: Forwarding, now: Instant) -> Result<(), TrackError> {
        match &mut self.offering {
            Some(offering) => offering.subscribe(forwarding, now),
            None => self.negotiation.subscribe(forwarding, now),
        }
    }

    /// A track is no longer to be sent.
    pub fn unsubscribe(&mut self, track: TrackKey, now: Instant) {
        match &mut self.offering {
            Some(offering) => offering.unsubscribe(track, now),
            None => self.negotiation.unsubscribe(track, now),
        }
    }
}
