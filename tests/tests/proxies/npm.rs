//! Nginx Proxy Manager: nginx with what it writes. (docs/proxies/nginx-proxy-manager.md)

use super::ends_tls::{Site, Visitor, sends_to_https};
use super::nginx::start;
use tests::certified::OTHER_HOST;
use tests::proxy::{Folder, Page, Setting};
use tests::server::free_tcp_port;

const AROUND: &str = include_str!("../../proxies/npm/http.conf");
const HOST: &str = include_str!("../../proxies/npm/proxy_host.conf");

/// What it writes for a proxy host.
fn host(name: &str, advanced: &Setting, site: &Site, logs: &str, ports: [u16; 2]) -> Setting {
    let [https, http] = ports.map(|port| format!("127.0.0.1:{port}"));
    let at = site.server.http;
    Setting::from(HOST)
        .with("{{ forward_host }}", &at.ip().to_string())
        .with("{{ forward_port }}", &at.port().to_string())
        .with("{{ domain_names }}", name)
        .with("{{ http }}", &http)
        .with("{{ https }}", &https)
        .with("{{ certificate }}", &site.file("cert.pem"))
        .with("{{ key }}", &site.file("key.pem"))
        .with("{{ logs }}", logs)
        .with("{{ advanced_config }}", advanced.text())
}

#[tokio::test]
async fn nginx_proxy_manager_ends_tls() {
    const PART: &str = "A proxy host";
    let page = Page::open("nginx-proxy-manager");
    let site = Site::open(&page, PART).await;
    let folder = Folder::default();
    let logs = folder.path().display().to_string();
    let (https, http) = (free_tcp_port(), free_tcp_port());
    let advanced = page
        .file(PART, "Advanced")
        .says(&["proxy_read_timeout 1h;", "proxy_buffering off;"]);
    let well_known = page.file(PART, "Advanced, of the server name's host");
    let foci = host("localhost", &advanced, &site, &logs, [https, http]);
    // There is one map of this name in its files, too: the last one is taken.
    let other = host(OTHER_HOST, &well_known, &site, &logs, [https, http]);
    let files = [Setting::from(AROUND), foci, other];
    let nginx = start(folder, &files, "", (https, site.certified.roots())).await;
    // Its name for the host has no port.
    site.is_served_by(&nginx, "wss://localhost/livekit/sfu")
        .await;
    sends_to_https(http).await;
    let visitor = Visitor {
        roots: site.certified.roots(),
        proxy: &nginx,
    };
    visitor.reads_the_well_known_file().await;
}
