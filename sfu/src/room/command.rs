//! What may happen to a room: plain data, so that a room can be replayed from its commands.

use super::preference::{Preference, Reachable};
use crate::advertise::Gone;
use crate::config::codecs::Codec;
use crate::ice_servers::IceServer;
use crate::ids::{ParticipantSid, PeerId, SessionId};
use crate::media::message;
use proto::livekit;
use proto::token::Claims;
use std::net::IpAddr;

/// One thing that happens to a room.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once through a mailbox; a box for each request would cost more"
)]
pub enum Command {
    /// A participant joins on a fresh signalling connection.
    Join(Box<Join>),
    /// A participant's new signalling connection takes up where an old one was lost.
    Resume(Box<Resume>),
    /// A request from a participant's current connection.
    Request {
        /// The connection it came on; requests from a replaced one are ignored.
        session: SessionId,
        /// The request.
        request: livekit::signal_request::Message,
    },
    /// A connection ended without a leave.
    SessionLost {
        /// The connection.
        session: SessionId,
    },
    /// Media reports.
    Media(message::Event),
    /// The moment asked for by [`super::effect::Effect::WakeAt`] has come.
    Wake,
    /// The server's own side asks something.
    Admin(Admin),
}

/// A fresh join, checked and permitted by the outer layers.
#[derive(Debug, Clone)]
pub struct Join {
    /// The signalling connection.
    pub session: SessionId,
    /// The peer drawn for the participant.
    pub peer: PeerId,
    /// What the token says; identity is never empty.
    pub claims: Claims,
    /// The client, completed from the HTTP request.
    pub client: livekit::ClientInfo,
    /// Address of the client, for logs.
    pub address: Option<IpAddr>,
    /// Subscribe to everything by default?
    pub auto_subscribe: bool,
    /// Start with the lowest layer; the client will tell what it shows.
    pub adaptive_stream: bool,
    /// Replaces the token's metadata if not empty (right already checked).
    pub metadata: String,
    /// Merged over the token's attributes, empty values skipped (right already checked).
    pub attributes: Vec<(String, String)>,
    /// AddTrack requests that came with the join.
    pub add_tracks: Vec<livekit::AddTrackRequest>,
    /// The offer that came with the join.
    pub offer: Option<livekit::SessionDescription>,
    /// Codecs the client may use, after the operator's list and the client's known faults.
    pub publish_codecs: Vec<Codec>,
    /// Codecs it may receive.
    pub subscribe_codecs: Vec<Codec>,
    /// Answer with one codec a section.
    pub one_codec_per_section: bool,
    /// Tell the client no local address of ours beside a public one.
    pub outside_only: bool,
    /// The client has one connection to send by and another to receive by.
    pub dual: bool,
    /// In our offers to it a section may serve one track after another.
    pub reuse_sections: bool,
    /// Our offers to it are to leave it no choice of its DTLS role.
    pub passive_offers: bool,
    /// Known faults to tell the client of (LK signalling §4.3).
    pub client_configuration: Option<livekit::ClientConfiguration>,
    /// How its media may come.
    pub ways: Ways,
}

/// How a client's media may come.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// STUN and TURN servers, told with names of its own.
    pub ice_servers: Vec<IceServer>,
    /// What was found to be best when the identity was here last.
    pub preference: Preference,
}

/// A resume.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The new signalling connection.
    pub session: SessionId,
    /// Who resumes.
    pub identity: String,
    /// The sid the client believes it has; empty if it did not say.
    pub sid: Option<ParticipantSid>,
    /// Why.
    pub reason: livekit::ReconnectReason,
    /// The client as it is now.
    pub client: livekit::ClientInfo,
    /// For the reconnect message.
    pub client_configuration: Option<livekit::ClientConfiguration>,
    /// For the reconnect message, with fresh names.
    pub ice_servers: Vec<IceServer>,
}

/// Requests of the server's own side.
#[derive(Debug, Clone)]
pub enum Admin {
    /// Removes a participant (RemoveParticipant).
    Remove {
        /// Who.
        identity: String,
    },
    /// Removes a participant and all that join beside him with the same token.
    Expel {
        /// Who.
        identity: String,
    },
    /// The server is reached by other addresses now: clients whose own is gone are told to resume, which
    /// brings an ICE restart with the new ones.
    Readdress {
        /// By these nobody comes any more.
        gone: Vec<Gone>,
        /// Whoever is connected to one of these is left in peace.
        still: Vec<IpAddr>,
        /// By what they lead here.
        reachable: Reachable,
    },
    /// Ends the room for everyone (DeleteRoom).
    Close,
    /// The server goes down: clients are told to come back.
    Shutdown,
}
