//! Traefik. (docs/proxies/traefik.md)

use super::ends_tls::{Site, sends_to_https};
use super::passes_tls::{EVERYTHING, OnePort};
use std::fs;
use std::process::Command;
use tests::certified::Certified;
use tests::proxy::{Folder, Page, Proxy, Setting};
use tests::script;
use tests::server::free_tcp_port;

const STATIC: &str = "/etc/traefik/traefik.yml";
const DYNAMIC: &str = "/etc/traefik/dynamic/foci.yml";

/// Traefik with its two files, and a third that has certificates.
async fn start(files: [Setting; 2], certified: &Certified, port: u16) -> Proxy {
    let folder = Folder::default();
    let dynamic = folder.at("dynamic");
    fs::create_dir(&dynamic).expect("the temporary folder takes one");
    let [main, foci] = files;
    folder.put("dynamic/foci.yml", foci.text());
    let file = |name| certified.file(name).display().to_string();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let store = format!(
        "tls:\n  stores:\n    default:\n      defaultCertificate:\n        certFile: {certificate}\n        \
         keyFile: {key}\n"
    );
    folder.put("dynamic/certificates.yml", &store);
    let main = main.with("/etc/traefik/dynamic", &dynamic);
    let file = folder.put("traefik.yml", main.text());
    let mut command = Command::new(script::installed("proxies/bin/traefik"));
    command.arg(format!("--configFile={file}"));
    Proxy::start(folder, command, (port, certified.roots())).await
}

#[tokio::test]
async fn traefik_ends_tls() {
    const PART: &str = "Traefik ends TLS";
    let page = Page::open("traefik");
    let site = Site::open(&page, PART).await;
    let (https, http) = (free_tcp_port(), free_tcp_port());
    let main = page
        .file(PART, STATIC)
        .with("address: \":80\"", &format!("address: 127.0.0.1:{http}"))
        .with("address: \":443\"", &format!("address: 127.0.0.1:{https}"))
        .with("to: \":443\"", &format!("to: \":{https}\""))
        .with("/var/lib/traefik/acme.json", "acme.json");
    let foci = page
        .file(PART, DYNAMIC)
        .with("rtc.example.org", "localhost")
        .with("{certResolver: letsencrypt}", "{}")
        .with("127.0.0.1:7880", &site.at());
    let traefik = start([main, foci], &site.certified, https).await;
    let url = format!("wss://localhost:{https}/livekit/sfu");
    site.is_served_by(&traefik, &url).await;
    sends_to_https(http).await;
}

async fn one_port(part: &str) {
    let page = Page::open("traefik");
    let mut site = OnePort::open(&page, part).await;
    let here = format!("address: 127.0.0.1:{}", site.port);
    let main = page.file(part, STATIC).with("address: \":443\"", &here);
    let foci = page
        .file(part, DYNAMIC)
        .with("rtc.example.org", "localhost")
        .with("127.0.0.1:7443", &format!("127.0.0.1:{}", site.behind));
    let foci = if foci.text().contains("certResolver") {
        foci.with("certResolver: letsencrypt, ", "")
    } else {
        foci
    };
    // Routers of HTTP beside it.
    let other = "http:\n  routers:\n    other:\n      rule: Host(`example.org`)\n      service: ping@internal\n      \
                 tls: {}\n";
    let foci = foci.and(other);
    let main = main.and("ping: {manualRouting: true}\n");
    let traefik = start([main, foci], &site.certified, site.port).await;
    if part == EVERYTHING {
        site.is_called_through(&traefik).await;
    }
    site.is_reached_through(&traefik).await;
    site.leaves_other_hosts_to_others(&traefik, "OK").await;
}

#[tokio::test]
async fn traefik_passes_tls_on() {
    one_port(EVERYTHING).await;
}

#[tokio::test]
async fn traefik_passes_on_what_was_in_tls() {
    one_port("One port 443, certificates at Traefik").await;
}
