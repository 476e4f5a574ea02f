//! The checked configuration handed out: each part gets its own section by value.

use crate::addresses;
use crate::config;
use crate::config::check::Config;
use crate::faults::Faults;
use crate::http::front::Front;
use crate::ice_servers::{Credential, IceServer};
use crate::media::ingest::audio::LevelConfig;
use crate::media::plane;
use crate::media::plane::tracks::TrackSettings;
use crate::media::transport::candidates::Candidate;
use crate::media::transport::dtls;
use crate::metrics::Metrics;
use crate::room::preference::Reachable;
use crate::room::{Fallback, Limits, Settings};
use crate::rooms::{Denied, Preferences, Rooms, Surroundings, Told};
use crate::server::reach::{self, Reach};
use crate::server::{LIVEKIT_VERSION, ServeError};
use crate::signal::join::Policy;
use crate::worker::{self, Workers};
use proto::livekit::{ServerInfo, server_info::Edition};
use proto::token::{Keys, Secret};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Newest signalling protocol understood. (LK: signalling §9.2)
const PROTOCOL: i32 = 17;

/// The protocol spoken with agents, which clients are told and Foci has no use for.
/// (LK: signalling §9.2)
const AGENT_PROTOCOL: i32 = 1;

/// How rooms are made while we are reachable like this.
fn room_settings(config: &Config, reachable: Reachable) -> Settings {
    Settings {
        empty_timeout: config.room.empty_timeout,
        departure_timeout: config.room.departure_timeout,
        max_participants: config.room.max_participants,
        enabled_codecs: config.room.enabled_codecs.clone(),
        h264: config.room.h264.clone(),
        limits: Limits {
            name_bytes: config.limit.max_participant_name_length,
            metadata_bytes: config.limit.max_metadata_size,
            attributes_bytes: config.limit.max_attributes_size,
        },
        audio_update_interval: Duration::from_millis(config.audio.update_interval_ms.into()),
        dynacast_pause_delay: config.video.dynacast_pause_delay,
        fallback: Fallback {
            allowed: config.rtc.fallback.allowed,
            unstable: config.rtc.fallback.unstable,
            tcp_rtt_below_ms: config.rtc.fallback.tcp_rtt_below_ms,
            ..Fallback::of(reachable)
        },
        update_batch_target_size: config.room.update_batch_target_size,
    }
}

/// What clients are told of the server.
fn server_info(config: &Config, node_id: &str) -> ServerInfo {
    ServerInfo {
        edition: Edition::Standard.into(),
        version: LIVEKIT_VERSION.to_owned(),
        protocol: PROTOCOL,
        region: config.region.clone(),
        node_id: node_id.to_owned(),
        agent_protocol: AGENT_PROTOCOL,
        ..ServerInfo::default()
    }
}

/// What all rooms share, where clients are told these addresses first.
pub(super) fn surroundings(
    config: &Config,
    (node_id, advertised): (&str, &[Candidate]),
    (workers, metrics, keys): (Workers, Metrics, Arc<Keys>),
    faults: &Faults,
    mut told: Told,
) -> Surroundings {
    told.presence = told.presence.filter(|_| config.matrix.wants_presence());
    Surroundings {
        workers,
        metrics,
        keys,
        settings: room_settings(config, reach::reachable(advertised)),
        server_info: server_info(config, node_id),
        faults: faults.clone(),
        denied: Denied::default(),
        preferences: Preferences::default(),
        told,
    }
}

/// What the main port's handlers share.
pub(super) fn front(
    config: &Config,
    surroundings: &Surroundings,
    rooms: &Rooms,
    (policy, draining): (watch::Receiver<Policy>, watch::Receiver<bool>),
) -> Arc<Front> {
    Arc::new(Front {
        rooms: rooms.clone(),
        workers: surroundings.workers.clone(),
        metrics: surroundings.metrics.clone(),
        keys: Arc::clone(&surroundings.keys),
        policy,
        draining,
        prefixes: config.http.path_prefixes.clone(),
        max_message_bytes: config.http.signal_message_size_limit,
        max_body_bytes: config.http.max_api_request_body_size,
        faults: surroundings.faults.clone(),
    })
}

/// How joins are judged.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        codecs: config.room.enabled_codecs.clone(),
        ice_servers: others(config).collect(),
        auto_create: config.room.auto_create,
    }
}

/// STUN and TURN servers of others.
fn others(config: &Config) -> impl Iterator<Item = IceServer> + use<'_> {
    config.ice_servers.iter().map(|server| IceServer {
        urls: server.urls.clone(),
        credential: Credential::Theirs(server.access.clone()),
    })
}

/// The API keys.
pub(super) fn keys(keys: &config::keys::Keys) -> Keys {
    let entries = keys.entries.iter();
    entries
        .map(|(name, secret)| (name.clone(), Secret::new(secret.reveal())))
        .collect()
}

/// What the media threads are started with.
pub(super) fn media(
    config: &Config,
    reach: &Reach,
    record: Option<worker::record::Target>,
    faults: &Faults,
) -> Result<worker::Setup, ServeError> {
    let throttle = &config.rtc.pli_throttle;
    let dtls =
        dtls::Shared::new().map_err(|error| ServeError::Start(std::io::Error::other(error)))?;
    Ok(worker::Setup {
        bind: if config.rtc.force_tcp {
            Vec::new()
        } else {
            addresses::bind(reach.udp_port)
        },
        plane: plane::Setup {
            dtls: Arc::new(dtls),
            advertised: reach.candidates(),
            inquiring: reach.standing.asks_clients,
            node: 0,
            process: 0,
            worker: 0,
            track: TrackSettings {
                level: LevelConfig {
                    active_level: config.audio.active_level,
                    min_percentile: config.audio.min_percentile,
                    update_interval: Duration::from_millis(config.audio.update_interval_ms.into()),
                    smooth_intervals: config.audio.smooth_intervals,
                },
                key_frame_throttle: [throttle.low, throttle.mid, throttle.high],
            },
        },
        record,
        faults: faults.clone(),
        sightings: Some(reach.sightings.clone()),
    })
}
