//! Certificates by ACME: ordered, kept, renewed; and what becomes of a server whose authority is away.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tests::certified::{HOST, Secured, ask, connect, shown};
use tests::client::PATIENCE;
use tests::pebble::{Pebble, Ways};
use tests::server::{Server, free_tcp_port};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

const ORDERS: &str = "foci_acme_orders_total";
/// The usual life of a certificate.
const GOOD: Duration = Duration::from_secs(90 * 86_400);
/// One so short that it is renewed while a test waits.
const SHORT: Duration = Duration::from_secs(20);

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until so many certificates have been issued.
async fn issued(server: &Server, count: f64) {
    let mut tick = interval(Duration::from_millis(100));
    let wait = async {
        loop {
            tick.tick().await;
            let page = tests::server::request(server.metrics, "GET", "/", "", "").await;
            let page = page.expect("the metrics page").body;
            let line = |line: &&str| line.starts_with(ORDERS) && line.contains("issued");
            let value = page
                .lines()
                .find(line)
                .and_then(|line| line.rsplit_once(' '));
            if value.is_some_and(|(_, value)| value.parse::<f64>().is_ok_and(|n| n >= count)) {
                return;
            }
        }
    };
    let waited = timeout(PATIENCE + SHORT, wait).await;
    waited.unwrap_or_else(|_| panic!("not issued: {}", server.log()));
}

/// Connects as soon as the certificate is shown.
async fn connected(pebble: &Pebble, at: SocketAddr) -> Secured {
    let roots = pebble.roots().await;
    let mut tick = interval(Duration::from_millis(50));
    let wait = async {
        loop {
            tick.tick().await;
            if let Ok(stream) = connect(roots.clone(), at, b"", &[]).await {
                return stream;
            }
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("a certificate is shown")
}

#[tokio::test]
async fn a_certificate_is_ordered_by_the_port_of_tls_and_kept_over_a_restart() {
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let good = GOOD;
    let pebble = Pebble::start(Ways { tls, http, good }).await;
    let config = format!("tls:\n  port: {tls}\n{}", pebble.config(""));
    let server = Server::start_with(&config).await;
    issued(&server, 1.0).await;
    let mut stream = connected(&pebble, local(tls)).await;
    let answer = ask(&mut stream, "/healthz").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let challenges = ["outcome=\"challenge\""];
    let challenges = server.metric("foci_tls_port_connections_total", &challenges);
    assert!(challenges.await >= 1.0);
    for file in ["account.json", "certificate.pem"] {
        let path = pebble.storage().join(file);
        let mode = fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let account = fs::read_to_string(pebble.storage().join("account.json")).expect("there");
    let account: serde_json::Value = serde_json::from_str(&account).expect("JSON");
    let secret = account["key_pkcs8"].as_str().expect("a key");
    assert!(!server.log().contains(secret));
    let first = shown(&stream);
    // Nobody but an authority under way is shown anything by its protocol.
    let roots = pebble.roots().await;
    let refused = connect(roots, local(tls), b"", &[b"acme-tls/1"]).await;
    refused.expect_err("nothing is shown");
    drop(server);
    let server = Server::start_with(&config).await;
    let again = connected(&pebble, local(tls)).await;
    assert!(shown(&again) == first, "{HOST} has another certificate");
    let log = server.log();
    assert!(!log.contains("certificate issued"), "{log}");
}

/// The way of `http-01`: port 80 of the host, which leads to the main port once there is one.
async fn port_80(port: u16) -> watch::Sender<Option<SocketAddr>> {
    let listener = TcpListener::bind(local(port)).await.expect("a free port");
    let (leads, to) = watch::channel(None);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut to = to.clone();
            tokio::spawn(async move {
                let led = to.wait_for(Option::is_some).await.map(|to| *to);
                let to = led.expect("a server").expect("some");
                let mut far = TcpStream::connect(to).await.expect("it listens");
                // Either end may close first.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    leads
}

#[tokio::test]
async fn a_certificate_by_the_main_port_is_renewed_in_time_under_an_open_connection() {
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let leads = port_80(http).await;
    let good = SHORT;
    let pebble = Pebble::start(Ways { tls, http, good }).await;
    let acme = pebble.config("    challenge: http-01\n");
    let config = format!("tls:\n  port: {tls}\n{acme}");
    let server = Server::start_with(&config).await;
    leads.send_replace(Some(server.http));
    issued(&server, 1.0).await;
    let mut open = connected(&pebble, local(tls)).await;
    issued(&server, 2.0).await;
    let before = shown(&open);
    let roots = pebble.roots().await;
    let mut tick = interval(Duration::from_millis(50));
    let renewed = async {
        loop {
            tick.tick().await;
            let fresh = connect(roots.clone(), local(tls), b"", &[]).await;
            if fresh.is_ok_and(|fresh| shown(&fresh) != before) {
                return;
            }
        }
    };
    timeout(PATIENCE, renewed)
        .await
        .expect("the new one is shown");
    let answer = ask(&mut open, "/healthz").await.expect("still open");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let page = server.get("/.well-known/acme-challenge/anything", "").await;
    assert_eq!(page.status, 404);
}

#[tokio::test]
async fn what_an_authority_has_against_us_is_told() {
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let good = GOOD;
    let pebble = Pebble::start(Ways { tls, http, good }).await;
    // Nothing listens at port 80 of the host.
    let acme = pebble.config("    challenge: http-01\n");
    let server = Server::start_with(&format!("tls:\n  port: {tls}\n{acme}")).await;
    let told = complained(&server).await;
    for part in [
        "does not find that the hosts are ours: ",
        "connection refused",
        "again=120s",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let failed = server.metric(ORDERS, &["result=\"failed\""]).await;
    assert_eq!(failed, 1.0);
}

#[tokio::test]
async fn an_authority_that_knows_its_customers_makes_an_account_for_their_key_alone() {
    const KID: &str = "kid-1";
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let good = GOOD;
    let pebble = Pebble::start_bound(Ways { tls, http, good }, (KID, KEY)).await;
    let config = |more: &str| format!("tls:\n  port: {tls}\n{}", pebble.config(more));
    let server = Server::start_with(&config("")).await;
    server.logs("tls.acme.eab_kid").await;
    drop(server);
    let key = format!("    eab_kid: {KID}\n    eab_hmac_key: {KEY}\n");
    let server = Server::start_with(&config(&key)).await;
    issued(&server, 1.0).await;
    connected(&pebble, local(tls)).await;
    assert!(!server.log().contains(KEY));
}

#[tokio::test]
async fn a_certificate_of_another_authority_gives_way_at_once() {
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let good = GOOD;
    let staging = Pebble::start(Ways { tls, http, good }).await;
    let with = |pebble: &Pebble| format!("tls:\n  port: {tls}\n{}", pebble.config(""));
    let server = Server::start_with(&with(&staging)).await;
    issued(&server, 1.0).await;
    drop(server);
    let pebble = Pebble::start(Ways { tls, http, good }).await;
    fs::create_dir(pebble.storage()).expect("a new folder");
    for file in ["account.json", "certificate.pem"] {
        let to = pebble.storage().join(file);
        fs::copy(staging.storage().join(file), to).expect("copied");
    }
    let server = Server::start_with(&with(&pebble)).await;
    issued(&server, 1.0).await;
    connected(&pebble, local(tls)).await;
}

/// Until it is told that there is no certificate, and why.
async fn complained(server: &Server) -> String {
    let mut tick = interval(Duration::from_millis(50));
    let told = async {
        loop {
            tick.tick().await;
            let log = server.log();
            let mut lines = log.lines();
            if let Some(line) = lines.find(|line| line.contains("no certificate by ACME")) {
                return line.to_owned();
            }
        }
    };
    timeout(PATIENCE, told).await.expect("it is told")
}

#[tokio::test]
async fn a_certificate_that_is_issued_and_lost_is_not_ordered_again_soon() {
    let (tls, http) = (free_tcp_port(), free_tcp_port());
    let good = GOOD;
    let pebble = Pebble::start(Ways { tls, http, good }).await;
    // Nothing takes the place of a folder, though all else may be written beside it.
    fs::create_dir_all(pebble.storage().join("certificate.pem/full")).expect("a folder");
    let config = format!("tls:\n  port: {tls}\n{}", pebble.config(""));
    let server = Server::start_with(&config).await;
    let told = complained(&server).await;
    for part in ["tls.acme.storage: ", "certificate.pem", "again=129600s"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn nobody_is_asked_for_what_cannot_be_kept() {
    let (tls, away) = (free_tcp_port(), free_tcp_port());
    // There nobody may make a folder, and none is there.
    let server = Server::start_with(&ordering(tls, away, Path::new("/proc/foci"))).await;
    let told = complained(&server).await;
    // And not that the authority is away.
    assert!(told.contains("tls.acme.storage: "), "{told}");
    assert!(told.contains("again=120s"), "{told}");
}

/// Configuration of who orders at a port where nobody is.
fn ordering(tls: u16, away: u16, storage: &Path) -> String {
    format!(
        "tls:\n  port: {tls}\n  acme:\n    domains: [{HOST}]\n    storage: {}\n    directory_url: \
         https://localhost:{away}/dir\n",
        storage.display()
    )
}

#[tokio::test]
async fn an_authority_that_is_away_keeps_nobody_from_starting_and_no_start_asks_it_anew() {
    let (tls, away) = (free_tcp_port(), free_tcp_port());
    let folder = std::env::temp_dir().join(format!("foci-away-{}", std::process::id()));
    let config = ordering(tls, away, &folder);
    let server = Server::start_with(&config).await;
    complained(&server).await;
    assert_eq!(server.get("/", "").await.body, "OK");
    drop(server);
    let server = Server::start_with(&config).await;
    server.logs("ACME has failed before the start").await;
    assert_eq!(server.get("/", "").await.body, "OK");
    let log = server.log();
    assert!(!log.contains("no certificate by ACME"), "{log}");
    let kept = fs::read_dir(&folder).expect("a folder").flatten();
    let kept: Vec<_> = kept.map(|file| file.file_name()).collect();
    assert_eq!(kept, ["failures.json"]);
    fs::remove_dir_all(folder).expect("it is there");
}
