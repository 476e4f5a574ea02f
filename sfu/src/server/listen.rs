//! The TCP listeners of the main and the metrics port.

use crate::auth;
use crate::config::check::{Config, Prometheus, Rtc, Tls, Turn};
use crate::config::cidr::Cidr;
use crate::config::faults::Point;
use crate::faults::Faults;
use crate::greeting::{self, Kind};
use crate::http::connection::{Place, Places, count_upgrade};
use crate::server::ServeError;
use crate::server::beginning::{self, Unread};
use crate::server::mistakes::Mistakes;
use crate::server::stop::Stopping;
use crate::worker::accept;
use axum::extract::ConnectInfo;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a request's head may take, and how long a connection may wait for its next request: a
/// client that sends a byte a minute must not hold a place for ever.
pub(super) const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Until the next attempt after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Listens on `port` at each address, or everywhere if none is given. With port 0 the system
/// chooses for the first, and the others follow.
pub(super) async fn bind(
    key: &'static str,
    port: u16,
    addresses: &[IpAddr],
) -> Result<Vec<TcpListener>, ServeError> {
    if addresses.is_empty() {
        return everywhere(key, port).await.map(|listener| vec![listener]);
    }
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = port;
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // A machine without IPv6 still serves the other addresses.
            Err(error) if absent(&error) && addresses.len() > 1 => {
                tracing::warn!(%address, %error, "address left out");
            }
            Err(source) => return Err(refused(key, address, source)),
        }
    }
    match addresses.first() {
        Some(ip) if listeners.is_empty() => {
            let source = io::Error::from(io::ErrorKind::AddrNotAvailable);
            Err(refused(key, SocketAddr::new(*ip, port), source))
        }
        _ => Ok(listeners),
    }
}

/// Every TCP listener of a server.
pub(super) struct Listeners {
    pub(super) main: Vec<TcpListener>,
    pub(super) tls: Vec<TcpListener>,
    /// For TURN that comes out of the TLS of a proxy.
    pub(super) turn: Vec<TcpListener>,
    pub(super) media: Vec<TcpListener>,
    pub(super) prometheus: Vec<TcpListener>,
}

impl Listeners {
    /// Listens everywhere the configuration says.
    pub(super) async fn bind(config: &Config) -> Result<Self, ServeError> {
        let http = &config.http;
        Ok(Self {
            main: bind("port", http.port, &http.bind_addresses).await?,
            tls: bind_tls(&config.tls).await?,
            turn: bind_turn(&config.turn).await?,
            media: bind_media(&config.rtc).await?,
            prometheus: bind_metrics(&config.prometheus).await?,
        })
    }
}

/// The metrics port, if there is one.
pub(super) async fn bind_metrics(config: &Prometheus) -> Result<Vec<TcpListener>, ServeError> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    bind("prometheus.port", config.port, &config.bind_addresses).await
}

/// The port of media over TCP, if there is one: everywhere, for media is not bound to
/// `bind_addresses`. (LK: server ops §8.1)
async fn bind_media(config: &Rtc) -> Result<Vec<TcpListener>, ServeError> {
    if config.tcp_port == 0 {
        return Ok(Vec::new());
    }
    bind("rtc.tcp_port", config.tcp_port, &[]).await
}

/// The port of TLS, if there is one.
async fn bind_tls(config: &Tls) -> Result<Vec<TcpListener>, ServeError> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    bind("tls.port", config.port, &config.bind_addresses).await
}

/// The port of TURN whose TLS ends at a proxy, if there is one: what comes there may begin with the proxy's
/// header.
async fn bind_turn(config: &Turn) -> Result<Vec<TcpListener>, ServeError> {
    if !(config.enabled && config.external_tls) || config.tls_port == 0 {
        return Ok(Vec::new());
    }
    bind("turn.tls_port", config.tls_port, &config.bind_addresses).await
}

/// Both families on one socket; IPv4 alone where there is no IPv6.
async fn everywhere(key: &'static str, port: u16) -> Result<TcpListener, ServeError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(both).await {
        Ok(listener) => Ok(listener),
        Err(error) if absent(&error) => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listener = TcpListener::bind(v4).await;
            listener.map_err(|source| refused(key, v4, source))
        }
        Err(source) => Err(refused(key, both, source)),
    }
}

/// The machine does not have this address or family. (EAFNOSUPPORT has no kind of its own.)
fn absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn refused(key: &'static str, address: SocketAddr, source: io::Error) -> ServeError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "another program uses the port: stop it or choose another",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "the machine does not have this address",
        _ => "choose another address or port",
    };
    ServeError::Listen {
        key,
        address,
        source,
        hint,
    }
}

/// Where they listen.
pub(super) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect()
}

/// What the connections of a port need.
#[derive(Clone)]
pub(super) struct Port {
    /// What is served.
    pub(super) router: Router,
    /// When no more is taken.
    pub(super) stopping: Stopping,
    /// How many there may be.
    pub(super) places: Places,
    /// Whose PROXY header is believed.
    pub(super) trusted_proxies: watch::Receiver<Vec<Cidr>>,
    /// What its operator is told of.
    pub(super) mistakes: Mistakes,
    /// What fails on purpose.
    pub(super) faults: Faults,
}

/// Serves the port on each of them until told to stop; then no connection is taken any more. Those
/// that are open hold their place until they are over.
pub(super) fn spawn(listeners: Vec<TcpListener>, port: &Port) -> Vec<JoinHandle<()>> {
    let each = listeners.into_iter().map(|listener| {
        let port = port.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, &port) => {}
                () = port.stopping.begun() => {}
            }
        })
    });
    each.collect()
}

async fn accept(listener: TcpListener, port: &Port) {
    let mut acceptor = Acceptor::new(listener);
    while let Some((stream, peer, place)) = acceptor.next(port).await {
        tokio::spawn(arrive(stream, peer, place, port.clone()));
    }
}

/// Takes the connections of one listener.
pub(super) struct Acceptor {
    listener: TcpListener,
    /// Until then the system could not accept.
    again: Option<Instant>,
}

impl Acceptor {
    pub(super) const fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            again: None,
        }
    }

    /// The next connection, with a place for it; `None` when there will be no more. Whoever gives up waiting
    /// for it loses nothing, and the pause after an error goes on.
    pub(super) async fn next(&mut self, port: &Port) -> Option<(TcpStream, SocketAddr, Place)> {
        loop {
            if let Some(again) = self.again {
                sleep_until(again).await;
                self.again = None;
            }
            let place = port.places.take().await?;
            let accepted = if port.faults.strike(Point::AcceptError) {
                Err(io::Error::other("on purpose"))
            } else {
                self.listener.accept().await
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                Err(error) if accept::is_the_client_s(&error) => {}
                // Out of file descriptors, mostly: some must be closed first.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    self.again = Some(Instant::now() + ACCEPT_AGAIN);
                }
            }
        }
    }
}

/// A connection of the port, which speaks plain HTTP. One of a trusted proxy may name its client first.
async fn arrive(mut stream: TcpStream, peer: SocketAddr, place: Place, port: Port) {
    let trusted = port.trusted_proxies.borrow().clone();
    let is_proxy = beginning::is_trusted(peer, &trusted);
    // Whoever is no proxy counts for himself, though he never says a word.
    if !is_proxy && !port.admit(peer, &place) {
        return;
    }
    let begun = async {
        let ends = beginning::ends(&mut stream, peer, &trusted).await?;
        // What is neither of HTTP nor of TLS is answered as HTTP answers it.
        let kind = match beginning::look(&stream, greeting::kind).await {
            Err(Unread::Malformed) => None,
            kind => Some(kind?),
        };
        Ok((ends, kind))
    };
    let begun = tokio::select! {
        begun = timeout(HEADERS_WITHIN, begun) => begun,
        () = port.stopping.begun() => return,
    };
    match begun {
        Ok(Ok((_, Some(Kind::Tls(_))))) => {
            place.count_closed("tls");
            port.mistakes.tls_of(peer.ip());
        }
        Ok(Err(Unread::Untrusted)) => {
            place.count_closed("bad_proxy_header");
            port.mistakes.header_of(peer.ip());
        }
        Ok(Ok((ends, _))) => {
            if is_proxy && !port.admit(ends.remote, &place) {
                return;
            }
            // Signalling messages are small and wait for nothing. A socket that is gone tells so when read.
            let _ = stream.set_nodelay(true);
            port.serve(stream, &port.router, ends.remote, place).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "connection ended before it began"),
        Err(_) => tracing::debug!(%peer, "connection says nothing"),
    }
}

impl Port {
    /// A port of HTTP on which proxies may be in front.
    pub(super) fn new(
        router: Router,
        (stopping, places): (&Stopping, &Places),
        trusted_proxies: watch::Receiver<Vec<Cidr>>,
        faults: &Faults,
    ) -> Self {
        Self {
            router,
            stopping: stopping.clone(),
            places: places.clone(),
            trusted_proxies,
            mistakes: Mistakes::default(),
            faults: faults.clone(),
        }
    }

    /// May `client` have this place? One of a proxy counts for whom its requests name.
    pub(super) fn admit(&self, client: SocketAddr, place: &Place) -> bool {
        self.counted(client)
            .is_none_or(|client| place.count_for(client))
    }

    /// Whom a connection from there counts for, if that can be told.
    pub(super) fn counted(&self, client: SocketAddr) -> Option<IpAddr> {
        auth::client_end(client.ip(), &self.trusted_proxies.borrow())
    }

    /// One connection of `client`, until it is over or has become a WebSocket.
    pub(super) async fn serve<S>(
        &self,
        stream: S,
        router: &Router,
        client: SocketAddr,
        place: Place,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let counting = (place.clone(), self.trusted_proxies.clone());
        let router = router
            .clone()
            .layer(from_fn_with_state(counting, count_upgrade))
            .layer(Extension(ConnectInfo(client)))
            .layer(Extension(place.clone()));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN);
        let service = TowerToHyperService::new(router);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection.with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.begun() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::Most;
    use crate::metrics::Metrics;
    use tokio::io::AsyncReadExt as _;

    const MANY: Most = Most {
        network: 100,
        site: 100,
    };

    #[tokio::test]
    async fn all_addresses_share_the_port_the_system_chose() {
        let given: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let listeners = bind("port", 0, &given).await.expect("bound");
        let bound = addresses(&listeners);
        assert_eq!(bound.len(), 2);
        assert_eq!(bound[0].port(), bound[1].port());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_its_key() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = taken.local_addr().expect("address").port();
        let error = bind("port", port, &[[127, 0, 0, 1].into()])
            .await
            .expect_err("taken");
        let text = error.to_string();
        assert!(
            text.starts_with("port: cannot listen") && text.contains("another program"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_address_the_machine_does_not_have_is_left_out_unless_it_is_the_only_one() {
        let foreign: IpAddr = [192, 0, 2, 123].into();
        let listeners = bind("port", 0, &[[127, 0, 0, 1].into(), foreign])
            .await
            .expect("one");
        assert_eq!(listeners.len(), 1);
        assert!(bind("port", 0, &[foreign]).await.is_err());
        assert!(bind("port", 0, &[foreign, foreign]).await.is_err());
    }

    #[tokio::test]
    async fn whoever_says_nothing_counts_for_his_network() {
        let listeners = bind("port", 0, &[[127, 0, 0, 1].into()])
            .await
            .expect("bound");
        let at = listeners[0].local_addr().expect("an address");
        let one = Most {
            network: 1,
            site: 1,
        };
        let (metrics, stopping) = (Metrics::new("n"), Stopping::default());
        let places = Places::new(9, one, metrics.clone());
        let faults = Faults::new(&crate::config::faults::Faults::default(), &metrics);
        // Some proxy is named, so that loopback is nobody's.
        let trusted = watch::channel(vec!["192.0.2.1/32".parse().expect("a block")]).1;
        let port = Port::new(Router::new(), (&stopping, &places), trusted, &faults);
        let serving = spawn(listeners, &port);
        let first = TcpStream::connect(at).await.expect("connected");
        let mut second = TcpStream::connect(at).await.expect("connected");
        let mut byte = [0];
        let ended = timeout(HEADERS_WITHIN / 2, second.read(&mut byte)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        drop((first, serving));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_connection_in_pieces_still_pauses_after_an_error() {
        let mut listeners = bind("port", 0, &[[127, 0, 0, 1].into()])
            .await
            .expect("bound");
        let (metrics, stopping) = (Metrics::new("n"), Stopping::default());
        let places = Places::new(2, MANY, metrics.clone());
        let faults = crate::config::faults::Faults {
            seed: 1,
            points: vec![Point::AcceptError],
        };
        let faults = Faults::new(&faults, &metrics);
        let trusted = watch::channel(Vec::new()).1;
        let port = Port::new(Router::new(), (&stopping, &places), trusted, &faults);
        let mut acceptor = Acceptor::new(listeners.remove(0));
        let mut pieces = 0;
        while acceptor.again.is_none() {
            // Nobody comes: either it fails on purpose or it waits.
            let piece = timeout(Duration::from_millis(1), acceptor.next(&port));
            assert!(piece.await.is_err());
            pieces += 1;
            assert!(pieces < 1000, "an error comes in time");
        }
        let again = acceptor.again;
        for _ in 0..100 {
            let piece = timeout(Duration::from_millis(1), acceptor.next(&port));
            assert!(piece.await.is_err());
            assert_eq!(acceptor.again, again);
        }
    }

    #[tokio::test]
    async fn a_connection_that_never_asks_is_closed_and_stopping_frees_every_place() {
        use tokio::io::AsyncReadExt as _;
        let listeners = bind("port", 0, &[[127, 0, 0, 1].into()])
            .await
            .expect("bound");
        let address = addresses(&listeners)[0];
        let stopping = Stopping::default();
        let places = Places::new(2, MANY, Metrics::new("n"));
        let port = Port {
            router: Router::new(),
            stopping: stopping.clone(),
            places: places.clone(),
            trusted_proxies: watch::channel(Vec::new()).1,
            mistakes: Mistakes::default(),
            faults: Faults::default(),
        };
        let tasks = spawn(listeners, &port);
        let mut silent = TcpStream::connect(address).await.expect("connected");
        let mut late = TcpStream::connect(address).await.expect("connected");
        // Time runs to the next timer whenever nobody has anything to do.
        tokio::time::pause();
        let mut read = Vec::new();
        silent.read_to_end(&mut read).await.expect("closed");
        late.read_to_end(&mut read).await.expect("closed");
        stopping.begin();
        for task in tasks {
            task.await.expect("ended");
        }
        places.emptied().await;
    }
}
