//! The embedded TURN server and the servers of others that clients are told of.

use crate::config::check::pair::Pair;
use crate::config::check::tls::Tls;
use crate::config::check::url::host_over_tls;
use crate::config::cidr::Cidr;
use crate::config::complaint::{Complaints, quoted};
use crate::config::keys::Secret;
use crate::config::ports::{PortRange, PortUse, Protocol};
use crate::config::raw::{Record, Value, Values};
use std::net::IpAddr;
use std::time::Duration;

/// A name is good for at most a day. (LK: server ops §9.1)
const TTL_MAX: u64 = 86_400;
/// Time-limited names of others' servers, when nothing is said. (LK: server ops §9.6)
const SHARED_TTL: u64 = 14_400;
/// A shared secret of fewer characters can be guessed from one name and its password.
const GOOD_SECRET: usize = 16;
/// A limit below this lets not even a call without pictures through: it was meant in other units.
const FEW_BPS: u64 = 50_000;
/// First and last relay port when nothing is said.
const RELAYS: (u16, u16) = (30_000, 30_020);
/// Browsers give up when the challenge they have just got is stale, and one that is lost on its way comes
/// again within half a minute. (RFC 8489 §6.2.1)
const NONCE_LEAST: Duration = Duration::from_secs(60);
/// Relay ports that are bound at most: each takes a socket in each family. They are shared, so that more would
/// serve nobody better.
const MANY_RELAYS: u32 = 128;
/// Ports from which on an allocation may have to share: told at the start.
const FEW_RELAYS: u32 = 2;

/// The embedded TURN server.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// It runs.
    pub enabled: bool,
    /// The operator asked for it: a port that cannot be had keeps the server from starting.
    pub configured: bool,
    /// Host name of its certificate, told to clients; empty: they are told addresses, and nothing of TLS.
    pub domain: String,
    /// REALM of its challenges. (RFC 8489 §9.2)
    pub realm: String,
    /// UDP; 0: none.
    pub udp_port: u16,
    /// TCP; 0: none.
    pub tcp_port: u16,
    /// TLS, or TCP behind somebody who ends TLS; 0: none.
    pub tls_port: u16,
    /// The port clients are told for TLS.
    pub advertised_tls_port: u16,
    /// Its own certificate; without one, those of `tls` serve.
    pub certificate: Option<Pair>,
    /// TLS ends at a balancer before us.
    pub external_tls: bool,
    /// Addresses it listens on; empty: all.
    pub bind_addresses: Vec<IpAddr>,
    /// Relay ports.
    pub relay_ports: PortRange,
    /// How long a participant's name is good for.
    pub ttl: Duration,
    /// Participants may reach any peer that is let in, and not only us.
    pub participants_reach_peers: bool,
    /// Secret shared with a homeserver.
    pub static_auth_secret: Option<Secret>,
    /// How much there may be.
    pub limits: TurnLimits,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    /// Peers allowed in spite of being private.
    pub allow_peers: Vec<Cidr>,
    /// Peers refused.
    pub deny_peers: Vec<Cidr>,
}

/// How much TURN clients may have; 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLimits {
    /// Allocations of one user.
    pub user_allocations: u32,
    /// Allocations of one client address.
    pub address_allocations: u32,
    /// Allocations in all.
    pub allocations: u32,
    /// Bits a second of one allocation in each direction.
    pub bps: u64,
    /// Of all allocations of one user.
    pub user_bps: u64,
    /// Of all.
    pub total_bps: u64,
}

/// A STUN or TURN server of somebody else, or several that take the same credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs. (RFC 7064, RFC 7065)
    pub urls: Vec<String>,
    /// What it wants to know.
    pub access: Access,
}

/// What such a server wants to know of who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing: STUN.
    Open,
    /// A name and a password, the same for everybody.
    Fixed {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Names that lapse, with a password made by a secret we share with it. (coturn:
    /// `use-auth-secret`)
    Shared {
        /// The secret.
        secret: Secret,
        /// How long a name is good for.
        ttl: Duration,
    },
}

impl Turn {
    /// Its ports.
    pub(super) fn ports(&self) -> Vec<PortUse> {
        if !self.enabled {
            return Vec::new();
        }
        let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
        let listeners = [
            ("turn.udp_port", udp, self.udp_port, "TURN"),
            ("turn.tcp_port", tcp, self.tcp_port, "TURN over TCP"),
            ("turn.tls_port", tcp, self.tls_port, "TURN over TLS"),
        ];
        let one = |(key, protocol, port, purpose)| {
            let ports = PortRange::new(port, port).ok()?;
            Some(PortUse {
                key,
                protocol,
                ports,
                purpose,
            })
        };
        let relays = PortUse {
            key: "turn.relay_range_start",
            protocol: udp,
            ports: self.relay_ports,
            purpose: "TURN relays",
        };
        listeners
            .into_iter()
            .filter_map(one)
            .chain([relays])
            .collect()
    }

    /// `tls` may have certificates for it, and a port where it is served as well.
    pub(super) fn read(values: &Values, tls: &Tls, complaints: &mut Complaints) -> Self {
        let (udp_port, tcp_port, tls_port) = listeners(values);
        let certificate = certificate(values, complaints);
        let external_tls = values.flag("turn.external_tls");
        let enabled = values.flag("turn.enabled");
        let can_tls = certificate.is_some() || external_tls || !tls.pairs.is_empty();
        if enabled && !can_tls && tls_port != 0 && values.is_set("turn.tls_port") {
            let cause = "TURN over TLS needs a certificate";
            let fix = "set turn.cert_file and turn.key_file, turn.external_tls if a proxy ends TLS, \
                       or turn.tls_port: 0";
            complaints.error("turn.tls_port", values.place("turn.tls_port"), cause, fix);
        }
        let tls_port = if can_tls { tls_port } else { 0 };
        let told = values.port("turn.advertised_tls_port");
        let over_tls = OverTls {
            own: tls_port != 0,
            shared: tls.port != 0,
            ends_elsewhere: tls_port != 0 && external_tls || tls.port != 0 && tls.external,
        };
        let domain = over_tls.domain(values, tls);
        if enabled {
            over_tls.complain(&domain, values, complaints);
        }
        Self {
            enabled,
            configured: values.iter().any(|(path, _)| path.starts_with("turn.")),
            domain,
            realm: values.text("turn.realm"),
            udp_port,
            tcp_port,
            tls_port,
            advertised_tls_port: if told == 0 { tls_port } else { told },
            certificate,
            external_tls,
            bind_addresses: super::addresses("turn.bind_addresses", values, complaints),
            relay_ports: relay_ports(values, complaints),
            ttl: Duration::from_secs(values.uint("turn.ttl_seconds").clamp(1, TTL_MAX)),
            participants_reach_peers: values.flag("turn.participants_reach_peers"),
            static_auth_secret: static_auth_secret(values, complaints),
            limits: TurnLimits {
                user_allocations: values.count("turn.per_user_relay_allocation_limit"),
                address_allocations: values.count("turn.per_address_allocation_limit"),
                allocations: values.count("turn.total_allocation_limit"),
                bps: bps("turn.max_bps_per_allocation", values, complaints),
                user_bps: bps("turn.max_bps_per_user", values, complaints),
                total_bps: bps("turn.max_bps_total", values, complaints),
            },
            nonce_lifetime: nonce_lifetime(values, complaints),
            allow_peers: super::rtc::blocks("turn.allow_restricted_peer_cidrs", values, complaints),
            deny_peers: super::rtc::blocks("turn.deny_peer_cidrs", values, complaints),
        }
    }
}

/// Where TURN is served over TLS.
struct OverTls {
    /// On a port of its own.
    own: bool,
    /// On `tls.port`.
    shared: bool,
    /// On one of them a proxy has ended TLS, and nobody here knows what its certificate is for.
    ends_elsewhere: bool,
}

impl OverTls {
    const KEY: &str = "turn.domain";

    /// The host clients are told: the one that is set, else one that a certificate of ours must be for, since
    /// it is ordered for it, or since no client could come by the URL of `matrix.url` otherwise.
    fn domain(&self, values: &Values, tls: &Tls) -> String {
        let set = values.text(Self::KEY);
        if !set.is_empty() || self.ends_elsewhere {
            return set;
        }
        let ordered = tls.acme.as_ref().and_then(|acme| acme.domains.first());
        ordered.cloned().unwrap_or_else(|| {
            let url = values.text("matrix.url");
            let used = self.shared && values.flag("matrix.enabled");
            let here = |(_, port): &(&str, u16)| used && *port == tls.advertised_port;
            let public = host_over_tls(&url).filter(here).map(|(host, _)| host);
            let name =
                public.filter(|host| !host.starts_with('[') && host.parse::<IpAddr>().is_err());
            name.unwrap_or_default().to_owned()
        })
    }

    fn complain(&self, domain: &str, values: &Values, complaints: &mut Complaints) {
        if !domain.is_empty() || !(self.own || self.shared) {
            return;
        }
        let cause = "TURN is served over TLS, and clients are not told of it";
        let fix = if self.ends_elsewhere {
            "set turn.domain to the name of the proxy's certificate, if it passes on unread what was in TLS"
        } else {
            "set turn.domain to the name of the certificate"
        };
        complaints.warning(Self::KEY, values.place(Self::KEY), cause, fix);
    }
}

/// UDP, TCP and TLS. As with LiveKit, whoever names one of the ports gets no other he does not name.
fn listeners(values: &Values) -> (u16, u16, u16) {
    let keys = ["turn.udp_port", "turn.tcp_port", "turn.tls_port"];
    let chosen = keys.iter().any(|key| values.is_set(key));
    let port = |key| {
        if chosen && !values.is_set(key) {
            0
        } else {
            values.port(key)
        }
    };
    (port(keys[0]), port(keys[1]), port(keys[2]))
}

fn bps(key: &'static str, values: &Values, complaints: &mut Complaints) -> u64 {
    let bps = values.uint(key);
    if (1..FEW_BPS).contains(&bps) {
        let cause = format!("{bps} bits a second let hardly a voice through");
        complaints.warning(key, values.place(key), cause, "write bits a second, or 0");
    }
    bps
}

fn certificate(values: &Values, complaints: &mut Complaints) -> Option<Pair> {
    let (cert, key) = (values.text("turn.cert_file"), values.text("turn.key_file"));
    let (missing, given) = match (cert.is_empty(), key.is_empty()) {
        (true, true) => return None,
        (false, false) => {
            return Some(Pair {
                key: "turn.cert_file",
                cert_file: cert.into(),
                key_file: key.into(),
                awaited: false,
            });
        }
        (true, false) => ("turn.cert_file", "turn.key_file"),
        (false, true) => ("turn.key_file", "turn.cert_file"),
    };
    let cause = format!("it is missing beside {given}");
    complaints.error(missing, values.place(given), cause, "set both or none");
    None
}

fn relay_ports(values: &Values, complaints: &mut Complaints) -> PortRange {
    const START: &str = "turn.relay_range_start";
    const END: &str = "turn.relay_range_end";
    let usual = PortRange::new(RELAYS.0, RELAYS.1).expect("30000-30020 is a range");
    let (start, end) = (values.port(START), values.port(END));
    if start == 0 || end == 0 {
        return usual;
    }
    match PortRange::new(start, end) {
        Ok(range) => {
            if range.count() < FEW_RELAYS {
                let cause = "one relay port: a client with two connections shares it with itself";
                complaints.warning(END, values.place(END), cause, "give it a few ports more");
            }
            bounded(range, values, complaints)
        }
        Err(error) => {
            let cause = format!("the range {start}-{end} {error}");
            let fix = "set both ends, for example 30000 and 30020";
            complaints.error(END, values.place(END), cause, fix);
            usual
        }
    }
}

fn nonce_lifetime(values: &Values, complaints: &mut Complaints) -> Duration {
    const KEY: &str = "turn.nonce_lifetime";
    let lifetime = values.duration(KEY);
    if lifetime < NONCE_LEAST {
        let cause = "browsers give up on a challenge that is stale when they answer it";
        complaints.error(
            KEY,
            values.place(KEY),
            cause,
            "set 1m or more, or leave it out",
        );
    }
    lifetime
}

/// The first ports of a range as large as LiveKit's, which has one for each allocation.
fn bounded(range: PortRange, values: &Values, complaints: &mut Complaints) -> PortRange {
    const KEY: &str = "turn.relay_range_end";
    let last = u32::from(range.first()) + MANY_RELAYS - 1;
    let Some(last) = u16::try_from(last).ok().filter(|last| *last < range.last()) else {
        return range;
    };
    let Ok(first) = PortRange::new(range.first(), last) else {
        return range;
    };
    let cause = format!("{} relay ports: only {first} are used", range.count());
    let fix = "nothing is missing, for allocations share them: 21 are enough; forward no others";
    complaints.warning(KEY, values.place(KEY), cause, fix);
    first
}

fn static_auth_secret(values: &Values, complaints: &mut Complaints) -> Option<Secret> {
    const KEY: &str = "turn.static_auth_secret";
    let text = values.text(KEY);
    if text.is_empty() {
        return None;
    }
    if text.chars().count() < GOOD_SECRET {
        let cause = format!("it is shorter than {GOOD_SECRET} characters: it can be guessed");
        let fix = "make one with `openssl rand -hex 32`, the same as turn_shared_secret of the \
                   homeserver";
        complaints.warning(KEY, values.place(KEY), cause, fix);
    }
    Some(Secret::new(text))
}

/// Servers of others: `rtc.turn_servers`, then `rtc.stun_servers`. (LK: server ops §8.6, §9.6)
pub(super) fn others(values: &Values, complaints: &mut Complaints) -> Vec<IceServer> {
    let records = values.records(SERVERS).into_iter().flatten();
    let mut servers: Vec<IceServer> = records
        .filter_map(|record| other(&record, values, complaints))
        .collect();
    let stun = values.texts("rtc.stun_servers");
    if !stun.is_empty() {
        let url = |host: &String| match host.strip_prefix("stun:") {
            Some(_) => host.clone(),
            None => format!("stun:{host}"),
        };
        servers.push(IceServer {
            urls: stun.iter().map(url).collect(),
            access: Access::Open,
        });
    }
    servers
}

const SERVERS: &str = "rtc.turn_servers";

fn other(record: &Record, values: &Values, complaints: &mut Complaints) -> Option<IceServer> {
    let text = |field: &str| match record.get(field) {
        Some(Value::Text(text)) => text.trim().to_owned(),
        _ => String::new(),
    };
    let number = |field: &str| match record.get(field) {
        Some(Value::Uint(number)) => *number,
        _ => 0,
    };
    let (host, port) = (text("host"), number("port"));
    if host.is_empty() || port == 0 {
        let cause = "an entry without host or port";
        complaints.error(SERVERS, values.place(SERVERS), cause, "set both");
        return None;
    }
    let (scheme, transport) = match text("protocol").as_str() {
        "tls" => ("turns", "tcp"),
        "udp" => ("turn", "udp"),
        "tcp" => ("turn", "tcp"),
        protocol => {
            let cause = format!("protocol {} of {host} is taken for tcp", quoted(protocol));
            let fix = "write tls, tcp or udp";
            complaints.warning(SERVERS, values.place(SERVERS), cause, fix);
            ("turn", "tcp")
        }
    };
    let secret = text("secret");
    let access = if secret.is_empty() {
        Access::Fixed {
            username: text("username"),
            password: Secret::new(text("credential")),
        }
    } else {
        let ttl = match number("ttl") {
            0 => SHARED_TTL,
            seconds => seconds.min(TTL_MAX),
        };
        Access::Shared {
            secret: Secret::new(secret),
            ttl: Duration::from_secs(ttl),
        }
    };
    let host = bracketed(&host);
    Some(IceServer {
        urls: vec![format!("{scheme}:{host}:{port}?transport={transport}")],
        access,
    })
}

/// An IPv6 address as it stands in a URL. (RFC 3986 §3.2.2)
#[must_use]
pub fn bracketed(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests;
