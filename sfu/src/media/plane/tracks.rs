//! The published tracks of one worker, each with its subscribers.

use crate::config::codecs::{Codec, h264};
use crate::ids::{MediaKind, TrackKey};
use crate::media::estimate::score::{Sample, Scorer, WINDOW, loss_weight};
use crate::media::forward::feedback::Resend;
use crate::media::forward::rewrite::{SenderClock, Source};
use crate::media::ingest::audio::LevelConfig;
use crate::media::ingest::formats::Formats;
use crate::media::ingest::key_frames::THROTTLE;
use crate::media::ingest::track::{SPATIAL_LAYERS, Track, TrackSetup};
use crate::media::ingest::upstream::UpstreamSetup;
use crate::media::packet::TypeMap;
use crate::media::peer::link::Announced;
use crate::media::transport::negotiation::{Receiving, Sending};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Subscribers of one track on one worker; beyond this a core is busy with that track alone.
pub const SUBSCRIBERS_MAX: usize = 10_000;

/// A track and who receives it.
#[derive(Debug)]
pub struct Fanout {
    /// The track.
    pub track: Track,
    /// Index of the publisher's peer.
    pub publisher: u32,
    /// What its section negotiated.
    pub section: Section,
    /// Who receives it.
    pub subscribers: Vec<Subscriber>,
    /// Indices of the peers that are to receive it once they have a section.
    pub waiting: Vec<u32>,
    /// Waits in the plane's list of tracks with a batch.
    pub touched: bool,
    scorer: Scorer,
    /// Shortest time between key-frame requests, for each layer.
    throttle: [Duration; SPATIAL_LAYERS],
    /// For each layer, how often its stream began anew.
    generations: [u32; SPATIAL_LAYERS],
}

/// What a track's section negotiated, as far as its streams and copies need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Bit mask of the spatial layers.
    pub layers: u8,
    /// The payload type its media began with.
    pub first: u8,
    /// Payload types and their codecs, preferred first.
    pub codecs: Vec<(u8, Codec)>,
    /// Of those of H264, what else must agree.
    pub h264: Vec<(u8, h264::Parameters)>,
    /// RTX payload types with those they repeat.
    pub rtx: Vec<(u8, u8)>,
    /// Losses may be asked for.
    pub nack: bool,
    /// Two channels.
    pub stereo: bool,
}

impl Section {
    /// The payload type of RED, if the publisher may use it.
    #[must_use]
    pub fn red(&self) -> Option<u8> {
        let red = self.codecs.iter().find(|(_, codec)| *codec == Codec::Red)?;
        Some(red.0)
    }

    /// What stands for each payload type of the publisher in a section it is sent in, RED aside. All
    /// of the track's clock, which is that of `codec`: the publisher may change among them.
    #[must_use]
    pub fn carried_by(&self, codec: Codec, sending: &Sending) -> TypeMap {
        let same = |(_, other): &&(u8, Codec)| {
            *other != Codec::Red && other.clock_rate() == codec.clock_rate()
        };
        let own = |(source, codec): &(u8, Codec)| {
            let own = sending.payload_type_of(*codec, self.h264(*source))?;
            Some((*source, own))
        };
        self.codecs.iter().filter(same).filter_map(own).collect()
    }

    /// What must agree for a payload type of H264.
    #[must_use]
    pub fn h264(&self, payload_type: u8) -> Option<h264::Parameters> {
        let mut known = self.h264.iter();
        let found = known.find(|(known, _)| *known == payload_type)?;
        Some(found.1)
    }
}

/// How tracks are received, as the operator set it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackSettings {
    /// When audio counts as speech.
    pub level: LevelConfig,
    /// Shortest time between key-frame requests to a publisher, for each layer.
    pub key_frame_throttle: [Duration; SPATIAL_LAYERS],
}

impl Default for TrackSettings {
    fn default() -> Self {
        Self {
            level: LevelConfig::default(),
            key_frame_throttle: THROTTLE,
        }
    }
}

/// One subscriber's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    /// Index of its peer.
    pub peer: u32,
    /// Index of the stream in that peer's downlink.
    pub stream: u32,
}

impl Fanout {
    /// A track whose first media came in `section`, in its format `first`, as it was announced.
    #[must_use]
    pub fn new(
        key: TrackKey,
        publisher: u32,
        (section, first): (&Receiving, (u8, Codec)),
        announced: Announced,
        settings: &TrackSettings,
    ) -> Self {
        let (payload_type, first) = first;
        // Sound with redundancy is told by what it prefers: any packet may do without.
        let preferred = section.codecs.first().map_or(first, |(_, codec)| *codec);
        let pair = [first, preferred];
        let opus = |codec: &Codec| matches!(codec, Codec::Opus | Codec::Red);
        let codec = if pair.iter().all(opus) {
            preferred
        } else {
            first
        };
        let setup = TrackSetup {
            key,
            codec,
            screen_share: announced.screen_share,
            encrypted: announced.encrypted,
            trailers: announced.trailers,
            muted: announced.muted,
            level: settings.level,
        };
        let layers = section.layers.iter();
        Self {
            track: Track::new(setup),
            publisher,
            section: Section {
                layers: layers.fold(0, |mask, layer| {
                    mask | 1_u8.wrapping_shl(layer.spatial.into())
                }),
                first: payload_type,
                codecs: section.codecs.clone(),
                h264: section.h264.clone(),
                rtx: section.rtx.clone(),
                nack: section.feedback.nack,
                stereo: announced.stereo,
            },
            subscribers: Vec::new(),
            waiting: Vec::new(),
            touched: false,
            scorer: Scorer::new(loss_weight(codec, codec.kind() == MediaKind::Audio)),
            throttle: settings.key_frame_throttle,
            generations: [0; SPATIAL_LAYERS],
        }
    }

    /// A layer's media stream became known, perhaps in place of an earlier one.
    pub fn start_layer(&mut self, spatial: u8, ssrc: u32) {
        let known = self.track.layer(spatial).is_some();
        let codec = self.track.setup().codec;
        let setup = UpstreamSetup {
            ssrc,
            codec,
            formats: Formats::new(codec, &self.section.codecs, &self.section.rtx),
            encrypted: self.track.setup().encrypted,
            trailers: self.track.setup().trailers,
            spatial,
            only_layer: self.section.layers.count_ones() == 1,
            screen_share: self.track.setup().screen_share,
            nack: self.section.nack,
            key_frame_throttle: *self
                .throttle
                .get(usize::from(spatial))
                .unwrap_or(&THROTTLE[0]),
        };
        if self.track.add_layer(setup)
            && known
            && let Some(generation) = self.generations.get_mut(usize::from(spatial))
        {
            *generation += 1;
        }
    }

    /// What a downstream needs to know of the track besides the packet; taken once a batch.
    #[must_use]
    pub fn source(&self) -> Source {
        let mut source = Source {
            alive: 0,
            generations: self.generations,
            clocks: [None; SPATIAL_LAYERS],
            muted: self.track.is_muted(),
        };
        for (spatial, clock) in (0_u8..).zip(&mut source.clocks) {
            source.alive |= u8::from(self.track.alive(spatial)) << spatial;
            let report = self.track.layer(spatial).and_then(|layer| layer.clock());
            *clock = report.map(|report| SenderClock {
                ntp: report.ntp,
                rtp: report.rtp,
                arrival: report.arrival,
            });
        }
        source
    }

    /// The payload of an earlier packet as it is to be sealed, if the history still has it.
    pub fn framed(&mut self, resend: &Resend) -> Option<&[u8]> {
        let layer = self.track.layer_mut(resend.spatial)?;
        let packet = layer.find(resend.source)?;
        let outgoing = &resend.outgoing;
        layer.framed(&packet, &outgoing.head, (outgoing.skip, outgoing.cut))
    }

    /// The publisher was asked for layers up to `max`.
    pub fn expect_layers(&mut self, max: Option<u8>, now: Instant) {
        self.track.expect_layers(max, now);
    }

    /// The publisher muted or unmuted; a muted track has nothing wrong with it.
    pub fn set_muted(&mut self, muted: bool) -> Option<u8> {
        self.track.set_muted(muted);
        muted.then(|| self.scorer.handle_mute()).flatten()
    }

    /// The quality of the window that ends now, if it changed.
    pub fn poll_score(&mut self, now: Instant) -> Option<u8> {
        let window = self.track.take_window(now);
        // One that began muted or unasked says nothing: its packets may not have come yet.
        if !window.whole {
            return None;
        }
        self.scorer.handle_window(&Sample {
            span: WINDOW,
            active: WINDOW,
            packets: window.reception.expected,
            lost: window.reception.lost,
            missing_layers: window.missing_layers,
            rtcp_silent: false,
        })
    }

    /// When the track wants to be looked at.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.track.poll_timeout()
    }

    /// Takes a subscriber off the lists; its place among those that receive.
    pub fn remove_subscriber(&mut self, peer: u32) -> Option<usize> {
        self.waiting.retain(|&one| one != peer);
        let at = self.subscribers.iter().position(|one| one.peer == peer)?;
        self.subscribers.remove(at);
        Some(at)
    }

    /// The SSRC a layer's media has now; an earlier one is over.
    #[must_use]
    pub fn ssrc(&self, spatial: u8) -> Option<u32> {
        Some(self.track.layer(spatial)?.setup().ssrc)
    }
}

/// All tracks of a worker, by dense index.
#[derive(Debug, Default)]
pub struct Tracks {
    slots: Vec<Option<Fanout>>,
    free: Vec<u32>,
    by_key: BTreeMap<TrackKey, u32>,
}

impl Tracks {
    /// Adds a track.
    pub fn insert(&mut self, fanout: Fanout) -> u32 {
        let key = fanout.track.key();
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(fanout);
        self.by_key.insert(key, index);
        index
    }

    /// Takes a track out.
    pub fn remove(&mut self, index: u32) -> Option<Fanout> {
        let fanout = self.slots.get_mut(index as usize)?.take()?;
        self.by_key.remove(&fanout.track.key());
        self.free.push(index);
        Some(fanout)
    }

    /// The index of a track.
    #[must_use]
    pub fn index(&self, key: TrackKey) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// A track by index.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&Fanout> {
        self.slots.get(index as usize)?.as_ref()
    }

    /// A track by index.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut Fanout> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// A track by key.
    pub fn by_key_mut(&mut self, key: TrackKey) -> Option<&mut Fanout> {
        self.at_mut(self.index(key)?)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many copies of them are sent.
    #[must_use]
    pub fn copies(&self) -> u64 {
        let fanouts = self.slots.iter().flatten();
        fanouts.map(|fanout| fanout.subscribers.len() as u64).sum()
    }

    /// No track at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
