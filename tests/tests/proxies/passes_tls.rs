//! What must hold with a proxy that passes on what comes to its one port: HTTPS, WSS, TURN in TLS and
//! media over TCP.

use super::ends_tls::{Visitor, get, homeserver};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tests::certified::{Certified, OTHER_HOST, shake_hands};
use tests::client::{Client, Join};
use tests::framed::Framed;
use tests::homeserver::Homeserver;
use tests::proxy::{Page, Proxy, VISITOR, come, come_in_tls, visit};
use tests::publication::Media;
use tests::request::exchange;
use tests::script;
use tests::server::{Server, free_tcp_port};
use tests::stun::mapped;

/// The part of a page whose proxy passes TLS on unread.
pub(crate) const EVERYTHING: &str = "One port 443 for everything";

/// Nobody answers here: told as the place of media over UDP, it is for clients as if UDP were blocked.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Servers so far, for relay ports that are not others'.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A server whose port of TLS is behind a proxy.
pub(crate) struct OnePort {
    pub(crate) server: Server,
    pub(crate) certified: Arc<Certified>,
    /// The proxy's port.
    pub(crate) port: u16,
    /// The server's port behind it.
    pub(crate) behind: u16,
    _homeserver: Homeserver,
}

impl OnePort {
    /// A server with the lines of this part of the page, for a proxy on a free port.
    pub(crate) async fn open(page: &Page, part: &str) -> Self {
        script::set_up("proxies").await;
        let certified = Arc::new(Certified::default());
        certified.renew();
        let (port, behind, turn) = (free_tcp_port(), free_tcp_port(), free_tcp_port());
        // Below the ports that systems draw from, and apart for tests that run side by side.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let first = 22_000 + std::process::id() % 60 * 100 + count * 4;
        let turn = format!(
            "udp_port: {turn}\n  relay_range_start: {first}\n  relay_range_end: {}",
            first + 3
        );
        let config = page
            .file(part, "foci.yaml")
            .with("port: 7443", &format!("port: {behind}"))
            .with("advertised_port: 443", &format!("advertised_port: {port}"))
            .with("domain: rtc.example.org", "domain: localhost")
            .with("udp_port: 3479", &turn)
            .with("203.0.113.7:443/tcp", &format!("127.0.0.1:{port}/tcp"))
            .with("[203.0.113.7,", &format!("[\"{NOBODY}/udp\","));
        let live = "/etc/letsencrypt/live/rtc.example.org";
        let file = |name| certified.file(name).display().to_string();
        let config = if config.text().contains("external_tls: true") {
            config
        } else {
            config
                .with(&format!("{live}/fullchain.pem"), &file("cert.pem"))
                .with(&format!("{live}/privkey.pem"), &file("key.pem"))
        };
        let (homeserver, matrix) = homeserver().await;
        let (more, rtc) = config
            .text()
            .split_once("rtc:\n  ")
            .expect("addresses for media come last");
        let more = format!("{more}{matrix}");
        Self {
            server: Server::start_behind(Ipv4Addr::LOCALHOST.into(), &[rtc.trim_end()], &more)
                .await,
            certified,
            port,
            behind,
            _homeserver: homeserver,
        }
    }

    /// A file of the authority and its certificates.
    pub(crate) fn file(&self, name: &str) -> String {
        self.certified.file(name).display().to_string()
    }

    /// A call of libwebrtc through the proxy alone: it is told of no UDP that answers.
    pub(crate) async fn is_called_through(&self, proxy: &Proxy) {
        let front = format!("wss://localhost:{}/livekit/sfu", proxy.https.port());
        let authority = self.certified.root();
        script::python_at(&self.server, (&front, &authority), "call.py").await;
    }

    /// All that may come to a port 443, and whom the server takes for its client.
    pub(crate) async fn is_reached_through(&mut self, proxy: &Proxy) {
        let told = format!("turns:localhost:{}?transport=tcp", self.port);
        let log = self.server.log();
        assert!(log.contains(&told), "{told} is not in {log}");
        self.speaks_http_1_with_browsers(proxy).await;
        self.names_who_sends_media(proxy).await;
        self.names_who_asks_turn(proxy).await;
        self.server.assert_calm();
        let roots = self.certified.roots();
        let url = format!("wss://localhost:{}/livekit/sfu", self.port);
        Visitor { roots, proxy }
            .gets_a_token(&self.server, &url)
            .await;
        for outcome in ["turn", "media"] {
            let label = format!("outcome=\"{outcome}\"");
            let name = "foci_tls_port_connections_total";
            assert!(self.server.metric(name, &[&label]).await >= 2.0);
        }
        let log = self.server.log();
        assert!(log.contains("connectionType=\"tcp\"") && !log.contains("connectionType=\"udp\""));
    }

    /// Other hosts of the same port are somebody else's.
    pub(crate) async fn leaves_other_hosts_to_others(&self, proxy: &Proxy, page: &str) {
        let roots = self.certified.roots();
        let answer = visit(&roots, (proxy.https, OTHER_HOST), get("/")).await;
        assert_eq!(
            (answer.status, answer.body.trim()),
            (200, page),
            "{answer:?}"
        );
    }

    /// Browsers would rather speak HTTP/2: whoever ends TLS must not agree, for the server reads HTTP/1.1.
    async fn speaks_http_1_with_browsers(&self, proxy: &Proxy) {
        let stream = come(proxy.https).await.expect("it listens");
        let offered: [&[u8]; 2] = [b"h2", b"http/1.1"];
        let roots = self.certified.roots();
        let secured = shake_hands(roots, stream, "localhost", &offered).await;
        let secured = secured.expect("hands are shaken");
        let agreed = secured.get_ref().1.alpn_protocol();
        assert!(matches!(agreed, None | Some(b"http/1.1")), "{agreed:?}");
        let asked = exchange(secured, "localhost", get("/healthz")).await;
        assert_eq!(asked.expect("an answer").status, 200);
    }

    /// Signalling in TLS, media over TCP beside it: both by the one port.
    async fn names_who_sends_media(&mut self, proxy: &Proxy) {
        let (tunnel, _task) = self.certified.tunnel((proxy.https, "localhost")).await;
        let direct = std::mem::replace(&mut self.server.http, tunnel);
        // Where clients are told that media is over UDP: the road takes its place.
        self.server.udp = NOBODY;
        let road = Framed::lead(VISITOR, proxy.https).await;
        let join = |name| Join::new(name, "room").via(road.at);
        let alice = Client::join_with(&self.server, join("alice")).await;
        let bob = Client::join_with(&self.server, join("bob")).await;
        let sound = alice.publish("sound", Media::Sound).await;
        bob.receive(&sound.sid, 20).await;
        self.server.http = direct;
        let log = self.server.log();
        let active =
            |line: &&str| line.contains("participant active") && line.contains("participant=alice");
        let line = log.lines().find(active).expect("alice is active");
        assert!(line.contains(&VISITOR.to_string()), "{line}");
    }

    /// TURN, in TLS and without, tells a client where it is: where it really is.
    async fn names_who_asks_turn(&self, proxy: &Proxy) {
        let roots = self.certified.roots();
        let secured = come_in_tls(&roots, proxy.https, "localhost").await;
        let secured = secured.expect("hands are shaken");
        let from = secured.get_ref().0.local_addr().expect("a socket");
        assert_eq!(mapped(secured).await, from);
        let plain = come(proxy.https).await.expect("it listens");
        let from = plain.local_addr().expect("a socket");
        assert_eq!(mapped(plain).await, from);
    }
}
