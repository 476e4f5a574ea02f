//! What a room is given when it is made: its name, the operator's settings, the server's face.
//!
//! Owns the merge of a token's room configuration with the operator's settings. Decides nothing
//! later. Called by the shell, which makes rooms, and by [`super::Room::new`].

use super::preference::Reachable;
use crate::config::codecs::{Codec, h264};
use crate::ids::RoomSid;
use proto::livekit;
use rand::Rng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// Bytes of the trailer by which receivers tell frames the server made itself.
const SIF_TRAILER_BYTES: usize = 24;

/// Everything a new room needs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The room's name, never empty.
    pub name: String,
    /// The operator's settings.
    pub settings: Settings,
    /// Repeated in join and reconnect responses; its version must not be empty.
    pub server_info: livekit::ServerInfo,
    /// One moment on both clocks, the second in ms since 1970: wire times are reckoned from it.
    pub epoch: (Instant, u64),
    /// Wishes of the token or API call that made the room; zero and empty fields mean nothing.
    pub config: Option<livekit::RoomConfiguration>,
}

/// What an operator may set for all rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A room nobody ever joined closes after this.
    pub empty_timeout: Duration,
    /// A room everybody left closes after this.
    pub departure_timeout: Duration,
    /// How many may be in the room; 0 sets no limit of its own. Dependents do not count.
    pub max_participants: u32,
    /// The codecs switched on, for the room's description.
    pub enabled_codecs: Vec<Codec>,
    /// The formats of H264 switched on.
    pub h264: Vec<h264::Parameters>,
    /// Sizes of what participants say of themselves.
    pub limits: Limits,
    /// Shortest time between two speaker messages. (LK: signalling §5.13)
    pub audio_update_interval: Duration,
    /// A publisher is asked for less only after this. (LK: signalling §5.17)
    pub dynacast_pause_delay: Duration,
    /// Where clients are led whose media fails.
    pub fallback: Fallback,
    /// A participant update is split into messages of about this many bytes.
    pub update_batch_target_size: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            max_participants: 0,
            enabled_codecs: Codec::ALL.to_vec(),
            h264: h264::Parameters::DEFAULT.to_vec(),
            limits: Limits::default(),
            audio_update_interval: Duration::from_millis(400),
            dynacast_pause_delay: Duration::from_secs(5),
            fallback: Fallback::default(),
            update_batch_target_size: 128 * 1024,
        }
    }
}

/// Where clients may be led whose media fails. (LK: signalling §7.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// Somewhere at all.
    pub allowed: bool,
    /// Those too whose media does not fail but loses much for long.
    pub unstable: bool,
    /// Clients are told an address of TCP that leads here from everywhere.
    pub tcp: bool,
    /// Whoever is led there must measure a shorter round trip of signalling, in ms; 0: any.
    pub tcp_rtt_below_ms: u32,
    /// Relays can reach us: clients are told such an address of UDP.
    pub relay: bool,
}

impl Fallback {
    /// Wherever whoever is reachable like this may lead.
    #[must_use]
    pub fn of(reachable: Reachable) -> Self {
        let mut fallback = Self::default();
        fallback.follow(reachable);
        fallback
    }

    /// Clients are told other addresses.
    pub const fn follow(&mut self, reachable: Reachable) {
        self.tcp = reachable.tcp;
        // A relay sends to us by UDP.
        self.relay = reachable.udp;
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            allowed: true,
            unstable: false,
            tcp: true,
            tcp_rtt_below_ms: 0,
            relay: true,
        }
    }
}

/// Sizes in bytes. (LK: signalling §2.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A participant's name.
    pub name_bytes: usize,
    /// A participant's metadata.
    pub metadata_bytes: usize,
    /// All keys and values of a participant's attributes.
    pub attributes_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            name_bytes: 256,
            metadata_bytes: 512 * 1024,
            attributes_bytes: 64 * 1024,
        }
    }
}

/// What a room is for its whole life.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) sid: RoomSid,
    pub(super) settings: Settings,
    pub(super) server_info: livekit::ServerInfo,
    pub(super) metadata: String,
    pub(super) sif_trailer: Vec<u8>,
    pub(super) created: Instant,
    epoch: (Instant, u64),
}

impl Facts {
    /// Merges the operator's settings with the configuration the room was made with.
    pub(super) fn new(setup: Setup, rng: &mut StdRng, now: Instant) -> Self {
        let mut settings = setup.settings;
        let mut metadata = String::new();
        if let Some(config) = setup.config {
            let seconds = |value: u32| Duration::from_secs(u64::from(value));
            if config.empty_timeout > 0 {
                settings.empty_timeout = seconds(config.empty_timeout);
            }
            if config.departure_timeout > 0 {
                settings.departure_timeout = seconds(config.departure_timeout);
            }
            if config.max_participants > 0 {
                settings.max_participants = config.max_participants;
            }
            metadata = config.metadata;
        }
        let sif_trailer = (0..SIF_TRAILER_BYTES)
            .map(|_| rng.sample(rand::distr::Alphanumeric))
            .collect();
        Self {
            name: setup.name,
            sid: RoomSid::random(rng),
            settings,
            server_info: setup.server_info,
            metadata,
            sif_trailer,
            created: now,
            epoch: setup.epoch,
        }
    }

    /// Milliseconds since 1970 at `now`.
    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        let (then, unix_ms) = self.epoch;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match now.checked_duration_since(then) {
            Some(after) => unix_ms.saturating_add(ms(after)),
            None => unix_ms.saturating_sub(ms(then.saturating_duration_since(now))),
        }
    }

    /// The room as clients see it, counts aside. (LK: signalling §4.2)
    pub(super) fn room(&self) -> livekit::Room {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let created_ms = signed(self.unix_ms(self.created));
        livekit::Room {
            sid: self.sid.as_str().to_owned(),
            name: self.name.clone(),
            empty_timeout: seconds(self.settings.empty_timeout),
            departure_timeout: seconds(self.settings.departure_timeout),
            max_participants: self.settings.max_participants,
            creation_time: created_ms / 1000,
            creation_time_ms: created_ms,
            enabled_codecs: codec_list(&self.settings.enabled_codecs),
            metadata: self.metadata.clone(),
            ..Default::default()
        }
    }
}

/// Codecs as messages list them.
pub(super) fn codec_list(codecs: &[Codec]) -> Vec<livekit::Codec> {
    let entry = |codec: &Codec| livekit::Codec {
        mime: codec.mime().to_owned(),
        fmtp_line: String::new(),
    };
    codecs.iter().map(entry).collect()
}

/// The codecs a client may publish, as it is told: VP8 first, then H264, then sound. Clients that
/// were told no codec take the first of the kind. (LK: signalling §4.2)
pub(super) fn publish_list(codecs: &[Codec]) -> Vec<livekit::Codec> {
    let rank = |codec: &Codec| Codec::ALL.iter().position(|known| known == codec);
    let mut ordered = codecs.to_vec();
    ordered.sort_by_key(rank);
    codec_list(&ordered)
}

/// A count as protobuf's signed integer, saturating.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_told_vp8_first_then_h264_then_sound() {
        let listed = [Codec::Pcma, Codec::Opus, Codec::H264, Codec::Vp8];
        let told: Vec<_> = publish_list(&listed)
            .into_iter()
            .map(|codec| codec.mime)
            .collect();
        assert_eq!(
            told,
            ["video/VP8", "video/H264", "audio/opus", "audio/PCMA"]
        );
    }
}
