//! Logging and metrics.

use crate::config::check::addresses;
use crate::config::complaint::{Complaints, quoted};
use crate::config::faults::{Faults, Point};
use crate::config::raw::Values;
use std::net::IpAddr;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What is broken.
    Error,
    /// What should wake someone.
    Warn,
    /// What a user would notice.
    Info,
    /// Changes of state.
    Debug,
    /// Packets.
    Trace,
}

impl Level {
    /// The level of that name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "error" | "fatal" | "panic" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }
}

/// LiveKit's components and the modules of Foci that speak for each. (LK: server ops §12)
const COMPONENTS: [(&str, &[&str]); 4] = [
    ("room", &["sfu::room", "sfu::rooms", "sfu::signal"]),
    ("api", &["sfu::http", "sfu::auth", "jwt_service"]),
    ("transport", &["sfu::media::transport"]),
    ("sfu", &["sfu::media", "sfu::worker"]),
];

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Of Foci itself.
    pub level: Level,
    /// JSON lines in place of text.
    pub json: bool,
    /// Modules with a level of their own.
    pub component_levels: Vec<(&'static str, Level)>,
    /// Of the libraries below.
    pub libraries: Level,
}

impl Logging {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        Self {
            level: level("logging.level", values, complaints).unwrap_or(Level::Info),
            json: values.flag("logging.json"),
            component_levels: components(values, complaints),
            libraries: level("logging.pion_level", values, complaints).unwrap_or(Level::Error),
        }
    }
}

/// Failures on purpose, with a complaint that nobody overlooks.
pub(super) fn faults(values: &Values, complaints: &mut Complaints) -> Faults {
    let seed = values.uint("faults.seed");
    let place = values.place("faults.points");
    let mut points = Vec::new();
    for name in values.texts("faults.points") {
        match Point::named(&name) {
            Some(point) => points.push(point),
            None => {
                let cause = format!("no such point: {}", quoted(&name));
                let names = Point::ALL.map(Point::name).join(", ");
                complaints.error(
                    "faults.points",
                    place.clone(),
                    cause,
                    format!("there are {names}"),
                );
            }
        }
    }
    if points.is_empty() {
        points = Point::ALL.to_vec();
    }
    if seed == 0 && values.is_set("faults.points") {
        let cause = "nothing fails without a seed";
        complaints.warning(
            "faults.points",
            place,
            cause,
            "set faults.seed, or remove it",
        );
    }
    if seed != 0 {
        let cause = "the server fails on purpose: people's calls will break";
        let fix = "remove it, unless this is a test";
        complaints.warning("faults.seed", values.place("faults.seed"), cause, fix);
    }
    Faults { seed, points }
}

fn level(path: &str, values: &Values, complaints: &mut Complaints) -> Option<Level> {
    let name = values.text(path);
    if name.is_empty() {
        return None;
    }
    let level = Level::named(&name);
    if level.is_none() {
        unknown_level(path, &name, values, complaints);
    }
    level
}

fn unknown_level(path: &str, name: &str, values: &Values, complaints: &mut Complaints) {
    let cause = format!("`{}` is no level, the default is used", quoted(name));
    let fix = "write debug, info, warn or error";
    complaints.warning(path, values.place(path), cause, fix);
}

fn components(values: &Values, complaints: &mut Complaints) -> Vec<(&'static str, Level)> {
    const KEY: &str = "logging.component_levels";
    let mut list = Vec::new();
    for (name, text) in values.map(KEY) {
        let Some((_, modules)) = COMPONENTS.iter().find(|(known, _)| *known == name) else {
            let cause = format!("Foci has no component `{}`", quoted(&name));
            let known: Vec<&str> = COMPONENTS.iter().map(|(known, _)| *known).collect();
            let fix = format!("there are {}", known.join(", "));
            complaints.warning(KEY, values.place(KEY), cause, fix);
            continue;
        };
        match Level::named(&text) {
            Some(level) => list.extend(modules.iter().map(|module| (*module, level))),
            None => unknown_level(KEY, &text, values, complaints),
        }
    }
    list
}

/// The metrics' own port.
#[derive(Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// TCP port; 0: none.
    pub port: u16,
    /// Where to listen, never empty.
    pub bind_addresses: Vec<IpAddr>,
    /// User name and password to ask for.
    pub credentials: Option<(String, crate::config::keys::Secret)>,
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prometheus")
            .field("port", &self.port)
            .field("bind_addresses", &self.bind_addresses)
            .field("protected", &self.credentials.is_some())
            .finish()
    }
}

impl Prometheus {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        const BIND: &str = "prometheus.bind_addresses";
        let port = values.port("prometheus.port");
        let (username, password) = (
            values.text("prometheus.username"),
            values.text("prometheus.password"),
        );
        if username.is_empty() != password.is_empty() {
            let (set, missing) = if username.is_empty() {
                ("prometheus.password", "prometheus.username")
            } else {
                ("prometheus.username", "prometheus.password")
            };
            let cause = format!("set without {missing}");
            complaints.error(set, values.place(set), cause, "set both or neither");
        }
        if port != 0 && !values.is_set(BIND) {
            let cause = "metrics are served on loopback only (LiveKit: on bind_addresses)";
            let fix = "set prometheus.bind_addresses to choose";
            complaints.warning(
                "prometheus.port",
                values.place("prometheus.port"),
                cause,
                fix,
            );
        }
        let mut bind_addresses = addresses(BIND, values, complaints);
        if bind_addresses.is_empty() {
            bind_addresses.push(IpAddr::from([0_u16; 8]));
        }
        Self {
            port,
            bind_addresses,
            credentials: (!username.is_empty() && !password.is_empty())
                .then(|| (username, crate::config::keys::Secret::new(password))),
        }
    }
}
