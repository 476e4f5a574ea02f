//! What one peer publishes: which SSRC is which layer of which track.
//!
//! Owns the map from SSRC to stream and the sections last answered. It holds no media: the tracks
//! belong to the plane. Called by the plane for every media packet of the peer.

use crate::config::codecs::Codec;
use crate::ids::TrackKey;
use crate::media::transport::negotiation::Receiving;
use crate::rtp::extension::{ExtensionIds, Extensions};
use crate::rtp::header::Header;
use std::collections::HashMap;

/// Streams of one peer: 25 tracks with three layers and their retransmissions fit. Packets of
/// further SSRCs are dropped and counted.
pub const STREAMS_MAX: usize = 192;

/// What an SSRC carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Index of the track in the plane.
    pub track: u32,
    /// Its layer.
    pub spatial: u8,
    /// Retransmissions of that layer.
    pub rtx: bool,
}

/// An SSRC recognised for the first time, before the plane has made its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// The track.
    pub key: TrackKey,
    /// Index of the section in [`Uplink::sections`].
    pub section: usize,
    /// Its layer.
    pub spatial: u8,
    /// Retransmissions of that layer.
    pub rtx: bool,
    /// Codec of the packet, or of what it retransmits.
    pub codec: Codec,
    /// Payload type of the codec.
    pub payload_type: u8,
}

/// The publishing side of a peer.
#[derive(Debug, Default)]
pub struct Uplink {
    sections: Vec<Receiving>,
    extensions: ExtensionIds,
    streams: HashMap<u32, Stream>,
    /// Indices of the peer's tracks in the plane.
    tracks: Vec<u32>,
}

impl Uplink {
    /// The sections as last answered. Known streams stay known: their mid and rid are not sent for
    /// ever (Firefox and Safari stop after the first report).
    pub fn set_sections(&mut self, sections: Vec<Receiving>) {
        self.extensions = ExtensionIds::default();
        for section in &sections {
            self.extensions.merge(&section.extensions);
        }
        self.sections = sections;
    }

    /// The sections as last answered.
    #[must_use]
    pub fn sections(&self) -> &[Receiving] {
        &self.sections
    }

    /// Extension ids: one table for the whole bundle (RFC 8843 §9.2).
    #[must_use]
    pub const fn extensions(&self) -> &ExtensionIds {
        &self.extensions
    }

    /// A known stream.
    #[must_use]
    pub fn stream(&self, ssrc: u32) -> Option<Stream> {
        self.streams.get(&ssrc).copied()
    }

    /// The codec of a payload type of any section, and whether the type repeats another.
    #[must_use]
    pub fn format(&self, payload_type: u8) -> Option<(Codec, bool)> {
        self.sections.iter().find_map(|section| {
            let repeated = section.rtx.iter().find(|(rtx, _)| *rtx == payload_type);
            let wanted = repeated.map_or(payload_type, |(_, apt)| *apt);
            let mut codecs = section.codecs.iter();
            let (_, codec) = codecs.find(|(one, _)| *one == wanted)?;
            Some((*codec, repeated.is_some()))
        })
    }

    /// Indices of the tracks with media.
    #[must_use]
    pub fn tracks(&self) -> &[u32] {
        &self.tracks
    }

    /// How many streams are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// No stream is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Remembers a stream; false if there are too many.
    pub fn insert(&mut self, ssrc: u32, stream: Stream) -> bool {
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&ssrc) {
            return false;
        }
        self.streams.insert(ssrc, stream);
        if !self.tracks.contains(&stream.track) {
            self.tracks.push(stream.track);
        }
        true
    }

    /// Forgets a track and its streams.
    pub fn remove(&mut self, track: u32) {
        self.streams.retain(|_, stream| stream.track != track);
        self.tracks.retain(|&one| one != track);
    }

    /// Finds out what an unknown SSRC is: by the offer's SSRCs, else by mid and rid.
    #[must_use]
    pub fn recognise(&self, header: &Header, extensions: &Extensions<'_>) -> Option<Recognised> {
        self.by_ssrc(header)
            .or_else(|| self.by_mid(header, extensions))
    }

    fn by_ssrc(&self, header: &Header) -> Option<Recognised> {
        let ssrc = header.ssrc;
        let (index, section) = self
            .sections
            .iter()
            .enumerate()
            .find(|(_, section)| section.ssrcs.all.contains(&ssrc))?;
        let repaired = section.ssrcs.fid.iter().find(|(_, rtx)| *rtx == ssrc);
        let media = repaired.map_or(ssrc, |(media, _)| *media);
        let position = section.ssrcs.sim.iter().position(|one| *one == media);
        let spatial = match (position, section.layers.as_slice()) {
            (Some(position), layers) => layers.get(position)?.spatial,
            (None, [layer]) => layer.spatial,
            // Only the rid tells the layers apart; of a retransmission, what was learned of its
            // stream, for Firefox sends the rid no longer once it heard of us.
            (None, _) => self.streams.get(&media)?.spatial,
        };
        Self::recognised(section, index, header, spatial, repaired.is_some())
    }

    fn by_mid(&self, header: &Header, extensions: &Extensions<'_>) -> Option<Recognised> {
        let mid = extensions.mid?;
        let (index, section) = self
            .sections
            .iter()
            .enumerate()
            .find(|(_, section)| section.mid == mid)?;
        let is_rtx = |pt: u8| section.rtx.iter().any(|(rtx, _)| *rtx == pt);
        let rtx = extensions.repaired_rid.is_some() || is_rtx(header.payload_type);
        let rid = extensions.repaired_rid.or(extensions.rid);
        let layer = match rid {
            Some(rid) => section.layers.iter().find(|layer| layer.rid == rid)?,
            None if section.layers.len() == 1 => section.layers.first()?,
            None => return None,
        };
        Self::recognised(section, index, header, layer.spatial, rtx)
    }

    fn recognised(
        section: &Receiving,
        index: usize,
        header: &Header,
        spatial: u8,
        rtx: bool,
    ) -> Option<Recognised> {
        let media_type = if rtx {
            let (_, apt) = section
                .rtx
                .iter()
                .find(|(rtx, _)| *rtx == header.payload_type)?;
            *apt
        } else {
            header.payload_type
        };
        let (payload_type, codec) = *section.codecs.iter().find(|(pt, _)| *pt == media_type)?;
        Some(Recognised {
            key: section.track?,
            section: index,
            spatial,
            rtx,
            codec,
            payload_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MediaKind, PeerId};
    use crate::media::message::NegotiatedLayer;
    use crate::media::transport::negotiation::AnnouncedSsrcs;
    use crate::media::transport::negotiation::Feedback;
    use crate::rtp::header::FixedHeader;

    /// A section as Firefox offers one: SSRCs with their retransmissions, but only rids for layers.
    fn firefox() -> Uplink {
        let peer = PeerId {
            worker: 0,
            slot: 0,
            generation: 0,
        };
        let layer = |(spatial, rid): (u8, &str)| NegotiatedLayer {
            spatial,
            rid: rid.to_owned(),
        };
        let mut uplink = Uplink::default();
        uplink.set_sections(vec![Receiving {
            mid: "1".to_owned(),
            kind: MediaKind::Video,
            track: Some(TrackKey { peer, index: 0 }),
            codecs: vec![(120, Codec::Vp8)],
            h264: Vec::new(),
            rtx: vec![(124, 120)],
            extensions: ExtensionIds::default(),
            ssrcs: AnnouncedSsrcs {
                all: vec![10, 20, 11, 21, 12, 22],
                fid: vec![(10, 20), (11, 21), (12, 22)],
                sim: Vec::new(),
            },
            layers: [(0, "q"), (1, "h"), (2, "f")].map(layer).to_vec(),
            feedback: Feedback::default(),
        }]);
        uplink
    }

    fn header(ssrc: u32, payload_type: u8) -> Header {
        let fixed = FixedHeader {
            marker: false,
            payload_type,
            sequence: 1,
            timestamp: 1,
            ssrc,
        };
        Header::parse(&fixed.to_bytes()).expect("own header")
    }

    #[test]
    fn announced_ssrcs_without_their_order_are_told_apart_by_rid() {
        let mut uplink = firefox();
        let nothing = Extensions::default();
        assert_eq!(uplink.recognise(&header(11, 120), &nothing), None);
        let named = Extensions {
            mid: Some("1"),
            rid: Some("h"),
            ..nothing
        };
        let media = uplink.recognise(&header(11, 120), &named).expect("known");
        assert_eq!((media.spatial, media.rtx), (1, false));
        // Its retransmissions come after the first report: without any name.
        assert_eq!(uplink.recognise(&header(21, 124), &nothing), None);
        let stream = Stream {
            track: 0,
            spatial: 1,
            rtx: false,
        };
        assert!(uplink.insert(11, stream));
        let rtx = uplink.recognise(&header(21, 124), &nothing).expect("known");
        assert_eq!((rtx.spatial, rtx.rtx, rtx.payload_type), (1, true, 120));
    }
}
