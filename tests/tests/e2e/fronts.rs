//! Proxies in front that are set up wrongly: the log says so, with the key and the fix, and not each time.

use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use tests::certified::Certified;
use tests::homeserver::Homeserver;
use tests::server::{Server, free_tcp_port};
use tests::token::{SECRET, claims, sign};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a proxy that knows nothing of it says before a connection.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

/// The lines of the log that hold this.
fn lines(server: &Server, text: &str) -> Vec<String> {
    let log = server.log();
    let of = log.lines().filter(|line| line.contains(text));
    of.map(str::to_owned).collect()
}

fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// Says this to a port, which closes.
async fn say(at: SocketAddr, words: &[u8]) {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    stream.write_all(words).await.expect("sent");
    // An answer, an end or a reset, as it comes.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_header_of_a_proxy_that_nobody_trusts_is_told_of_once() {
    let certified = Certified::default();
    certified.renew();
    let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
    for is_tls in [false, true] {
        let server = Server::start_with(&certified.config(tls.port())).await;
        let at = if is_tls { tls } else { server.http };
        for _ in 0..3 {
            say(at, HEADER).await;
        }
        server.logs("PROXY header").await;
        let told = lines(&server, "PROXY header");
        assert_eq!(told.len(), 1, "{told:?}");
        let parts = ["WARN", "proxy=127.0.0.1", "http.trusted_proxies", "fix="];
        says(&told[0], &parts);
        if is_tls {
            let label = ["outcome=\"bad_proxy_header\""];
            let counted = server.metric("foci_tls_port_connections_total", &label);
            assert!((counted.await - 3.0).abs() < 0.1);
        }
    }
}

#[tokio::test]
async fn tls_on_the_port_of_plain_http_is_told_of_once() {
    let certified = Certified::default();
    let server = Server::start().await;
    for _ in 0..3 {
        let refused = certified.connect(server.http, b"").await;
        refused.expect_err("it is closed");
    }
    server.logs("TLS on the port of plain HTTP").await;
    let told = lines(&server, "TLS on the port of plain HTTP");
    assert_eq!(told.len(), 1, "{told:?}");
    says(&told[0], &["WARN", "peer=127.0.0.1", "tls.port", "fix="]);
    assert_eq!(server.get("/", "").await.body, "OK");
}

#[tokio::test]
async fn a_join_without_an_upgrade_is_told_of_if_its_token_is_good() {
    let server = Server::start().await;
    for token in ["", "garbage"] {
        let answer = server
            .get(&format!("/rtc/v1?access_token={token}"), "")
            .await;
        assert!(matches!(answer.status, 401 | 404), "{answer:?}");
    }
    assert!(lines(&server, "no WebSocket").is_empty());
    let token = sign(&claims("alice", "room"), SECRET);
    for path in ["/rtc", "/rtc/v1"] {
        let path = format!("{path}?access_token={token}");
        assert_eq!(server.get(&path, "").await.status, 404);
    }
    let told = lines(&server, "no WebSocket");
    assert_eq!(told.len(), 2, "{told:?}");
    says(
        &told[0],
        &["WARN", "status=404", "proxy", "Upgrade", "Connection"],
    );
}

#[tokio::test]
async fn a_proxy_of_http_that_nobody_trusts_is_told_of_once() {
    let homeserver = Homeserver::start("example.com").await;
    let known = format!(
        "matrix:\n  homeservers: {{ \"example.com\": \"http://{}\" }}\n",
        homeserver.address
    );
    let body = json!({
        "room": "!room:example.com",
        "openid_token": {
            "access_token": "of-alice",
            "token_type": "Bearer",
            "matrix_server_name": "example.com",
            "expires_in": 3600,
        },
        "device_id": "DEVICE",
    })
    .to_string();
    let untrusted = Server::start_with(&known).await;
    let trusting = "http:\n  trusted_proxies: [127.0.0.1]\n";
    let trusting = Server::start_with(&format!("{known}{trusting}")).await;
    for server in [&untrusted, &trusting] {
        for client in ["198.51.100.4", "198.51.100.5"] {
            let header = format!("X-Forwarded-For: {client}\r\n");
            let answer = server.post("/sfu/get", &header, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let told = lines(&untrusted, "proxy in front");
    assert_eq!(told.len(), 1, "{told:?}");
    let parts = ["WARN", "proxy=127.0.0.1", "http.trusted_proxies", "fix="];
    says(&told[0], &parts);
    assert!(lines(&trusting, "proxy in front").is_empty());
    trusting.assert_calm();
}
