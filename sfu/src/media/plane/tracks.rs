//! The published tracks of one worker, each with its subscribers.

use crate::ids::TrackKey;
use crate::media::forward::rewrite::Source;
use crate::media::ingest::track::Track;
use std::collections::BTreeMap;

/// Subscribers of one track on one worker; beyond this a core is busy with that track alone.
pub const SUBSCRIBERS_MAX: usize = 10_000;

/// A track and who receives it.
#[derive(Debug)]
pub struct Fanout {
    /// The track.
    pub track: Track,
    /// Index of the publisher's peer.
    pub publisher: u32,
    /// The publisher muted it.
    pub muted: bool,
    /// Who receives it.
    pub subscribers: Vec<Subscriber>,
    /// Waits in the plane's list of tracks with a batch.
    pub touched: bool,
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
    /// What a downstream needs to know of the track besides the packet; taken once a batch.
    #[must_use]
    pub fn source(&self) -> Source {
        Source {
            alive: self.track.alive_mask(),
            clocks: self.track.clocks(),
            muted: self.muted,
        }
    }

    /// Takes a subscriber off the list.
    pub fn remove_subscriber(&mut self, peer: u32) {
        self.subscribers.retain(|one| one.peer != peer);
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
    pub fn insert(&mut self, track: Track, publisher: u32, muted: bool) -> u32 {
        let key = track.key();
        let fanout = Fanout {
            track,
            publisher,
            muted,
            subscribers: Vec::new(),
            touched: false,
        };
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

    /// No track at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}
