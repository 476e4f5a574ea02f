//! What a room's task needs around it: media, counters, keys, settings, and the wall clock.
#![allow(
    clippy::disallowed_methods,
    reason = "shell: rooms are told the time, here it is read"
)]

use crate::metrics::Metrics;
use crate::room::Settings;
use crate::worker::Workers;
use proto::livekit::ServerInfo;
use proto::token::Keys;
use std::sync::Arc;
use std::time::SystemTime;

/// What every room needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// The media threads.
    pub workers: Workers,
    /// Counters.
    pub metrics: Metrics,
    /// API keys; the first signs refresh tokens.
    pub keys: Arc<Keys>,
    /// How rooms are made.
    pub settings: Settings,
    /// The server's face, repeated to every client.
    pub server_info: ServerInfo,
}

/// Milliseconds since the Unix epoch; 0 for a clock set before it.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
