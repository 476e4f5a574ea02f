//! The authorization service alone, beside an SFU that is another process.
//!
//! Owns the order of its start and its end, and what `jwt_service` needs of an SFU that is asked
//! over the network. Decides nothing about tokens. `cli` calls [`run`]. (LK: jwt-service §9, §10)

use crate::auth;
use crate::config::cidr::Cidr;
use crate::config::companion::{Bind, Companion};
use crate::config::complaint::Severity;
use crate::faults::Faults;
use crate::http;
use crate::http::admin::Readiness;
use crate::http::connection::Places;
use crate::metrics::Metrics;
use crate::server::stop;
use crate::server::{MAX_CONNECTIONS, ServeError, authorization, listen, sections, serve_metrics};
use crate::settings::Loaded;
use crate::telemetry::Telemetry;
use axum::Router;
use axum::http::request::Parts;
use jwt_service::app_service;
use jwt_service::config;
use jwt_service::delegation::{Beside, Delegations};
use jwt_service::limits::Limits;
use jwt_service::monitor::Monitor;
use jwt_service::openid::Verifier;
use jwt_service::routes::webhook::Listeners;
use jwt_service::routes::{self, Service, transports};
use jwt_service::sfu::{Pending, Sfu, Uncreated};
use jwt_service::standing::Standing;
use jwt_service::twirp::Twirp;
use jwt_service::watch::Watch;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, lookup_host};

/// How long requests under way may take once it is told to end: service managers and container
/// runtimes kill after ten seconds.
const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// The SFU elsewhere, and whose word on addresses is believed.
struct Away {
    twirp: Twirp,
    trusted_proxies: Vec<Cidr>,
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
        auth::believed_address(request, &self.trusted_proxies)
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// What kept it from starting.
pub fn run(companion: &Companion, loaded: &Loaded) -> Result<(), ServeError> {
    let mut logging = loaded.config.logging.clone();
    logging.level = companion.level.unwrap_or(logging.level);
    Telemetry::start(&logging)?;
    let complaints = loaded.complaints.list().iter();
    // What is left of errors is that the file has no keys; the variables have.
    for complaint in complaints.filter(|one| one.severity == Severity::Warning) {
        tracing::warn!("{complaint}");
    }
    for warning in &companion.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("foci-jwt")
        .build()?;
    runtime.block_on(serve(companion, loaded))
}

async fn serve(companion: &Companion, loaded: &Loaded) -> Result<(), ServeError> {
    let config = &loaded.config;
    // Signals are taken from here on, so that one during the start is not lost.
    let mut signals = stop::Signals::new()?;
    let metrics = Metrics::new("");
    let service = service(companion, &config.http.trusted_proxies, &metrics)?;
    let router = http::alone::router(&config.http.path_prefixes, service);
    let main = bind(&companion.bind).await?;
    let bound = listen::addresses(&main);
    let prometheus = listen::bind_metrics(&config.prometheus).await?;

    let stopping = stop::Stopping::default();
    let readiness = Readiness::default();
    let places = Places::new(MAX_CONNECTIONS, metrics.clone());
    let mut tasks = listen::spawn(main, &router, &stopping, &places, &Faults::default());
    // It holds the counters, and with them would keep the service alive.
    drop(router);
    // Alone it has no media, so no addresses to look at.
    let page = (metrics, readiness.clone(), None);
    let metrics_page = serve_metrics(config, prometheus, page, &stopping);
    tasks.extend(metrics_page);
    readiness.set(true);
    announce(companion, &bound);

    stop::until_told(&mut signals, || tracing::info!("nothing to reload")).await;
    readiness.set(false);
    stopping.begin();
    tasks.push(tokio::spawn(async move { places.emptied().await }));
    stop::drain(tasks, &mut signals, DRAIN_WITHIN).await;
    Ok(())
}

/// The endpoints.
fn service(
    companion: &Companion,
    trusted_proxies: &[Cidr],
    metrics: &Metrics,
) -> Result<Router, ServeError> {
    let watch: Arc<dyn Watch> = Arc::new(metrics.clone());
    let section: Arc<config::Config> = Arc::new(authorization::section(&companion.matrix));
    let keys = Arc::new(sections::keys(&companion.keys));
    let url = section.url.as_deref().unwrap_or_default();
    let twirp = Twirp::new(url, Arc::clone(&keys), &section)?;
    let delegations = if section.delegation {
        let beside = Beside {
            twirp: twirp.clone(),
            sanity_check: companion.sanity_check,
        };
        let watch = Arc::clone(&watch);
        Some(Delegations::start_beside(&section, watch, Some(beside))?)
    } else {
        None
    };
    let verifier = Arc::new(Verifier::new(Arc::clone(&section), Arc::clone(&watch))?);
    let standing = Standing::start(&section, &verifier, &watch);
    let told = transports::router(&companion.matrix.transports);
    let sfu: Arc<dyn Sfu> = Arc::new(Away {
        twirp,
        trusted_proxies: trusted_proxies.to_vec(),
    });
    let monitor = Monitor::start(&section, Arc::clone(&sfu), Arc::clone(&watch))?;
    let listeners = Listeners {
        delegations: delegations.clone(),
        monitor: monitor.clone(),
    };
    let webhook = routes::webhook::router(Arc::clone(&keys), listeners);
    let service = Arc::new(Service {
        verifier,
        standing,
        limits: Limits::new(section.rates),
        config: section,
        keys,
        sfu,
        watch,
        delegations,
        monitor,
    });
    let own = app_service::router(&service).unwrap_or_default();
    Ok(told
        .merge(routes::router(service))
        .merge(webhook)
        .merge(own))
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
