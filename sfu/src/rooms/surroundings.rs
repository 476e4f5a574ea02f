//! What a room's task needs around it: media, counters, keys, settings, and the wall clock.
#![allow(
    clippy::disallowed_methods,
    reason = "shell: rooms are told the time, here it is read"
)]

use crate::faults::Faults;
use crate::metrics::Metrics;
use crate::room::Settings;
use crate::rooms::denied::Denied;
use crate::rooms::people::Told;
use crate::rooms::preferences::Preferences;
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
    /// What fails on purpose.
    pub faults: Faults,
    /// Who is let in no more.
    pub denied: Denied,
    /// By what media came best.
    pub preferences: Preferences,
    /// Who is told of comings and goings.
    pub told: Told,
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

#[cfg(test)]
impl Surroundings {
    /// Surroundings with a running media thread on a free port of loopback.
    pub(crate) fn on_loopback(settings: Settings) -> Self {
        use crate::media::plane;
        use crate::media::plane::tracks::TrackSettings;
        use crate::media::transport::candidates::Candidate;
        use crate::media::transport::dtls;
        let metrics = Metrics::new("ND_test");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let setup = crate::worker::Setup {
            bind: vec![address],
            plane: plane::Setup {
                dtls: Arc::new(dtls::Shared::new().expect("certificate")),
                advertised: vec![Candidate::udp(address)],
                node: 0,
                process: 0,
                worker: 0,
                track: TrackSettings::default(),
                inquiring: false,
            },
            record: None,
            faults: Faults::default(),
            sightings: None,
        };
        let (workers, _threads) = Workers::start(&setup, &metrics, [1; 32]).expect("started");
        let secret = proto::token::Secret::new("open-sesame-open-sesame-open-sesame");
        Self {
            workers,
            metrics,
            keys: Arc::new([("key".to_owned(), secret)].into_iter().collect()),
            settings,
            server_info: ServerInfo {
                version: "1.0.0".into(),
                ..ServerInfo::default()
            },
            faults: Faults::default(),
            denied: Denied::default(),
            preferences: Preferences::default(),
            told: Told {
                presence: None,
                departures: tokio::sync::mpsc::channel(1).0,
            },
        }
    }
}
