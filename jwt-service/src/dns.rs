//! DNS: addresses and services.
//!
//! Owns the resolver with its cache and limits; the only file that names its crate. Used by `fetch`
//! and `discovery`.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// One question, all retries included; a resolver at home that drops what it does not know must not
/// use up a caller's time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Answers kept by the resolver. Mostly some hundred bytes, but whoever asks for tokens may lead us to
/// a name server of his own that fills each to DNS's 64 KiB; this many are some 20 MiB then.
const CACHE_ENTRIES: u64 = 256;

/// Addresses of one host that are used.
const MAX_ADDRESSES: usize = 8;

/// Targets of one service that are used.
const MAX_TARGETS: usize = 5;

/// The resolver; cheap to clone.
#[derive(Clone)]
pub(crate) struct Dns(TokioResolver);

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host's name.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

/// Why a name has no address. The text holds the name at most.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// There is no such host, or it has no address.
    #[error("no such host")]
    Absent,
    /// The resolver does not answer, or with an error.
    #[error("DNS: {0}")]
    Failed(String),
}

impl Dns {
    /// The system's resolver; without one only addresses and the hosts file work.
    pub(crate) fn of_system() -> Self {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            warn!(%error, "cannot read the system's DNS configuration: no homeserver is looked up by name");
            let none = ResolverConfig::from_name_servers(Vec::new());
            TokioResolver::builder_with_config(none, TokioRuntimeProvider::default())
        });
        Self::of(builder)
    }

    fn of(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Self {
        builder.options_mut().cache_size = CACHE_ENTRIES;
        // Without TLS and DNSSEC nothing in it can fail.
        let resolver = builder.build().expect("a resolver without certificates");
        Self(resolver)
    }

    /// A resolver that asks one server, for tests.
    #[cfg(test)]
    pub(crate) fn at(server: std::net::SocketAddr) -> Self {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts};
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Self::of(builder)
    }

    /// The addresses of a host.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let answer = match timeout(ANSWER_WITHIN, self.0.lookup_ip(host)).await {
            Err(_) => return Err(Unresolved::Failed("no answer in time".into())),
            Ok(Err(error)) if error.is_no_records_found() => return Err(Unresolved::Absent),
            Ok(Err(error)) => return Err(Unresolved::Failed(error.to_string())),
            Ok(Ok(answer)) => answer,
        };
        let addresses: Vec<IpAddr> = answer.iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(Unresolved::Absent);
        }
        Ok(addresses)
    }

    /// The targets of a service, best first; none if there are none or nobody says.
    pub(crate) async fn targets(&self, service: &str) -> Vec<Target> {
        let Ok(Ok(answer)) = timeout(ANSWER_WITHIN, self.0.srv_lookup(service)).await else {
            return Vec::new();
        };
        let mut records: Vec<_> = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // A dot alone: the service is decidedly not there. (RFC 2782)
                RData::SRV(srv) if !srv.target.is_root() => Some(srv),
                _ => None,
            })
            .collect();
        records.sort_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
        let target = |srv: &&hickory_resolver::proto::rr::rdata::SRV| Target {
            host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            port: srv.port,
        };
        records.iter().take(MAX_TARGETS).map(target).collect()
    }
}
