//! Mistakes in the set-up of a proxy in front, as they show in what arrives.
//!
//! Owns what the operator is told of them, and how often. It changes nothing about how a connection or a
//! request is served. Called by the ports and by `authorization`.

use crate::auth;
use crate::config::cidr::Cidr;
use crate::crowd::is_public;
use axum::http::request::Parts;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Until the same mistake is told again: a proxy makes it with each connection, and strangers may on
/// purpose.
const AGAIN: Duration = Duration::from_secs(60);

/// Whose word on addresses is believed.
const KEY: &str = "http.trusted_proxies";

/// What was told, and when; the clones of one tell each mistake once.
#[derive(Clone, Default)]
pub(super) struct Mistakes(Arc<Told>);

#[derive(Default)]
struct Told {
    header: Seldom,
    header_from_outside: Seldom,
    second_header: Seldom,
    tls: Seldom,
    proxy: Seldom,
    unnamed: Seldom,
}

/// Something that is not told each time.
#[derive(Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= AGAIN);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Mistakes {
    /// A connection begins with a PROXY header, and nobody trusts whoever sent it. From the internet anybody can
    /// send one: that keeps nobody from hearing of a proxy beside us, and makes nobody trust a stranger.
    pub(super) fn header_of(&self, proxy: IpAddr) {
        let proxy = proxy.to_canonical();
        let (told, fix) = if !is_public(proxy) {
            let fix = "add its address if it is a proxy of yours; else it need not send the header";
            (&self.0.header, fix)
        } else {
            let fix = "nothing, unless you know the address as that of a proxy of yours: anybody may send this";
            (&self.0.header_from_outside, fix)
        };
        if told.is_due(Instant::now()) {
            warn!(
                %proxy,
                key = KEY,
                fix,
                "PROXY header of an address that is not trusted: the connection is closed"
            );
        }
    }

    /// Behind the PROXY header of this proxy, which is trusted, another one follows: it passes on the one that
    /// it got. A client may write one as well, and is believed as little.
    pub(super) fn second_header_of(&self, proxy: IpAddr) {
        if self.0.second_header.is_due(Instant::now()) {
            warn!(
                proxy = %proxy.to_canonical(),
                fix = "if it has another proxy in front, let it read the header it gets (nginx: listen … \
                       proxy_protocol) or add none of its own; else nothing: clients may send this",
                "PROXY header behind that of a trusted proxy: the connection is closed"
            );
        }
    }

    /// A connection to the port of plain HTTP begins with a handshake of TLS.
    pub(super) fn tls_of(&self, peer: IpAddr) {
        if self.0.tls.is_due(Instant::now()) {
            warn!(
                peer = %peer.to_canonical(),
                key = "tls.port",
                fix = "let the proxy ask by http://; what speaks TLS belongs to tls.port",
                "TLS on the port of plain HTTP: the connection is closed"
            );
        }
    }

    /// TURN has come by a proxy that passes on bytes and does not say whose, to this port.
    pub(super) fn unnamed_client_of(&self, proxy: IpAddr, port: u16) {
        if self.0.unnamed.is_due(Instant::now()) {
            warn!(
                proxy = %proxy.to_canonical(),
                port,
                key = KEY,
                fix = "let the proxy send a PROXY header (HAProxy: send-proxy-v2; nginx: proxy_protocol on), \
                       and name its address here",
                "a proxy passes TURN on and does not say where clients are: they are not told apart, and \
                 browsers may make nothing of the address that they are told"
            );
        }
    }

    /// A request may have come by a proxy that nobody trusts.
    pub(super) fn request(&self, request: &Parts, trusted: &[Cidr]) {
        let Some(proxy) = auth::unnamed_proxy(request, trusted) else {
            return;
        };
        if self.0.proxy.is_due(Instant::now()) {
            warn!(
                %proxy,
                key = KEY,
                fix = "add its address if it is a proxy of yours: its X-Forwarded-For then says who asks",
                "a proxy in front is not trusted: clients behind it are not told apart"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_again_after_a_minute() {
        let seldom = Seldom::default();
        let now = Instant::now();
        assert!(seldom.is_due(now));
        assert!(!seldom.is_due(now + AGAIN / 2));
        assert!(seldom.is_due(now + AGAIN));
        assert!(!seldom.is_due(now + AGAIN));
    }
}
