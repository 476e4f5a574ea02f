//! nginx. (docs/proxies/nginx.md)

use super::ends_tls::{Site, Visitor, sends_to_https};
use super::passes_tls::{EVERYTHING, OnePort};
use super::turn_alone::TurnAlone;
use std::process::Command;
use tests::proxy::{Folder, Page, Proxy, Setting};
use tests::server::free_tcp_port;
use tokio_rustls::rustls::RootCertStore;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The files of a page in the frame that the distribution gives them, run.
pub(crate) async fn start(
    folder: Folder,
    http: &[Setting],
    stream: &str,
    at: (u16, RootCertStore),
) -> Proxy {
    let sites: String = http.iter().map(Setting::text).collect();
    let own = |name| folder.at(name);
    let main = format!(
        "load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {};\nerror_log stderr info;\n\
         events {{}}\nhttp {{\naccess_log {};\nclient_body_temp_path {};\nproxy_temp_path {};\n{sites}}}\n\
         {stream}",
        own("pid"),
        own("access.log"),
        own("body"),
        own("proxied"),
    );
    let config = folder.put("nginx.conf", &main);
    let mut command = Command::new("nginx");
    command.args(["-p", &own(""), "-c", &config]);
    Proxy::start(folder, command, at).await
}

fn live(setting: Setting, host: &str, site: &dyn Fn(&str) -> String) -> Setting {
    let folder = format!("/etc/letsencrypt/live/{host}");
    setting
        .with(&format!("{folder}/fullchain.pem"), &site("cert.pem"))
        .with(&format!("{folder}/privkey.pem"), &site("key.pem"))
}

#[tokio::test]
async fn nginx_ends_tls() {
    const PART: &str = "nginx ends TLS";
    let page = Page::open("nginx");
    let site = Site::open(&page, PART).await;
    let folder = Folder::default();
    let (https, http) = (free_tcp_port(), free_tcp_port());
    let file = |name: &str| site.file(name);
    let foci = page
        .file(PART, "/etc/nginx/conf.d/foci.conf")
        .says(&[
            "proxy_read_timeout 1h;",
            "proxy_send_timeout 1h;",
            "proxy_buffering off;",
        ])
        .with("listen 80;", &format!("listen 127.0.0.1:{http};"))
        .with("listen [::]:80;", &format!("listen [::1]:{http};"))
        .with("listen 443 ", &format!("listen 127.0.0.1:{https} "))
        .with("listen [::]:443 ", &format!("listen [::1]:{https} "))
        .with("127.0.0.1:7880", &site.at())
        .with("/var/log/nginx/foci.log", &folder.at("foci.log"));
    let foci = live(foci, "rtc.example.org", &file).with("rtc.example.org", "localhost");
    let well_known = page
        .file(PART, "/etc/nginx/conf.d/well-known.conf")
        .with("listen 443 ", &format!("listen 127.0.0.1:{https} "))
        .with("listen [::]:443 ", &format!("listen [::1]:{https} "));
    let well_known = live(well_known, "example.org", &file);
    let nginx = start(
        folder,
        &[foci, well_known],
        "",
        (https, site.certified.roots()),
    )
    .await;
    let url = format!("wss://localhost:{https}/livekit/sfu");
    site.is_served_by(&nginx, &url).await;
    sends_to_https(http).await;
    let visitor = Visitor {
        roots: site.certified.roots(),
        proxy: &nginx,
    };
    visitor.reads_the_well_known_file().await;
}

/// One port with the sites of the first part that has one.
async fn one_port(part: &str) {
    let page = Page::open("nginx");
    let mut site = OnePort::open(&page, part).await;
    let folder = Folder::default();
    let (sites, ends) = (free_tcp_port(), free_tcp_port());
    let file = |name: &str| site.file(name);
    let mut stream = page
        .file(part, "/etc/nginx/stream.conf")
        .says(&["proxy_timeout 1h;"])
        .with("listen 443;", &format!("listen 127.0.0.1:{};", site.port))
        .with("listen [::]:443;", &format!("listen [::1]:{};", site.port))
        .with("127.0.0.1:7443", &format!("127.0.0.1:{}", site.behind))
        .with("127.0.0.1:8443", &format!("127.0.0.1:{sites}"));
    if stream.text().contains(" ssl ") {
        stream = stream.with("127.0.0.1:8444", &format!("127.0.0.1:{ends}"));
        stream = live(stream, "rtc.example.org", &file);
    }
    let stream = stream.with("rtc.example.org", "localhost");
    let others = page
        .file(EVERYTHING, "/etc/nginx/conf.d/sites.conf")
        .with("127.0.0.1:8443", &format!("127.0.0.1:{sites}"));
    let others = live(others, "example.org", &file);
    let nginx = start(
        folder,
        &[others],
        stream.text(),
        (site.port, site.certified.roots()),
    )
    .await;
    if part == EVERYTHING {
        site.is_called_through(&nginx).await;
    }
    site.is_reached_through(&nginx).await;
    site.leaves_other_hosts_to_others(&nginx, "another site")
        .await;
}

#[tokio::test]
async fn nginx_passes_tls_on() {
    one_port(EVERYTHING).await;
}

#[tokio::test]
async fn nginx_passes_on_what_was_in_tls() {
    one_port("One port 443, certificates at nginx").await;
}

#[tokio::test]
async fn nginx_ends_tls_for_turn_alone() {
    const PART: &str = "TURN in TLS on a port of its own, certificates at nginx";
    let page = Page::open("nginx");
    let site = TurnAlone::open(&page, PART).await;
    let stream = page
        .file(PART, "/etc/nginx/stream.conf")
        .says(&["proxy_timeout 1h;"])
        .with("listen 5349 ", &format!("listen 127.0.0.1:{} ", site.port))
        .with("listen [::]:5349 ", &format!("listen [::1]:{} ", site.port))
        .with("127.0.0.1:5350", &format!("127.0.0.1:{}", site.behind));
    let stream = live(stream, "rtc.example.org", &|name| site.file(name));
    let at = (site.port, site.certified.roots());
    let nginx = start(Folder::default(), &[], stream.text(), at).await;
    site.is_reached_through(&nginx).await;
}
