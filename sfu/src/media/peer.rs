//! A participant's media endpoint: one transport, what it publishes, what it receives.
//!
//! Composed of named parts with their own state; it decides nothing itself. Owned by the plane.

pub mod downlink;
pub mod link;
pub mod uplink;

use crate::ids::PeerId;
use crate::media::estimate::feedback::FeedbackRecorder;
use crate::media::message::PeerSetup;
use crate::media::transport::Transport;
use crate::media::transport::ice::Credentials;
use crate::media::transport::negotiation::{Local, Negotiation};
use downlink::Downlink;
use link::Link;
use uplink::Uplink;

/// A peer.
#[derive(Debug)]
pub struct Peer {
    /// Who it is.
    pub id: PeerId,
    /// ICE, DTLS, SRTP.
    pub transport: Transport,
    /// Offers and answers.
    pub negotiation: Negotiation,
    /// What it publishes.
    pub uplink: Uplink,
    /// What it receives.
    pub downlink: Downlink,
    /// Transport-wide feedback owed to it.
    pub feedback: FeedbackRecorder,
    /// Round trip, report times, announced tracks.
    pub link: Link,
    /// Waits in the plane's list of peers whose deadlines may have moved.
    pub stirred: bool,
}

impl Peer {
    /// A peer that waits for its first offer.
    #[must_use]
    pub fn new(id: PeerId, setup: &PeerSetup, transport: Transport, link: Link) -> Self {
        Self {
            id,
            transport,
            negotiation: Negotiation::new(setup),
            uplink: Uplink::default(),
            downlink: Downlink::default(),
            feedback: FeedbackRecorder::new(link.ssrc),
            link,
            stirred: false,
        }
    }

    /// Our side of the next answer, with the credentials it is to tell.
    #[must_use]
    pub fn local(&self, credentials: &Credentials, candidates: Vec<String>) -> Local {
        Local {
            ufrag: credentials.ufrag.clone(),
            pwd: credentials.pwd.clone(),
            fingerprint: self.transport.fingerprint().to_owned(),
            candidates,
            session_id: self.link.session_id(),
        }
    }
}
