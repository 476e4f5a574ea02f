//! When which peer must be looked at again: one entry a peer, earliest first.
//!
//! A heap with stale entries left in it until they surface: moving a deadline allocates nothing
//! once the heap has grown to the number of peers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines of peers by their index.
#[derive(Debug, Default)]
pub struct Schedule {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    /// The valid deadline of each peer; heap entries that differ are stale.
    due: Vec<Option<Instant>>,
}

impl Schedule {
    /// Looks at `peer` at `at` or before; an earlier deadline stays.
    pub fn wake_by(&mut self, peer: u32, at: Instant) {
        let index = peer as usize;
        if index >= self.due.len() {
            self.due.resize(index + 1, None);
        }
        if self.due[index].is_some_and(|due| due <= at) {
            return;
        }
        self.due[index] = Some(at);
        self.heap.push(Reverse((at, peer)));
        self.sweep();
    }

    /// Forgets a peer.
    pub fn remove(&mut self, peer: u32) {
        if let Some(due) = self.due.get_mut(peer as usize) {
            *due = None;
        }
    }

    /// The earliest deadline. It may be stale by being too early, never too late.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A peer whose time has come; its deadline is gone until set anew.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        while let Some(Reverse((at, peer))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let due = &mut self.due[peer as usize];
            if *due == Some(at) {
                *due = None;
                return Some(peer);
            }
        }
        None
    }

    /// Rebuilds the heap once stale entries outnumber peers by far, so that it stays bounded.
    fn sweep(&mut self) {
        if self.heap.len() <= 4 * self.due.len() + 64 {
            return;
        }
        let due = &self.due;
        self.heap
            .retain(|Reverse((at, peer))| due[*peer as usize] == Some(*at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn instant() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    #[test]
    fn peers_come_up_in_order_of_their_earliest_deadline_and_once() {
        let now = instant();
        let at = |ms| now + Duration::from_millis(ms);
        let mut schedule = Schedule::default();
        schedule.wake_by(0, at(30));
        schedule.wake_by(1, at(20));
        schedule.wake_by(0, at(10));
        schedule.wake_by(0, at(40));
        assert_eq!(schedule.next(), Some(at(10)));
        assert_eq!(schedule.pop_due(at(9)), None);
        assert_eq!(schedule.pop_due(at(50)), Some(0));
        assert_eq!(schedule.pop_due(at(50)), Some(1));
        assert_eq!(schedule.pop_due(at(50)), None);
    }

    #[test]
    fn a_removed_peer_does_not_come_up() {
        let now = instant();
        let mut schedule = Schedule::default();
        schedule.wake_by(3, now);
        schedule.remove(3);
        assert_eq!(schedule.pop_due(now), None);
    }

    #[test]
    fn a_deadline_moved_forward_for_ever_does_not_grow_the_heap() {
        let now = instant();
        let mut schedule = Schedule::default();
        for step in (0..10_000).rev() {
            schedule.wake_by(0, now + Duration::from_millis(step));
        }
        assert!(schedule.heap.len() <= 4 + 65);
        assert_eq!(schedule.pop_due(now), Some(0));
    }
}
