//! Composition: a checked configuration becomes a running server, and a signal ends it.
//!
//! Owns the order of starting and stopping, the main listeners and the reaction to signals. It
//! decides nothing about calls. `cli` calls [`run`].

mod stop;
mod listen;
mod authorization;
mod reach;
mod sections;
pub mod alone;

use crate::addresses::Recheck;
use crate::config::check::{Config, SHORT_SECRET};
use crate::config::ports;
use crate::faults::Faults;
use crate::http::admin::{self, Readiness};
use crate::http::connection::Places;
use crate::http::front::Front;
use crate::http::{self, try_page};
use crate::media::transport::candidates::Candidate;
use crate::metrics::Metrics;
use crate::rooms::{Denied, PRESENCE_DEPTH, Rooms, Surroundings};
use crate::settings::{Loaded, Sources};
use crate::telemetry::Telemetry;
use crate::worker::placement::Threads;
use crate::worker::record::Target;
use crate::worker::{Workers, accept};
use authorization::Endpoints;
use axum::Router;
use proto::token::Keys;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reach::Reach;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What media threads get to finish their pass.
const THREADS_STOP_WITHIN: Duration = Duration::from_secs(1);

/// Connections of the main port at a time: some 30 KiB each, and more than one machine's media
/// threads serve.
const MAX_CONNECTIONS: u32 = 16_384;

/// Connections of the metrics port: a handful of scrapers.
const MAX_SCRAPERS: u32 = 64;

/// The LiveKit server version told to clients: they choose their behaviour by it.
pub const LIVEKIT_VERSION: &str = "1.13.5";

/// Why the server ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log was started before.
    #[error(transparent)]
    Log(#[from] crate::telemetry::StartedTwice),
    /// A port cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}; {hint}")]
    Listen {
        /// The key that names the port.
        key: &'static str,
        /// The address tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// No address to tell clients.
    #[error(
        "rtc.node_ip: no interface has an address clients could reach; set rtc.node_ip to the \
         address they use, or rtc.enable_loopback_candidate for clients on this machine"
    )]
    NoAddress,
    /// The MatrixRTC authorization service could not be set up.
    #[error("matrix: {0}")]
    Matrix(#[from] jwt_service::openid::SetupError),
    /// Threads or signals could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Runs a server until a signal ends it. The configuration has no errors. `record` says where what
/// media is fed is written to. `started` is called with the addresses of the main port once it
/// listens.
///
/// # Errors
/// What kept it from starting.
pub fn run(
    loaded: &Loaded,
    sources: &Sources,
    record: Option<Target>,
    started: impl FnOnce(&[SocketAddr]),
) -> Result<(), ServeError> {
    let telemetry = Telemetry::start(&loaded.config.logging)?;
    for complaint in loaded.complaints.list() {
        if complaint.cause == SHORT_SECRET {
            tracing::error!(apiKey = complaint.key, "{SHORT_SECRET}");
        } else {
            tracing::warn!("{complaint}");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("foci-control")
        .build()?;
    runtime.block_on(serve(loaded, sources, &telemetry, record, started))
}

async fn serve(
    loaded: &Loaded,
    sources: &Sources,
    telemetry: &Telemetry,
    record: Option<Target>,
    started: impl FnOnce(&[SocketAddr]),
) -> Result<(), ServeError> {
    let config = &loaded.config;
    // Signals are taken from here on, so that one during the start is not lost.
    let mut signals = stop::Signals::new()?;
    let node_id = crate::ids::node_id(&mut StdRng::from_os_rng());
    let metrics = Metrics::new(&node_id);
    let readiness = Readiness::default();
    let faults = Faults::new(&config.faults, &metrics);
    let reach = Reach::new(&config.rtc)?;
    let media = sections::media(config, &reach, record, &faults)?;
    let advertised = reach.candidates();
    let (workers, threads) = Workers::start(&media, &metrics, rand::rng().random())?;
    let keys = Arc::new(sections::keys(&config.keys));
    let (presence, comings) = mpsc::channel(PRESENCE_DEPTH);
    let surroundings = Surroundings {
        workers: workers.clone(),
        metrics: metrics.clone(),
        keys: Arc::clone(&keys),
        settings: sections::room_settings(config),
        server_info: sections::server_info(config, &node_id),
        faults: faults.clone(),
        denied: Denied::default(),
        presence: config.matrix.wants_presence().then_some(presence),
    };
    let rooms = Rooms::start(surroundings.clone());
    let (draining, is_draining) = watch::channel(false);
    let front = sections::front(config, &surroundings, &rooms, is_draining);
    let main = listen::bind("port", config.http.port, &config.http.bind_addresses).await?;
    let prometheus = listen::bind_metrics(&config.prometheus).await?;
    let bound = listen::addresses(&main);
    let media_tcp = listen::bind_media(&config.rtc).await?;
    let stopping = stop::Stopping::default();
    let matrix = authorization::endpoints(config, &keys, (&rooms, comings), &metrics)?;
    let router = main_router(config, front, (keys, readiness.clone()), matrix);
    let places = Places::new(MAX_CONNECTIONS, metrics.clone());
    let mut tasks = listen::spawn(main, &router, &stopping, &places, &faults);
    let check = reach.check.clone();
    let page = (metrics, readiness.clone(), Some(check.clone()));
    tasks.extend(serve_metrics(config, prometheus, page, &stopping));
    accept_media(media_tcp, &surroundings);
    reach.watch(&surroundings, rooms.clone(), &config.rtc, readiness.clone());
    readiness.set(true);
    announce(config, &node_id, &bound, &advertised);
    started(&bound);

    stop::until_told(&mut signals, || {
        reload(sources, telemetry, &check);
    })
    .await;
    readiness.set(false);
    draining.send_replace(true);
    // Every session is told to come back before its socket closes.
    tasks.push(tokio::spawn(async move { rooms.shut_down().await }));
    stopping.begin();
    // The sockets of the sessions included: each has said farewell before it frees its place.
    tasks.push(tokio::spawn(async move { places.emptied().await }));
    stop::drain(tasks, &mut signals, config.drain_timeout).await;
    workers.stop();
    join(threads).await;
    Ok(())
}

/// Serves the metrics port.
fn serve_metrics(
    config: &Config,
    listeners: Vec<TcpListener>,
    (metrics, readiness, check): (Metrics, Readiness, Option<Recheck>),
    stopping: &stop::Stopping,
) -> Vec<JoinHandle<()>> {
    let scrapers = Places::new(MAX_SCRAPERS, metrics.clone());
    let page = admin::router(&config.prometheus, metrics, readiness, check);
    // Whoever looks for failures on purpose must be able to count them.
    let faults = Faults::default();
    listen::spawn(listeners, &page, stopping, &scrapers, &faults)
}

/// Takes media connections as long as the process lives: whoever stays to the end may need one.
fn accept_media(listeners: Vec<TcpListener>, surroundings: &Surroundings) {
    for listener in listeners {
        let (workers, metrics) = (surroundings.workers.clone(), surroundings.metrics.clone());
        let faults = surroundings.faults.clone();
        tokio::spawn(accept::accept(listener, workers, metrics, faults));
    }
}

/// The threads stop within one pass; joining them waits for no client.
async fn join(threads: Threads) {
    let joined = tokio::task::spawn_blocking(move || threads.join());
    if tokio::time::timeout(THREADS_STOP_WITHIN, joined)
        .await
        .is_err()
    {
        tracing::warn!("media threads did not stop in time");
    }
}

/// What the main port answers.
fn main_router(
    config: &Config,
    front: Arc<Front>,
    (keys, readiness): (Arc<Keys>, Readiness),
    matrix: Endpoints,
) -> Router {
    let mut others = admin::health(readiness).merge(matrix.open);
    if config.development {
        others = others.merge(try_page::router(keys));
    }
    http::router::router(front, others, matrix.own)
}

/// The boot banner; names as LiveKit's. (LK: server ops §12)
fn announce(config: &Config, node_id: &str, bound: &[SocketAddr], advertised: &[Candidate]) {
    let node_ip = config.rtc.node_ip;
    let node_ip: Vec<String> = [
        node_ip.v4.map(|ip| ip.to_string()),
        node_ip.v6.map(|ip| ip.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect();
    tracing::info!(
        portHttp = bound.first().map_or(config.http.port, SocketAddr::port),
        nodeID = node_id,
        nodeIP = node_ip.join(","),
        version = LIVEKIT_VERSION,
        fociVersion = env!("CARGO_PKG_VERSION"),
        bindAddresses = ?bound,
        rtc.portTCP = config.rtc.tcp_port,
        rtc.portUDP = %config.rtc.udp_ports_in_use(),
        portPrometheus = config.prometheus.port,
        region = config.region,
        "starting Foci"
    );
    tracing::info!(
        inUse = ports::listed(&config.ports()),
        notYet = ports::LATER,
        "ports"
    );
    if !config.rtc.udp_port_configured {
        tracing::info!(
            rtc.portUDP = %config.rtc.udp_ports_in_use(),
            "all media uses this UDP port; LiveKit without rtc.udp_port would use 50000-60000"
        );
    }
    if config.keys.are_placeholders() {
        tracing::warn!(
            "no keys provided, using placeholder keys: anyone who reaches this server may join"
        );
    }
    reach::announce(advertised);
}

/// SIGHUP: the whole configuration is read, and what may change while running is applied.
fn reload(sources: &Sources, telemetry: &Telemetry, check: &Recheck) {
    let loaded = sources.load();
    if loaded.complaints.has_errors() {
        for complaint in loaded.complaints.list() {
            tracing::error!("{complaint}");
        }
        tracing::error!("configuration not reloaded");
        return check.now();
    }
    telemetry.reload(&loaded.config.logging);
    tracing::info!("levels of the log reloaded");
    check.with(&loaded.config.rtc);
}
