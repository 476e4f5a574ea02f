//! Composition: a checked configuration becomes a running server, and a signal ends it.
//!
//! Owns the order of starting and stopping, the main listeners and the reaction to signals. It
//! decides nothing about calls. `cli` calls [`run`].

mod stop;
mod descriptors;
mod beginning;
mod mistakes;
mod listen;
mod half_open;
mod tls_port;
mod authorization;
mod relay;
mod reach;
mod sections;
mod reload;
pub mod alone;

use crate::addresses::Recheck;
use crate::certificates::{CertificateError, Certificates};
use crate::config::check::{Config, SHORT_SECRET};
use crate::config::complaint::Complaints;
use crate::config::ports;
use crate::crowd::Most;
use crate::faults::Faults;
use crate::handover::{self, Doors, Handed};
use crate::http::admin::{self, Readiness};
use crate::http::connection::Places;
use crate::http::front::Front;
use crate::http::{self, challenge, gate, secure, try_page};
use crate::media::transport::candidates::Candidate;
use crate::metrics::Metrics;
use crate::rooms::{Rooms, Surroundings, Told};
use crate::settings::{Loaded, Sources};
use crate::telemetry::Telemetry;
use crate::worker::placement::Threads;
use crate::worker::record::Target;
use crate::worker::{Workers, accept};
use authorization::Endpoints;
use axum::Router;
use listen::{Listeners, Port};
use mistakes::Mistakes;
use proto::token::Keys;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reach::Reach;
use reload::{Owners, Running, Settings};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls_port::TlsPort;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What media threads get to finish their pass.
const THREADS_STOP_WITHIN: Duration = Duration::from_secs(1);

/// Connections of the main port at a time: some 30 KiB each, and more than one machine's media
/// threads serve.
const MAX_CONNECTIONS: u32 = 16_384;

/// Of those, of one network: an office whose participants all come at once fits, and it takes many to leave
/// nothing for others.
const MAX_CONNECTIONS_OF_ONE: Most = Most {
    network: 1024,
    site: 4096,
};

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
    /// No address to tell clients, and none to come.
    #[error(
        "rtc.advertise: no address of it is of a protocol that is served; give one of UDP, or of TCP with \
         rtc.tcp_port open, and see rtc.force_tcp"
    )]
    NoAddress,
    /// The TURN server could not be started.
    #[error(
        "turn: {0}; choose other ports or addresses below `turn`, or switch it off with \
         turn.enabled: false"
    )]
    Turn(io::Error),
    /// A certificate is of no use.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The MatrixRTC authorization service could not be set up.
    #[error("matrix: {0}")]
    Matrix(#[from] jwt_service::settled::SetupError),
    /// Threads or signals could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Runs a server until a signal ends it. The configuration has no errors. `record` says where what
/// media is fed is written to. `started` is called with the addresses of the main port and the UDP port of
/// media once it listens.
///
/// # Errors
/// What kept it from starting.
pub fn run(
    loaded: &Loaded,
    sources: &Sources,
    record: Option<Target>,
    started: impl FnOnce(&[SocketAddr], u16),
) -> Result<(), ServeError> {
    let telemetry = Telemetry::start(&loaded.config.logging)?;
    complain(&loaded.complaints);
    descriptors::raise(descriptors::wanted(&loaded.config));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("foci-control")
        .build()?;
    runtime.block_on(serve(loaded, sources, telemetry, record, started))
}

/// What is wrong with a configuration that runs.
fn complain(complaints: &Complaints) {
    for complaint in complaints.list() {
        if complaint.cause == SHORT_SECRET {
            tracing::error!(apiKey = complaint.key, "{SHORT_SECRET}");
        } else {
            tracing::warn!("{complaint}");
        }
    }
}

async fn serve(
    loaded: &Loaded,
    sources: &Sources,
    telemetry: Telemetry,
    record: Option<Target>,
    started: impl FnOnce(&[SocketAddr], u16),
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
    let (advertised, udp_port) = (reach.candidates(), reach.udp_port);
    let (workers, threads) = Workers::start(&media, &metrics, rand::rng().random())?;
    let keys = Arc::new(sections::keys(&config.keys));
    let (told, comings, gone) = Told::queues();
    let shared = (workers.clone(), metrics.clone(), Arc::clone(&keys));
    let known = (node_id.as_str(), advertised.as_slice());
    let surroundings = sections::surroundings(config, known, shared, &faults, told);
    let rooms = Rooms::start(surroundings.clone());
    let (draining, is_draining) = watch::channel(false);
    let (policy, joins) = watch::channel(sections::policy(config));
    let pairs = config.certificates();
    let certificates = Certificates::start(&pairs, config.tls.acme.as_ref(), &metrics)?;
    let beside = (advertised.as_slice(), udp_port, &certificates);
    let (proxies, trusted) = watch::channel(config.http.trusted_proxies.clone());
    let around = (trusted.clone(), gone);
    let relay = relay::start(config, beside, &surroundings, policy.clone(), around)?;
    let front = sections::front(config, &surroundings, &rooms, (joins, is_draining));
    let listeners = Listeners::bind(config).await?;
    let bound = listen::addresses(&listeners.main);
    let stopping = stop::Stopping::default();
    let (gate, router) = gate::router(readiness.clone());
    let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ONE, metrics.clone());
    let port = Port::new(router, (&stopping, &places), trusted.clone(), &faults);
    let mut tasks = listen::spawn(listeners.main, &port);
    let media = accept_media(listeners.media, &surroundings);
    let turn = relay.entrance(&metrics, &port);
    let tls = (listeners.tls, listeners.turn, Doors { turn, media });
    tasks.extend(serve_tls(config, tls, &port, &certificates, &metrics));
    let check = reach.check.clone();
    let beside = (Some(check.clone()), Some(rooms.clone()));
    let page = (metrics.clone(), readiness.clone(), beside);
    let prometheus = listeners.prometheus;
    tasks.extend(serve_metrics(config, prometheus, page, &stopping));
    // It may wait for what another process has left behind.
    let matrix = authorization::start(config, &keys, (&rooms, comings, trusted), &metrics)?;
    let open = admin::health(readiness.clone()).merge(challenge::router(certificates.clone()));
    let routes = main_router(config, front, (keys, open), matrix.endpoints);
    gate.send_replace(Some(routes));
    let told = (rooms.clone(), readiness.clone(), relay);
    reach.watch(&surroundings, &config.rtc, told);
    readiness.set(true);
    announce(config, &node_id, &bound, (&advertised, udp_port));
    started(&bound, udp_port);

    let owners = Owners::new(matrix.owner, proxies, policy, telemetry);
    let changing = (&owners, &check, &certificates);
    attend(&mut signals, sources, loaded, changing).await;
    readiness.set(false);
    draining.send_replace(true);
    tasks.extend(farewell(rooms, places, &stopping));
    stop::drain(tasks, &mut signals, config.drain_timeout).await;
    end(&workers, threads).await;
    Ok(())
}

/// Every session is told to come back before its socket closes; and all sockets are waited for: each has
/// said farewell before it frees its place.
fn farewell(rooms: Rooms, places: Places, stopping: &stop::Stopping) -> [JoinHandle<()>; 2] {
    let told = tokio::spawn(async move { rooms.shut_down().await });
    stopping.begin();
    let closed = tokio::spawn(async move { places.emptied().await });
    [told, closed]
}

/// Serves the port of TLS as the main port, which `port` is, and that of TURN out of the TLS of a proxy as
/// one where there is nothing else.
fn serve_tls(
    config: &Config,
    (listeners, of_turn, doors): (Vec<TcpListener>, Vec<TcpListener>, Doors),
    port: &Port,
    certificates: &Certificates,
    metrics: &Metrics,
) -> Vec<JoinHandle<()>> {
    let section = &config.tls;
    let turn = TlsPort {
        port: Port {
            router: Router::new(),
            ..port.clone()
        },
        plain: Router::new(),
        certificates: certificates.clone(),
        doors: Doors {
            turn: doors.turn.clone(),
            media: None,
        },
        external: true,
        metrics: metrics.clone(),
    };
    let tls = TlsPort {
        port: Port {
            router: secure::over_tls(port.router.clone()),
            ..port.clone()
        },
        plain: secure::plainly(section.redirect, section.advertised_port),
        certificates: certificates.clone(),
        doors,
        external: section.external,
        metrics: metrics.clone(),
    };
    let mut tasks = tls_port::spawn(listeners, tls);
    tasks.extend(tls_port::spawn(of_turn, turn));
    tasks
}

/// Serves the metrics port.
fn serve_metrics(
    config: &Config,
    listeners: Vec<TcpListener>,
    (metrics, readiness, beside): (Metrics, Readiness, (Option<Recheck>, Option<Rooms>)),
    stopping: &stop::Stopping,
) -> Vec<JoinHandle<()>> {
    // All of them mostly come from one machine.
    let of_one = Most {
        network: MAX_SCRAPERS,
        site: MAX_SCRAPERS,
    };
    let scrapers = Places::new(MAX_SCRAPERS, of_one, metrics.clone());
    let port = Port {
        router: admin::router(&config.prometheus, metrics, readiness, beside),
        stopping: stopping.clone(),
        places: scrapers,
        trusted_proxies: watch::channel(Vec::new()).1,
        mistakes: Mistakes::default(),
        // Whoever looks for failures on purpose must be able to count them.
        faults: Faults::default(),
    };
    listen::spawn(listeners, &port)
}

/// Takes media connections as long as the process lives: whoever stays to the end may need one. They may
/// come by the port of TLS, too.
fn accept_media(
    listeners: Vec<TcpListener>,
    surroundings: &Surroundings,
) -> Option<mpsc::Sender<Handed>> {
    let (media, handed) = handover::queue();
    let mut handed = Some(handed);
    let takes = !listeners.is_empty();
    for listener in listeners {
        let (workers, metrics) = (surroundings.workers.clone(), surroundings.metrics.clone());
        let faults = surroundings.faults.clone();
        let comings = accept::Comings {
            listener,
            handed: handed.take(),
        };
        tokio::spawn(accept::accept(comings, workers, metrics, faults));
    }
    takes.then_some(media)
}

/// The threads stop within one pass; joining them waits for no client.
async fn end(workers: &Workers, threads: Threads) {
    workers.stop();
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
    (keys, open): (Arc<Keys>, Router),
    matrix: Endpoints,
) -> Router {
    let mut others = open.merge(matrix.open);
    if config.development {
        others = others.merge(try_page::router(keys));
    }
    http::router::router(front, others, matrix.own)
}

/// The boot banner; names as LiveKit's. (LK: server ops §12)
fn announce(
    config: &Config,
    node_id: &str,
    bound: &[SocketAddr],
    (advertised, udp_port): (&[Candidate], u16),
) {
    let has_udp = !config.rtc.force_tcp;
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
        rtc.portUDP = if has_udp { udp_port } else { 0 },
        portTLS = config.tls.port,
        portPrometheus = config.prometheus.port,
        region = config.region,
        "starting Foci"
    );
    tracing::info!(
        inUse = ports::listed(&config.ports_in_use(udp_port)),
        "ports"
    );
    if has_udp && !config.rtc.udp_port_configured {
        tracing::info!(
            rtc.portUDP = udp_port,
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

/// Reloads whenever it is told to, until it is told to end.
async fn attend(
    signals: &mut stop::Signals,
    sources: &Sources,
    loaded: &Loaded,
    (owners, check, certificates): (&Owners, &Recheck, &Certificates),
) {
    let mut running = Running::new(loaded);
    let reload = || {
        certificates.reload();
        reload_from(sources, &mut running, owners, check);
    };
    stop::until_told(signals, reload).await;
}

/// SIGHUP: the whole configuration is read, and what may change while running is applied. Addresses are
/// looked at in any case.
fn reload_from(sources: &Sources, running: &mut Running, owners: &Owners, check: &Recheck) {
    let read = sources.load();
    if read.complaints.has_errors() {
        reload::refuse_read(&read.complaints);
        return check.now();
    }
    let (judged, changes) = running.with(&read, |_| true);
    if judged.complaints.has_errors() {
        reload::refuse_changes(&judged.complaints, &changes);
        return check.now();
    }
    let config = &judged.config;
    let settings = Settings {
        matrix: authorization::section(&config.matrix),
        proxies: config.http.trusted_proxies.clone(),
        policy: sections::policy(config),
        logging: config.logging.clone(),
    };
    if running.take(owners, &read.complaints, changes, settings) {
        check.with(&config.rtc);
    } else {
        check.now();
    }
}
