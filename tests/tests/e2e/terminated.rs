//! TURN out of the TLS of a proxy, which says by a header where clients are, or does not.

use std::net::{Ipv4Addr, SocketAddr};
use tests::server::{Server, free_tcp_port};
use tests::stun::{BINDING, mapped};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than one address may have without an allocation, and more than it may open or ask at once. (Of TURN:
/// `half_open_of_address`, `accepts_burst`, `unknown_answers_burst`)
const MANY: usize = 400;

const HEADER: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n";
const UNNAMED: &str = "does not say where clients are";

/// A server behind a proxy of this machine that ends TLS, and where the proxy finds TURN; `nth` tells those of
/// this file apart.
async fn start(nth: u32, trusted: &str) -> (Server, SocketAddr) {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
    // Below the ports that systems draw from, and apart for tests that run side by side.
    let first = 26_000 + std::process::id() % 100 * 20 + nth * 4;
    let more = format!(
        "http: {{trusted_proxies: [{trusted}]}}\n\
         turn: {{domain: t.example, tls_port: {}, external_tls: true, relay_range_start: {first}, \
         relay_range_end: {}}}\n",
        at.port(),
        first + 3
    );
    (Server::start_with(&more).await, at)
}

async fn come(at: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    stream.write_all(first).await.expect("sent");
    stream
}

/// Everything until the other side closes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn turn_sees_the_client_whom_the_proxy_s_header_names() {
    let (server, at) = start(0, "127.0.0.1").await;
    let told = mapped(come(at, HEADER).await).await;
    assert_eq!(told.to_string(), "203.0.113.9:56324");
    assert!(!server.log().contains(UNNAMED));
    // A check of the proxy's own health is no mistake either.
    drop(come(at, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await);
    let plain = come(
        at,
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let answer = rest(plain.await).await;
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{answer:?}");
    assert!(!server.log().contains(UNNAMED));
}

#[tokio::test]
async fn a_trusted_proxy_without_a_header_is_told_of_and_limited_for_nobody() {
    let (server, at) = start(1, "127.0.0.1").await;
    let mut open = Vec::new();
    for _ in 0..MANY {
        let mut stream = come(at, b"").await;
        let from = stream.local_addr().expect("a socket");
        assert_eq!(mapped(&mut stream).await, from);
        open.push(stream);
    }
    server.logs(UNNAMED).await;
    let log = server.log();
    let told = log.lines().filter(|line| line.contains(UNNAMED));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["send-proxy-v2", "proxy_protocol on", "proxy=127.0.0.1"] {
        assert!(told[0].contains(part), "{part}: {}", told[0]);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_told_of_with_and_without_a_header() {
    let (server, at) = start(2, "192.0.2.1").await;
    let refused = [HEADER, &BINDING].concat();
    assert!(rest(come(at, &refused).await).await.is_empty());
    server
        .logs("PROXY header of an address that is not trusted")
        .await;
    mapped(come(at, b"").await).await;
    server.logs(UNNAMED).await;
    assert!(server.log().contains("key=\"http.trusted_proxies\""));
}
