//! The seam between TURN and the SFU: batches of packets through a bounded queue, one lane each way.
//!
//! A lane has one sender and one receiver, each on a thread of its own. A full lane drops: media that
//! would come late is worth nothing. The receiver is woken only when it sleeps. Emptied batches go
//! back to the sender, so that a lane in use allocates nothing.

use crate::address::AllocationId;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

/// Batches that may wait in a lane. A pass makes one or a few, so this is some tens of passes: a
/// receiver that is further behind than that has stalled.
pub const DEPTH: usize = 64;
/// Packets in one batch.
pub const BATCH_PACKETS: usize = 512;
/// Bytes in one batch: two passes' worth of a busy thread.
pub const BATCH_BYTES: usize = 1 << 20;
/// Ends in one batch, and those that may wait for a place in a lane that is full. One more is not told then,
/// and the SFU finds out by silence.
pub const ENDS: usize = 4096;

/// Where a packet of a batch belongs, and where in the batch it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Whose: the SFU must tell clients apart by this, for several have one relayed address.
    pub allocation: AllocationId,
    /// The address of the SFU it came to, or comes from.
    pub sfu: SocketAddr,
    /// The address its client thinks it talks from. On the way back it is not looked at.
    pub relayed: SocketAddr,
    start: u32,
    len: u32,
}

/// An allocation is gone, and with it this relayed address of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// It.
    pub allocation: AllocationId,
    /// The address its client talked from.
    pub relayed: SocketAddr,
}

/// Some packets, and what ended after them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    ends: Vec<End>,
}

impl Batch {
    /// The packets with their bytes, which may be changed in place: the SFU decrypts so.
    pub fn packets_mut(&mut self) -> impl Iterator<Item = (Packet, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.packets.iter().map(move |packet| {
            // They lie one behind the other, in order.
            let (bytes, after) = std::mem::take(&mut rest).split_at_mut(packet.len as usize);
            rest = after;
            (*packet, bytes)
        })
    }

    /// The packets with their bytes.
    pub fn packets(&self) -> impl Iterator<Item = (Packet, &[u8])> {
        self.packets.iter().map(|packet| {
            let start = packet.start as usize;
            let bytes = self.bytes.get(start..start + packet.len as usize);
            (*packet, bytes.unwrap_or_default())
        })
    }

    /// Allocations that are gone; no packet of one of them follows.
    #[must_use]
    pub fn ends(&self) -> &[End] {
        &self.ends
    }

    /// How many packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.ends.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.packets.len() < BATCH_PACKETS && self.bytes.len() + bytes <= BATCH_BYTES
    }

    fn clear_packets(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    fn clear(&mut self) {
        self.clear_packets();
        self.ends.clear();
    }
}

#[derive(Default)]
struct Wake {
    call: OnceLock<Box<dyn Fn() + Send + Sync>>,
    sleeping: AtomicBool,
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake(..)")
    }
}

/// A lane.
#[must_use]
pub fn lane() -> (LaneSender, LaneReceiver) {
    let (queue, batches) = sync_channel(DEPTH);
    let (emptied, spare) = sync_channel(DEPTH);
    let wake = Arc::new(Wake::default());
    let sender = LaneSender {
        queue,
        spare,
        wake: Arc::clone(&wake),
        open: Batch::default(),
        dropped: 0,
    };
    let receiver = LaneReceiver {
        queue: batches,
        emptied,
        wake,
        next: None,
    };
    (sender, receiver)
}

/// TURN's two ends of the lanes to and from one worker of the SFU.
#[derive(Debug)]
pub struct Door {
    /// To the SFU.
    pub to_sfu: LaneSender,
    /// From the SFU.
    pub from_sfu: LaneReceiver,
}

/// Where packets go in. What is pushed goes out with [`Self::flush`], once a pass.
#[derive(Debug)]
pub struct LaneSender {
    queue: SyncSender<Batch>,
    spare: Receiver<Batch>,
    wake: Arc<Wake>,
    open: Batch,
    dropped: u64,
}

impl LaneSender {
    /// Adds a packet: whose, between which addresses, its bytes.
    pub fn push(
        &mut self,
        allocation: AllocationId,
        sfu: SocketAddr,
        relayed: SocketAddr,
        bytes: &[u8],
    ) {
        if !self.open.has_room(bytes.len()) {
            self.flush();
        }
        let (start, len) = (self.open.bytes.len() as u32, bytes.len() as u32);
        self.open.bytes.extend_from_slice(bytes);
        self.open.packets.push(Packet {
            allocation,
            sfu,
            relayed,
            start,
            len,
        });
    }

    /// Tells of the end of an allocation, after all its packets.
    pub fn end(&mut self, end: End) {
        if self.open.ends.len() >= ENDS {
            self.flush();
        }
        if self.open.ends.len() < ENDS {
            self.open.ends.push(end);
        } else {
            self.dropped += 1;
        }
    }

    /// Sends what was pushed. A lane that is full, or whose receiver is gone, drops the packets; ends wait
    /// for the next time.
    pub fn flush(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let spare = self.spare.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.open, spare);
        match self.queue.try_send(batch) {
            Ok(()) => {
                if self.wake.sleeping.swap(false, Ordering::SeqCst)
                    && let Some(call) = self.wake.call.get()
                {
                    call();
                }
            }
            Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) => {
                self.dropped += batch.len() as u64;
                batch.clear_packets();
                self.open = batch;
            }
        }
    }

    /// Packets and ends that found no place, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Where batches come out.
#[derive(Debug)]
pub struct LaneReceiver {
    queue: Receiver<Batch>,
    emptied: SyncSender<Batch>,
    wake: Arc<Wake>,
    next: Option<Batch>,
}

impl LaneReceiver {
    /// What ends the receiver's sleep; only the first one given counts. With mio:
    /// `receiver.wake_by(move || { let _ = waker.wake(); })`.
    pub fn wake_by(&self, call: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.call.set(Box::new(call));
    }

    /// The next batch.
    pub fn take(&mut self) -> Option<Batch> {
        self.next.take().or_else(|| self.queue.try_recv().ok())
    }

    /// Gives a batch back when it has been read.
    pub fn give_back(&self, mut batch: Batch) {
        batch.clear();
        // One too many is dropped: the sender then makes another.
        let _ = self.emptied.try_send(batch);
    }

    /// Announces that the receiver is about to sleep; false if something came in the meantime.
    pub fn may_sleep(&mut self) -> bool {
        if self.next.is_some() {
            return false;
        }
        self.wake.sleeping.store(true, Ordering::SeqCst);
        self.next = self.queue.try_recv().ok();
        self.next.is_none()
    }

    /// The receiver is awake: nobody needs to wake it.
    pub fn woke(&self) {
        self.wake.sleeping.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    const ID: AllocationId = AllocationId {
        slot: 3,
        generation: 4,
    };

    fn address(port: u16) -> SocketAddr {
        ([1, 2, 3, 4], port).into()
    }

    #[test]
    fn packets_come_out_as_they_went_in_and_batches_go_round() {
        let (mut sender, mut receiver) = lane();
        for round in 0..3_u8 {
            sender.push(ID, address(1), address(2), &[round; 5]);
            sender.push(ID, address(1), address(2), &[]);
            sender.push(ID, address(1), address(2), &[round; 7]);
            sender.flush();
            let mut batch = receiver.take().expect("a batch");
            let lens: Vec<usize> = batch.packets().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(lens, [5, 0, 7]);
            for ((packet, bytes), len) in batch.packets_mut().zip(lens) {
                assert_eq!((packet.allocation, bytes.len()), (ID, len));
                assert!(bytes.iter().all(|byte| *byte == round));
            }
            receiver.give_back(batch);
        }
        assert!(receiver.take().is_none());
    }

    #[test]
    fn a_full_lane_drops_and_counts_and_a_sleeper_is_woken_once() {
        let (mut sender, mut receiver) = lane();
        let woken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&woken);
        receiver.wake_by(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert!(receiver.may_sleep());
        for _ in 0..DEPTH + 2 {
            sender.push(ID, address(1), address(2), b"x");
            sender.flush();
        }
        assert_eq!((sender.dropped(), woken.load(Ordering::SeqCst)), (2, 1));
        receiver.woke();
        assert!(!receiver.may_sleep());
        let taken = std::iter::from_fn(|| receiver.take()).count();
        assert_eq!(taken, DEPTH);
        drop(receiver);
        sender.push(ID, address(1), address(2), b"x");
        sender.flush();
        assert_eq!(sender.dropped(), 3);
    }

    #[test]
    fn ends_come_out_however_full_the_lane_was_and_no_more_of_them_wait_than_the_limit() {
        let (mut sender, mut receiver) = lane();
        let end = |generation| End {
            allocation: AllocationId {
                slot: 1,
                generation,
            },
            relayed: address(2),
        };
        sender.end(end(0));
        sender.flush();
        let batch = receiver.take().expect("a batch without packets");
        assert_eq!((batch.len(), batch.ends()), (0, [end(0)].as_slice()));
        receiver.give_back(batch);
        for _ in 0..DEPTH {
            sender.push(ID, address(1), address(2), b"x");
            sender.flush();
        }
        for generation in 1..=ENDS as u32 + 1 {
            sender.push(ID, address(1), address(2), b"x");
            sender.end(end(generation));
            sender.flush();
        }
        // The packets, and the last end.
        assert_eq!(sender.dropped(), ENDS as u64 + 2);
        while let Some(batch) = receiver.take() {
            assert_eq!((batch.len(), batch.ends().len()), (1, 0));
            receiver.give_back(batch);
        }
        sender.flush();
        let batch = receiver.take().expect("they have waited");
        assert_eq!((batch.len(), batch.ends().len()), (0, ENDS));
        assert_eq!(batch.ends().first(), Some(&end(1)));
        receiver.give_back(batch);
        assert!(receiver.take().is_none());
    }

    #[test]
    fn as_many_ends_as_there_may_be_come_out_in_batches() {
        let (mut sender, mut receiver) = lane();
        let all = 2 * ENDS + 1;
        for generation in 0..all as u32 {
            sender.end(End {
                allocation: AllocationId {
                    slot: 1,
                    generation,
                },
                relayed: address(2),
            });
        }
        sender.flush();
        let batches = std::iter::from_fn(|| receiver.take());
        let told: usize = batches.map(|batch| batch.ends().len()).sum();
        assert_eq!((told, sender.dropped()), (all, 0));
    }

    #[test]
    fn a_batch_is_bounded_by_packets_and_bytes() {
        let (mut sender, mut receiver) = lane();
        for _ in 0..=BATCH_PACKETS {
            sender.push(ID, address(1), address(2), b"x");
        }
        assert_eq!(
            receiver.take().map(|batch| batch.len()),
            Some(BATCH_PACKETS)
        );
        for _ in 0..=BATCH_BYTES / 60_000 {
            sender.push(ID, address(1), address(2), &[0; 60_000]);
        }
        assert!(
            receiver
                .take()
                .is_some_and(|batch| batch.bytes.len() <= BATCH_BYTES)
        );
    }
}
