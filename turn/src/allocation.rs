//! One allocation, and the place all of them are in.
//!
//! Owns their state and the two ways to find one: by id and by client. It answers nobody; the server
//! does.

use crate::address::{AllocationId, Client, Family, RelayPort};
use crate::channel::Channels;
use crate::credentials::{Keys, Reach};
use crate::hash::{Keyed, Map};
use crate::message::Transaction;
use crate::permission::Permissions;
use crate::quota::{Bandwidth, Budgets, Direction, Load, Spent, Users};
use crate::stats::Traffic;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An allocation whose client relays nothing and asks for no peer within this time is not in use: ICE
/// checks each path it has chosen every few seconds. (RFC 7675 §5.1: a path is given up after 30 s)
pub(crate) const SILENT: Duration = Duration::from_secs(30);

/// An allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) client: Client,
    /// Whose quota.
    pub(crate) user: Box<str>,
    /// His place in [`crate::quota::Users`].
    pub(crate) share: u32,
    /// The name it was made with: all later requests must have it.
    pub(crate) username: Box<str>,
    pub(crate) keys: Keys,
    /// Which peers it may talk with.
    pub(crate) reach: Reach,
    /// Of the request that made it: sent again, it is answered again.
    pub(crate) transaction: Transaction,
    /// What keeps the next port, if that was asked for.
    pub(crate) reservation: Option<[u8; 8]>,
    /// The code with which a second family was not given.
    pub(crate) missing: Option<u16>,
    /// The addresses told, by family.
    pub(crate) relays: [Option<SocketAddr>; 2],
    pub(crate) made: Instant,
    /// When its client last had something to relay, or asked for a way to a peer.
    pub(crate) heard: Instant,
    pub(crate) expires: Instant,
    /// When it must be looked at next.
    pub(crate) wake: Instant,
    pub(crate) permissions: Permissions,
    pub(crate) channels: Channels,
    pub(crate) traffic: Traffic,
    pub(crate) budgets: Budgets,
}

impl Allocation {
    /// The address told for a family.
    pub(crate) fn relay(&self, family: Family) -> Option<SocketAddr> {
        self.relays.get(family.index()).copied().flatten()
    }

    /// Lets a payload pass if all budgets that it counts for hold it, and counts it, here and among all.
    pub(crate) fn pass(
        &mut self,
        load: Load,
        (bandwidth, users): (&mut Bandwidth, &mut Users),
        all: &mut Traffic,
    ) -> Result<(), Spent> {
        bandwidth.take(&mut self.budgets, users, self.share, load)?;
        for traffic in [&mut self.traffic, all] {
            match load.direction {
                Direction::Outward => traffic.note_in(load.bytes),
                Direction::Inward => traffic.note_out(load.bytes),
            }
        }
        Ok(())
    }

    /// The sockets it is behind.
    pub(crate) fn ports(&self) -> impl Iterator<Item = RelayPort> {
        self.relays.iter().flatten().map(|relay| RelayPort {
            family: Family::of(relay.ip()),
            port: relay.port(),
        })
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    allocation: Option<Box<Allocation>>,
}

/// All allocations.
#[derive(Debug)]
pub(crate) struct Allocations {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: Map<Client, u32>,
}

impl Allocations {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: Map::with_hasher(keyed),
        }
    }

    /// How many are live.
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// How many places there are, empty ones too.
    pub(crate) const fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn add(&mut self, allocation: Allocation) -> AllocationId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.by_client.insert(allocation.client, slot);
        let generation = match self.slots.get_mut(slot as usize) {
            Some(place) => {
                place.allocation = Some(Box::new(allocation));
                place.generation
            }
            None => 0,
        };
        AllocationId { slot, generation }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<(AllocationId, Allocation)> {
        let place = self.slots.get_mut(slot as usize)?;
        let allocation = *place.allocation.take()?;
        let id = AllocationId {
            slot,
            generation: place.generation,
        };
        place.generation = place.generation.wrapping_add(1);
        self.by_client.remove(&allocation.client);
        self.free.push(slot);
        Some((id, allocation))
    }

    /// The place of a client's allocation.
    pub(crate) fn of_client(&self, client: &Client) -> Option<u32> {
        self.by_client.get(client).copied()
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Allocation> {
        self.slots.get(slot as usize)?.allocation.as_deref()
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Allocation> {
        self.slots.get_mut(slot as usize)?.allocation.as_deref_mut()
    }

    /// The id of what is in a place.
    pub(crate) fn id(&self, slot: u32) -> AllocationId {
        let place = self.slots.get(slot as usize);
        AllocationId {
            slot,
            generation: place.map_or(0, |place| place.generation),
        }
    }

    /// The place of an id, unless that is gone.
    pub(crate) fn slot(&self, id: AllocationId) -> Option<u32> {
        let place = self.slots.get(id.slot as usize)?;
        (place.generation == id.generation && place.allocation.is_some()).then_some(id.slot)
    }
}
