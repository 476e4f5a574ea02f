//! A published track as media sees it: its layers, what is alive of them, how loud it is.
//!
//! Owns the upstreams and gathers the packets of one receive batch for the fan-out. Never knows its
//! subscribers. Owned by the plane, which hands packets in by layer, reads the batch once for each
//! subscriber, then clears it.

use crate::config::codecs::Codec;
use crate::ids::{MediaKind, TrackKey};
use crate::media::counters::Useless;
use crate::media::ingest::audio::{LevelConfig, LevelMeter, Loudness};
use crate::media::ingest::history::Limits;
use crate::media::ingest::layers::{Change, LayerTracker, Rule, TEMPORAL_LAYERS};
use crate::media::ingest::reception::Window;
use crate::media::ingest::upstream::{Upstream, UpstreamSetup};
use crate::media::packet::{CodecInfo, Packet};
use crate::rtp::extension::Extensions;
use crate::rtp::header::Header;
use crate::units::Bitrate;
use std::time::{Duration, Instant};

/// Spatial layers of a track.
pub const SPATIAL_LAYERS: usize = 3;
/// Packets of one batch of video: four receive calls of 64 datagrams. What is beyond is lost to
/// subscribers: whoever can stop reading does so when [`Track::is_full`].
pub const BATCH_LIMIT: usize = 256;
/// The same of audio: a second of it.
pub const AUDIO_BATCH_LIMIT: usize = 64;
/// Of the smallest history a batch may fill this part: what is written over before it was forwarded
/// is lost, too.
const HISTORY_PART: usize = 2;

/// What a track is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackSetup {
    /// Its key.
    pub key: TrackKey,
    /// Its codec, and by it audio or video.
    pub codec: Codec,
    /// Slow pictures with long pauses.
    pub screen_share: bool,
    /// Encrypted end to end.
    pub encrypted: bool,
    /// Its frames may end in a trailer.
    pub trailers: bool,
    /// Starts muted.
    pub muted: bool,
    /// When its audio counts as speech.
    pub level: LevelConfig,
}

/// What a track delivered since the last [`Track::take_window`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrackWindow {
    /// The sum over its layers; jitter is the worst.
    pub reception: Window,
    /// Layers that should have been there and were not, averaged over time.
    pub missing_layers: f64,
    /// It was asked for and not muted all the time: having delivered nothing would be a fault.
    pub whole: bool,
}

/// A published track.
#[derive(Debug)]
pub struct Track {
    setup: TrackSetup,
    muted: bool,
    /// The highest layer dynacast asked for; `None` for none.
    expected: Option<u8>,
    layers: [Option<Upstream>; SPATIAL_LAYERS],
    trackers: [LayerTracker; SPATIAL_LAYERS],
    layers_changed: bool,
    missing: MissingLayers,
    /// Asked for and not muted since the last window.
    whole: bool,
    meter: Option<LevelMeter>,
    batch: Vec<Packet>,
    /// Payload of the batch.
    batch_bytes: usize,
    /// What was of no use to the batch, or to layers that have ended.
    useless: Useless,
}

/// Missing layers over time.
#[derive(Debug, Default)]
struct MissingLayers {
    now_missing: u8,
    since: Option<Instant>,
    started: Option<Instant>,
    /// Layers times seconds.
    sum: f64,
}

impl MissingLayers {
    fn note(&mut self, missing: u8, now: Instant) {
        self.started.get_or_insert(now);
        let since = self.since.replace(now).unwrap_or(now);
        let span = now.saturating_duration_since(since).as_secs_f64();
        self.sum += f64::from(self.now_missing) * span;
        self.now_missing = missing;
    }

    fn take_average(&mut self, now: Instant) -> f64 {
        self.note(self.now_missing, now);
        let started = self.started.replace(now).unwrap_or(now);
        let span = now.saturating_duration_since(started).as_secs_f64();
        let sum = std::mem::take(&mut self.sum);
        if span > 0.0 { sum / span } else { 0.0 }
    }
}

impl Track {
    /// A track without layers.
    #[must_use]
    pub fn new(setup: TrackSetup) -> Self {
        let kind = setup.codec.kind();
        let mut track = Self {
            setup,
            muted: false,
            expected: Some(SPATIAL_LAYERS as u8 - 1),
            layers: [None, None, None],
            trackers: [0, 1, 2]
                .map(|spatial| LayerTracker::new(Rule::of(spatial, setup.screen_share))),
            layers_changed: false,
            missing: MissingLayers::default(),
            whole: true,
            meter: (kind == MediaKind::Audio)
                .then(|| LevelMeter::new(setup.level, setup.codec.clock_rate())),
            batch: Vec::new(),
            batch_bytes: 0,
            useless: Useless::default(),
        };
        track.set_muted(setup.muted);
        track
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> TrackKey {
        self.setup.key
    }

    /// What it is.
    #[must_use]
    pub const fn setup(&self) -> &TrackSetup {
        &self.setup
    }

    /// Audio or video.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        self.setup.codec.kind()
    }

    /// Muted by its publisher?
    #[must_use]
    pub const fn is_muted(&self) -> bool {
        self.muted
    }

    /// A layer's stream became known; it replaces an earlier one in its place. False if there is no
    /// such layer.
    pub fn add_layer(&mut self, setup: UpstreamSetup) -> bool {
        let index = usize::from(setup.spatial);
        let Some(place) = self.layers.get_mut(index) else {
            return false;
        };
        let mut upstream = Upstream::new(setup);
        upstream.set_muted(self.muted);
        if let Some(mut ended) = place.replace(upstream) {
            self.useless += ended.take_useless();
        }
        if !self.muted && self.expected.is_some_and(|max| setup.spatial <= max) {
            self.trackers[index].reset();
        }
        self.layers_changed = true;
        true
    }

    /// A packet came on a layer's media stream; `payload` is without padding.
    pub fn handle_packet(
        &mut self,
        spatial: u8,
        header: &Header,
        extensions: &Extensions<'_>,
        payload: &[u8],
        now: Instant,
    ) {
        let Some(Some(upstream)) = self.layers.get_mut(usize::from(spatial)) else {
            return;
        };
        let Some(packet) = upstream.handle_packet(header, payload, now) else {
            return;
        };
        if let (Some(meter), Some(heard), false) =
            (&mut self.meter, extensions.audio_level, packet.late)
        {
            meter.handle_packet(heard.level, packet.time, now);
        }
        self.forward(packet, payload.len(), now);
    }

    /// A packet came on a layer's RTX stream; `payload` is without padding.
    pub fn handle_rtx(&mut self, spatial: u8, header: &Header, payload: &[u8], now: Instant) {
        if let Some(Some(upstream)) = self.layers.get_mut(usize::from(spatial))
            && let Some(packet) = upstream.handle_rtx(header, payload, now)
        {
            self.forward(packet, payload.len(), now);
        }
    }

    /// [`Upstream::poll_nacks`] of a layer; what fills its numbers goes into the batch.
    pub fn poll_nacks(
        &mut self,
        spatial: u8,
        rtt: Option<Duration>,
        now: Instant,
        out: &mut Vec<u16>,
    ) {
        if let Some(layer) = self.layer_mut(spatial) {
            layer.poll_nacks(rtt, now, out);
        }
        while let Some(filler) = self.layer_mut(spatial).and_then(Upstream::poll_filler) {
            self.forward(filler, 0, now);
        }
    }

    fn forward(&mut self, packet: Packet, bytes: usize, now: Instant) {
        let index = usize::from(packet.spatial).min(SPATIAL_LAYERS - 1);
        let temporal = match packet.codec {
            CodecInfo::Vp8(found) => found.temporal.map_or(0, |temporal| temporal.layer),
            CodecInfo::None | CodecInfo::Red { .. } => 0,
        };
        // Padding does not make a layer live.
        if self.kind() == MediaKind::Video
            && !packet.is_empty()
            && let Some(change) = self.trackers[index].handle_packet(temporal, bytes, now)
        {
            self.handle_change(index, change, !packet.key_frame, now);
        }
        let limit = self.batch_limit();
        self.batch_bytes += bytes;
        if self.batch.capacity() == 0 {
            self.batch.reserve_exact(limit);
        }
        if self.batch.len() < limit {
            self.batch.push(packet);
        } else {
            self.useless.limit += 1;
        }
    }

    fn handle_change(&mut self, index: usize, change: Change, seed: bool, now: Instant) {
        self.layers_changed = true;
        self.note_missing(now);
        if change == Change::Started
            && seed
            && let Some(upstream) = &mut self.layers[index]
        {
            upstream.seed_key_frame(now);
        }
    }

    fn note_missing(&mut self, now: Instant) {
        let negotiated = (0..SPATIAL_LAYERS as u8)
            .rev()
            .find(|spatial| self.layer(*spatial).is_some());
        let wanted = self.expected.min(negotiated);
        let layers = |top: Option<u8>| top.map_or(0, |top| top + 1);
        let present = layers(self.highest_alive());
        let missing = layers(wanted).saturating_sub(present);
        // Before the first packet nothing is missing yet.
        let missing = if present == 0 || self.muted {
            0
        } else {
            missing
        };
        self.missing.note(missing, now);
    }

    /// Dynacast asked the publisher for layers up to `max`, or for none. Layers above are gone at
    /// once; a layer newly asked for starts with its first packet. (LK: sfu-media §4.8)
    pub fn expect_layers(&mut self, max: Option<u8>, now: Instant) {
        self.expected = max;
        self.whole &= max.is_some();
        for (spatial, tracker) in (0u8..).zip(&mut self.trackers) {
            let expected = max.is_some_and(|max| spatial <= max);
            tracker.expect(expected, self.muted);
            if let Some(Some(layer)) = self.layers.get_mut(usize::from(spatial))
                && !expected
            {
                layer.stop();
            }
        }
        self.layers_changed = true;
        self.note_missing(now);
    }

    /// The publisher muted or unmuted the track.
    pub fn set_muted(&mut self, muted: bool) {
        if self.muted == muted {
            return;
        }
        self.muted = muted;
        self.whole &= !muted;
        self.layers
            .iter_mut()
            .flatten()
            .for_each(|layer| layer.set_muted(muted));
        for tracker in &mut self.trackers {
            if muted {
                tracker.pause();
            } else {
                tracker.resume();
            }
        }
        if let Some(meter) = &mut self.meter {
            meter.reset();
        }
    }

    /// A layer's stream.
    #[must_use]
    pub fn layer(&self, spatial: u8) -> Option<&Upstream> {
        self.layers.get(usize::from(spatial))?.as_ref()
    }

    /// A layer's stream, to hand reports in and to poll.
    pub fn layer_mut(&mut self, spatial: u8) -> Option<&mut Upstream> {
        self.layers.get_mut(usize::from(spatial))?.as_mut()
    }

    /// All its streams, lowest layer first.
    pub fn layers_mut(&mut self) -> impl Iterator<Item = &mut Upstream> {
        self.layers.iter_mut().flatten()
    }

    /// Does the layer send? Audio has no tracker: it does once it is there.
    #[must_use]
    pub fn alive(&self, spatial: u8) -> bool {
        let index = usize::from(spatial);
        self.layer(spatial).is_some()
            && (self.kind() == MediaKind::Audio || self.trackers[index].is_alive())
    }

    /// The highest layer that sends.
    #[must_use]
    pub fn highest_alive(&self) -> Option<u8> {
        (0..SPATIAL_LAYERS as u8)
            .rev()
            .find(|spatial| self.alive(*spatial))
    }

    /// The bit rate of each spatial layer up to each temporal layer; zero while unknown.
    #[must_use]
    pub fn bitrates(&self) -> [[Bitrate; TEMPORAL_LAYERS]; SPATIAL_LAYERS] {
        std::array::from_fn(|index| self.trackers[index].bitrates())
    }

    /// The packets gathered since [`clear_batch`](Self::clear_batch), in order of arrival; payloads
    /// are with their layers.
    #[must_use]
    pub fn batch(&self) -> &[Packet] {
        &self.batch
    }

    /// The batch, and the layers that hold its payloads.
    pub fn batch_and_layers(&mut self) -> (&[Packet], &mut [Option<Upstream>; SPATIAL_LAYERS]) {
        (&self.batch, &mut self.layers)
    }

    /// The batch went to every subscriber.
    pub fn clear_batch(&mut self) {
        self.batch.clear();
        self.batch_bytes = 0;
    }

    /// The batch is to go to every subscriber before more is handed in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let history = Limits::of(self.kind(), 0, false).bytes;
        self.batch.len() >= self.batch_limit() || self.batch_bytes >= history / HISTORY_PART
    }

    const fn batch_limit(&self) -> usize {
        match self.kind() {
            MediaKind::Audio => AUDIO_BATCH_LIMIT,
            MediaKind::Video => BATCH_LIMIT,
        }
    }

    /// What came and was of no use since this was asked last.
    pub fn take_useless(&mut self) -> Useless {
        let mut useless = std::mem::take(&mut self.useless);
        for layer in self.layers.iter_mut().flatten() {
            useless += layer.take_useless();
        }
        useless
    }

    /// When [`handle_timeout`](Self::handle_timeout) or one of its streams has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let trackers = self.trackers.iter().map(LayerTracker::poll_timeout);
        let layers = self.layers.iter().flatten().map(Upstream::poll_timeout);
        let meter = self.meter.as_ref().map(LevelMeter::poll_timeout);
        trackers.chain(layers).chain(meter).flatten().min()
    }

    /// Time has passed: layers may have stopped, a stream may have fallen silent. The streams' own
    /// timers are polled from them.
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..SPATIAL_LAYERS {
            if let Some(change) = self.trackers[index].handle_timeout(now) {
                self.handle_change(index, change, true, now);
            }
        }
        if let Some(meter) = &mut self.meter {
            meter.handle_timeout(now);
        }
    }

    /// The loudness, if it changed since it was last told.
    pub fn poll_level(&mut self) -> Option<Loudness> {
        self.meter.as_mut()?.poll_change()
    }

    /// True once after layers appeared, started, stopped or were asked for: selections may change.
    pub const fn poll_layers_changed(&mut self) -> bool {
        std::mem::replace(&mut self.layers_changed, false)
    }

    /// What the track delivered since the last call, for the score.
    pub fn take_window(&mut self, now: Instant) -> TrackWindow {
        let mut sum = Window::default();
        for layer in self.layers.iter_mut().flatten() {
            let window = layer.take_window();
            sum.expected += window.expected;
            sum.lost += window.lost;
            sum.bytes += window.bytes;
            sum.jitter = sum.jitter.max(window.jitter);
        }
        TrackWindow {
            reception: sum,
            missing_layers: self.missing.take_average(now),
            whole: std::mem::replace(&mut self.whole, !self.muted && self.expected.is_some()),
        }
    }
}

#[cfg(test)]
mod tests;
