//! What one participant publishes: tracks announced and tracks with media. (LK: signalling §5.1)
//!
//! Owns each track's description and stage, its subscribers, and the queue of requests that wait
//! for a client id to be free. Sends nothing: `publishing` does.

pub(super) mod layers;
pub(super) mod announcement;

use super::demand::Demand;
use crate::config::codecs::Codec;
use crate::ids::{MediaKind, PeerId, TrackKey, TrackSid};
use crate::media::message::NegotiatedLayer;
use layers::Layers;
use proto::livekit;
use proto::livekit::AddTrackRequest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Tracks of one participant that wait for media. (LK: signalling §5.1)
pub(super) const MAX_PENDING: usize = 20;
/// Tracks of one participant in all: camera, microphone, screen and many to spare.
pub(super) const MAX_TRACKS: usize = 25;
/// Requests that wait for one client id. (LK: signalling §5.1)
pub(super) const MAX_QUEUED: usize = 3;

/// One track.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) key: TrackKey,
    pub(super) sid: TrackSid,
    pub(super) kind: MediaKind,
    pub(super) cid: String,
    /// What clients are told of it.
    pub(super) info: livekit::TrackInfo,
    /// Set with the first media.
    pub(super) live: Option<Live>,
}

/// What a track has once its media came.
#[derive(Debug)]
pub(super) struct Live {
    /// Video only.
    pub(super) demand: Option<Demand>,
    /// Who was subscribed in media.
    pub(super) subscribers: BTreeSet<PeerId>,
    /// The publisher heard that somebody receives it.
    pub(super) told_subscribed: bool,
}

impl Publication {
    /// A track just announced.
    pub(super) fn new(
        key: TrackKey,
        sid: TrackSid,
        kind: MediaKind,
        cid: String,
        info: livekit::TrackInfo,
    ) -> Self {
        Self {
            key,
            sid,
            kind,
            cid,
            info,
            live: None,
        }
    }

    /// First media came.
    pub(super) fn start(
        &mut self,
        mid: &str,
        codec: Codec,
        negotiated: &[NegotiatedLayer],
        demand: Option<Demand>,
    ) {
        codec.mime().clone_into(&mut self.info.mime_type);
        mid.clone_into(&mut self.info.mid);
        if self.kind == MediaKind::Video {
            place_layers(&mut self.info.layers, negotiated);
        }
        if let Some(first) = self.info.codecs.first_mut() {
            codec.mime().clone_into(&mut first.mime_type);
            mid.clone_into(&mut first.mid);
            if self.kind == MediaKind::Video {
                place_layers(&mut first.layers, negotiated);
            }
        }
        self.live = Some(Live {
            demand,
            subscribers: BTreeSet::new(),
            told_subscribed: false,
        });
    }

    /// The video layers as announced.
    pub(super) fn layers(&self) -> Layers {
        Layers::new(&self.info)
    }

    /// A microphone: the only source whose loudness makes a speaker.
    pub(super) fn is_microphone(&self) -> bool {
        self.info.source == livekit::TrackSource::Microphone as i32
    }

    /// Should media arrive now? Not while muted, nor when told to send nothing.
    pub(super) fn should_flow(&self) -> bool {
        let off = |live: &Live| live.demand.as_ref().is_some_and(Demand::is_off);
        !self.info.muted && self.live.as_ref().is_some_and(|live| !off(live))
    }

    fn uses(&self, cid: &str) -> bool {
        self.cids().any(|used| used == cid)
    }

    /// Its client id, and those of its codecs that differ.
    pub(super) fn cids(&self) -> impl Iterator<Item = &str> {
        let codecs = self.info.codecs.iter().map(|codec| codec.cid.as_str());
        let further = codecs.filter(|cid| !cid.is_empty() && *cid != self.cid);
        std::iter::once(self.cid.as_str()).chain(further)
    }
}

/// Gives each announced layer its place: the lowest announced is spatial layer 0, and so on. Without
/// an announcement, the layers are those negotiated, as LOW, MEDIUM, HIGH. (LK: signalling §6.6)
fn place_layers(layers: &mut Vec<livekit::VideoLayer>, negotiated: &[NegotiatedLayer]) {
    if layers.is_empty() {
        *layers = negotiated
            .iter()
            .map(|layer| livekit::VideoLayer {
                quality: i32::from(layer.spatial.min(2)),
                ..Default::default()
            })
            .collect();
    }
    for (index, layer) in layers.iter_mut().enumerate() {
        let spatial = u8::try_from(index).unwrap_or(u8::MAX);
        let found = negotiated
            .iter()
            .find(|negotiated| negotiated.spatial == spatial);
        layer.spatial_layer = i32::from(spatial);
        layer.rid = found
            .map(|negotiated| negotiated.rid.clone())
            .unwrap_or_default();
        layer.ssrc = 0;
    }
}

/// All tracks of one participant.
#[derive(Debug, Default)]
pub(super) struct Publications {
    tracks: BTreeMap<u32, Publication>,
    queued: BTreeMap<String, VecDeque<AddTrackRequest>>,
    next_index: u32,
}

impl Publications {
    /// The number of the next track, never given twice.
    pub(super) fn draw_index(&mut self) -> u32 {
        let index = self.next_index;
        self.next_index = self.next_index.wrapping_add(1);
        index
    }

    /// Adds an announced track.
    pub(super) fn insert(&mut self, publication: Publication) {
        self.tracks.insert(publication.key.index, publication);
    }

    /// Takes a track out.
    pub(super) fn remove(&mut self, key: TrackKey) -> Option<Publication> {
        self.tracks.remove(&key.index)
    }

    /// A track by its key.
    pub(super) fn find(&self, key: TrackKey) -> Option<&Publication> {
        self.tracks.get(&key.index)
    }

    /// A track by its key.
    pub(super) fn find_mut(&mut self, key: TrackKey) -> Option<&mut Publication> {
        self.tracks.get_mut(&key.index)
    }

    /// A track, announced or with media, by its sid.
    pub(super) fn by_sid_mut(&mut self, sid: &str) -> Option<&mut Publication> {
        self.tracks
            .values_mut()
            .find(|track| track.sid.as_str() == sid)
    }

    /// Is there such a track, announced or with media?
    pub(super) fn has_sid(&self, sid: &str) -> bool {
        self.iter().any(|track| track.sid.as_str() == sid)
    }

    /// All tracks, in the order of announcement.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Publication> {
        self.tracks.values()
    }

    /// Tracks with media.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Publication, &Live)> {
        self.iter()
            .filter_map(|track| Some((track, track.live.as_ref()?)))
    }

    /// How many wait for media.
    pub(super) fn pending(&self) -> usize {
        self.iter().filter(|track| track.live.is_none()).count()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }

    /// Is a client id in use?
    pub(super) fn uses(&self, cid: &str) -> bool {
        self.iter().any(|track| track.uses(cid))
    }

    /// Queues a request behind the track that uses its client id, or tells how many wait already.
    pub(super) fn queue(&mut self, request: AddTrackRequest) -> Result<(), usize> {
        let queue = self.queued.entry(request.cid.clone()).or_default();
        if queue.len() >= MAX_QUEUED {
            return Err(queue.len());
        }
        queue.push_back(request);
        Ok(())
    }

    /// The next request that waited for a client id now free.
    pub(super) fn next_queued(&mut self, cid: &str) -> Option<AddTrackRequest> {
        let queue = self.queued.get_mut(cid)?;
        let request = queue.pop_front();
        if queue.is_empty() {
            self.queued.remove(cid);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(rids: &[&str]) -> Vec<NegotiatedLayer> {
        let layer = |(spatial, rid): (usize, &&str)| NegotiatedLayer {
            spatial: spatial as u8,
            rid: (*rid).to_owned(),
        };
        rids.iter().enumerate().map(layer).collect()
    }

    fn placed(qualities: &[i32], rids: &[&str]) -> Vec<(i32, i32, String)> {
        let mut layers = qualities
            .iter()
            .map(|quality| livekit::VideoLayer {
                quality: *quality,
                ..Default::default()
            })
            .collect();
        place_layers(&mut layers, &negotiated(rids));
        layers
            .into_iter()
            .map(|layer| (layer.quality, layer.spatial_layer, layer.rid))
            .collect()
    }

    #[test]
    fn low_and_high_take_the_first_two_layers() {
        assert_eq!(
            placed(&[0, 2], &["q", "h"]),
            vec![(0, 0, "q".into()), (2, 1, "h".into())]
        );
    }

    #[test]
    fn layers_that_were_not_announced_are_taken_from_the_offer() {
        assert_eq!(
            placed(&[], &["q", "h"]),
            vec![(0, 0, "q".into()), (1, 1, "h".into())]
        );
        assert_eq!(placed(&[2], &[""]), vec![(2, 0, String::new())]);
    }

    #[test]
    fn three_requests_may_wait_for_one_client_id() {
        let mut publications = Publications::default();
        let request = AddTrackRequest {
            cid: "c".into(),
            ..Default::default()
        };
        for _ in 0..MAX_QUEUED {
            assert_eq!(publications.queue(request.clone()), Ok(()));
        }
        assert_eq!(publications.queue(request.clone()), Err(3));
        assert_eq!(publications.next_queued("c"), Some(request));
        assert_eq!(publications.next_queued("other"), None);
    }
}
