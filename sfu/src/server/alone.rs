//! The authorization service alone, beside an SFU that is another process.
//!
//! Owns the order of its start and its end, and what `jwt_service` needs of an SFU that is asked
//! over the network. Decides nothing about tokens. `cli` calls [`run`]. (LK: jwt-service §9, §10)

use crate::auth;
use crate::config::check::{Config, Logging};
use crate::config::cidr::Cidr;
use crate::config::companion::{Bind, Companion};
use crate::config::keys::Keys;
use crate::faults::Faults;
use crate::http;
use crate::http::admin::Readiness;
use crate::http::connection::Places;
use crate::metrics::Metrics;
use crate::server::descriptors;
use crate::server::listen::Port;
use crate::server::mistakes::Mistakes;
use crate::server::reload::{self, Owners, Running, Settings};
use crate::server::{
    MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ONE, ServeError, authorization, complain, listen, sections,
    serve_metrics, stop,
};
use crate::settings::companion::Unusable;
use crate::settings::{Loaded, Sources};
use crate::signal::join::Policy;
use crate::telemetry::Telemetry;
use axum::Router;
use axum::http::request::Parts;
use jwt_service::app_service;
use jwt_service::delegation::{Beside, Delegations};
use jwt_service::limits::Limits;
use jwt_service::monitor::Monitor;
use jwt_service::openid::Verifier;
use jwt_service::routes::webhook::Listeners;
use jwt_service::routes::{self, Service, transports};
use jwt_service::settled::Owner;
use jwt_service::sfu::{Pending, Sfu, Uncreated};
use jwt_service::standing::Standing;
use jwt_service::twirp::Twirp;
use jwt_service::watch::Watch;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;

/// How long requests under way may take once it is told to end: service managers and container
/// runtimes kill after ten seconds.
const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// The SFU elsewhere, and whose word on addresses is believed.
struct Away {
    twirp: Twirp,
    trusted_proxies: watch::Receiver<Vec<Cidr>>,
    mistakes: Mistakes,
}

impl Sfu for Away {
    fn create_room<'a>(&'a self, alias: &'a str) -> Pending<'a, Result<(), Uncreated>> {
        Box::pin(async move {
            let made = self.twirp.create_room(alias).await;
            made.map_err(|error| Uncreated::Away(error.label()))
        })
    }

    /// A LiveKit server asks nobody whether a token may still be used: whoever comes back by one is taken
    /// out again when its webhook tells of him, and by the sweeps after that.
    fn deny(&self, _alias: &str, _identity: &str, _until: Instant) {}

    fn allow(&self, _alias: &str, _identity: &str) {}

    fn remove_participant<'a>(&'a self, alias: &'a str, identity: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            // It has said so in the log; the next sweep takes out who is still there.
            let _ = self.twirp.remove_participant(alias, identity).await;
        })
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

/// Serves until a signal ends it. `sources` are read again on SIGHUP.
///
/// # Errors
/// What kept it from starting.
pub fn run(companion: &Companion, loaded: &Loaded, sources: &Sources) -> Result<(), ServeError> {
    let telemetry = Telemetry::start(&logging(companion, &loaded.config))?;
    // What is left of errors is that the file has no keys; the variables have.
    complain(&loaded.complaints.warnings());
    for warning in &companion.warnings {
        tracing::warn!("{warning}");
    }
    descriptors::raise(descriptors::WANTED_ALONE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("foci-jwt")
        .build()?;
    runtime.block_on(serve(companion, loaded, sources, telemetry))
}

/// How much is logged: a variable wins.
fn logging(companion: &Companion, config: &Config) -> Logging {
    Logging {
        level: companion.level.unwrap_or(config.logging.level),
        ..config.logging.clone()
    }
}

async fn serve(
    companion: &Companion,
    loaded: &Loaded,
    sources: &Sources,
    telemetry: Telemetry,
) -> Result<(), ServeError> {
    let config = &loaded.config;
    // Signals are taken from here on, so that one during the start is not lost.
    let mut signals = stop::Signals::new()?;
    let metrics = Metrics::new("");
    let (proxies, trusted) = watch::channel(config.http.trusted_proxies.clone());
    let (service, owner) = service(companion, trusted.clone(), &metrics)?;
    let router = http::alone::router(&config.http.path_prefixes, service);
    let main = bind(&companion.bind).await?;
    let bound = listen::addresses(&main);
    let prometheus = listen::bind_metrics(&config.prometheus).await?;

    let stopping = stop::Stopping::default();
    let readiness = Readiness::default();
    let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ONE, metrics.clone());
    let port = Port::new(router, (&stopping, &places), trusted, &Faults::default());
    let mut tasks = listen::spawn(main, &port);
    // It holds the counters, and with them would keep the service alive.
    drop(port);
    // Alone it has no media, so no addresses to look at.
    let page = (metrics, readiness.clone(), (None, None));
    tasks.extend(serve_metrics(config, prometheus, page, &stopping));
    readiness.set(true);
    announce(companion, &bound);

    let no_joins = watch::Sender::new(Policy::default());
    let owners = Owners::new(Some(owner), proxies, no_joins, telemetry);
    let mut running = Running::new(loaded);
    stop::until_told(&mut signals, || {
        reload_from(sources, &companion.keys, &mut running, &owners)
    })
    .await;
    readiness.set(false);
    stopping.begin();
    tasks.push(tokio::spawn(async move { places.emptied().await }));
    stop::drain(tasks, &mut signals, DRAIN_WITHIN).await;
    Ok(())
}

/// SIGHUP: file and variables are read again, and what may change while running is applied.
fn reload_from(sources: &Sources, keys: &Keys, running: &mut Running, owners: &Owners) {
    let read = match sources.companion() {
        Ok((_, read)) => read,
        Err(unusable) => return refuse(unusable),
    };
    let (judged, mut changes) = running.with(&read, |path| sources.concerns_companion(path));
    let (companion, judged) = match sources.companion_over(judged) {
        Ok(both) => both,
        Err(Unusable::File(judged)) => {
            return reload::refuse_changes(&judged.complaints, &changes);
        }
        Err(unusable) => return refuse(unusable),
    };
    // They may be in files that variables name.
    if companion.keys != *keys && !changes.waiting.contains(&"keys") {
        changes.waiting.push("keys");
    }
    let matrix = authorization::section(&companion.matrix);
    if let Err(error) = Twirp::check(matrix.url.as_deref()) {
        tracing::error!("{error}");
        return reload::refuse();
    }
    let settings = Settings {
        matrix,
        proxies: judged.config.http.trusted_proxies.clone(),
        policy: Policy::default(),
        logging: logging(&companion, &judged.config),
    };
    // What is left of errors is that the file has no keys; the variables have.
    let warnings = read.complaints.warnings();
    running.take(owners, &warnings, changes, settings);
}

fn refuse(unusable: Unusable) {
    match unusable {
        Unusable::File(read) => reload::refuse_read(&read.complaints),
        Unusable::Variable(text) => {
            tracing::error!("{text}");
            reload::refuse();
        }
    }
}

/// The endpoints, and who may replace what is settled for them.
fn service(
    companion: &Companion,
    trusted_proxies: watch::Receiver<Vec<Cidr>>,
    metrics: &Metrics,
) -> Result<(Router, Owner), ServeError> {
    let watch: Arc<dyn Watch> = Arc::new(metrics.clone());
    let section = authorization::section(&companion.matrix);
    Twirp::check(section.url.as_deref())?;
    let owner = Owner::new(section)?;
    let settled = owner.settled();
    let keys = Arc::new(sections::keys(&companion.keys));
    let twirp = Twirp::new(settled.clone(), Arc::clone(&keys));
    let delegations = if companion.matrix.delegation {
        let beside = Beside {
            twirp: twirp.clone(),
            sanity_check: companion.sanity_check,
        };
        let watch = Arc::clone(&watch);
        Some(Delegations::start_beside(&settled, watch, Some(beside))?)
    } else {
        None
    };
    let verifier = Arc::new(Verifier::new(settled.clone(), Arc::clone(&watch)));
    let standing = Standing::start(&settled, &verifier, &watch);
    let told = transports::router(settled.clone());
    let sfu: Arc<dyn Sfu> = Arc::new(Away {
        twirp,
        trusted_proxies,
        mistakes: Mistakes::default(),
    });
    let monitor = Monitor::start(&settled, Arc::clone(&sfu), Arc::clone(&watch));
    let listeners = Listeners {
        delegations: delegations.clone(),
        monitor: monitor.clone(),
    };
    let webhook = routes::webhook::router(Arc::clone(&keys), listeners);
    let service = Arc::new(Service {
        verifier,
        standing,
        limits: Limits::default(),
        settled,
        keys,
        sfu,
        watch,
        delegations,
        monitor,
    });
    let own = app_service::router(&service).unwrap_or_default();
    let router = told
        .merge(routes::router(service))
        .merge(webhook)
        .merge(own);
    Ok((router, owner))
}

/// Listens where Go would: at the address, at the first one of a name, or everywhere.
async fn bind(bind: &Bind) -> Result<Vec<TcpListener>, ServeError> {
    const KEY: &str = "LIVEKIT_JWT_BIND";
    let ip = match bind.host.as_str() {
        "" => None,
        host => match host.parse::<IpAddr>() {
            Ok(ip) => Some(ip),
            Err(_) => Some(first_address(host).await?),
        },
    };
    // Go takes the address that stands for all of either family as everywhere.
    let ip = ip.filter(|ip| *ip != IpAddr::from([0_u16; 8]));
    let addresses: Vec<IpAddr> = ip.into_iter().collect();
    listen::bind(KEY, bind.port, &addresses).await
}

/// The first address of a name, of IPv4 if there is one.
async fn first_address(host: &str) -> Result<IpAddr, ServeError> {
    let unknown = |error: io::Error| {
        let text = format!("LIVEKIT_JWT_BIND: `{host}` has no address here: {error}");
        ServeError::Start(io::Error::new(error.kind(), text))
    };
    let found: Vec<SocketAddr> = lookup_host((host, 0)).await.map_err(unknown)?.collect();
    let v4 = found.iter().find(|address| address.is_ipv4());
    let first = v4.or(found.first()).map(SocketAddr::ip);
    first.ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))
}

/// The line of the start; neither key nor secret is in it.
fn announce(companion: &Companion, bound: &[SocketAddr]) {
    let matrix = &companion.matrix;
    tracing::info!(
        url = matrix.url,
        bind = ?bound,
        fullAccessHomeservers = ?matrix.full_access_homeservers,
        skipVerifyTLS = matrix.skip_verify_tls,
        sanityCheckInterval = ?companion.sanity_check.unwrap_or_default(),
        delegation = matrix.delegation,
        store = ?matrix.store,
        fociVersion = env!("CARGO_PKG_VERSION"),
        "starting Foci's authorization service"
    );
}
