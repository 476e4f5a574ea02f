//! Which port of the range an allocation is told, and which are reserved.
//!
//! Owns how many allocations share each port. Nothing is bound here: every port of the range is
//! bound once, and shared. A client never gets a port twice, for its peers could not tell its
//! allocations apart.

use crate::address::{Family, RelayPort};
use std::time::Instant;

/// Reservations at once; each lapses in half a minute. A full table refuses.
const RESERVATIONS: usize = 256;

/// What a port must be. (RFC 8656 §7.1)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parity {
    /// Any port.
    Any,
    /// An even one.
    Even,
    /// An even one, and the next one is to be kept for later.
    EvenAndNext,
}

/// The range, for both families.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    load: [Vec<u32>; 2],
    /// Where the next search begins, so that equally loaded ports take turns.
    turn: usize,
    reservations: Vec<Reservation>,
}

#[derive(Debug)]
struct Reservation {
    token: [u8; 8],
    at: RelayPort,
    user: Box<str>,
    until: Instant,
}

impl Ports {
    /// All ports from `first` to `last`.
    pub(crate) fn new(first: u16, last: u16) -> Self {
        let count = usize::from(last.saturating_sub(first)) + 1;
        Self {
            first,
            load: [vec![0; count], vec![0; count]],
            turn: 0,
            reservations: Vec::new(),
        }
    }

    /// Whether a port is of the range.
    pub(crate) fn contains(&self, port: u16) -> bool {
        port.checked_sub(self.first)
            .is_some_and(|index| usize::from(index) < self.load[0].len())
    }

    /// The port with the least load that `rank` has nothing against: it tells how unwelcome a port
    /// is, `None` if it is out of the question.
    pub(crate) fn choose(
        &mut self,
        family: Family,
        parity: Parity,
        rank: impl Fn(u16) -> Option<u32>,
    ) -> Option<u16> {
        let count = self.load[0].len();
        let load = self.load.get(family.index())?;
        let candidates = (0..count).filter_map(|n| {
            let index = (self.turn + n) % count;
            let port = self.first + index as u16;
            let fits = match parity {
                Parity::Any => true,
                Parity::Even => port.is_multiple_of(2),
                Parity::EvenAndNext => {
                    port.is_multiple_of(2) && index + 1 < count && rank(port + 1).is_some()
                }
            };
            let rank = rank(port).filter(|_| fits)?;
            Some(((rank, load[index]), index))
        });
        let (_, index) = candidates.min_by_key(|(key, _)| *key)?;
        self.turn = (index + 1) % count;
        Some(self.first + index as u16)
    }

    /// One more allocation on a port.
    pub(crate) fn take(&mut self, at: RelayPort) {
        if let Some(load) = self.place(at) {
            *load += 1;
        }
    }

    /// One allocation less.
    pub(crate) fn release(&mut self, at: RelayPort) {
        if let Some(load) = self.place(at) {
            *load = load.saturating_sub(1);
        }
    }

    fn place(&mut self, at: RelayPort) -> Option<&mut u32> {
        let index = usize::from(at.port.checked_sub(self.first)?);
        self.load.get_mut(at.family.index())?.get_mut(index)
    }

    /// Keeps a port for a later allocation of this user; false if too much is kept already.
    pub(crate) fn reserve(
        &mut self,
        token: [u8; 8],
        at: RelayPort,
        user: &str,
        until: Instant,
        now: Instant,
    ) -> bool {
        self.reservations.retain(|kept| kept.until > now);
        let room = self.reservations.len() < RESERVATIONS;
        if room {
            self.reservations.push(Reservation {
                token,
                at,
                user: user.into(),
                until,
            });
        }
        room
    }

    /// The port kept under a token for this user, which is then no longer kept.
    pub(crate) fn redeem(&mut self, token: &[u8], user: &str, now: Instant) -> Option<RelayPort> {
        let index = self
            .reservations
            .iter()
            .position(|kept| kept.token == *token && *kept.user == *user && kept.until > now)?;
        Some(self.reservations.swap_remove(index).at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(port: u16) -> RelayPort {
        RelayPort {
            family: Family::V4,
            port,
        }
    }

    #[test]
    fn ports_take_turns_and_the_least_loaded_is_chosen() {
        let mut ports = Ports::new(30_000, 30_020);
        let mut seen = Vec::new();
        for _ in 0..42 {
            let port = ports
                .choose(Family::V4, Parity::Any, |_| Some(0))
                .expect("one");
            ports.take(at(port));
            seen.push(port);
        }
        seen.sort_unstable();
        let twice: Vec<u16> = (30_000..=30_020).flat_map(|port| [port, port]).collect();
        assert_eq!(seen, twice);
        ports.release(at(30_007));
        assert_eq!(
            ports.choose(Family::V4, Parity::Any, |_| Some(0)),
            Some(30_007)
        );
        assert!(ports.contains(30_020) && !ports.contains(30_021) && !ports.contains(0));
    }

    #[test]
    fn unwelcome_ports_come_last_and_those_out_of_the_question_never() {
        let mut ports = Ports::new(10, 12);
        let rank = |port| match port {
            10 => None,
            11 => Some(1),
            _ => Some(0),
        };
        assert_eq!(ports.choose(Family::V6, Parity::Any, rank), Some(12));
        ports.take(RelayPort {
            family: Family::V6,
            port: 12,
        });
        assert_eq!(ports.choose(Family::V6, Parity::Any, rank), Some(12));
        assert_eq!(ports.choose(Family::V6, Parity::Any, |_| None), None);
    }

    #[test]
    fn an_even_port_with_its_neighbour_is_never_the_last() {
        let mut ports = Ports::new(10, 12);
        for _ in 0..4 {
            assert_eq!(
                ports.choose(Family::V4, Parity::EvenAndNext, |_| Some(0)),
                Some(10)
            );
        }
        let without_neighbour = |port| (port != 11).then_some(0);
        assert_eq!(
            ports.choose(Family::V4, Parity::EvenAndNext, without_neighbour),
            None
        );
        assert_eq!(
            ports.choose(Family::V4, Parity::Even, |port| (port > 10).then_some(0)),
            Some(12)
        );
    }

    #[test]
    fn a_reservation_is_redeemed_once_by_its_user_in_time() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let later = now + Duration::from_secs(30);
        let mut ports = Ports::new(10, 12);
        assert!(ports.reserve([1; 8], at(11), "bob", later, now));
        assert_eq!(ports.redeem(&[1; 8], "eve", now), None);
        assert_eq!(ports.redeem(&[2; 8], "bob", now), None);
        assert_eq!(ports.redeem(&[1; 8], "bob", later), None);
        assert_eq!(ports.redeem(&[1; 8], "bob", now), Some(at(11)));
        assert_eq!(ports.redeem(&[1; 8], "bob", now), None);
        for n in 0..RESERVATIONS {
            assert!(ports.reserve([n as u8; 8], at(11), "bob", later, now));
        }
        assert!(!ports.reserve([1; 8], at(11), "bob", later, now));
        assert!(ports.reserve([1; 8], at(11), "bob", later + Duration::from_secs(9), later));
    }
}
