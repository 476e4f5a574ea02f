//! Which indices of which SSRC have been seen.
//!
//! Owns one direction's streams of one peer. It is told of a packet only after that was
//! authenticated, so that forged SSRCs cost nothing. Called by `srtp.rs` alone.

use super::Refused;

/// Indices a packet may be late, and remembered as seen: two seconds of a fast video stream with
/// its retransmissions. (RFC 3711 §3.3.2 wants at least 64)
const WINDOW: u64 = 1024;
const WORDS: usize = WINDOW as usize / 64;
/// Streams of one peer with a window at hand, some 20 KiB: dozens of simulcast tracks at a time.
/// The one idle for longest is retired.
pub(super) const LIVE: usize = 128;
/// Retired streams of one peer, of which only the newest index is remembered: 32 KiB. A stream that
/// comes back goes on behind it, so that retiring never lets a packet in twice. A client that used
/// up even these must reconnect: new SSRCs are refused.
pub(super) const RETIRED: usize = 2048;

/// The seen indices of one stream.
#[derive(Debug)]
struct Window {
    newest: u64,
    /// One bit for each of the last [`WINDOW`] indices, at index modulo [`WINDOW`].
    seen: [u64; WORDS],
}

impl Window {
    /// Begins with `index` seen, and all before it if `closed`.
    const fn new(index: u64, closed: bool) -> Self {
        let mut seen = [if closed { u64::MAX } else { 0 }; WORDS];
        let (word, bit) = Self::place(index);
        seen[word] |= bit;
        Self {
            newest: index,
            seen,
        }
    }

    const fn place(index: u64) -> (usize, u64) {
        let at = index % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    const fn is_fresh(&self, index: u64) -> bool {
        if index > self.newest {
            return true;
        }
        let (word, bit) = Self::place(index);
        self.newest - index < WINDOW && self.seen[word] & bit == 0
    }

    fn accept(&mut self, index: u64) {
        if index > self.newest {
            if index - self.newest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.newest + 1..index {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.newest = index;
        }
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    /// When it was last used, in packets of the peer.
    used: u64,
    window: Window,
}

/// Where a stream was found. Good until the next [`Streams::accept`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    Live(usize),
    Retired(usize),
    New,
}

/// The streams of one peer in one direction, each list sorted by SSRC.
#[derive(Debug, Default)]
pub(super) struct Streams {
    live: Vec<Stream>,
    /// SSRC and newest index.
    retired: Vec<(u32, u64)>,
    packets: u64,
}

impl Streams {
    pub(super) fn find(&self, ssrc: u32) -> Found {
        match self.live.binary_search_by_key(&ssrc, |stream| stream.ssrc) {
            Ok(at) => Found::Live(at),
            Err(_) => match self.search_retired(ssrc) {
                Ok(at) => Found::Retired(at),
                Err(_) => Found::New,
            },
        }
    }

    /// The newest authentic index of the stream.
    pub(super) fn newest(&self, found: Found) -> Option<u64> {
        match found {
            Found::Live(at) => self.live.get(at).map(|stream| stream.window.newest),
            Found::Retired(at) => self.retired.get(at).map(|&(_, newest)| newest),
            Found::New => None,
        }
    }

    /// May a packet with this index be let in?
    pub(super) fn is_fresh(&self, found: Found, index: u64) -> bool {
        match found {
            Found::Live(at) => self
                .live
                .get(at)
                .is_some_and(|stream| stream.window.is_fresh(index)),
            Found::Retired(_) => self.newest(found).is_some_and(|newest| index > newest),
            Found::New => true,
        }
    }

    /// The packet was fresh and has proved authentic.
    pub(super) fn accept(&mut self, found: Found, ssrc: u32, index: u64) -> Result<(), Refused> {
        self.packets += 1;
        if let Found::Live(at) = found
            && let Some(stream) = self.live.get_mut(at)
        {
            stream.used = self.packets;
            stream.window.accept(index);
            return Ok(());
        }
        let returning = matches!(found, Found::Retired(_));
        if self.live.len() >= LIVE && self.retired.len() >= RETIRED && !returning {
            return Err(Refused::TooManyStreams);
        }
        if let Found::Retired(at) = found {
            self.retired.remove(at);
        }
        if self.live.len() >= LIVE {
            self.retire_idlest();
        }
        let (Ok(place) | Err(place)) = self.live.binary_search_by_key(&ssrc, |stream| stream.ssrc);
        let stream = Stream {
            ssrc,
            used: self.packets,
            window: Window::new(index, returning),
        };
        self.live.insert(place, stream);
        Ok(())
    }

    fn retire_idlest(&mut self) {
        let idlest = self
            .live
            .iter()
            .enumerate()
            .min_by_key(|(_, stream)| stream.used);
        let Some((at, _)) = idlest else {
            return;
        };
        let stream = self.live.remove(at);
        let (Ok(place) | Err(place)) = self.search_retired(stream.ssrc);
        self.retired
            .insert(place, (stream.ssrc, stream.window.newest));
    }

    fn search_retired(&self, ssrc: u32) -> Result<usize, usize> {
        self.retired.binary_search_by_key(&ssrc, |&(ssrc, _)| ssrc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn offer(streams: &mut Streams, ssrc: u32, index: u64) -> Result<bool, Refused> {
        let found = streams.find(ssrc);
        if !streams.is_fresh(found, index) {
            return Ok(false);
        }
        streams.accept(found, ssrc, index).map(|()| true)
    }

    #[test]
    fn an_index_is_let_in_once_within_the_window() {
        let mut streams = Streams::default();
        for (index, fresh) in [
            (5000, true),
            (5000, false),
            (4999, true),
            (3977, true),
            (3976, false),
            (5001, true),
            (3977, false),
            (9000, true),
            (5001, false),
        ] {
            assert_eq!(offer(&mut streams, 1, index), Ok(fresh), "{index}");
        }
    }

    #[test]
    fn a_retired_stream_goes_on_behind_its_newest_index() {
        let mut streams = Streams::default();
        assert_eq!(offer(&mut streams, 0, 500), Ok(true));
        for ssrc in 1..=LIVE as u32 {
            assert_eq!(offer(&mut streams, ssrc, 1), Ok(true));
        }
        assert!(matches!(streams.find(0), Found::Retired(_)));
        assert_eq!(offer(&mut streams, 0, 500), Ok(false));
        assert_eq!(
            offer(&mut streams, 0, 499),
            Ok(false),
            "unseen, but who can tell now"
        );
        assert_eq!(offer(&mut streams, 0, 502), Ok(true));
        assert_eq!(offer(&mut streams, 0, 501), Ok(false));
        assert_eq!(offer(&mut streams, 0, 503), Ok(true));
        assert_eq!(streams.live.len(), LIVE);
    }

    #[test]
    fn ssrcs_without_end_are_refused_in_the_end_and_known_ones_still_served() {
        let mut streams = Streams::default();
        let all = (LIVE + RETIRED) as u32;
        for ssrc in 0..all {
            assert_eq!(offer(&mut streams, ssrc, 1), Ok(true));
        }
        assert_eq!(offer(&mut streams, all, 1), Err(Refused::TooManyStreams));
        assert_eq!(offer(&mut streams, 0, 1), Ok(false));
        assert_eq!(offer(&mut streams, 0, 2), Ok(true));
        assert_eq!(offer(&mut streams, all - 1, 2), Ok(true));
        assert_eq!((streams.live.len(), streams.retired.len()), (LIVE, RETIRED));
    }

    #[test]
    fn a_skipped_index_is_not_taken_for_the_one_a_window_before_it() {
        let mut streams = Streams::default();
        for index in [10, 1033, 1035, 1034] {
            assert_eq!(offer(&mut streams, 1, index), Ok(true), "{index}");
        }
    }

    proptest! {
        /// One stream against a list of all it was given.
        #[test]
        fn the_window_lets_in_just_what_is_new(steps in prop::collection::vec(-1100i64..600, 0..600)) {
            let mut streams = Streams::default();
            let mut seen = BTreeSet::new();
            let mut newest = 5000u64;
            for step in steps {
                let index = newest.saturating_add_signed(step);
                let fresh = index > newest || seen.is_empty() || (newest - index < WINDOW && !seen.contains(&index));
                prop_assert_eq!(offer(&mut streams, 1, index), Ok(fresh));
                newest = if seen.is_empty() { index } else { newest.max(index) };
                seen.insert(index);
            }
        }

        /// More streams than are kept at hand.
        #[test]
        fn nothing_is_let_in_twice_however_many_streams(
            packets in prop::collection::vec((0..300u32, 0..50u64), 0..2000)
        ) {
            let mut streams = Streams::default();
            let mut seen = BTreeSet::new();
            for (ssrc, index) in packets {
                if offer(&mut streams, ssrc, index).unwrap() {
                    prop_assert!(seen.insert((ssrc, index)));
                }
                prop_assert!(streams.live.len() <= LIVE);
            }
        }
    }
}
