//! What each participant was told of the others, and what waits to be told. (LK: signalling §5.12)
//!
//! Owns the batch of updates that may wait, the order of snapshots, and each receiver's memory of
//! versions. Sends nothing: `announce` does.

use proto::livekit;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Updates of participants that publish nothing wait at most this long.
pub(super) const BATCH_INTERVAL: Duration = Duration::from_secs(3);
/// Sids whose last version a receiver's memory holds; what falls out may be told twice.
const SEEN_CAPACITY: usize = 128;
/// Departures remembered for a resume; older ones follow from the full list sent with it.
const MISSED_CAPACITY: usize = 128;

/// Updates that wait, one for each identity.
#[derive(Debug, Default)]
pub(super) struct Roster {
    queued: BTreeMap<String, livekit::ParticipantInfo>,
}

impl Roster {
    /// Queues a snapshot, unless a newer one of its identity waits already.
    pub(super) fn queue(&mut self, info: livekit::ParticipantInfo) {
        let stale = self
            .queued
            .get(&info.identity)
            .is_some_and(|queued| is_newer(queued, &info));
        if !stale {
            self.queued.insert(info.identity.clone(), info);
        }
    }

    /// A snapshot goes out at once: an older one of its identity need not any more.
    pub(super) fn supersede(&mut self, info: &livekit::ParticipantInfo) {
        if self
            .queued
            .get(&info.identity)
            .is_some_and(|queued| !is_newer(queued, info))
        {
            self.queued.remove(&info.identity);
        }
    }

    /// Everything that waits.
    pub(super) fn take(&mut self) -> Vec<livekit::ParticipantInfo> {
        std::mem::take(&mut self.queued).into_values().collect()
    }

    /// Does anything wait?
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

/// Is `a` a newer snapshot of an identity than `b`? Within a sid the version decides, between sids
/// the time of joining, then the sid.
fn is_newer(a: &livekit::ParticipantInfo, b: &livekit::ParticipantInfo) -> bool {
    if a.sid == b.sid {
        return a.version > b.version;
    }
    (a.joined_at, a.joined_at_ms, &a.sid) > (b.joined_at, b.joined_at_ms, &b.sid)
}

/// What one receiver was told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    versions: BTreeMap<String, (u32, u64)>,
    clock: u64,
    missed: VecDeque<livekit::ParticipantInfo>,
}

impl Seen {
    /// Should the receiver get this snapshot? Remembers it if so.
    pub(super) fn admit(&mut self, info: &livekit::ParticipantInfo) -> bool {
        if self
            .versions
            .get(&info.sid)
            .is_some_and(|(version, _)| *version >= info.version)
        {
            return false;
        }
        self.record(info);
        true
    }

    /// The receiver gets this snapshot whatever it was told before.
    pub(super) fn record(&mut self, info: &livekit::ParticipantInfo) {
        self.clock += 1;
        if self.versions.len() >= SEEN_CAPACITY && !self.versions.contains_key(&info.sid) {
            let oldest = self.versions.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(sid) = oldest.map(|(sid, _)| sid.clone()) {
                self.versions.remove(&sid);
            }
        }
        self.versions
            .insert(info.sid.clone(), (info.version, self.clock));
    }

    /// Somebody left: kept until the receiver is heard, for it may not have got the news.
    pub(super) fn record_departure(&mut self, info: &livekit::ParticipantInfo) {
        if self.missed.len() >= MISSED_CAPACITY {
            self.missed.pop_front();
        }
        self.missed.push_back(livekit::ParticipantInfo {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            version: info.version,
            state: info.state,
            ..Default::default()
        });
    }

    /// The receiver's connection works: it got what was sent.
    pub(super) fn heard(&mut self) {
        self.missed.clear();
    }

    /// Who left since the receiver was last heard.
    pub(super) fn take_missed(&mut self) -> Vec<livekit::ParticipantInfo> {
        std::mem::take(&mut self.missed).into()
    }
}

/// About how many bytes a snapshot takes: its texts, and an allowance for everything small.
fn weight(info: &livekit::ParticipantInfo) -> usize {
    const SMALL_FIELDS: usize = 96;
    let attributes = info
        .attributes
        .iter()
        .map(|(key, value)| key.len() + value.len() + 6);
    let tracks = info.tracks.iter().map(|track| {
        SMALL_FIELDS
            + track.name.len()
            + track.stream.len()
            + 64 * (track.layers.len() + track.codecs.len())
    });
    SMALL_FIELDS
        + info.sid.len()
        + info.identity.len()
        + info.name.len()
        + info.metadata.len()
        + attributes.sum::<usize>()
        + tracks.sum::<usize>()
}

/// Cuts a list into updates of about `target` bytes each; never an empty one.
pub(super) fn split(
    infos: Vec<livekit::ParticipantInfo>,
    target: usize,
) -> Vec<livekit::ParticipantUpdate> {
    let mut updates: Vec<livekit::ParticipantUpdate> = Vec::new();
    let mut room_left = 0;
    for info in infos {
        let size = weight(&info);
        match updates.last_mut() {
            Some(update) if size <= room_left => update.participants.push(info),
            _ => {
                updates.push(livekit::ParticipantUpdate {
                    participants: vec![info],
                });
                room_left = target;
            }
        }
        room_left = room_left.saturating_sub(size);
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(
        identity: &str,
        sid: &str,
        joined_at_ms: i64,
        version: u32,
    ) -> livekit::ParticipantInfo {
        livekit::ParticipantInfo {
            identity: identity.into(),
            sid: sid.into(),
            joined_at: joined_at_ms / 1000,
            joined_at_ms,
            version,
            ..Default::default()
        }
    }

    #[test]
    fn a_newer_snapshot_replaces_the_queued_one_and_an_older_is_discarded() {
        let mut roster = Roster::default();
        roster.queue(info("a", "PA_1", 0, 2));
        roster.queue(info("a", "PA_1", 0, 1));
        roster.queue(info("a", "PA_2", 5, 1));
        roster.queue(info("a", "PA_1", 0, 9));
        assert_eq!(roster.take(), vec![info("a", "PA_2", 5, 1)]);
        assert!(roster.is_empty());
    }

    #[test]
    fn an_immediate_snapshot_takes_the_queued_one_of_its_identity_away() {
        let mut roster = Roster::default();
        roster.queue(info("a", "PA_1", 0, 2));
        roster.queue(info("b", "PA_2", 0, 2));
        roster.supersede(&info("a", "PA_1", 0, 3));
        assert_eq!(roster.take(), vec![info("b", "PA_2", 0, 2)]);
    }

    #[test]
    fn a_receiver_never_gets_a_version_twice_or_an_older_one() {
        let mut seen = Seen::default();
        assert!(seen.admit(&info("a", "PA_1", 0, 3)));
        assert!(!seen.admit(&info("a", "PA_1", 0, 3)));
        assert!(!seen.admit(&info("a", "PA_1", 0, 2)));
        assert!(seen.admit(&info("a", "PA_1", 0, 4)));
    }

    #[test]
    fn a_receivers_memory_is_bounded_and_forgets_the_oldest() {
        let mut seen = Seen::default();
        for n in 0..=SEEN_CAPACITY {
            assert!(seen.admit(&info("a", &format!("PA_{n}"), 0, 1)));
        }
        assert_eq!(seen.versions.len(), SEEN_CAPACITY);
        assert!(seen.admit(&info("a", "PA_0", 0, 1)));
        assert!(!seen.admit(&info("a", "PA_128", 0, 1)));
    }

    #[test]
    fn a_long_list_is_cut_into_messages_of_the_target_size() {
        let infos: Vec<_> = (0..10)
            .map(|n| livekit::ParticipantInfo {
                metadata: "x".repeat(100),
                ..info("a", &format!("PA_{n}"), 0, 1)
            })
            .collect();
        let updates = split(infos, 450);
        assert!(updates.len() >= 5);
        assert!(
            updates
                .iter()
                .all(|update| !update.participants.is_empty() && update.participants.len() < 3)
        );
        assert_eq!(
            updates
                .iter()
                .map(|update| update.participants.len())
                .sum::<usize>(),
            10
        );
    }

    #[test]
    fn departures_are_remembered_until_the_receiver_is_heard() {
        let mut seen = Seen::default();
        seen.record_departure(&info("a", "PA_1", 0, 1));
        seen.heard();
        seen.record_departure(&info("b", "PA_2", 0, 1));
        let missed = seen.take_missed();
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].identity, "b");
    }
}
