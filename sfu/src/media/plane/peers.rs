//! The peers of one worker, by dense index and by id.

use crate::ids::PeerId;
use crate::media::message::Side;
use crate::media::peer::Peer;
use crate::media::peer::connections::Connection;
use std::collections::HashMap;

/// All peers of a worker.
#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    free: Vec<u32>,
    by_id: HashMap<PeerId, u32>,
}

impl Peers {
    pub(super) fn insert(&mut self, peer: Peer) -> u32 {
        let id = peer.id;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Some(Box::new(peer));
        self.by_id.insert(id, index);
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(index as usize)?.take()?;
        self.by_id.remove(&peer.id);
        self.free.push(index);
        Some(peer)
    }

    pub(super) fn index(&self, id: PeerId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn at(&self, index: u32) -> Option<&Peer> {
        self.slots.get(index as usize)?.as_deref()
    }

    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn connection_mut(&mut self, index: u32, side: Side) -> Option<&mut Connection> {
        self.at_mut(index)?.connections.at(side)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }

    /// The indices that peers may have now.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
