//! Identifiers: LiveKit's sids on the wire, and the handles by which media and control name things.
//!
//! Owns their formats and nothing else. Sids are drawn from a caller's seeded generator, so that a
//! run can be repeated. Handles are plain numbers; a stale one is told by its generation and ignored.

use rand::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The alphabet of LiveKit's identifiers: no `0 1 I O l`. (LK: protocol utils/guid)
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Random characters after the prefix of a sid.
const SID_RANDOM_CHARS: usize = 12;

/// Draws `prefix` followed by twelve random characters.
fn sid(prefix: &str, rng: &mut impl Rng) -> String {
    let mut text = String::with_capacity(prefix.len() + SID_RANDOM_CHARS);
    text.push_str(prefix);
    for _ in 0..SID_RANDOM_CHARS {
        text.push(char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    }
    text
}

macro_rules! sid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The sid as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A sid that came from outside; nothing is checked.
            #[must_use]
            pub fn from_wire(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

sid_type!(
    /// A room's sid, `RM_…`; a room created anew under an old name gets a new one.
    RoomSid
);
sid_type!(
    /// A participant's sid, `PA_…`; kept across a resume, new after a full reconnect.
    ParticipantSid
);
sid_type!(
    /// A published track's sid, `TR_…`.
    TrackSid
);

impl RoomSid {
    /// A new room sid.
    #[must_use]
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(sid("RM_", rng))
    }
}

impl ParticipantSid {
    /// A new participant sid.
    #[must_use]
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(sid("PA_", rng))
    }
}

impl TrackSid {
    /// A new track sid: `TR_`, the kind's letter, the source's letter (none when unknown).
    /// Clients test only the `TR`. (LK signalling §9.1)
    #[must_use]
    pub fn random(kind: MediaKind, source: Option<char>, rng: &mut impl Rng) -> Self {
        let mut prefix = String::from("TR_");
        prefix.push(match kind {
            MediaKind::Audio => 'A',
            MediaKind::Video => 'V',
        });
        prefix.extend(source);
        Self(sid(&prefix, rng))
    }
}

/// A new node id, `ND_…`, one per process.
#[must_use]
pub fn node_id(rng: &mut impl Rng) -> String {
    sid("ND_", rng)
}

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// A peer: one participant's media endpoint on one worker.
///
/// Drawn by the shell's placement before the room or the worker hears of the peer. `slot` is reused
/// after a peer has gone, with a higher `generation`: a late message to a freed slot is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId {
    /// The worker thread that owns the peer for life.
    pub worker: u8,
    /// Index into that worker's table of peers.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}/{}.{}", self.worker, self.slot, self.generation)
    }
}

/// A published track as media knows it: its publisher's peer and a number the room counts up
/// for that peer, never reused while the peer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackKey {
    /// The publisher's peer.
    pub peer: PeerId,
    /// Counts up from 0 for each publisher.
    pub index: u32,
}

/// One signalling connection. A resume brings a new one to the same participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_sid_has_its_prefix_and_twelve_characters_of_the_alphabet() {
        let mut rng = StdRng::seed_from_u64(1);
        let sid = TrackSid::random(MediaKind::Video, Some('C'), &mut rng);
        let random = sid.as_str().strip_prefix("TR_VC").expect("prefix");
        assert_eq!(random.len(), SID_RANDOM_CHARS);
        assert!(random.bytes().all(|b| ALPHABET.contains(&b)));
    }

    #[test]
    fn one_seed_draws_the_same_sids() {
        let draw = |seed| ParticipantSid::random(&mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
