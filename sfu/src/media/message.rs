//! The contract between the control plane and media: one enum in, one enum out, plain data.
//!
//! The room never sees a packet; media never sees a name, a permission or a room. Labels that end
//! up in an SDP are opaque strings here. Media applies commands in the order given and answers with
//! events; an event tells a change, never a repetition.

use crate::config::codecs::{Codec, h264};
use crate::ids::{MediaKind, PeerId, TrackKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// What the control plane asks of media. A command for a peer or track that is gone is ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a peer; it waits for the client's first offer.
    AddPeer {
        /// The peer, drawn by placement.
        peer: PeerId,
        /// What it may send and receive.
        setup: PeerSetup,
    },
    /// Ends a peer with all it publishes and receives.
    RemovePeer {
        /// The peer.
        peer: PeerId,
    },
    /// The client's offer; answered by [`Event::Answer`] or [`Event::OfferRefused`] with its id.
    Offer {
        /// The peer.
        peer: PeerId,
        /// The client's offer id, echoed in the answer.
        id: u32,
        /// The session description.
        sdp: String,
    },
    /// The client's answer to an [`Event::Offer`].
    Answer {
        /// The peer.
        peer: PeerId,
        /// The offer's id; 0 from clients that do not repeat it.
        id: u32,
        /// The session description.
        sdp: String,
    },
    /// We are to offer now, whatever there is to send. Ignored for a peer with a single connection.
    Negotiate {
        /// The peer.
        peer: PeerId,
        /// The client has come back by a new signalling connection: ICE starts over, and an offer
        /// whose answer may be lost is made again. Nothing if we never offered.
        restart: bool,
    },
    /// The client announced a track; its media will come in a section of an offer.
    Publish {
        /// The track.
        track: TrackKey,
        /// How to recognise and answer its section.
        spec: TrackSpec,
    },
    /// The track is over for the server, whatever the client still sends.
    Unpublish {
        /// The track.
        track: TrackKey,
    },
    /// The publisher muted or unmuted the track: a muted one is not forwarded.
    MuteTrack {
        /// The track.
        track: TrackKey,
        /// Muted from now on?
        muted: bool,
    },
    /// Dynacast: the highest spatial layer the publisher was last asked to send, `None` for none.
    ExpectLayers {
        /// The track.
        track: TrackKey,
        /// Highest spatial layer, 0 to 2.
        max: Option<u8>,
    },
    /// A peer is to receive a track that has started. Ends in [`Event::SubscriptionBound`] or
    /// [`Event::SubscriptionRefused`].
    Subscribe {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
        /// What the SDP names it.
        label: StreamLabel,
        /// The first wish.
        wish: Wish,
    },
    /// The opposite.
    Unsubscribe {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
    },
    /// What the subscriber wants to see of a track from now on.
    SetWish {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
        /// The wish.
        wish: Wish,
    },
    /// Whether the peer is told addresses of TCP only from now on, if there are any: it has trouble with
    /// UDP.
    TellTcp {
        /// The peer.
        peer: PeerId,
        /// Nothing else?
        only: bool,
    },
    /// The peer is to come by another path than it does: what it was told of the one it has is void from
    /// its next ICE restart on. What comes by it counts until there is another one.
    LeavePath {
        /// The peer.
        peer: PeerId,
        /// From its next restart on; false: it may come by any again, from now on.
        leaves: bool,
    },
    /// A data message for peers of one worker. Who has no such channel open gets nothing.
    SendData {
        /// The channel it goes on.
        channel: Channel,
        /// The message.
        #[serde(with = "list")]
        bytes: Bytes,
        /// The receivers; all on one worker, never none.
        peers: Vec<PeerId>,
    },
}

/// Bytes as a list of numbers, for the crate `bytes` is built without serde.
mod list {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Vec::deserialize(from).map(Bytes::from)
    }
}

impl Command {
    /// The worker that must apply the command.
    #[must_use]
    pub fn worker(&self) -> u8 {
        self.peers().first().map_or(0, |peer| peer.worker)
    }

    /// The peers it is for; most are for one.
    #[must_use]
    pub fn peers(&self) -> &[PeerId] {
        let peer = match self {
            Self::SendData { peers, .. } => return peers,
            Self::AddPeer { peer, .. }
            | Self::RemovePeer { peer }
            | Self::TellTcp { peer, .. }
            | Self::LeavePath { peer, .. }
            | Self::Offer { peer, .. }
            | Self::Answer { peer, .. }
            | Self::Negotiate { peer, .. }
            | Self::Subscribe { peer, .. }
            | Self::Unsubscribe { peer, .. }
            | Self::SetWish { peer, .. } => peer,
            Self::Publish { track, .. }
            | Self::Unpublish { track }
            | Self::MuteTrack { track, .. }
            | Self::ExpectLayers { track, .. } => &track.peer,
        };
        std::slice::from_ref(peer)
    }
}

/// Which of a peer's connections. A peer with a single one has that of the publisher, and it
/// serves both directions. (LK: `SignalTarget`)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The connection the client sends by; the client offers.
    Publisher,
    /// The connection the client receives by; we offer.
    Subscriber,
}

/// A session description of ours, and what is told with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Whom it is for.
    pub peer: PeerId,
    /// Of an answer, the id of its offer; of an offer its own, never 0.
    pub id: u32,
    /// The session description.
    pub sdp: String,
    /// Every section that sends a track now: its mid and the track. Always the full map.
    pub mids: Vec<(String, TrackKey)>,
    /// `candidate:…` lines to trickle; empty unless the ICE credentials are new.
    pub candidates: Vec<String>,
}

/// What media tells the control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The answer to an offer.
    Answer(Description),
    /// Our offer. The next one follows only after [`Command::Answer`].
    Offer(Description),
    /// We are reached by other addresses than its description said, which it has not been able to use
    /// yet.
    Candidates {
        /// The peer.
        peer: PeerId,
        /// Of which connection.
        side: Side,
        /// `candidate:…` lines to trickle.
        candidates: Vec<String>,
    },
    /// The client answered our offer with something unusable, or a connected one not in time: it
    /// must start over.
    AnswerRefused {
        /// The peer.
        peer: PeerId,
        /// Why, for the log.
        reason: String,
    },
    /// The offer could not be used; the client must start over.
    OfferRefused {
        /// The peer.
        peer: PeerId,
        /// The offer's id.
        id: u32,
        /// Why, for the log.
        reason: String,
    },
    /// Subscriptions found no section of the client's last offer: it must offer again with this
    /// many more receiving sections. Zero and zero asks for a new offer as it is.
    SectionsNeeded {
        /// The peer.
        peer: PeerId,
        /// Missing audio sections.
        audio: u32,
        /// Missing video sections.
        video: u32,
    },
    /// ICE and DTLS are up: media may flow. Again after a restart.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Which connection.
        side: Side,
        /// Where it is.
        path: PathReport,
    },
    /// Media now takes another path.
    PathChanged {
        /// The peer.
        peer: PeerId,
        /// Of which connection.
        side: Side,
        /// The new path.
        path: PathReport,
    },
    /// Nothing authenticated came for ten seconds; it may yet recover.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// By which connection.
        side: Side,
    },
    /// The peer is lost: consent expired or the handshake failed. It stays until removed.
    Failed {
        /// The peer.
        peer: PeerId,
        /// By which connection.
        side: Side,
        /// Why.
        reason: PeerFailure,
    },
    /// First media of a published track.
    TrackStarted {
        /// The track.
        track: TrackKey,
        /// The section it came in.
        mid: String,
        /// Its codec.
        codec: Codec,
        /// Its simulcast layers as negotiated; one entry without rid if there are none.
        layers: Vec<NegotiatedLayer>,
    },
    /// The client stopped sending the track: its section went inactive, or the track was replaced.
    TrackEnded {
        /// The track.
        track: TrackKey,
    },
    /// The subscriber has been told of the track in an answer, and is connected.
    SubscriptionBound {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
    },
    /// The subscriber cannot receive the track: no codec in common.
    SubscriptionRefused {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
    },
    /// The loudness of an audio track changed.
    Level {
        /// The track.
        track: TrackKey,
        /// Linear loudness in eighths, rounded up: 0 (silence) to 8. (LK: signalling §5.13)
        eighths: u8,
        /// Loud enough to count as speaking.
        active: bool,
    },
    /// `_reliable` and `_lossy` are both open towards the peer. Once.
    DataOpen {
        /// The peer.
        peer: PeerId,
    },
    /// The peer does not take its reliable data messages as fast as they come. Once: it gets no
    /// more of them.
    DataTooSlow {
        /// The peer.
        peer: PeerId,
    },
    /// A message came on a data channel. Not a change: it may wait while the room is busy.
    Data {
        /// The peer.
        peer: PeerId,
        /// The channel it came on.
        channel: Channel,
        /// The message.
        bytes: Bytes,
    },
    /// A connection by UDP has lost a quarter and more of what was sent by it for long: in 20 of 32
    /// seconds, one way or the other. Again when it has gone on for as long. (LK: signalling §7.5)
    HeavyLoss {
        /// The peer.
        peer: PeerId,
        /// Which connection.
        side: Side,
        /// The round trip of media, if it was measured.
        rtt: Option<Duration>,
    },
    /// The quality of a stream changed.
    Score {
        /// The stream.
        stream: ScoredStream,
        /// 0 (nothing arrives) to 100 (perfect). (LK: sfu-media §5)
        score: u8,
    },
}

impl Event {
    /// The peer the event is about, whose room must hear of it.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        match self {
            Self::Answer(description) | Self::Offer(description) => description.peer,
            Self::Candidates { peer, .. }
            | Self::AnswerRefused { peer, .. }
            | Self::OfferRefused { peer, .. }
            | Self::SectionsNeeded { peer, .. }
            | Self::Connected { peer, .. }
            | Self::PathChanged { peer, .. }
            | Self::Disconnected { peer, .. }
            | Self::Failed { peer, .. }
            | Self::SubscriptionBound { peer, .. }
            | Self::SubscriptionRefused { peer, .. }
            | Self::DataOpen { peer }
            | Self::DataTooSlow { peer }
            | Self::HeavyLoss { peer, .. }
            | Self::Data { peer, .. } => *peer,
            Self::TrackStarted { track, .. }
            | Self::TrackEnded { track }
            | Self::Level { track, .. } => track.peer,
            Self::Score { stream, .. } => match stream {
                ScoredStream::Published(track) => track.peer,
                ScoredStream::Subscribed { peer, .. } => *peer,
            },
        }
    }
}

/// What a new peer may send and receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSetup {
    /// Codecs it may publish.
    pub publish: Vec<Codec>,
    /// Codecs it may receive. RED is missing for clients that only pretend to know it.
    pub subscribe: Vec<Codec>,
    /// The formats of H264 that are switched on.
    pub h264: Vec<h264::Parameters>,
    /// It knows of packet trailers; for others they are cut off. (LK: signalling §9.4)
    pub reads_trailers: bool,
    /// Answer each section it sends in with one codec only: the client ignores their order.
    /// (Firefox on Linux and Android; LK signalling §6.6)
    pub one_codec_per_section: bool,
    /// Tell it no local address beside a public one: it takes no answer by a relay from an address it
    /// was not told. (Firefox; LK: server ops §8.1)
    pub outside_only: bool,
    /// A connection of its own for what the peer receives; `None` for a single one.
    pub subscriber: Option<SubscriberSetup>,
}

/// How we offer on the connection of the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberSetup {
    /// We open the data channels here, and the offer has a section for them: the client takes this
    /// connection for the primary one. (LK: signalling §6.9)
    pub data_channels: bool,
    /// A section whose track is gone takes another one. Old clients and Safari lose such tracks.
    /// (LK: signalling §9.3, §9.4)
    pub reuse_sections: bool,
    /// Our offers leave the client no choice of its DTLS role. Pion, told that we are lite, would
    /// choose to be the server, which we are; old browsers take no offer that does not let them
    /// choose.
    pub passive: bool,
}

/// A track the client announced, as far as its section and its media are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackSpec {
    /// Audio or video.
    pub kind: MediaKind,
    /// The client's ids for it: one for each codec it will send. An offer's section is matched by
    /// its msid track id, then by kind.
    pub cids: Vec<String>,
    /// The codec to put first in the answer; without one, the client's order stands.
    pub codec: Option<Codec>,
    /// Audio: answer RED first if offered.
    pub red: bool,
    /// Audio: ask for discontinuous transmission (`usedtx=1`).
    pub dtx: bool,
    /// Audio: two channels (`stereo=1`).
    pub stereo: bool,
    /// Slow pictures with long pauses: layers are not declared dead by the camera's clock.
    pub screen_share: bool,
    /// Its payloads are encrypted end to end.
    pub encrypted: bool,
    /// Its frames may end in LiveKit's packet trailer. (LK: sfu-media §2.12)
    pub trailers: bool,
    /// Starts muted.
    pub muted: bool,
    /// Announced video layers, lowest first; empty when not announced.
    pub layers: Vec<LayerSpec>,
}

/// One announced video layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// LiveKit's quality: 0 low, 1 medium, 2 high.
    pub quality: u8,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A video layer as the offer named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedLayer {
    /// Spatial layer, 0 lowest.
    pub spatial: u8,
    /// Its rid; empty without simulcast.
    pub rid: String,
}

/// What an SDP calls a forwarded track. (LK signalling §6.5)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLabel {
    /// The msid's stream id, `<participant sid>|<track sid>`; also the CNAME.
    pub stream_id: String,
    /// The msid's track id, the track sid.
    pub track_id: String,
}

/// What a subscriber wants of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// False: send nothing until further notice.
    pub enabled: bool,
    /// Highest spatial layer wanted, 0 to 2.
    pub spatial: u8,
    /// Highest temporal layer wanted, 0 to 3.
    pub temporal: u8,
}

impl Wish {
    /// Everything there is.
    pub const ALL: Self = Self {
        enabled: true,
        spatial: 2,
        temporal: 3,
    };
}

/// A data channel, by what its label means. (LK: signalling §6.9)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Channel {
    /// `_reliable`: packets in order, none lost.
    Reliable,
    /// `_lossy`: packets as they come.
    Lossy,
    /// `_data_track`: packets of data tracks.
    DataTrack,
    /// Any other label: the application's own.
    Other,
}

/// The selected candidate pair, for logs and API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathReport {
    /// Our advertised address.
    pub local: SocketAddr,
    /// The client's address as seen here.
    pub remote: SocketAddr,
    /// How it was reached.
    pub transport: PathTransport,
}

/// The transport of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathTransport {
    /// Plain UDP.
    Udp,
    /// TCP, each datagram in a frame. (RFC 4571, RFC 6544)
    Tcp,
    /// Our own TURN server. (RFC 8656)
    Turn,
}

impl PathTransport {
    /// As LiveKit names the type of a connection. (LK: server ops §12)
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Turn => "turn",
        }
    }
}

/// Why a peer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFailure {
    /// No authenticated check or media for fifteen seconds.
    ConsentExpired,
    /// The DTLS handshake failed or took too long.
    Handshake,
    /// Events could not be delivered: the control plane fell behind.
    Overload,
}

/// A stream that has a quality score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoredStream {
    /// From its publisher to us.
    Published(TrackKey),
    /// From us to one subscriber.
    Subscribed {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackKey,
    },
}

/// How long a peer may be silent before it counts as disconnected. (LK signalling §7.1)
pub const DISCONNECTED_AFTER: Duration = Duration::from_secs(10);
/// How long a peer may be silent before it counts as failed.
pub const FAILED_AFTER: Duration = Duration::from_secs(15);
