//! HAProxy. (docs/proxies/haproxy.md)

use super::ends_tls::{Site, Visitor, sends_to_https};
use super::passes_tls::{EVERYTHING, OnePort};
use super::turn_alone::TurnAlone;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;
use tests::proxy::{Folder, Page, Proxy, Setting};
use tests::server::free_tcp_port;
use tokio::net::TcpStream;
use tokio_rustls::rustls::RootCertStore;

const FILE: &str = "/etc/haproxy/haproxy.cfg";

/// A port in both families: as the page has it, and as it is here.
fn bind(port: u16) -> String {
    format!("bind :{port},:::{port} v6only")
}

async fn start(folder: Folder, config: &Setting, at: (u16, RootCertStore)) -> Proxy {
    let file = folder.put("haproxy.cfg", config.text());
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", &file]);
    let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, at.0));
    let proxy = Proxy::start(folder, command, at).await;
    TcpStream::connect(ipv6)
        .await
        .expect("it is there over IPv6, too");
    proxy
}

#[tokio::test]
async fn haproxy_ends_tls() {
    const PART: &str = "HAProxy ends TLS";
    let page = Page::open("haproxy");
    let site = Site::open(&page, PART).await;
    let (https, http) = (free_tcp_port(), free_tcp_port());
    let config = page
        .file(PART, FILE)
        .says(&["timeout tunnel 1h"])
        .with("log /dev/log local0", "log stdout format raw local0")
        .with(&bind(80), &bind(http))
        .with(&bind(443), &bind(https))
        .with("/etc/haproxy/certs/", &site.file("both.pem"))
        .with("-i rtc.example.org", "-i localhost")
        .with("127.0.0.1:7880", &site.at());
    let haproxy = start(Folder::default(), &config, (https, site.certified.roots())).await;
    let url = format!("wss://localhost:{https}/livekit/sfu");
    site.is_served_by(&haproxy, &url).await;
    let logged = haproxy.log();
    assert!(logged.contains("GET /livekit/sfu/rtc/v1"), "{logged}");
    sends_to_https(http).await;
    let visitor = Visitor {
        roots: site.certified.roots(),
        proxy: &haproxy,
    };
    visitor.reads_the_well_known_file().await;
}

async fn one_port(part: &str, more: &[&str]) {
    let page = Page::open("haproxy");
    let mut site = OnePort::open(&page, part).await;
    let mut config = page
        .file(part, FILE)
        .says(&["timeout tunnel 1h"])
        .with("log /dev/log local0", "log stdout format raw local0")
        .with(&bind(443), &bind(site.port))
        .with("/etc/haproxy/certs/", &site.file("both.pem"))
        .with("-i rtc.example.org", "-i localhost")
        .with("127.0.0.1:7443", &format!("127.0.0.1:{}", site.behind));
    for example in more {
        config = config.with(example, &format!("127.0.0.1:{}", free_tcp_port()));
    }
    let haproxy = start(
        Folder::default(),
        &config,
        (site.port, site.certified.roots()),
    )
    .await;
    if part == EVERYTHING {
        site.is_called_through(&haproxy).await;
    }
    site.is_reached_through(&haproxy).await;
    site.leaves_other_hosts_to_others(&haproxy, "another site")
        .await;
}

#[tokio::test]
async fn haproxy_passes_tls_on() {
    one_port(EVERYTHING, &["127.0.0.1:8443"]).await;
}

#[tokio::test]
async fn haproxy_passes_on_what_was_in_tls() {
    let part = "One port 443, certificates at HAProxy";
    one_port(part, &["127.0.0.1:8443", "127.0.0.1:8444"]).await;
}

#[tokio::test]
async fn haproxy_ends_tls_for_turn_alone() {
    const PART: &str = "TURN in TLS on a port of its own, certificates at HAProxy";
    let page = Page::open("haproxy");
    let site = TurnAlone::open(&page, PART).await;
    let config = page
        .file(PART, FILE)
        .says(&["timeout tunnel 1h"])
        .with("log /dev/log local0", "log stdout format raw local0")
        .with(&bind(5349), &bind(site.port))
        .with("/etc/haproxy/certs/", &site.file("both.pem"))
        .with("127.0.0.1:5350", &format!("127.0.0.1:{}", site.behind));
    let at = (site.port, site.certified.roots());
    let haproxy = start(Folder::default(), &config, at).await;
    site.is_reached_through(&haproxy).await;
}
