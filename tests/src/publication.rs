//! A published track that keeps sending, and remembers all that it sent.

use crate::endpoint::{H264, LEVEL, MID, OPUS, PCMA, PCMU, VP8};
use crate::frames::{self, Clip};
use bytes::Bytes;
use proto::livekit;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::interval;
use webrtc::error::Result;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::PeerConnection;
use webrtc::rtp_transceiver::{
    RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpSender, RtpTransceiver,
};

/// The layers of a simulcast publication, lowest first.
pub const LAYERS: [&str; 3] = ["q", "h", "f"];
/// Loud speech, in -dBov (RFC 6464).
const LOUD: u8 = 20;

/// What has been sent: payloads by layer (`""` for one-layer tracks).
pub type Sent = Arc<Mutex<BTreeMap<String, Vec<Bytes>>>>;

/// A track being sent.
pub struct Publication {
    /// The track sid the server gave.
    pub sid: String,
    /// The client's own id for it.
    pub cid: String,
    sent: Sent,
    task: JoinHandle<()>,
}

impl Publication {
    /// All payloads of a layer so far.
    ///
    /// # Panics
    /// Never: the lock is not held across a panic.
    #[must_use]
    pub fn sent(&self, layer: &str) -> Vec<Bytes> {
        self.sent
            .lock()
            .expect("not poisoned")
            .get(layer)
            .cloned()
            .unwrap_or_default()
    }

    /// Starts sending.
    #[must_use]
    pub fn start(sid: String, source: Source) -> Self {
        let sent = Sent::default();
        let cid = source.cid.clone();
        let task = tokio::spawn(source.run(Arc::clone(&sent)));
        Self {
            sid,
            cid,
            sent,
            task,
        }
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A local track in the peer connection, not sending yet.
pub struct Source {
    cid: String,
    media: Media,
    /// Layer and SSRC.
    streams: Vec<(String, u32)>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    transceiver: Arc<dyn RtpTransceiver>,
}

/// What a sender was given by negotiation.
struct Negotiated {
    payload_type: u8,
    mid: (u8, Bytes),
    rid: Option<u8>,
    level: Option<u8>,
}

impl Source {
    /// Adds a section that sends: sound, or video in the given layers (none: one stream).
    ///
    /// # Errors
    /// Those of the crate.
    pub async fn add(peer: &dyn PeerConnection, cid: &str, media: Media) -> Result<Self> {
        let kind = media.kind();
        let layers: &[&str] = if media.is_simulcast() { &LAYERS } else { &[""] };
        let codec = RTCRtpCodec {
            mime_type: media.mime().to_owned(),
            clock_rate: media.clock_rate(),
            channels: if media == Media::Sound { 2 } else { 0 },
            sdp_fmtp_line: media.parameters().to_owned(),
            ..Default::default()
        };
        // SSRCs need only differ within a connection.
        let seed = cid.bytes().fold(7u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let streams: Vec<_> = (0..)
            .zip(layers)
            .map(|(n, rid)| ((*rid).to_owned(), seed.wrapping_add(n)))
            .collect();
        let encoding = |(rid, ssrc): &(String, u32)| RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                rid: rid.as_str().into(),
                ssrc: Some(*ssrc),
                ..Default::default()
            },
            active: true,
            codec: codec.clone(),
            ..Default::default()
        };
        let encodings: Vec<_> = streams.iter().map(encoding).collect();
        let label = cid.to_owned();
        let local = MediaStreamTrack::new(
            format!("stream-{cid}"),
            label.clone(),
            label,
            kind,
            encodings.clone(),
        );
        let track = Arc::new(TrackLocalStaticRTP::new(local));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec![format!("stream-{cid}")],
            send_encodings: encodings,
        };
        let transceiver = peer
            .add_transceiver_from_track(Arc::clone(&track) as Arc<dyn TrackLocal>, Some(init))
            .await?;
        let sender = transceiver
            .sender()
            .await?
            .expect("a sending transceiver has a sender");
        Ok(Self {
            cid: cid.to_owned(),
            media,
            streams,
            track,
            sender,
            transceiver,
        })
    }

    async fn negotiated(&self) -> Option<Negotiated> {
        let parameters = self.sender.get_parameters().await.ok()?.rtp_parameters;
        let codec = parameters.codecs.iter().find(|codec| {
            let own = &codec.rtp_codec;
            own.mime_type.eq_ignore_ascii_case(self.media.mime())
                && own.sdp_fmtp_line.contains(self.media.parameters())
        })?;
        let extension = |uri: &str| {
            let found = parameters
                .header_extensions
                .iter()
                .find(|known| known.uri == uri);
            found.and_then(|known| u8::try_from(known.id).ok())
        };
        let mid = self.transceiver.mid().await.ok()??;
        Some(Negotiated {
            payload_type: codec.payload_type,
            mid: (extension(MID)?, Bytes::from(mid)),
            rid: extension("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
            level: extension(LEVEL),
        })
    }

    /// Sends in real time until dropped.
    async fn run(self, sent: Sent) {
        let mut tick = interval(Duration::from_millis(20));
        let negotiated = loop {
            tick.tick().await;
            if let Some(negotiated) = self.negotiated().await {
                break negotiated;
            }
        };
        let audio = self.media.kind() == RtpCodecKind::Audio;
        let period = if audio { 20 } else { 66 };
        let step = self.media.clock_rate() / 1000 * period as u32;
        let mut tick = interval(Duration::from_millis(period));
        let mut clips: Vec<_> = self
            .streams
            .iter()
            .map(|(rid, ssrc)| {
                (
                    rid.clone(),
                    *ssrc,
                    Clip::of(if rid.is_empty() { "f" } else { rid }),
                    0u16,
                )
            })
            .collect();
        for n in 0u64.. {
            tick.tick().await;
            for (rid, ssrc, clip, sequence) in &mut clips {
                let payloads = match self.media {
                    Media::Sound => vec![frames::sound(n)],
                    Media::MuLaw | Media::ALaw => vec![frames::samples(n)],
                    Media::Picture | Media::Simulcast => clip.next_frame(),
                    Media::H264 | Media::H264Simulcast => frames::h264(n, rid),
                };
                let last = payloads.len() - 1;
                for (at, payload) in payloads.into_iter().enumerate() {
                    sent.lock()
                        .expect("not poisoned")
                        .entry(rid.clone())
                        .or_default()
                        .push(payload.clone());
                    let mut header = rtp::Header {
                        version: 2,
                        marker: !audio && at == last,
                        payload_type: negotiated.payload_type,
                        sequence_number: *sequence,
                        timestamp: (n as u32).wrapping_mul(step),
                        ssrc: *ssrc,
                        ..Default::default()
                    };
                    *sequence = sequence.wrapping_add(1);
                    negotiated.mark(&mut header, rid);
                    // Before the transport is up a packet is lost, as on any network.
                    let _ = self.track.write_rtp(rtp::Packet { header, payload }).await;
                }
            }
        }
    }
}

impl Negotiated {
    /// Puts the extensions on a packet: section, layer, loudness.
    fn mark(&self, header: &mut rtp::Header, rid: &str) {
        let put = "an identifier from the negotiation is valid";
        header
            .set_extension(self.mid.0, self.mid.1.clone())
            .expect(put);
        if let (Some(id), false) = (self.rid, rid.is_empty()) {
            header
                .set_extension(id, Bytes::copy_from_slice(rid.as_bytes()))
                .expect(put);
        }
        if let Some(id) = self.level {
            header
                .set_extension(id, Bytes::from(vec![0x80 | LOUD]))
                .expect(put);
        }
    }
}

/// What to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Opus.
    Sound,
    /// VP8, one stream.
    Picture,
    /// VP8 in the three [`LAYERS`].
    Simulcast,
    /// H264, one stream.
    H264,
    /// H264 in the three [`LAYERS`].
    H264Simulcast,
    /// G.711 as in America and Japan.
    MuLaw,
    /// G.711 as elsewhere.
    ALaw,
}

impl Media {
    const fn kind(self) -> RtpCodecKind {
        match self {
            Self::Sound | Self::MuLaw | Self::ALaw => RtpCodecKind::Audio,
            _ => RtpCodecKind::Video,
        }
    }

    const fn mime(self) -> &'static str {
        match self {
            Self::Sound => OPUS,
            Self::MuLaw => PCMU,
            Self::ALaw => PCMA,
            Self::Picture | Self::Simulcast => VP8,
            Self::H264 | Self::H264Simulcast => H264,
        }
    }

    /// Constrained baseline, for the crate knows H264 in several forms.
    const fn parameters(self) -> &'static str {
        match self {
            Self::H264 | Self::H264Simulcast => {
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
            }
            _ => "",
        }
    }

    const fn clock_rate(self) -> u32 {
        match self {
            Self::Sound => 48_000,
            Self::MuLaw | Self::ALaw => 8_000,
            _ => 90_000,
        }
    }

    const fn is_simulcast(self) -> bool {
        matches!(self, Self::Simulcast | Self::H264Simulcast)
    }
}

/// The request that announces a track to the server.
pub(crate) fn add_track(cid: &str, media: Media) -> livekit::AddTrackRequest {
    let cid = cid.to_owned();
    let (_, name) = media.mime().split_once('/').unwrap_or_default();
    let codec = livekit::SimulcastCodec {
        codec: name.to_ascii_lowercase(),
        cid: cid.clone(),
        ..Default::default()
    };
    if media.kind() == RtpCodecKind::Audio {
        // Clients announce no codec for Opus.
        let announced = (media != Media::Sound).then_some(codec);
        return livekit::AddTrackRequest {
            cid,
            r#type: livekit::TrackType::Audio.into(),
            source: livekit::TrackSource::Microphone.into(),
            simulcast_codecs: announced.into_iter().collect(),
            ..Default::default()
        };
    }
    let layer = |quality, height: u32, bitrate| livekit::VideoLayer {
        quality,
        width: height * 16 / 9,
        height,
        bitrate,
        ..Default::default()
    };
    let layers = if media.is_simulcast() {
        vec![
            layer(0, 90, 60_000),
            layer(1, 180, 90_000),
            layer(2, 360, 150_000),
        ]
    } else {
        vec![layer(2, 360, 150_000)]
    };
    let codec = livekit::SimulcastCodec {
        layers: layers.clone(),
        ..codec
    };
    livekit::AddTrackRequest {
        cid,
        r#type: livekit::TrackType::Video.into(),
        source: livekit::TrackSource::Camera.into(),
        width: 640,
        height: 360,
        layers,
        simulcast_codecs: vec![codec],
        ..Default::default()
    }
}
