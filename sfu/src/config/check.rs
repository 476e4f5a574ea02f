//! The checks: all complaints at once, each with key, cause and fix; then the typed sections.
//!
//! Owns what a configuration must fulfil as a whole. It reads no file and resolves no name. The
//! result is complete even when there are errors, so that it can be shown; a server starts only
//! without errors.

pub mod http;
pub mod public;
pub mod rtc;
pub mod room;
pub mod operation;
pub mod url;
pub mod pair;
pub mod acme;
pub mod tls;
pub mod app_service;
pub mod matrix;
pub mod turn;
pub mod development;

pub use acme::Acme;
pub use app_service::AppService;
pub use http::Http;
pub use matrix::Matrix;
pub use operation::{Level, Logging, Prometheus};
pub use pair::Pair;
pub use public::{Advertise, Public};
pub use room::{Audio, Limit, Room, Video};
pub use rtc::{NodeIp, PliThrottle, Rtc};
pub use tls::Tls;
pub use turn::{IceServer, Turn};

use crate::config::complaint::{Complaints, Place};
use crate::config::faults::Faults;
use crate::config::keys::{Keys, Secret};
use crate::config::ports::{self, PortRange, PortUse, Protocol};
use crate::config::raw::{Status, Values, table};
use std::time::Duration;

/// A secret shorter than this is complained about (LK: server ops §7.4).
const GOOD_SECRET: usize = 32;
/// LiveKit's line about it; a server that has run with such a secret still starts.
pub const SHORT_SECRET: &str = "secret is too short, should be at least 32 characters for security";

/// What is said of missing keys; the service alone may have them from elsewhere.
pub const NO_KEYS: &str = "one of key_file or keys must be provided";

/// A whole configuration; each section goes by value to the part it is for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The main port.
    pub http: Http,
    /// The port of TLS.
    pub tls: Tls,
    /// Media transport.
    pub rtc: Rtc,
    /// Defaults of rooms.
    pub room: Room,
    /// Who speaks.
    pub audio: Audio,
    /// Dynacast.
    pub video: Video,
    /// Sizes.
    pub limit: Limit,
    /// The log.
    pub logging: Logging,
    /// API keys.
    pub keys: Keys,
    /// Metrics.
    pub prometheus: Prometheus,
    /// The embedded TURN server.
    pub turn: Turn,
    /// STUN and TURN servers of others.
    pub ice_servers: Vec<IceServer>,
    /// MatrixRTC authorization.
    pub matrix: Matrix,
    /// What fails on purpose.
    pub faults: Faults,
    /// How long a stopping server waits for its sessions.
    pub drain_timeout: Duration,
    /// Told to clients; may be empty.
    pub region: String,
    /// Development mode.
    pub development: bool,
}

impl Config {
    /// Every certificate; the first is shown to whoever asks for none of them.
    #[must_use]
    pub fn certificates(&self) -> Vec<Pair> {
        let of_turn = self.turn.certificate.iter().filter(|_| self.turn.enabled);
        self.tls.pairs.iter().chain(of_turn).cloned().collect()
    }

    /// Every port a server listens on that has media on this one, of those it may have it on.
    #[must_use]
    pub fn ports_in_use(&self, udp_port: u16) -> Vec<PortUse> {
        let mut uses = self.ports();
        let media = uses.iter_mut().find(|used| used.key == "rtc.udp_port");
        if let (Some(media), Ok(port)) = (media, PortRange::new(udp_port, udp_port)) {
            media.ports = port;
        }
        uses
    }

    /// Every port this configuration may listen on: all but one of those of a range of media stay free.
    #[must_use]
    pub fn ports(&self) -> Vec<PortUse> {
        let mut uses = Vec::new();
        let tcp = |key, port, purpose| {
            PortRange::new(port, port).ok().map(|ports| PortUse {
                key,
                protocol: Protocol::Tcp,
                ports,
                purpose,
            })
        };
        uses.extend(tcp("port", self.http.port, "HTTP and WebSocket"));
        let everything = "HTTPS and all else over TLS";
        uses.extend(tcp("tls.port", self.tls.port, everything));
        if !self.rtc.force_tcp {
            uses.push(PortUse {
                key: "rtc.udp_port",
                protocol: Protocol::Udp,
                ports: self.rtc.udp_ports(),
                purpose: "media (ICE/UDP)",
            });
        }
        uses.extend(tcp("rtc.tcp_port", self.rtc.tcp_port, "media (ICE/TCP)"));
        uses.extend(tcp("prometheus.port", self.prometheus.port, "metrics"));
        uses.extend(self.turn.ports());
        uses
    }
}

/// Judges `values` and types them. Development mode's own defaults are added to `values`.
pub fn check(values: &mut Values, complaints: &mut Complaints) -> Config {
    development::apply(values, complaints);
    matrix::apply(values);
    unbuilt(values, complaints);
    let development = values.flag("development");
    let tls = Tls::read(values, complaints);
    let turn = Turn::read(values, &tls, complaints);
    let config = Config {
        http: Http::read(values, complaints),
        tls,
        rtc: Rtc::read(values, complaints),
        room: Room::read(values, complaints),
        audio: Audio::read(values, complaints),
        video: Video::read(values),
        limit: Limit::read(values),
        logging: Logging::read(values, complaints),
        keys: keys(values, development, complaints),
        prometheus: Prometheus::read(values, complaints),
        turn,
        ice_servers: turn::others(values, complaints),
        matrix: Matrix::read(values, complaints),
        faults: operation::faults(values, complaints),
        drain_timeout: values.duration("shutdown.drain_timeout"),
        region: values.text("region"),
        development,
    };
    ports_apart(&config, values, complaints);
    config
}

/// LiveKit keys that ask for something Foci does not do yet.
fn unbuilt(values: &Values, complaints: &mut Complaints) {
    for (path, setting) in values.iter() {
        let Some(Status::NotYet(instead)) = table::find(path).map(|key| key.status) else {
            continue;
        };
        if !setting.value.is_off() {
            let cause = "known from LiveKit, has no effect in Foci yet";
            complaints.warning(path, setting.place.clone(), cause, instead);
        }
    }
}

/// Keys, with complaints about missing and short ones.
fn keys(values: &Values, development: bool, complaints: &mut Complaints) -> Keys {
    let place = values.place("keys");
    let list = values.map("keys");
    if list.is_empty() {
        let fix = "set `keys: {<key>: <secret>}` with a random secret of 32 characters or more \
                   (for example from `openssl rand -hex 32`), or start with --dev";
        complaints.error("keys", place.clone(), NO_KEYS, fix);
    }
    for (key, secret) in &list {
        let length = secret.chars().count();
        let path = format!("keys.{key}");
        if key.is_empty() || secret.is_empty() {
            complaints.error(&path, place.clone(), "key and secret must not be empty", "");
        } else if development || length >= GOOD_SECRET {
        } else {
            let fix = format!("it has {length}; make one with `foci generate-keys`");
            complaints.warning(&path, place.clone(), SHORT_SECRET, fix);
        }
    }
    Keys {
        entries: list
            .into_iter()
            .map(|(key, secret)| (key, Secret::new(secret)))
            .collect(),
    }
}

/// No port twice; a hint about ports below 1024.
fn ports_apart(config: &Config, values: &Values, complaints: &mut Complaints) {
    let uses = config.ports();
    for (one, other) in ports::conflicts(&uses) {
        let cause = format!(
            "{}/{} is used by {} ({}) as well",
            other.ports, other.protocol, one.key, one.ports
        );
        complaints.error(
            other.key,
            values.place(other.key),
            cause,
            "choose another port",
        );
    }
    for used in uses.iter().filter(|used| used.ports.is_privileged()) {
        let cause = format!("{} is a privileged port", used.ports);
        let fix = "run with CAP_NET_BIND_SERVICE, or choose a port from 1024 up";
        complaints.warning(used.key, values.place(used.key), cause, fix);
    }
}

/// Texts as addresses; complaints about the others. An empty text is "all", as in Go.
fn addresses(
    path: &'static str,
    values: &Values,
    complaints: &mut Complaints,
) -> Vec<std::net::IpAddr> {
    let mut list = Vec::new();
    for text in values.texts(path) {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match bare.parse() {
            Ok(ip) => list.push(ip),
            Err(_) if text.is_empty() => return Vec::new(),
            Err(_) => not_one(path, &text, values.place(path), complaints),
        }
    }
    list
}

fn not_one(path: &str, text: &str, place: Place, complaints: &mut Complaints) {
    let cause = format!(
        "`{}` is not an IP address",
        crate::config::complaint::quoted(text)
    );
    complaints.error(path, place, cause, "write for example 127.0.0.1 or ::1");
}

#[cfg(test)]
mod tests;
