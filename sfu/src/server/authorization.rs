//! The MatrixRTC authorization service beside the SFU, in one process.
//!
//! Owns what `jwt_service` needs of us: rooms made without a detour over the network, counters, and
//! its section of the configuration. Decides nothing about tokens.

use crate::auth;
use crate::config::check::{Config, Matrix, matrix};
use crate::config::cidr::Cidr;
use crate::metrics::Metrics;
use crate::rooms::{EnterError, Presence, Rooms};
use crate::server::ServeError;
use crate::server::mistakes::Mistakes;
use axum::Router;
use axum::http::request::Parts;
use jwt_service::app_service;
use jwt_service::bearer::Token;
use jwt_service::config::{
    self, AppService, FullAccess, Homeserver, RedisUrl, Restricted, Verification,
};
use jwt_service::delegation::{self, Delegations};
use jwt_service::limits::{Limits, Rates};
use jwt_service::monitor::Monitor;
use jwt_service::openid::Verifier;
use jwt_service::routes::webhook::Listeners;
use jwt_service::routes::{self, Service, transports};
use jwt_service::settled::Owner;
use jwt_service::sfu::{DEPARTURE_TIMEOUT_S, EMPTY_TIMEOUT_S, Pending, Sfu, Uncreated};
use jwt_service::standing::Standing;
use jwt_service::watch::Watch;
use proto::livekit::RoomConfiguration;
use proto::token::Keys;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What stands around the service: the rooms, who comes to them and goes, and whose word on addresses is
/// believed.
type Around<'a> = (
    &'a Rooms,
    mpsc::Receiver<Presence>,
    watch::Receiver<Vec<Cidr>>,
);

/// The rooms of this process, and whose word on addresses is believed.
struct Here {
    rooms: Rooms,
    trusted_proxies: watch::Receiver<Vec<Cidr>>,
    mistakes: Mistakes,
}

impl Sfu for Here {
    fn create_room<'a>(&'a self, alias: &'a str) -> Pending<'a, Result<(), Uncreated>> {
        Box::pin(async move {
            let config = RoomConfiguration {
                empty_timeout: EMPTY_TIMEOUT_S,
                departure_timeout: DEPARTURE_TIMEOUT_S,
                ..RoomConfiguration::default()
            };
            let made = self.rooms.create(alias, config).await;
            made.map_err(|error| match error {
                EnterError::Full | EnterError::Closed | EnterError::Denied => Uncreated::Full,
                EnterError::Draining => Uncreated::Draining,
            })
        })
    }

    fn deny(&self, alias: &str, identity: &str, until: Instant) {
        self.rooms.deny(alias, identity, until);
    }

    fn allow(&self, alias: &str, identity: &str) {
        self.rooms.allow(alias, identity);
    }

    fn remove_participant<'a>(&'a self, alias: &'a str, identity: &'a str) -> Pending<'a, ()> {
        Box::pin(self.rooms.expel(alias, identity))
    }

    fn client_address(&self, request: &Parts) -> Option<IpAddr> {
        auth::client_address(request)
    }

    fn limited_address(&self, request: &Parts) -> Option<IpAddr> {
        let trusted = self.trusted_proxies.borrow();
        self.mistakes.request(request, &trusted);
        auth::believed_address(request, &trusted)
    }
}

impl Watch for Metrics {
    fn decided(&self, endpoint: &'static str, outcome: &'static str) {
        self.token_decided(endpoint, outcome);
    }

    fn looked_up(&self, result: &'static str, took: Duration) {
        self.homeserver_asked(result, took.as_secs_f64());
    }

    fn room_made(&self, result: &'static str, took: Duration) {
        Self::room_made(self, result, took.as_secs_f64());
    }

    fn signed(&self, result: &'static str, took: Duration) {
        self.token_signed(result, took.as_secs_f64());
    }

    fn homeserver(&self, name: &str, reachable: bool) {
        self.homeserver_answers(name, reachable);
    }

    fn homeserver_unnamed(&self, name: &str) {
        self.homeserver_forgotten(name);
    }

    fn leaves(&self, jobs: usize) {
        self.delegated_leaves(jobs);
    }

    fn leave_ended(&self, end: &'static str) {
        self.delegated_leave_ended(end);
    }

    fn membership_asked(&self, result: &'static str) {
        self.memberships_asked(result);
    }

    fn taken_out(&self, told_by: &'static str) {
        self.members_taken_out(told_by);
    }

    fn limit_reached(&self, limit: &'static str) {
        Self::limit_reached(self, limit);
    }
}

/// The endpoints of the authorization service.
#[derive(Default)]
pub(super) struct Endpoints {
    /// Those for clients.
    pub(super) open: Router,
    /// Those below `/_matrix`, for the homeserver whose application service we are or in its place: what
    /// is shown there are tokens of Matrix.
    pub(super) own: Router,
}

/// The service, as far as it is served.
#[derive(Default)]
pub(super) struct Served {
    pub(super) endpoints: Endpoints,
    /// Who may replace its configuration.
    pub(super) owner: Option<Owner>,
}

/// The service is started, and its endpoints are to be served.
pub(super) fn start(
    config: &Config,
    keys: &Arc<Keys>,
    (rooms, comings, trusted_proxies): Around<'_>,
    metrics: &Metrics,
) -> Result<Served, ServeError> {
    if !config.matrix.enabled {
        return Ok(Served::default());
    }
    let watch: Arc<dyn Watch> = Arc::new(metrics.clone());
    let owner = Owner::new(section(&config.matrix))?;
    let settled = owner.settled();
    let verifier = Arc::new(Verifier::new(settled.clone(), Arc::clone(&watch)));
    let standing = Standing::start(&settled, &verifier, &watch);
    if config.http.trusted_proxies.is_empty() {
        tracing::info!(
            "token requests from private addresses are not limited by address: set http.trusted_proxies to limit those behind a proxy"
        );
    }
    let delegations = if config.matrix.delegates() {
        Some(Delegations::start(&settled, Arc::clone(&watch))?)
    } else {
        None
    };
    let sfu: Arc<dyn Sfu> = Arc::new(Here {
        rooms: rooms.clone(),
        trusted_proxies,
        mistakes: Mistakes::default(),
    });
    let monitor = Monitor::start(&settled, Arc::clone(&sfu), Arc::clone(&watch));
    tokio::spawn(announce(comings, delegations.clone(), monitor.clone()));
    let told = transports::router(settled.clone());
    let service = Arc::new(Service {
        settled,
        keys: Arc::clone(keys),
        sfu,
        limits: Limits::default(),
        watch,
        verifier,
        standing,
        delegations,
        monitor,
    });
    // We know of our own participants; what another SFU tells of its own is none of them.
    let webhook = routes::webhook::router(Arc::clone(keys), Listeners::default());
    let endpoints = Endpoints {
        own: told.merge(app_service::router(&service).unwrap_or_default()),
        open: routes::router(service).merge(webhook),
    };
    Ok(Served {
        endpoints,
        owner: Some(owner),
    })
}

/// Tells of comings and goings as long as there are rooms.
async fn announce(
    mut comings: mpsc::Receiver<Presence>,
    delegations: Option<Delegations>,
    monitor: Option<Arc<Monitor>>,
) {
    while let Some(Presence {
        room,
        identity,
        sid,
    }) = comings.recv().await
    {
        let presence = delegation::Presence {
            room,
            identity,
            sid,
        };
        if let Some(monitor) = &monitor {
            monitor.tell(&presence);
        }
        if let Some(delegations) = &delegations {
            delegations.tell(presence).await;
        }
    }
}

/// What the operator settled, in the words of `jwt_service`.
pub(super) fn section(matrix: &Matrix) -> config::Config {
    let homeserver = |(name, url): &(String, String)| Homeserver {
        name: name.clone(),
        url: url.clone(),
    };
    config::Config {
        url: matrix.url.clone(),
        full_access: FullAccess::listed(matrix.full_access_homeservers.clone()),
        restricted: match matrix.restricted {
            matrix::Restricted::Subscribe => Restricted::Subscribe,
            matrix::Restricted::Publish => Restricted::Publish,
            matrix::Restricted::Refuse => Restricted::Refuse,
        },
        token_lifetime: matrix.token_lifetime,
        homeservers: matrix.homeservers.iter().map(homeserver).collect(),
        rates: Rates {
            address: matrix.requests[0],
            user: matrix.requests[1],
            server: matrix.requests[2],
        },
        delegation: matrix.delegation,
        store: matrix.store.clone(),
        redis: matrix
            .redis
            .as_ref()
            .map(|url| RedisUrl(url.reveal().to_owned())),
        client_apis: matrix.client_apis.iter().map(homeserver).collect(),
        transports: matrix.transports.clone(),
        ca_file: matrix.ca_file.clone(),
        verify_tls: if matrix.skip_verify_tls {
            Verification::Off
        } else {
            Verification::On
        },
        allow_private_addresses: matrix.allow_private_addresses,
        app_service: matrix.app_service.as_ref().map(|ours| AppService {
            server: ours.server_name.clone(),
            hs_token: Token::new(ours.hs_token.reveal().to_owned()),
            as_token: Token::new(ours.as_token.reveal().to_owned()),
            membership_interval: ours.membership_interval,
        }),
    }
}
