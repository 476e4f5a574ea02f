//! The checked configuration handed out: each part gets its own section by value.

use crate::addresses;
use crate::config;
use crate::config::check::Config;
use crate::faults::Faults;
use crate::http::front::Front;
use crate::ice_servers::{Credential, IceServer};
use crate::media::ingest::audio::LevelConfig;
use crate::media::message::PathTransport;
use crate::media::plane;
use crate::media::plane::tracks::TrackSettings;
use crate::media::transport::candidates::Candidate;
use crate::media::transport::dtls;
use crate::room::{Limits, Settings};
use crate::rooms::{Rooms, Surroundings};
use crate::server::{LIVEKIT_VERSION, ServeError};
use crate::signal::join::Policy;
use crate::worker;
use proto::livekit::{ServerInfo, server_info::Edition};
use proto::token::{Keys, Secret};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Newest signalling protocol understood. (LK: signalling §9.2)
const PROTOCOL: i32 = 17;

/// The protocol spoken with agents, which clients are told and Foci has no use for.
/// (LK: signalling §9.2)
const AGENT_PROTOCOL: i32 = 1;

/// How rooms are made.
pub(super) fn room_settings(config: &Config) -> Settings {
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
        update_batch_target_size: config.room.update_batch_target_size,
    }
}

/// What clients are told of the server.
pub(super) fn server_info(config: &Config, node_id: &str) -> ServerInfo {
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

/// How joins are judged; `turn` is our own TURN server, which clients are told of first.
pub(super) fn policy(config: &Config, turn: Option<&IceServer>) -> Policy {
    Policy {
        codecs: config.room.enabled_codecs.clone(),
        ice_servers: turn.cloned().into_iter().chain(others(config)).collect(),
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
    record: Option<worker::record::Target>,
    faults: &Faults,
) -> Result<worker::Setup, ServeError> {
    let port = config.rtc.udp_ports_in_use().first();
    let throttle = &config.rtc.pli_throttle;
    let dtls =
        dtls::Shared::new().map_err(|error| ServeError::Start(std::io::Error::other(error)))?;
    Ok(worker::Setup {
        bind: if config.rtc.force_tcp {
            Vec::new()
        } else {
            addresses::bind(port)
        },
        plane: plane::Setup {
            dtls: Arc::new(dtls),
            advertised: advertised(config, port)?,
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
    })
}

/// Where clients send media over UDP.
pub(super) fn media_addresses(advertised: &[Candidate]) -> Vec<SocketAddr> {
    let udp = |one: &&Candidate| one.transport == PathTransport::Udp;
    advertised.iter().filter(udp).map(|one| one.at).collect()
}

/// The addresses clients are told, which must not be none.
fn advertised(config: &Config, port: u16) -> Result<Vec<Candidate>, ServeError> {
    let told = addresses::advertised(&config.rtc, port)?;
    if told.is_empty() {
        return Err(ServeError::NoAddress);
    }
    Ok(told)
}
