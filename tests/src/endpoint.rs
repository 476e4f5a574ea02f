//! One peer connection of the `webrtc` crate, laid out as the single-connection clients do, and
//! what it receives. It knows no signalling.

use proto::livekit::{self, signal_response};
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_VP8,
};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpHeaderExtensionCapability, RtpCodecKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfiguration, RTCConfigurationBuilder, RTCIceGatheringState, RTCIceServer,
    RTCIceTransportPolicy, RTCPeerConnectionState, Registry, SettingEngineBuilder,
    SrtpProtectionProfile, register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// The codec names of the media the tests use.
pub const OPUS: &str = MIME_TYPE_OPUS;
/// See [`OPUS`].
pub const VP8: &str = MIME_TYPE_VP8;
/// See [`OPUS`].
pub const H264: &str = MIME_TYPE_H264;
/// See [`OPUS`].
pub const PCMU: &str = MIME_TYPE_PCMU;
/// See [`OPUS`].
pub const PCMA: &str = MIME_TYPE_PCMA;
/// The header extension that tells the server how loud a packet is (RFC 6464).
pub const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// The header extension that tells which section a packet belongs to (RFC 9143).
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// The recvonly sections of each kind in the first offer.
const SECTIONS: u32 = 3;

/// Where a connection's media is bound, and how it may be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// The address.
    pub at: &'static str,
    /// The only SRTP profile it offers; `None` for all the crate has.
    pub only: Option<SrtpProtectionProfile>,
}

/// A received media packet.
#[derive(Debug, Clone)]
pub struct Received {
    /// `participant sid|track sid`, from the SDP.
    pub stream: String,
    /// The track sid, from the SDP.
    pub track: String,
    /// The payload.
    pub payload: bytes::Bytes,
    /// The sequence number.
    pub sequence: u16,
    /// When it came.
    pub at: Instant,
}

/// All that a client has seen, in order.
#[derive(Debug, Default)]
pub struct Seen {
    /// Signal messages.
    pub messages: Vec<signal_response::Message>,
    /// Media packets.
    pub packets: Vec<Received>,
    /// Data channels that were open.
    pub opened: Vec<String>,
    /// Data channels that closed.
    pub shut: Vec<String>,
    /// Data channel messages: the channel's label, the bytes.
    pub data: Vec<(String, bytes::Bytes)>,
    /// The state of the peer connection, by name.
    pub state: String,
    /// The state of the one it receives by, if that is another.
    pub receiving: String,
    /// The signalling connection ended.
    pub closed: bool,
}

impl Seen {
    /// The payloads of a track from the `from`th packet on.
    pub fn payloads(&self, from: usize, track: &str) -> impl Iterator<Item = &bytes::Bytes> {
        let news = self.packets.get(from..).unwrap_or_default().iter();
        news.filter(move |packet| packet.track == track)
            .map(|packet| &packet.payload)
    }
}

/// Feeds what the peer connection reports into [`Seen`].
struct Ear {
    /// It is that of a connection only for receiving.
    receiver: bool,
    seen: Arc<watch::Sender<Seen>>,
    gathered: Arc<Notify>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Ear {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.seen.send_modify(|seen| {
            let field = if self.receiver {
                &mut seen.receiving
            } else {
                &mut seen.state
            };
            *field = state.to_string();
        });
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let label = channel.label().await.unwrap_or_default();
        tokio::spawn(listen(label, channel, Arc::clone(&self.seen)));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    // A section is handed on to other tracks: ask each time.
                    let (stream, name) = (track.stream_id().await, track.track_id().await);
                    let received = Received {
                        stream: stream.to_string(),
                        track: name.to_string(),
                        payload: packet.payload,
                        sequence: packet.header.sequence_number,
                        at: Instant::now(),
                    };
                    seen.send_modify(|seen| seen.packets.push(received));
                }
            }
        });
    }
}

/// The data channels of a client, by label.
pub type Channels = BTreeMap<&'static str, Arc<dyn DataChannel>>;

/// Opens the data channels LiveKit's clients open, and listens to them.
async fn channels(
    peer: &dyn PeerConnection,
    seen: &Arc<watch::Sender<Seen>>,
) -> webrtc::error::Result<Channels> {
    let lossy = || RTCDataChannelInit {
        ordered: false,
        max_retransmits: Some(0),
        ..Default::default()
    };
    let all = [
        ("_reliable", RTCDataChannelInit::default()),
        ("_lossy", lossy()),
        ("_data_track", lossy()),
        ("mine", RTCDataChannelInit::default()),
    ];
    let mut channels = Channels::new();
    for (label, init) in all {
        let channel = peer.create_data_channel(label, Some(init)).await?;
        tokio::spawn(listen(
            label.to_owned(),
            Arc::clone(&channel),
            Arc::clone(seen),
        ));
        channels.insert(label, channel);
    }
    Ok(channels)
}

async fn listen(label: String, channel: Arc<dyn DataChannel>, seen: Arc<watch::Sender<Seen>>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => seen.send_modify(|seen| seen.opened.push(label.clone())),
            DataChannelEvent::OnMessage(message) => {
                let message = (label.clone(), message.data.freeze());
                seen.send_modify(|seen| seen.data.push(message));
            }
            DataChannelEvent::OnClose => seen.send_modify(|seen| seen.shut.push(label.clone())),
            _ => {}
        }
    }
}

/// A peer connection with the sections a client offers first, and that offer with its candidates:
/// one, at the address given.
///
/// # Errors
/// Those of the crate.
pub async fn open(
    seen: Arc<watch::Sender<Seen>>,
    local: Local,
) -> webrtc::error::Result<(Arc<dyn PeerConnection>, Channels, String)> {
    let (peer, gathered) = connection(&seen, local, false).await?;
    sections(&*peer, RtpCodecKind::Audio, SECTIONS).await?;
    sections(&*peer, RtpCodecKind::Video, SECTIONS).await?;
    let channels = channels(&*peer, &seen).await?;
    let offer = peer.create_offer(None).await?;
    peer.set_local_description(offer).await?;
    gathered.notified().await;
    let offer = peer
        .local_description()
        .await
        .map(|offer| offer.sdp)
        .unwrap_or_default();
    Ok((peer, channels, offer))
}

/// Two peer connections, as older clients have them: one that offers what is published, and one
/// that waits for offers.
///
/// # Errors
/// Those of the crate.
pub async fn open_dual(
    seen: &Arc<watch::Sender<Seen>>,
    local: Local,
) -> webrtc::error::Result<(Arc<dyn PeerConnection>, Channels, Arc<dyn PeerConnection>)> {
    let (publisher, _) = connection(seen, local, false).await?;
    let channels = channels(&*publisher, seen).await?;
    let (subscriber, _) = connection(seen, local, true).await?;
    Ok((publisher, channels, subscriber))
}

async fn connection(
    seen: &Arc<watch::Sender<Seen>>,
    local: Local,
    receiver: bool,
) -> webrtc::error::Result<(Arc<dyn PeerConnection>, Arc<Notify>)> {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs()?;
    for uri in [LEVEL, MID] {
        let extension = RTCRtpHeaderExtensionCapability {
            uri: uri.to_owned(),
        };
        engine.register_header_extension(extension, RtpCodecKind::Audio, None)?;
    }
    let registry = register_default_interceptors(Registry::new(), &mut engine)?;
    let mut settings = SettingEngineBuilder::new();
    if let Some(profile) = local.only {
        settings = settings.with_srtp_protection_profiles(vec![profile]);
    }
    let gathered = Arc::new(Notify::new());
    let peer: Arc<dyn PeerConnection> = Arc::new(
        PeerConnectionBuilder::new()
            .with_setting_engine(settings.build())
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Ear {
                receiver,
                seen: Arc::clone(seen),
                gathered: Arc::clone(&gathered),
            }))
            .with_udp_addrs(vec![local.at])
            .build()
            .await?,
    );
    Ok((peer, gathered))
}

/// To use nothing but the relays of these servers.
#[must_use]
pub fn relayed(servers: &[livekit::IceServer]) -> RTCConfiguration {
    let servers = servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    RTCConfigurationBuilder::new()
        .with_ice_servers(servers.collect())
        .with_ice_transport_policy(RTCIceTransportPolicy::Relay)
        .build()
}

/// Adds sections to receive in.
///
/// # Errors
/// Those of the crate.
pub async fn sections(
    peer: &dyn PeerConnection,
    kind: RtpCodecKind,
    count: u32,
) -> webrtc::error::Result<()> {
    for _ in 0..count {
        let direction = RTCRtpTransceiverDirection::Recvonly;
        let init = RTCRtpTransceiverInit {
            direction,
            ..Default::default()
        };
        peer.add_transceiver_from_kind(kind, Some(init)).await?;
    }
    Ok(())
}
