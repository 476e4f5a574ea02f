//! Where the server of a server name is: well-known file, SRV records, port 8448.
//!
//! Owns the order of these steps and the memory of well-known files; where a name or a target leads
//! is `matrix`'s table. Used by `openid`.
//! (Matrix: server-server API, Resolving server names; LK: jwt-service §4)

mod known;

use crate::dns::{Dns, Target};
use crate::fetch::{Answer, Fetch, FetchError};
use crate::matrix::{Destination, FEDERATION_PORT, Host, ServerName, delegated_server};
use crate::reach::Reach;
use http::{HeaderMap, Uri, header};
use known::{Known, Lifetime};
use std::time::Duration;
use tokio::time::timeout;
use tracing::debug;

/// A well-known file; it has one line.
const MAX_WELL_KNOWN_BYTES: usize = 50 * 1024;

/// The whole of fetching one, redirects included.
const WELL_KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// Redirects on the way to one.
const MAX_REDIRECTS: usize = 5;

/// The ports that the specification names; tests have others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// Of federation.
    pub(crate) federation: u16,
    /// Of the well-known file.
    pub(crate) https: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            federation: FEDERATION_PORT,
            https: 443,
        }
    }
}

/// Finds servers.
pub(crate) struct Discovery {
    fetch: Fetch,
    dns: Dns,
    ports: Ports,
    known: Known,
}

impl Discovery {
    pub(crate) fn new(fetch: Fetch, dns: Dns, ports: Ports) -> Self {
        Self {
            fetch,
            dns,
            ports,
            known: Known::default(),
        }
    }

    /// Where to try, best first; at least one place.
    pub(crate) async fn destinations(&self, name: &ServerName, reach: Reach) -> Vec<Destination> {
        let Some(host) = name.unresolved() else {
            return vec![name.direct(self.ports.federation)];
        };
        match self.delegated(host, reach).await {
            Some(other) => self.without_well_known(&other).await,
            None => self.without_well_known(name).await,
        }
    }

    /// What was found for this name led nowhere: look again next time.
    pub(crate) fn forget(&self, name: &ServerName) {
        if let Some(host) = name.unresolved() {
            self.known.forget(host);
        }
    }

    /// The steps after the well-known file.
    async fn without_well_known(&self, name: &ServerName) -> Vec<Destination> {
        let direct = vec![name.direct(self.ports.federation)];
        let Some(host) = name.unresolved() else {
            return direct;
        };
        let host = host.trim_end_matches('.');
        let (newer, older) = (
            format!("_matrix-fed._tcp.{host}."),
            format!("_matrix._tcp.{host}."),
        );
        // Asked at once: a resolver that is slow with one is slow with both.
        let (newer, older) = tokio::join!(self.dns.targets(&newer), self.dns.targets(&older));
        let targets = if newer.is_empty() { older } else { newer };
        let at = |target: Target| Some(name.at(Host::parse(&target.host)?, target.port));
        let found: Vec<Destination> = targets.into_iter().filter_map(at).collect();
        if found.is_empty() { direct } else { found }
    }

    /// The server that the well-known file of `host` names.
    async fn delegated(&self, host: &str, reach: Reach) -> Option<ServerName> {
        if let Some(known) = self.known.of(host) {
            return known;
        }
        let fetched = timeout(WELL_KNOWN_WITHIN, self.well_known(host, reach)).await;
        let (server, lifetime) = match fetched {
            Ok(Ok(answer)) if answer.status == 200 => match delegated_server(&answer.body) {
                Some(server) => (Some(server), lifetime(&answer.headers)),
                None => (None, Lifetime::ABSENT),
            },
            Ok(Ok(_)) => (None, Lifetime::ABSENT),
            // The policy may be another tomorrow, and saying no again costs nothing.
            Ok(Err(FetchError::Private(_))) => return None,
            Ok(Err(error)) => {
                debug!(host, %error, "no well-known file");
                (None, Lifetime::UNREACHABLE)
            }
            Err(_) => (None, Lifetime::UNREACHABLE),
        };
        self.known.keep(host, server.clone(), lifetime);
        server
    }

    /// Fetches the file, wherever redirects lead: each host on the way is judged like the first.
    async fn well_known(&self, host: &str, reach: Reach) -> Result<Answer, FetchError> {
        let mut authority = (host.to_owned(), self.ports.https);
        let mut path = "/.well-known/matrix/server".to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let (name, port) = &authority;
            let to = self.web(name, *port).ok_or(FetchError::Request)?;
            let answer = self
                .fetch
                .get(&to, reach, &path, MAX_WELL_KNOWN_BYTES)
                .await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers.get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
            let next = location.ok_or(FetchError::Request)?;
            if let Some(host) = next.host() {
                if next.scheme_str() != Some("https") {
                    return Err(FetchError::Request);
                }
                authority = (host.to_owned(), next.port_u16().unwrap_or(self.ports.https));
            }
            path = next
                .path_and_query()
                .ok_or(FetchError::Request)?
                .to_string();
        }
        Err(FetchError::Request)
    }

    /// A web server.
    fn web(&self, name: &str, port: u16) -> Option<Destination> {
        let host = Host::parse(name)?;
        let host_header = if port == self.ports.https {
            name.to_owned()
        } else {
            format!("{name}:{port}")
        };
        Some(Destination {
            tls_name: Some(host.clone()),
            host,
            port,
            host_header,
        })
    }
}

/// How long an answer says that it is good. (RFC 9111 §5.2.2)
fn lifetime(headers: &HeaderMap) -> Lifetime {
    let texts = headers.get_all(header::CACHE_CONTROL).iter();
    let mut lifetime = Lifetime::DEFAULT;
    for directive in texts
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
    {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "no-store" | "no-cache") {
            return Lifetime::seconds(0);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=")
            && let Ok(seconds) = seconds.trim_matches('"').parse()
        {
            lifetime = Lifetime::seconds(seconds);
        }
    }
    lifetime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_good() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CACHE_CONTROL, value.parse().expect("a header"));
            }
            lifetime(&headers)
        };
        assert_eq!(of(&[]), Lifetime::DEFAULT);
        assert_eq!(of(&["public"]), Lifetime::DEFAULT);
        assert_eq!(of(&["max-age=soon"]), Lifetime::DEFAULT);
        assert_eq!(of(&["public, Max-Age=7200"]), Lifetime::seconds(7200));
        assert_eq!(of(&["public", "max-age=7200"]), Lifetime::seconds(7200));
        assert_eq!(of(&["no-store", "max-age=7200"]), Lifetime::seconds(0));
    }
}
