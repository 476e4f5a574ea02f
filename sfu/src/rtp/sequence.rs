//! Renumbering: how a stream's numbers map to those of its copy, and which were already sent.
//!
//! Owns two small structures of fixed size, neither of which allocates. Knows nothing of packets:
//! the same map renumbers sequence numbers and picture ids. Called by forwarding.

/// A run of source numbers left out of the copy.
#[derive(Debug, Clone, Copy, Default)]
struct Excluded {
    /// First number left out.
    first: u64,
    /// Last number left out.
    last: u64,
}

/// Maps source numbers to numbers of a copy that leaves some of them out without a hole.
///
/// It remembers the newest `N` runs left out, so that a late number still finds its place. One
/// older than that, or from before the start, has no place and must be dropped: two sources may
/// never meet on one number.
#[derive(Debug, Clone)]
pub struct SequenceMap<const N: usize> {
    /// The lowest source number with a known place.
    floor: u64,
    /// Source minus copy, from the newest run on; wraps.
    offset: u64,
    /// Ring of runs.
    runs: [Excluded; N],
    /// Where the next run goes.
    next: usize,
    /// Runs held.
    held: usize,
}

impl<const N: usize> Default for SequenceMap<N> {
    fn default() -> Self {
        Self {
            floor: 0,
            offset: 0,
            runs: [Excluded::default(); N],
            next: 0,
            held: 0,
        }
    }
}

impl<const N: usize> SequenceMap<N> {
    /// Starts over: source number `first` becomes `copy`; nothing below `first` has a place.
    pub fn restart(&mut self, first: u64, copy: u64) {
        self.floor = first;
        self.offset = first.wrapping_sub(copy);
        self.held = 0;
    }

    /// Leaves `first..=last` out. They must lie above every number mapped or left out so far.
    pub fn exclude(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last, "empty run");
        self.offset = self
            .offset
            .wrapping_add(last.wrapping_sub(first))
            .wrapping_add(1);
        let newest = (self.next + N - 1) % N;
        if self.held > 0 && self.runs[newest].last.wrapping_add(1) == first {
            self.runs[newest].last = last;
            return;
        }
        if self.held == N {
            // The oldest run is forgotten; what lies below its end loses its place.
            self.floor = self.runs[self.next].last.wrapping_add(1);
        } else {
            self.held += 1;
        }
        self.runs[self.next] = Excluded { first, last };
        self.next = (self.next + 1) % N;
    }

    /// The copy's number for `source`; `None` if it was left out or its place is forgotten.
    #[must_use]
    pub fn place(&self, source: u64) -> Option<u64> {
        if source < self.floor {
            return None;
        }
        let mut offset = self.offset;
        for back in 1..=self.held {
            let run = &self.runs[(self.next + N - back) % N];
            if source > run.last {
                break;
            }
            if source >= run.first {
                return None;
            }
            offset = offset.wrapping_sub(run.last - run.first + 1);
        }
        Some(source.wrapping_sub(offset))
    }
}

/// Numbers remembered as sent: the size of the video sequencer, beyond which nothing is resent.
const WINDOW: u64 = 512;

/// Which of the newest 512 numbers were sent, so that none is sent twice.
#[derive(Debug, Clone, Default)]
pub struct SentWindow {
    /// One above the highest number sent.
    end: u64,
    bits: [u64; (WINDOW / 64) as usize],
}

impl SentWindow {
    /// Notes that `number` is sent. False if it was sent before or is too old to tell.
    pub fn insert(&mut self, number: u64) -> bool {
        if number >= self.end {
            self.advance(number);
        } else if self.end - number > WINDOW {
            return false;
        }
        let (word, bit) = Self::at(number);
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }

    /// Moves the window's end above `number`, forgetting what falls out.
    fn advance(&mut self, number: u64) {
        if number - self.end >= WINDOW {
            self.bits = [0; (WINDOW / 64) as usize];
        } else {
            for passed in self.end..=number {
                let (word, bit) = Self::at(passed);
                self.bits[word] &= !bit;
            }
        }
        self.end = number + 1;
    }

    const fn at(number: u64) -> (usize, u64) {
        let index = number % WINDOW;
        ((index / 64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_number_left_out_closes_the_hole_behind_it() {
        let mut map = SequenceMap::<4>::default();
        map.restart(100, 7);
        map.exclude(102, 103);
        map.exclude(104, 104);
        assert_eq!(map.place(99), None);
        assert_eq!(map.place(101), Some(8));
        assert_eq!(map.place(103), None);
        assert_eq!(map.place(104), None);
        assert_eq!(map.place(105), Some(9));
    }

    #[test]
    fn a_forgotten_run_takes_all_below_it_along() {
        let mut map = SequenceMap::<2>::default();
        map.restart(0, 0);
        for first in [10, 20, 30] {
            map.exclude(first, first);
        }
        assert_eq!(map.place(9), None);
        assert_eq!(map.place(10), None);
        assert_eq!(map.place(11), Some(10));
        assert_eq!(map.place(31), Some(28));
    }

    #[test]
    fn a_copy_may_run_ahead_of_its_source() {
        let mut map = SequenceMap::<2>::default();
        map.restart(5, 1_000_000);
        map.exclude(6, 6);
        assert_eq!(map.place(5), Some(1_000_000));
        assert_eq!(map.place(7), Some(1_000_001));
    }

    #[test]
    fn a_number_is_fresh_once_and_unknown_when_old() {
        let mut window = SentWindow::default();
        assert!(window.insert(1000));
        assert!(!window.insert(1000));
        assert!(window.insert(998));
        assert!(!window.insert(998));
        assert!(window.insert(1000 + WINDOW));
        assert!(!window.insert(1000), "fell out of the window");
        assert!(window.insert(1001));
        assert!(window.insert(1000 + 2 * WINDOW));
        assert!(
            window.insert(1000 + 2 * WINDOW - 1),
            "bits do not survive a lap"
        );
    }

    proptest! {
        /// Against a plain table: each step keeps, drops or loses a number.
        #[test]
        fn the_map_agrees_with_a_table(
            first in 0..u64::from(u32::MAX),
            copy in 0..u64::from(u32::MAX),
            steps in proptest::collection::vec(0..4u8, 1..200),
        ) {
            let mut map = SequenceMap::<64>::default();
            map.restart(first, copy);
            let mut table = BTreeMap::new();
            let mut next = copy;
            for (number, step) in (first..).zip(&steps) {
                if *step == 0 {
                    map.exclude(number, number);
                    table.insert(number, None);
                } else {
                    prop_assert_eq!(map.place(number), Some(next));
                    table.insert(number, Some(next));
                    next += 1;
                }
            }
            for (number, place) in table {
                // What is too old may be refused, never misplaced.
                let got = map.place(number);
                prop_assert!(got == place || got.is_none() && number < map.floor);
            }
        }

        #[test]
        fn the_window_agrees_with_a_set(numbers in proptest::collection::vec(0..2000u64, 1..300)) {
            let mut window = SentWindow::default();
            let mut seen = std::collections::BTreeSet::new();
            for number in numbers {
                let highest = seen.last().copied().unwrap_or(0);
                let fresh = window.insert(number);
                if number + WINDOW > highest {
                    prop_assert_eq!(fresh, seen.insert(number));
                } else {
                    prop_assert!(!fresh);
                }
            }
        }
    }
}
