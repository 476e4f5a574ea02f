//! What must hold with a proxy that ends TLS on a port for TURN alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tests::certified::Certified;
use tests::proxy::{Page, Proxy, come_in_tls};
use tests::server::{Server, free_tcp_port, free_udp_port};
use tests::stun::mapped;

/// Servers so far, for relay ports that are not others'.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A server whose port of TURN is behind a proxy.
pub(crate) struct TurnAlone {
    server: Server,
    pub(crate) certified: Arc<Certified>,
    /// The proxy's port.
    pub(crate) port: u16,
    /// The server's port behind it.
    pub(crate) behind: u16,
}

impl TurnAlone {
    /// A server with the lines of this part of the page, for a proxy on a free port.
    pub(crate) async fn open(page: &Page, part: &str) -> Self {
        let certified = Arc::new(Certified::default());
        certified.renew();
        let (port, behind, udp) = (free_tcp_port(), free_tcp_port(), free_udp_port());
        // Below the ports that systems draw from and above those of other tests; apart for tests that run side
        // by side, of three servers each at most.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let first = 32_000 + std::process::id() % 60 * 12 + count * 4;
        let turn = format!(
            "udp_port: {udp}\n  relay_range_start: {first}\n  relay_range_end: {}",
            first + 3
        );
        let config = page
            .file(part, "foci.yaml")
            .says(&["external_tls: true"])
            .with(
                "advertised_tls_port: 5349",
                &format!("advertised_tls_port: {port}"),
            )
            .with(" tls_port: 5350", &format!(" tls_port: {behind}"))
            .with("udp_port: 3479", &turn);
        Self {
            server: Server::start_with(config.text()).await,
            certified,
            port,
            behind,
        }
    }

    /// A file of the authority and its certificates.
    pub(crate) fn file(&self, name: &str) -> String {
        self.certified.file(name).display().to_string()
    }

    /// TURN tells a client where it really is, and clients are told of the proxy's port.
    pub(crate) async fn is_reached_through(&self, proxy: &Proxy) {
        let secured = come_in_tls(&self.certified.roots(), proxy.https, "localhost").await;
        let secured = secured.expect("hands are shaken");
        let from = secured.get_ref().0.local_addr().expect("a socket");
        assert_eq!(mapped(secured).await, from);
        let log = self.server.log();
        let told = format!("turns:rtc.example.org:{}?transport=tcp", self.port);
        assert!(log.contains(&told), "{told} is not in {log}");
        assert!(!log.contains("does not say where clients are"), "{log}");
        self.server.assert_calm();
    }
}
