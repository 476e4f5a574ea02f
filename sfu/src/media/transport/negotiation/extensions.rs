//! Which header extensions we accept, and under which ids the client knows them.
//!
//! Owns the table (LK: signalling §6.3, column "publisher/single"; the one for playout delay needs a
//! room setting that does not exist yet). Called by `line.rs`.

use crate::ids::MediaKind;
use crate::media::transport::sdp::Extension;
use crate::rtp::extension::ExtensionIds;

/// Kinds of section an extension is accepted in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Audio,
    Video,
    Both,
}

impl In {
    fn holds(self, kind: MediaKind) -> bool {
        match self {
            Self::Both => true,
            Self::Audio => kind == MediaKind::Audio,
            Self::Video => kind == MediaKind::Video,
        }
    }
}

/// One accepted extension: its URI, where, and the field that keeps its id.
type Row = (&'static str, In, fn(&mut ExtensionIds) -> &mut Option<u8>);

const TABLE: [Row; 9] = [
    ("urn:ietf:params:rtp-hdrext:sdes:mid", In::Both, |ids| {
        &mut ids.mid
    }),
    (
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        In::Both,
        |ids| &mut ids.rid,
    ),
    (
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        In::Video,
        |ids| &mut ids.repaired_rid,
    ),
    (
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        In::Audio,
        |ids| &mut ids.audio_level,
    ),
    (
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        In::Video,
        |ids| &mut ids.transport_cc,
    ),
    (
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        In::Video,
        |ids| &mut ids.abs_send_time,
    ),
    (
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        In::Both,
        |ids| &mut ids.abs_capture_time,
    ),
    (
        "urn:ietf:params:rtp-hdrext:framemarking",
        In::Video,
        |ids| &mut ids.frame_marking,
    ),
    (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        In::Video,
        |ids| &mut ids.dependency_descriptor,
    ),
];

/// The offered extensions we accept, in the offer's order.
pub(super) fn accept(offered: &[Extension], kind: MediaKind) -> Vec<Extension> {
    let accepted = |extension: &&Extension| {
        TABLE
            .iter()
            .any(|(uri, place, _)| *uri == extension.uri && place.holds(kind))
    };
    offered.iter().filter(accepted).cloned().collect()
}

/// The ids of accepted extensions.
pub(super) fn ids(accepted: &[Extension]) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for extension in accepted {
        for (uri, _, field) in TABLE {
            if uri == extension.uri {
                *field(&mut ids) = Some(extension.id);
            }
        }
    }
    ids
}
