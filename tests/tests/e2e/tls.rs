//! The port of TLS: calls by it, certificates that change under it, proxies in front of it, and those
//! who say nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tests::certified::{Certified, HOST, ask, shown};
use tests::client::{Client, PATIENCE};
use tests::publication::Media;
use tests::server::{Server, free_tcp_port};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

/// Connections that are open while the certificate changes.
const OPEN: usize = 50;

/// Since when whoever says nothing is closed, and some more. (The server's `OPEN_WITHIN`)
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// A server with a port of TLS and more lines of configuration.
async fn start(more: &str) -> (Server, Arc<Certified>, SocketAddr) {
    let certified = Arc::new(Certified::default());
    certified.renew();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
    let config = certified.config(at.port()) + more;
    (Server::start_with(&config).await, certified, at)
}

#[tokio::test]
async fn a_call_goes_by_wss() {
    let (mut server, certified, at) = start("").await;
    let (tunnel, _task) = certified.tunnel((at, HOST)).await;
    server.http = tunnel;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = bob.publish("bob-picture", Media::Picture).await;
    bob.receive(&sound.sid, 10).await;
    alice.receive(&picture.sid, 10).await;
    let https = server.metric("foci_tls_port_connections_total", &["outcome=\"https\""]);
    assert!(https.await >= 2.0);
    server.assert_calm();
}

#[tokio::test]
async fn a_certificate_changes_under_open_connections_and_a_bad_one_does_not_take_its_place() {
    const LOADS: &str = "foci_certificate_loads_total";
    let (server, certified, at) = start("").await;
    let mut open = Vec::new();
    for _ in 0..OPEN {
        let mut stream = certified.connect(at, b"").await.expect("hands are shaken");
        let answer = ask(&mut stream, "/healthz").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        open.push(stream);
    }
    let first = shown(&open[0]);
    let second = certified.renew();
    server
        .until_metric(LOADS, &["result=\"taken\""], |_| true)
        .await;
    let fresh = certified.connect(at, b"").await.expect("hands are shaken");
    assert!(shown(&fresh) == second && second != first);
    certified.spoil();
    server.hang_up();
    server
        .until_metric(LOADS, &["result=\"refused\""], |_| true)
        .await;
    let fresh = certified.connect(at, b"").await.expect("hands are shaken");
    assert!(shown(&fresh) == second);
    for stream in &mut open {
        let answer = ask(stream, "/healthz").await.expect("still open");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let log = server.log();
    let told = log
        .lines()
        .find(|line| line.contains("certificate not taken"))
        .expect("it is told");
    for part in [
        "ERROR",
        "tls.cert_file",
        "key is not that of the certificate",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let left = server.metric("foci_certificate_expiry_seconds", &[]).await;
    assert!(left > 86_400.0, "{left}");
}

#[tokio::test]
async fn a_server_with_a_bad_certificate_says_so_and_does_not_start() {
    let certified = Certified::default();
    certified.renew();
    certified.spoil();
    let config = format!(
        "port: {}\nkeys: {{k: 0123456789abcdef0123456789abcdef}}\nrtc: {{node_ip: 127.0.0.1, \
         udp_port: 0}}\n{}",
        free_tcp_port(),
        certified.config(free_tcp_port())
    )
    .replace("udp_port: 0", &format!("udp_port: {}", free_tcp_port()));
    let body = ["--config-body", &config];
    for arguments in [&body[..], &["check", body[0], body[1]]] {
        let told = tests::server::refused(arguments);
        for part in [
            "tls.cert_file",
            "the key that the certificate was asked for",
        ] {
            assert!(told.contains(part), "{arguments:?}: {told}");
        }
    }
}

/// A request whose token is no good: the log tells of whom it came.
const REFUSED: &str =
    "GET /rtc/v1/validate?access_token=garbage HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
/// Version 2 of the same, of 192.0.2.2.
const V2: [u8; 28] =
    *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xC0\0\x02\x02\xC6\x33\x64\x01\xDC\x04\x01\xBB";

async fn answer(at: SocketAddr, before: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    // At once: whoever is turned away for the first bytes may be reset before he has sent the others.
    let all = [before, REFUSED.as_bytes()].concat();
    stream.write_all(&all).await.expect("sent");
    let mut text = Vec::new();
    // Whoever is turned away may be reset.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_on_either_port() {
    let more = "http:\n  trusted_proxies: [127.0.0.1]\n";
    let (server, certified, at) = start(more).await;
    let before: [(&[u8], &str); 3] = [
        (V1.as_bytes(), "192.0.2.1"),
        (&V2, "192.0.2.2"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ];
    for (port, (header, client)) in [server.http, at]
        .into_iter()
        .flat_map(|port| before.map(|one| (port, one)))
    {
        let from = server.log().len();
        if port == at {
            let mut stream = certified
                .connect(port, header)
                .await
                .expect("hands are shaken");
            let path = "/rtc/v1/validate?access_token=garbage";
            let answer = ask(&mut stream, path).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        } else {
            let answer = answer(port, header).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        }
        let log = server.log()[from..].to_owned();
        let told = format!("clientIP=\"{client}\"");
        assert!(log.contains(&told), "{told} is not in {log}");
    }
    // Requests without a header are served as ever.
    assert_eq!(server.get("/", "").await.body, "OK");
}

#[tokio::test]
async fn a_proxy_that_nobody_trusts_is_not_believed() {
    let (server, certified, at) = start("").await;
    for header in [V1.as_bytes(), &V2] {
        let told = answer(server.http, header).await;
        assert!(
            told.starts_with("HTTP/1.1 400") || told.is_empty(),
            "{told}"
        );
        certified
            .connect(at, header)
            .await
            .expect_err("it is closed");
    }
    assert!(!server.log().contains("192.0.2."), "it was believed");
    assert_eq!(server.get("/", "").await.body, "OK");
}

#[tokio::test]
async fn whoever_sends_a_byte_a_second_is_closed_by_the_deadline_and_others_are_served() {
    let (server, certified, at) = start("").await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(at).await.expect("it listens");
    let (mut far, mut near) = slow.split();
    let mut tick = interval(Duration::from_secs(1));
    let drip = async {
        // The beginning of a hello that is long to come.
        let mut bytes = b"\x16\x03\x01\x20\x00\x01\x00\x10\x00"
            .iter()
            .copied()
            .chain([0; 100]);
        loop {
            tick.tick().await;
            let byte = bytes.next().expect("longer than the deadline");
            if near.write_all(&[byte]).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let closed = async {
        let mut none = [0; 1];
        // End or reset, whichever comes.
        let _ = far.read(&mut none).await;
    };
    tokio::select! {
        () = drip => unreachable!("it goes on"),
        () = closed => {}
    }
    let lasted = began.elapsed();
    assert!(lasted >= OPEN_WITHIN - Duration::from_secs(1), "{lasted:?}");
    assert!(lasted < OPEN_WITHIN + PATIENCE, "{lasted:?}");
    server
        .until_metric(
            "foci_tls_port_connections_total",
            &["outcome=\"timed_out\""],
            |_| true,
        )
        .await;
    let mut stream = certified.connect(at, b"").await.expect("hands are shaken");
    let answer = ask(&mut stream, "/healthz").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.assert_calm();
}

/// A STUN binding request. (RFC 8489 §6)
const BINDING: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// Asks who it is, and is told.
async fn is_answered(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(&BINDING).await.expect("sent");
    let mut answer = [0; 20];
    let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
    read.expect("in time").expect("an answer");
    assert_eq!(answer[..2], [1, 1], "a success");
    assert_eq!(answer[8..], BINDING[8..], "to this question");
}

#[tokio::test]
async fn turn_is_served_by_the_port_of_tls_and_by_its_own_with_the_same_certificate() {
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
    let first = 28_000 + std::process::id() % 100 * 20;
    let turn = format!(
        "turn: {{tls_port: {}, domain: rtc.example.org, relay_range_start: {first}, relay_range_end: {}}}\n",
        own.port(),
        first + 3
    );
    let (server, certified, at) = start(&turn).await;
    is_answered(TcpStream::connect(at).await.expect("it listens")).await;
    for port in [at, own] {
        is_answered(
            certified
                .connect(port, b"")
                .await
                .expect("hands are shaken"),
        )
        .await;
    }
    // HTTPS goes on beside it.
    let mut https = certified.connect(at, b"").await.expect("hands are shaken");
    let told = ask(&mut https, "/").await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    server
        .until_metric("foci_turn_connections", &[""], |_| true)
        .await;
    // Clients are told of both ports.
    let log = server.log();
    for port in [own.port(), at.port()] {
        assert!(
            log.contains(&format!("turns:rtc.example.org:{port}?transport=tcp")),
            "{log}"
        );
    }
    server.assert_calm();
    // An open connection keeps the certificate it began with, and a new one gets the new one.
    let open = certified.connect(own, b"").await.expect("hands are shaken");
    let before = shown(&open);
    certified.renew();
    server.hang_up();
    server.logs("certificate taken").await;
    let after = certified.connect(own, b"").await.expect("hands are shaken");
    assert_ne!(shown(&after), before);
    is_answered(open).await;
}
