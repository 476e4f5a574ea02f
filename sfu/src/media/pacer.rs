//! The send arena: sealed packets back to back, in runs one system call can send.
//!
//! Owns one buffer of fixed size and the list of runs in it. Never grows, never sends, knows no
//! address type: the destination is the caller's. The plane fills it, the worker flushes it.

/// Bytes of the arena: some 400 full packets between two flushes. Small enough to stay in a core's
/// second-level cache, where 2 MiB cost a tenth of the fan-out; large enough for the largest batch
/// of one track.
pub const ARENA_BYTES: usize = 512 * 1024;

/// A used arena is flushed before it grows beyond this: what the next packets are written to is
/// then still in the core's cache, which at 200 subscribers is worth a tenth of the fan-out.
pub const FLUSH_BYTES: usize = 128 * 1024;

/// Runs of one arena; in the worst case each packet is its own.
pub const MAX_RUNS: usize = 4096;

/// Packets the kernel splits out of one send (UDP_MAX_SEGMENTS of Linux before 6.2).
pub const MAX_SEGMENTS: usize = 64;

/// Bytes of one send: an IP packet's 65,535 less headers, with room to spare.
pub const MAX_RUN_BYTES: usize = 65_000;

/// The longest packet that goes with others: what any path takes whole (IPv6 has no smaller MTU than 1280,
/// less 48 of headers). The kernel refuses a run whose packets it would have to fragment, all of it.
pub const MAX_SEGMENT_BYTES: usize = 1232;

/// Packets to one destination, all of one size but perhaps a shorter last: one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a, T> {
    /// Where to.
    pub to: T,
    /// The packets, back to back.
    pub bytes: &'a [u8],
    /// Size of each but the last.
    pub segment: usize,
    /// How many.
    pub count: usize,
}

/// A run as the arena notes it.
#[derive(Debug, Clone, Copy)]
struct Extent<T> {
    to: T,
    start: usize,
    end: usize,
    segment: usize,
    count: usize,
}

impl<T: Copy + Eq> Extent<T> {
    /// May a packet of `len` bytes to `to` end this run? A shorter packet closed it.
    fn takes(&self, to: &T, len: usize) -> bool {
        self.to == *to
            && self.end - self.start == self.segment * self.count
            && len <= self.segment
            && self.segment <= MAX_SEGMENT_BYTES
            && self.count < MAX_SEGMENTS
            && self.end - self.start + len <= MAX_RUN_BYTES
    }
}

/// The arena. A full one hands out no slot: the caller flushes, clears and asks again.
#[derive(Debug)]
pub struct Arena<T> {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Extent<T>>,
    /// The slot handed out last, until committed.
    open: Option<(T, usize)>,
    /// How often it was full.
    refused: u64,
}

impl<T: Copy + Eq> Default for Arena<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Eq> Arena<T> {
    /// An empty arena of [`ARENA_BYTES`], allocated once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ARENA_BYTES],
            used: 0,
            runs: Vec::with_capacity(MAX_RUNS),
            open: None,
            refused: 0,
        }
    }

    /// Room for one packet of at most `max_len` bytes; `None` when the arena is full. A slot not
    /// committed is handed out again.
    pub fn slot(&mut self, to: T, max_len: usize) -> Option<&mut [u8]> {
        self.open = None;
        let end = self.used.saturating_add(max_len);
        if self.runs.len() == MAX_RUNS || end > self.bytes.len() {
            self.refused += 1;
            return None;
        }
        self.open = Some((to, max_len));
        self.bytes.get_mut(self.used..end)
    }

    /// Keeps the first `len` bytes of the open slot as a packet; zero keeps nothing.
    pub fn commit(&mut self, len: usize) {
        let Some((to, max_len)) = self.open.take() else {
            debug_assert!(false, "commit without a slot");
            return;
        };
        self.keep(&to, len, max_len);
    }

    /// Slot and commit in one, without copying the destination: `write` fills the room of `max_len`
    /// bytes and tells how many to keep. Returns these; zero when the arena is full.
    #[inline]
    pub fn put(&mut self, to: &T, max_len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let end = self.used.saturating_add(max_len);
        let room = self.bytes.get_mut(self.used..end);
        let Some(room) = room.filter(|_| self.runs.len() < MAX_RUNS) else {
            self.refused += 1;
            return 0;
        };
        let len = write(room);
        self.keep(to, len, max_len)
    }

    #[inline]
    fn keep(&mut self, to: &T, len: usize, max_len: usize) -> usize {
        debug_assert!(len <= max_len, "commit beyond the slot");
        let len = len.min(max_len);
        if len == 0 {
            return 0;
        }
        let start = self.used;
        self.used += len;
        match self.runs.last_mut() {
            Some(run) if run.takes(to, len) => {
                run.end = self.used;
                run.count += 1;
            }
            _ => self.runs.push(Extent {
                to: *to,
                start,
                end: self.used,
                segment: len,
                count: 1,
            }),
        }
        len
    }

    /// The runs in the order written.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_, T>> {
        self.runs.iter().map(|run| Run {
            to: run.to,
            bytes: &self.bytes[run.start..run.end],
            segment: run.segment,
            count: run.count,
        })
    }

    /// Is there room for `packets` of at most `max_len` bytes each? An arena in use counts as full
    /// at [`FLUSH_BYTES`]; an empty one takes the largest batch there is.
    #[must_use]
    pub fn has_room(&self, packets: usize, max_len: usize) -> bool {
        let limit = if self.used == 0 {
            self.bytes.len()
        } else {
            FLUSH_BYTES
        };
        let bytes = packets.saturating_mul(max_len).saturating_add(self.used);
        bytes <= limit && self.runs.len() + packets <= MAX_RUNS
    }

    /// Nothing to send?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How often a slot was refused because the arena was full, since the start.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets every packet; the buffer stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(arena: &mut Arena<u8>, to: u8, len: usize, fill: u8) -> bool {
        let Some(slot) = arena.slot(to, len + 16) else {
            return false;
        };
        slot[..len].fill(fill);
        arena.commit(len);
        true
    }

    fn shapes(arena: &Arena<u8>) -> Vec<(u8, usize, usize)> {
        arena.runs().map(|r| (r.to, r.segment, r.count)).collect()
    }

    #[test]
    fn equal_packets_to_one_destination_are_one_run() {
        let mut arena = Arena::new();
        for len in [100, 100, 40, 100] {
            assert!(put(&mut arena, 1, len, 0));
        }
        assert!(put(&mut arena, 2, 100, 0));
        // The shorter packet ends its run.
        assert_eq!(shapes(&arena), [(1, 100, 3), (1, 100, 1), (2, 100, 1)]);
    }

    #[test]
    fn a_longer_packet_opens_a_new_run() {
        let mut arena = Arena::new();
        for len in [100, 101] {
            put(&mut arena, 1, len, 0);
        }
        assert_eq!(shapes(&arena), [(1, 100, 1), (1, 101, 1)]);
    }

    #[test]
    fn a_run_holds_sixty_four_packets_and_sixty_five_thousand_bytes() {
        let mut arena = Arena::new();
        for _ in 0..65 {
            put(&mut arena, 1, 10, 0);
        }
        assert_eq!(shapes(&arena), [(1, 10, 64), (1, 10, 1)]);
        arena.clear();
        for _ in 0..60 {
            put(&mut arena, 1, 1200, 0);
        }
        assert_eq!(shapes(&arena), [(1, 1200, 54), (1, 1200, 6)]);
    }

    #[test]
    fn what_a_path_may_have_to_fragment_goes_alone() {
        let mut arena = Arena::new();
        for len in [1232, 1232, 1233, 1233, 8] {
            put(&mut arena, 1, len, 0);
        }
        let all = [(1, 1232, 2), (1, 1233, 1), (1, 1233, 1), (1, 8, 1)];
        assert_eq!(shapes(&arena), all);
    }

    #[test]
    fn a_full_arena_refuses_until_cleared() {
        let mut arena = Arena::new();
        let mut packets = 0;
        while put(&mut arena, 1, 1200, 0) {
            packets += 1;
        }
        assert_eq!(packets, (ARENA_BYTES - 16) / 1200);
        arena.clear();
        assert!(arena.is_empty() && put(&mut arena, 1, 1200, 0));
        assert!(arena.slot(1, usize::MAX).is_none());
        assert_eq!(arena.refused(), 2);
    }

    #[test]
    fn runs_are_limited_too() {
        let mut arena = Arena::new();
        let mut packets = 0;
        while put(&mut arena, (packets % 2) as u8, 20, 0) {
            packets += 1;
        }
        assert_eq!(packets, MAX_RUNS);
    }

    #[test]
    fn a_slot_not_committed_leaves_no_trace() {
        let mut arena = Arena::new();
        put(&mut arena, 1, 10, 0);
        assert!(arena.slot(2, 50).is_some());
        put(&mut arena, 1, 10, 0);
        assert!(arena.slot(2, 50).is_some());
        arena.commit(0);
        assert_eq!(shapes(&arena), [(1, 10, 2)]);
    }

    #[test]
    fn a_packet_put_is_one_committed() {
        let mut arena = Arena::new();
        put(&mut arena, 1, 10, 7);
        let write = |slot: &mut [u8]| {
            slot[..10].fill(8);
            10
        };
        assert_eq!(arena.put(&1, 26, write), 10);
        assert_eq!(arena.put(&2, 26, |_| 0), 0);
        assert_eq!(shapes(&arena), [(1, 10, 2)]);
        let run = arena.runs().next().expect("a run");
        assert_eq!(run.bytes, [[7; 10], [8; 10]].concat());
        assert_eq!(arena.put(&1, usize::MAX, |_| 1), 0);
        assert_eq!(arena.refused(), 1);
    }

    proptest! {
        /// Splitting the runs as the kernel does gives back every packet in order.
        #[test]
        fn runs_split_into_the_packets_committed(
            packets in proptest::collection::vec((0..3u8, 1..1500usize, any::<u8>()), 0..200),
        ) {
            let mut arena = Arena::new();
            for (to, len, fill) in &packets {
                prop_assert!(put(&mut arena, *to, *len, *fill));
            }
            let mut back = Vec::new();
            for run in arena.runs() {
                prop_assert!(run.count <= MAX_SEGMENTS && run.bytes.len() <= MAX_RUN_BYTES);
                prop_assert_eq!(run.bytes.chunks(run.segment).count(), run.count);
                for packet in run.bytes.chunks(run.segment) {
                    prop_assert!(packet.iter().all(|b| *b == packet[0]));
                    back.push((run.to, packet.len(), packet[0]));
                }
            }
            prop_assert_eq!(back, packets);
        }
    }
}
