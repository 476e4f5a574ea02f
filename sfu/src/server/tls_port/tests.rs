use super::*;
use crate::certificates::tests::{Files, made};
use crate::config::cidr::Cidr;
use crate::crowd::Most;
use crate::faults::Faults;
use crate::http::connection::Places;
use crate::http::secure;
use crate::metrics::tests::labels;
use crate::server::half_open::MOST_OF_ONE;
use crate::server::listen;
use crate::server::mistakes::Mistakes;
use crate::server::stop::Stopping;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const MANY: Most = Most {
    network: 500,
    site: 500,
};
const HOST: &str = "a.example";
const BINDING: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// A port of TLS for a test, and what is handed over.
struct World {
    at: SocketAddr,
    metrics: Metrics,
    certificate: String,
    turn: mpsc::Receiver<Handed>,
    media: mpsc::Receiver<Handed>,
    stopping: Stopping,
    places: Places,
    _files: Files,
}

impl World {
    async fn new(trusted: &[&str], external: bool) -> Self {
        let metrics = Metrics::new("n");
        let files = Files::default();
        let pair = made(&[HOST], 0..i64::from(u32::MAX));
        files.write("live", &pair);
        let certificates = Certificates::start(&[files.pair("live")], None, &metrics);
        let listeners = listen::bind("tls.port", 0, &[[127, 0, 0, 1].into()]).await;
        let listeners = listeners.expect("bound");
        let at = listen::addresses(&listeners)[0];
        let (turn, taken_turn) = crate::handover::queue();
        let (media, taken_media) = crate::handover::queue();
        let (stopping, places) = (Stopping::default(), Places::new(500, MANY, metrics.clone()));
        let router = Router::new().route(
            "/who",
            get(|ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() }),
        );
        let block = |text: &&str| -> Cidr { text.parse().expect("a block") };
        let tls = TlsPort {
            port: Port {
                router: secure::over_tls(router),
                stopping: stopping.clone(),
                places: places.clone(),
                trusted_proxies: watch::channel(trusted.iter().map(block).collect()).1,
                mistakes: Mistakes::default(),
                faults: Faults::default(),
            },
            plain: secure::plainly(true, 443),
            certificates: certificates.expect("a pair"),
            doors: Doors {
                turn: Some(turn),
                media: Some(media),
            },
            external,
            metrics: metrics.clone(),
        };
        spawn(listeners, tls);
        Self {
            at,
            metrics,
            certificate: pair.0,
            turn: taken_turn,
            media: taken_media,
            stopping,
            places,
            _files: files,
        }
    }

    async fn connect(&self, first: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.expect("connected");
        stream.write_all(first).await.expect("sent");
        stream
    }

    /// The same in TLS, with these protocols offered.
    async fn secured(
        &self,
        before: &[u8],
        protocols: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        roots.add(root.expect("a certificate")).expect("added");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        let name = ServerName::try_from(HOST).expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = self.connect(before).await;
        connector.connect(name, stream).await.expect("hands shaken")
    }

    fn outcomes(&self) -> Vec<String> {
        labels(&self.metrics, "foci_tls_port_connections_total", "outcome")
    }
}

/// All that comes until the other side closes.
async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

const WHO: &[u8] = b"GET /who HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn https_is_served_and_plain_http_is_sent_there() {
    let world = World::new(&[], false).await;
    for protocols in [&[][..], &[&b"h2"[..], b"http/1.1"]] {
        let mut stream = world.secured(b"", protocols).await;
        stream.write_all(WHO).await.expect("sent");
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("127.0.0.1:"), "{answer}");
    }
    let answer = rest(world.connect(WHO).await).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(
        answer.contains("location: https://a.example/who"),
        "{answer}"
    );
    assert_eq!(world.outcomes(), ["https", "plain_http"]);
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_plain_http_is_served() {
    let world = World::new(&["127.0.0.0/8"], true).await;
    let mut header = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec();
    header.extend(WHO);
    let answer = rest(world.connect(&header).await).await;
    assert!(answer.ends_with("192.0.2.1:56324"), "{answer}");
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_names_nobody() {
    let world = World::new(&["192.0.2.0/24"], false).await;
    // The first version reads like a request, which it is not.
    let second = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&b"PROXY UNKNOWN\r\n"[..], second, b"PROXY nonsense\r\n"] {
        assert_eq!(rest(world.connect(header).await).await, "");
    }
    assert_eq!(world.outcomes(), ["bad_proxy_header"]);
}

#[tokio::test]
async fn the_client_that_a_trusted_proxy_names_counts_in_tls_too() {
    let world = World::new(&["127.0.0.1/32"], false).await;
    let second = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 4, 1, 0xBB],
    ]
    .concat();
    let mut stream = world.secured(&second, &[]).await;
    stream.write_all(WHO).await.expect("sent");
    let answer = rest(stream).await;
    assert!(answer.ends_with("192.0.2.1:56324"), "{answer}");
    let answer = rest(world.connect(b"PROXY TCP9 \r\n").await).await;
    assert_eq!(answer, "");
    assert_eq!(world.outcomes(), ["bad_proxy_header", "https"]);
}

#[tokio::test]
async fn of_two_headers_the_proxy_that_passes_one_on_is_told_of() {
    let (log, _guard) = crate::telemetry::tests::captured();
    let world = World::new(&["127.0.0.1/32"], false).await;
    let both = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nPROXY TCP4 192.0.2.2 198.51.100.1 4 443\r\n";
    assert_eq!(rest(world.connect(both).await).await, "");
    assert_eq!(world.outcomes(), ["bad_proxy_header"]);
    let text = log.text();
    assert!(text.contains("behind that of a trusted proxy"), "{text}");
    assert!(text.contains("proxy=127.0.0.1"), "{text}");
    assert!(!text.contains("not trusted"), "{text}");
}

#[tokio::test]
async fn turn_and_media_are_handed_over_whole() {
    let mut world = World::new(&[], false).await;
    let _far = world.connect(&BINDING).await;
    let handed = world.turn.recv().await.expect("handed over");
    let Carried::Plain(mut stream) = handed.stream else {
        panic!("not plain");
    };
    let mut read = [0; 20];
    stream.read_exact(&mut read).await.expect("read");
    assert_eq!(read, BINDING);
    assert!(handed.remote.ip().is_loopback() && handed.local == world.at);
    let framed = [&[0, 20][..], &BINDING].concat();
    let _far = world.connect(&framed).await;
    let handed = world.media.recv().await.expect("handed over");
    assert!(matches!(handed.stream, Carried::Plain(_)));
    assert_eq!(world.outcomes(), ["media", "turn"]);
}

#[tokio::test]
async fn turn_in_tls_is_told_by_the_handshake_or_by_what_is_in_it() {
    let mut world = World::new(&[], false).await;
    for protocols in [&[&b"stun.turn"[..]][..], &[]] {
        let mut far = world.secured(b"", protocols).await;
        far.write_all(&BINDING).await.expect("sent");
        let handed = world.turn.recv().await.expect("handed over");
        let Carried::Decrypted(mut stream) = handed.stream else {
            panic!("not decrypted");
        };
        let mut read = [0; 20];
        stream.read_exact(&mut read).await.expect("read");
        assert_eq!(read, BINDING);
        stream.write_all(b"answer").await.expect("sent");
        stream.flush().await.expect("sent");
        let mut answer = [0; 6];
        far.read_exact(&mut answer).await.expect("read");
        assert_eq!(&answer, b"answer");
    }
    assert_eq!(world.outcomes(), ["turn"]);
}

#[tokio::test]
async fn what_is_nothing_or_that_nobody_takes_is_closed() {
    let mut world = World::new(&[], false).await;
    world.turn.close();
    assert_eq!(rest(world.connect(&BINDING).await).await, "");
    assert_eq!(rest(world.connect(b"\xFF\xFF").await).await, "");
    let mut stream = world.secured(b"", &[]).await;
    stream.write_all(b"\xFFnothing").await.expect("sent");
    assert_eq!(rest(stream).await, "");
    // A hello that is one, and nothing that a handshake could be made of.
    let hello = [
        &[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..],
        &[0; 32],
        &[0, 0, 2, 0x13, 0x01, 1, 0],
    ]
    .concat();
    rest(world.connect(&hello).await).await;
    assert_eq!(world.outcomes(), ["handshake", "malformed", "unclaimed"]);
}

#[tokio::test]
async fn whoever_says_nothing_is_closed_in_time_before_and_in_tls() {
    let world = World::new(&["127.0.0.1/32"], false).await;
    // Of a proxy's header, of a hello, and of a request.
    let header = world.connect(b"PROX").await;
    let hello = world.connect(b"\x16\x03\x01").await;
    let secured = world.secured(b"", &[]).await;
    // Time runs to the next timer whenever nobody has anything to do.
    tokio::time::pause();
    for stream in [header, hello] {
        assert_eq!(rest(stream).await, "");
    }
    assert_eq!(rest(secured).await, "");
    assert_eq!(world.outcomes(), ["timed_out"]);
    world.stopping.begin();
    world.places.emptied().await;
}

#[tokio::test]
async fn one_network_has_only_so_many_half_open() {
    let world = World::new(&["127.0.0.1/32"], false).await;
    let of = |client: &str, rest: &[u8]| {
        let header = format!("PROXY TCP4 {client} 192.0.2.1 5000 443\r\n");
        [header.as_bytes(), rest].concat()
    };
    // A NAT of ours is everybody behind it.
    let private = world.connect(&of("172.17.0.1", b"\x16")).await;
    let first = world.connect(&of("198.51.100.7", b"\x16")).await;
    let mut silent = Vec::new();
    for _ in 0..MOST_OF_ONE.network {
        silent.push(world.connect(&of("198.51.100.7", b"\x16")).await);
        silent.push(world.connect(&of("172.17.0.1", b"\x16")).await);
    }
    assert_eq!(rest(first).await, "", "the oldest goes");
    assert_eq!(world.outcomes(), ["limited"]);
    let limits = labels(&world.metrics, "foci_limits_reached_total", "limit");
    assert_eq!(limits, ["half_open_of_one"]);
    // Whoever says what he wants is served all the same.
    let answer = rest(world.connect(&of("198.51.100.7", WHO)).await).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    drop((silent, private));
    world.stopping.begin();
    world.places.emptied().await;
}

#[tokio::test]
async fn behind_what_may_be_a_proxy_nobody_goes_for_another() {
    let world = World::new(&[], false).await;
    let mut silent = Vec::new();
    for _ in 0..=MOST_OF_ONE.network {
        silent.push(world.connect(b"\x16").await);
    }
    let answer = rest(world.connect(WHO).await).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    let limits = labels(&world.metrics, "foci_limits_reached_total", "limit");
    assert_eq!(limits, Vec::<String>::new());
    drop(silent);
    world.stopping.begin();
    world.places.emptied().await;
}
