//! What becomes of an AddTrack request: the track others will see, and what media must know.
//! (LK: signalling §5.1)
//!
//! Owns the reading of the request, with limits on everything in it that is kept. Decides nothing
//! about permission or number: `publishing` does.

use super::layers::{self, MAX_LAYERS};
use crate::config::codecs::Codec;
use crate::ids::{MediaKind, TrackSid};
use crate::media::message::{LayerSpec, TrackSpec};
use proto::livekit;
use proto::livekit::video_layer::Mode;
use proto::livekit::{
    AddTrackRequest, AudioTrackFeature, BackupCodecPolicy, TrackInfo, TrackSource, TrackType,
};
use std::collections::BTreeSet;

/// Bytes of a name, stream or client id: client ids are UUIDs, names are for people.
const MAX_TEXT_BYTES: usize = 1024;
/// Entries of a list in the request; clients send at most three of each.
const MAX_LIST: usize = 16;

/// A request read.
#[derive(Debug)]
pub(in crate::room) struct Announcement {
    pub(in crate::room) info: TrackInfo,
    pub(in crate::room) spec: TrackSpec,
}

/// Audio or video, if the request is for either.
pub(in crate::room) fn kind(request: &AddTrackRequest) -> Option<MediaKind> {
    match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => Some(MediaKind::Audio),
        Ok(TrackType::Video) => Some(MediaKind::Video),
        Ok(TrackType::Data) | Err(_) => None,
    }
}

/// The source; what is not known is `Unknown`.
pub(in crate::room) fn source(request: &AddTrackRequest) -> TrackSource {
    TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown)
}

/// Is something in the request larger than we keep?
pub(in crate::room) fn is_oversized(request: &AddTrackRequest) -> bool {
    let codecs = &request.simulcast_codecs;
    let texts = [&request.cid, &request.name, &request.stream, &request.sid];
    texts.into_iter().any(|text| text.len() > MAX_TEXT_BYTES)
        || request.layers.len() > MAX_LIST
        || request.audio_features.len() > MAX_LIST
        || request.packet_trailer_features.len() > MAX_LIST
        || codecs.len() > MAX_LIST
        || codecs.iter().any(|codec| {
            codec.layers.len() > MAX_LIST
                || codec.cid.len() > MAX_TEXT_BYTES
                || codec.codec.len() > MAX_TEXT_BYTES
        })
}

/// A new sid for the requested track.
pub(in crate::room) fn sid(
    request: &AddTrackRequest,
    kind: MediaKind,
    rng: &mut impl rand::Rng,
) -> TrackSid {
    let letter = match source(request) {
        TrackSource::Unknown => None,
        TrackSource::Camera => Some('C'),
        TrackSource::Microphone => Some('M'),
        TrackSource::ScreenShare => Some('S'),
        TrackSource::ScreenShareAudio => Some('s'),
    };
    TrackSid::random(kind, letter, rng)
}

/// Reads a request for a track of `kind`; `enabled` are the codecs this client may publish.
pub(in crate::room) fn read(
    request: &AddTrackRequest,
    kind: MediaKind,
    sid: &TrackSid,
    enabled: &[Codec],
) -> Announcement {
    let features = audio_features(request);
    let layers = sorted(&request.layers);
    let (codecs, announced) = codecs(request, kind, &layers, enabled);
    let mode = codecs.first().map_or(0, |codec| codec.video_layer_mode);
    let several = codecs.first().is_some_and(|codec| codec.layers.len() > 1);
    let simulcast = !request.simulcast_codecs.is_empty()
        && several
        && mode != Mode::MultipleSpatialLayersPerStream as i32;
    let spec = spec(request, kind, announced, &layers, enabled);
    let info = TrackInfo {
        sid: sid.as_str().to_owned(),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast,
        source: request.source,
        layers,
        codecs,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: stream(request),
        backup_codec_policy: backup_codec_policy(request, kind),
        packet_trailer_features: distinct(&request.packet_trailer_features),
        audio_features: features,
        stereo: request.stereo,
        disable_dtx: request.disable_dtx,
        ..Default::default()
    };
    Announcement { info, spec }
}

fn spec(
    request: &AddTrackRequest,
    kind: MediaKind,
    codec: Option<Codec>,
    layers: &[livekit::VideoLayer],
    enabled: &[Codec],
) -> TrackSpec {
    let audio = kind == MediaKind::Audio;
    let features = audio_features(request);
    let has = |feature: AudioTrackFeature| features.contains(&(feature as i32));
    let backups = request.simulcast_codecs.iter().map(|codec| &codec.cid);
    let mut cids: Vec<String> = Vec::new();
    for cid in std::iter::once(&request.cid).chain(backups) {
        if !cid.is_empty() && !cids.contains(cid) {
            cids.push(cid.clone());
        }
    }
    let layer = |layer: &livekit::VideoLayer| {
        let quality = layers::quality(layer.quality)?;
        Some(LayerSpec {
            quality,
            width: layer.width,
            height: layer.height,
        })
    };
    let encrypted = request.encryption != livekit::encryption::Type::None as i32;
    // What nobody but the receivers can read cannot be taken apart for those without RED.
    let redundant = match codec {
        None | Some(Codec::Opus) => !request.disable_red && !encrypted,
        Some(codec) => codec == Codec::Red,
    };
    TrackSpec {
        kind,
        cids,
        codec,
        red: audio && enabled.contains(&Codec::Red) && redundant,
        dtx: audio && !has(AudioTrackFeature::TfNoDtx),
        stereo: audio && has(AudioTrackFeature::TfStereo),
        screen_share: source(request) == TrackSource::ScreenShare,
        encrypted,
        trailers: !request.packet_trailer_features.is_empty(),
        muted: request.muted,
        layers: layers.iter().filter_map(layer).take(MAX_LAYERS).collect(),
    }
}

/// The codec entries of the track, and the codec to answer with if one was announced. A codec that is
/// not enabled is replaced by the first enabled one of its kind.
fn codecs(
    request: &AddTrackRequest,
    kind: MediaKind,
    layers: &[livekit::VideoLayer],
    enabled: &[Codec],
) -> (Vec<livekit::SimulcastCodecInfo>, Option<Codec>) {
    let fallback = fallback(kind, enabled);
    if request.simulcast_codecs.is_empty() {
        let entry = livekit::SimulcastCodecInfo {
            cid: request.cid.clone(),
            layers: layers.to_vec(),
            video_layer_mode: Mode::OneSpatialLayerPerStream as i32,
            ..Default::default()
        };
        return (vec![entry], None);
    }
    let mut entries: Vec<livekit::SimulcastCodecInfo> = Vec::new();
    let mut primary = None;
    for asked in &request.simulcast_codecs {
        let known = codec_named(&asked.codec, kind).filter(|codec| enabled.contains(codec));
        let codec = known.unwrap_or(fallback);
        primary.get_or_insert(codec);
        if entries.iter().any(|entry| entry.mime_type == codec.mime()) {
            continue;
        }
        let asked_mode =
            (known.is_some() && asked.video_layer_mode != 0).then_some(asked.video_layer_mode);
        entries.push(livekit::SimulcastCodecInfo {
            mime_type: codec.mime().to_owned(),
            cid: asked.cid.clone(),
            layers: if asked.layers.is_empty() {
                layers.to_vec()
            } else {
                sorted(&asked.layers)
            },
            video_layer_mode: asked_mode.unwrap_or(Mode::OneSpatialLayerPerStream as i32),
            ..Default::default()
        });
    }
    (entries, primary)
}

fn codec_named(name: &str, kind: MediaKind) -> Option<Codec> {
    if name.contains('/') {
        return Codec::from_mime(name).filter(|codec| codec.kind() == kind);
    }
    let prefix = match kind {
        MediaKind::Audio => "audio/",
        MediaKind::Video => "video/",
    };
    Codec::from_mime(&format!("{prefix}{name}"))
}

fn fallback(kind: MediaKind, enabled: &[Codec]) -> Codec {
    let mut of_kind = enabled
        .iter()
        .copied()
        .filter(|codec| codec.kind() == kind && *codec != Codec::Red);
    of_kind.next().unwrap_or(match kind {
        MediaKind::Audio => Codec::Opus,
        MediaKind::Video => Codec::Vp8,
    })
}

fn audio_features(request: &AddTrackRequest) -> Vec<i32> {
    let mut features = request.audio_features.clone();
    if request.stereo {
        features.push(AudioTrackFeature::TfStereo as i32);
    }
    if request.disable_dtx {
        features.push(AudioTrackFeature::TfNoDtx as i32);
    }
    distinct(&features)
}

/// The values without repetition, in the order of first mention.
pub(in crate::room) fn distinct(values: &[i32]) -> Vec<i32> {
    let mut seen = BTreeSet::new();
    values
        .iter()
        .copied()
        .filter(|value| seen.insert(*value))
        .take(MAX_LIST)
        .collect()
}

fn sorted(layers: &[livekit::VideoLayer]) -> Vec<livekit::VideoLayer> {
    let mut layers = layers.to_vec();
    layers.sort_by_key(|layer| layer.quality);
    layers
}

fn stream(request: &AddTrackRequest) -> String {
    if !request.stream.is_empty() {
        return request.stream.clone();
    }
    let name = match source(request) {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "unknown",
    };
    name.to_owned()
}

fn backup_codec_policy(request: &AddTrackRequest, kind: MediaKind) -> i32 {
    let regression = BackupCodecPolicy::Regression as i32;
    if kind == MediaKind::Audio && request.backup_codec_policy != regression {
        return BackupCodecPolicy::Simulcast as i32;
    }
    request.backup_codec_policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MediaKind::{Audio, Video};

    fn announce(request: &AddTrackRequest, kind: MediaKind) -> Announcement {
        read(request, kind, &TrackSid::from_wire("TR_1"), &Codec::ALL)
    }

    fn camera(codecs: &[&str]) -> AddTrackRequest {
        let layer = |quality, height| livekit::VideoLayer {
            quality,
            height,
            ..Default::default()
        };
        let codec = |name: &&str| livekit::SimulcastCodec {
            codec: (*name).into(),
            cid: "cam".into(),
            ..Default::default()
        };
        AddTrackRequest {
            cid: "cam".into(),
            r#type: 1,
            source: 1,
            layers: vec![layer(2, 720), layer(0, 180), layer(1, 360)],
            simulcast_codecs: codecs.iter().map(codec).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_camera_with_three_layers_is_simulcast_and_sorted() {
        let read = announce(&camera(&["vp8"]), Video);
        assert!(read.info.simulcast);
        assert_eq!(read.info.codecs[0].mime_type, "video/VP8");
        assert_eq!(read.info.stream, "camera");
        let qualities: Vec<_> = read.info.layers.iter().map(|layer| layer.quality).collect();
        assert_eq!(qualities, vec![0, 1, 2]);
        assert_eq!(read.spec.layers[2].height, 720);
        assert_eq!(read.spec.cids, vec!["cam"]);
    }

    #[test]
    fn a_codec_that_is_not_enabled_is_replaced_and_listed_once() {
        let read = announce(&camera(&["vp9", "vp8"]), Video);
        assert_eq!(read.info.codecs.len(), 1);
        assert_eq!(read.info.codecs[0].mime_type, "video/VP8");
        assert_eq!(read.spec.codec, Some(Codec::Vp8));
    }

    #[test]
    fn without_codecs_there_is_one_entry_whose_mime_comes_with_the_media() {
        let read = announce(&camera(&[]), Video);
        assert_eq!(read.info.codecs.len(), 1);
        assert_eq!(read.info.codecs[0].mime_type, "");
        assert!(!read.info.simulcast);
    }

    #[test]
    fn a_microphone_asks_for_dtx_and_red_unless_it_refuses_them() {
        let mic = AddTrackRequest {
            cid: "mic".into(),
            source: 2,
            ..Default::default()
        };
        let read = announce(&mic, Audio);
        assert!(read.spec.dtx && read.spec.red && !read.spec.stereo);
        assert_eq!(
            read.info.backup_codec_policy,
            BackupCodecPolicy::Simulcast as i32
        );
        let plain = AddTrackRequest {
            disable_red: true,
            audio_features: vec![1, 0, 0],
            ..mic
        };
        let read = announce(&plain, Audio);
        assert!(!read.spec.dtx && !read.spec.red && read.spec.stereo);
        assert_eq!(read.info.audio_features, vec![1, 0]);
    }

    #[test]
    fn what_is_too_long_to_keep_is_told() {
        assert!(!is_oversized(&camera(&["vp8"])));
        assert!(is_oversized(&AddTrackRequest {
            name: "x".repeat(2000),
            ..Default::default()
        }));
        let many = vec![livekit::VideoLayer::default(); 17];
        assert!(is_oversized(&AddTrackRequest {
            layers: many,
            ..Default::default()
        }));
    }

    #[test]
    fn the_codec_announced_first_is_answered_first_and_none_if_none_was() {
        let codec = |names: &[&str]| announce(&camera(names), Video).spec.codec;
        assert_eq!(codec(&["h264", "vp8"]), Some(Codec::H264));
        assert_eq!(codec(&["video/H264"]), Some(Codec::H264));
        assert_eq!(
            codec(&["vp9"]),
            Some(Codec::Vp8),
            "what is not switched on is replaced"
        );
        assert_eq!(codec(&[]), None);
        let info = announce(&camera(&["h264", "vp8"]), Video).info;
        let mimes: Vec<_> = info
            .codecs
            .iter()
            .map(|codec| codec.mime_type.as_str())
            .collect();
        assert_eq!(mimes, ["video/H264", "video/VP8"]);
    }

    #[test]
    fn redundancy_is_asked_for_where_it_can_be_taken_apart() {
        let red = |change: &dyn Fn(&mut AddTrackRequest)| {
            let mut request = AddTrackRequest {
                cid: "mic".into(),
                ..Default::default()
            };
            change(&mut request);
            announce(&request, Audio).spec.red
        };
        let announced = |request: &mut AddTrackRequest, name: &str| {
            request.simulcast_codecs = vec![livekit::SimulcastCodec {
                codec: name.into(),
                ..Default::default()
            }];
        };
        assert!(red(&|_| {}));
        assert!(red(&|request| announced(request, "opus")));
        assert!(!red(&|request| request.disable_red = true));
        assert!(!red(&|request| request.encryption = 1));
        assert!(!red(&|request| announced(request, "pcmu")));
        assert!(red(&|request| {
            announced(request, "red");
            request.disable_red = true;
        }));
    }

    #[test]
    fn media_is_told_of_encryption_and_trailers() {
        let mut request = camera(&["h264"]);
        let spec = announce(&request, Video).spec;
        assert!(!spec.encrypted && !spec.trailers);
        (request.encryption, request.packet_trailer_features) = (1, vec![1]);
        let read = announce(&request, Video);
        assert!(read.spec.encrypted && read.spec.trailers);
        assert_eq!(read.info.encryption, 1);
    }
}
