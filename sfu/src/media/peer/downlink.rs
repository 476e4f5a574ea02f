//! What one peer receives: its downstreams, found by index on the way out and by SSRC on the way back.
//!
//! Owns the downstreams and the subscriptions that still wait for a section. Called by the plane.

use crate::ids::{MediaKind, TrackKey};
use crate::media::estimate::score::{Sample, Scorer, loss_weight};
use crate::media::forward::downstream::Downstream;
use crate::media::message::Wish;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// One forwarded track.
#[derive(Debug)]
pub struct Stream {
    /// The subscriber's copy.
    pub downstream: Downstream,
    /// Its track.
    pub key: TrackKey,
    /// Index of its track in the plane.
    pub track: u32,
    /// SDES of its reports.
    pub cname: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// [`crate::media::message::Event::SubscriptionBound`] was told.
    pub bound: bool,
    scorer: Scorer,
}

impl Stream {
    /// A stream not told of yet.
    #[must_use]
    pub fn new(downstream: Downstream, track: u32, cname: String) -> Self {
        let setup = downstream.setup();
        let audio = setup.codec.kind() == MediaKind::Audio;
        Self {
            key: setup.track,
            ssrc: setup.ssrc,
            track,
            cname,
            bound: false,
            scorer: Scorer::new(loss_weight(setup.codec, audio)),
            downstream,
        }
    }

    /// The quality of the window that ends now, if it changed. Without packets or reports there is
    /// nothing to judge: silence of the publisher is not the subscriber's loss.
    pub fn poll_score(&mut self, now: Instant) -> Option<u8> {
        let window = self.downstream.take_window(now);
        if window.packets == 0 || window.reports == 0 {
            return None;
        }
        self.scorer.handle_window(&Sample {
            span: window.span,
            active: window.span.saturating_sub(window.idle),
            packets: window.packets,
            lost: window.lost.saturating_sub(window.missing_upstream),
            missing_layers: f64::from(window.missing_layers),
            rtcp_silent: false,
        })
    }
}

/// A subscription without a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The newest wish.
    pub wish: Wish,
    /// What its reports will call it.
    pub cname: String,
}

/// The receiving side of a peer.
#[derive(Debug, Default)]
pub struct Downlink {
    streams: Vec<Option<Stream>>,
    free: Vec<u32>,
    by_ssrc: HashMap<u32, u32>,
    by_track: BTreeMap<TrackKey, u32>,
    waiting: BTreeMap<TrackKey, Waiting>,
}

impl Downlink {
    /// A subscription waits for a section. Negotiation bounds how many do.
    pub fn wait(&mut self, key: TrackKey, waiting: Waiting) {
        self.waiting.insert(key, waiting);
    }

    /// The subscription waits no longer.
    pub fn take_waiting(&mut self, key: TrackKey) -> Option<Waiting> {
        self.waiting.remove(&key)
    }

    /// Is the track forwarded, or waiting to be?
    #[must_use]
    pub fn knows(&self, key: TrackKey) -> bool {
        self.by_track.contains_key(&key) || self.waiting.contains_key(&key)
    }

    /// Takes a stream on; `rtx_ssrc` leads back to it too.
    pub fn insert(&mut self, stream: Stream, rtx_ssrc: Option<u32>) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.streams.push(None);
            (self.streams.len() - 1) as u32
        });
        self.by_ssrc.insert(stream.ssrc, index);
        if let Some(ssrc) = rtx_ssrc {
            self.by_ssrc.insert(ssrc, index);
        }
        self.by_track.insert(stream.key, index);
        self.streams[index as usize] = Some(stream);
        index
    }

    /// Ends a stream.
    pub fn remove(&mut self, key: TrackKey) -> Option<Stream> {
        self.waiting.remove(&key);
        let index = self.by_track.remove(&key)?;
        self.by_ssrc.retain(|_, one| *one != index);
        self.free.push(index);
        self.streams.get_mut(index as usize)?.take()
    }

    /// A stream by index.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut Stream> {
        self.streams.get_mut(index as usize)?.as_mut()
    }

    /// A stream by its SSRC or that of its retransmissions.
    pub fn by_ssrc_mut(&mut self, ssrc: u32) -> Option<&mut Stream> {
        let index = *self.by_ssrc.get(&ssrc)?;
        self.at_mut(index)
    }

    /// A stream by its track.
    pub fn by_track_mut(&mut self, key: TrackKey) -> Option<&mut Stream> {
        let index = *self.by_track.get(&key)?;
        self.at_mut(index)
    }

    /// Sets what a subscriber wants of a track, forwarded or waiting.
    pub fn waiting_mut(&mut self, key: TrackKey) -> Option<&mut Waiting> {
        self.waiting.get_mut(&key)
    }

    /// Every track forwarded or waited for.
    pub fn keys(&self) -> impl Iterator<Item = TrackKey> {
        self.by_track.keys().chain(self.waiting.keys()).copied()
    }

    /// Every stream.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.iter_mut().flatten()
    }

    /// Every stream.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().flatten()
    }

    /// How many are forwarded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_track.len()
    }

    /// Nothing is forwarded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_track.is_empty()
    }
}
