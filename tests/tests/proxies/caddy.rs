//! Caddy, with the plugin `layer4`. (docs/proxies/caddy.md)

use super::ends_tls::{Site, Visitor, sends_to_https};
use super::passes_tls::{EVERYTHING, OnePort};
use std::process::Command;
use tests::proxy::{Folder, Page, Proxy, Setting};
use tests::script;
use tests::server::free_tcp_port;
use tokio_rustls::rustls::RootCertStore;

const FILE: &str = "/etc/caddy/Caddyfile";

/// What makes it one of many on this machine, with certificates of our authority.
fn options(https: u16, http: u16, file: &dyn Fn(&str) -> String) -> String {
    format!(
        "    admin off\n    persist_config off\n    skip_install_trust\n    local_certs\n    https_port {https}\n    \
         http_port {http}\n    default_bind 127.0.0.1\n    pki {{\n        ca local {{\n            root {{\n                \
         format pem_file\n                cert {}\n                key {}\n            }}\n        }}\n    }}\n",
        file("authority.pem"),
        file("authority-key.pem"),
    )
}

async fn start(config: &Setting, at: (u16, RootCertStore)) -> Proxy {
    let folder = Folder::default();
    let file = folder.put("Caddyfile", config.text());
    let mut command = Command::new(script::installed("caddy/caddy"));
    command.args(["run", "--config", &file]);
    command
        .env("XDG_DATA_HOME", folder.at("data"))
        .env("XDG_CONFIG_HOME", folder.at("config"));
    Proxy::start(folder, command, at).await
}

#[tokio::test]
async fn caddy_ends_tls() {
    const PART: &str = "Caddy ends TLS";
    let page = Page::open("caddy");
    let site = Site::open(&page, PART).await;
    let (https, http) = (free_tcp_port(), free_tcp_port());
    let options = options(https, http, &|name| site.file(name));
    let config = page
        .file(PART, FILE)
        .with(
            "\nrtc.example.org {",
            &format!("\n{{\n{options}}}\nlocalhost {{"),
        )
        .with("127.0.0.1:7880", &site.at());
    let caddy = start(&config, (https, site.certified.roots())).await;
    let url = format!("wss://localhost:{https}/livekit/sfu");
    site.is_served_by(&caddy, &url).await;
    sends_to_https(http).await;
    let visitor = Visitor {
        roots: site.certified.roots(),
        proxy: &caddy,
    };
    visitor.reads_the_well_known_file().await;
}

async fn one_port(part: &str) {
    let page = Page::open("caddy");
    let mut site = OnePort::open(&page, part).await;
    let options = options(site.port, free_tcp_port(), &|name| site.file(name));
    let servers = format!("\n{options}    servers 127.0.0.1:{} {{", site.port);
    let config = page
        .file(part, FILE)
        .with("\n    servers :443 {", &servers)
        .with("rtc.example.org", "localhost")
        .with("127.0.0.1:7443", &format!("127.0.0.1:{}", site.behind));
    let caddy = start(&config, (site.port, site.certified.roots())).await;
    if part == EVERYTHING {
        site.is_called_through(&caddy).await;
    }
    site.is_reached_through(&caddy).await;
    site.leaves_other_hosts_to_others(&caddy, "another site")
        .await;
}

#[tokio::test]
async fn caddy_passes_tls_on() {
    one_port(EVERYTHING).await;
}

#[tokio::test]
async fn caddy_passes_on_what_was_in_tls() {
    one_port("One port 443, certificates at Caddy").await;
}
