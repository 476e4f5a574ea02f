//! Where a configuration comes from: files, the environment, flags, in LiveKit's order.
//!
//! Owns reading these sources and their order; what the values mean is for `config`. Called once at
//! start, again on SIGHUP, and by the commands that only show a configuration.
//! (LK: server ops §6.1, §7.1)

mod file;
pub mod companion;

use crate::config::check::{Config, check};
use crate::config::companion::{CLIENT_APIS, client_apis};
use crate::config::complaint::{Complaints, Place};
use crate::config::ports::PortRange;
use crate::config::raw::key::variable_name;
use crate::config::raw::nearest::nearest;
use crate::config::raw::{Key, Value, Values, set_text, table};
use std::net::IpAddr;
use std::path::PathBuf;

/// A flag or variable made by hand, with the key it sets.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The flag, without dashes.
    pub flag: &'static str,
    /// The variable; empty if there is none, or if the generated one does.
    pub variable: &'static str,
    /// The key.
    pub path: &'static str,
    /// For the help text.
    pub help: &'static str,
}

/// LiveKit's hand-written flags that set one key. (LK: server ops §7.1)
pub const NAMED: [Named; 10] = [
    named(
        "bind",
        "",
        "bind_addresses",
        "Address to listen on; may be repeated",
    ),
    named("key-file", "", "key_file", "File with `key: secret` lines"),
    named(
        "keys",
        "LIVEKIT_KEYS",
        "keys",
        "API keys, `key: secret`, one a line",
    ),
    named("region", "", "region", "Region told to clients"),
    named(
        "node-ip",
        "NODE_IP",
        "rtc.node_ip",
        "Address told to clients, `v4` or `v4,v6`",
    ),
    named(
        "udp-port",
        "UDP_PORT",
        "rtc.udp_port",
        "UDP port of media, or a range",
    ),
    named("redis-host", "REDIS_HOST", "redis.address", "No effect yet"),
    named(
        "redis-password",
        "REDIS_PASSWORD",
        "redis.password",
        "No effect yet",
    ),
    named(
        "turn-cert",
        "",
        "turn.cert_file",
        "Certificate of TURN over TLS",
    ),
    named("turn-key", "", "turn.key_file", "Its key"),
];

const fn named(
    flag: &'static str,
    variable: &'static str,
    path: &'static str,
    help: &'static str,
) -> Named {
    Named {
        flag,
        variable,
        path,
        help,
    }
}

/// Variables of the companion service lk-jwt-service and the keys they set.
/// (LK: jwt-service §9)
const COMPANION: [(&str, &str); 8] = [
    ("LIVEKIT_REDIS_URL", "matrix.redis"),
    ("LIVEKIT_AS_TOKEN", "matrix.app_service.as_token"),
    ("LIVEKIT_HS_TOKEN", "matrix.app_service.hs_token"),
    (
        "LIVEKIT_AS_REGISTRATION_FILE",
        "matrix.app_service.registration_file",
    ),
    ("LIVEKIT_HS_SERVER_NAME", "matrix.app_service.server_name"),
    ("LIVEKIT_URL", "matrix.url"),
    (
        "LIVEKIT_FULL_ACCESS_HOMESERVERS",
        "matrix.full_access_homeservers",
    ),
    (
        "LIVEKIT_INSECURE_SKIP_VERIFY_TLS",
        "matrix.insecure_skip_verify_tls",
    ),
];

/// Variables of LiveKit's own that are read without a key, and those of its companion service,
/// which may stand in the same environment.
const KNOWN_VARIABLES: [&str; 9] = [
    CLIENT_APIS,
    // How often `foci jwt` asks an SFU who is there; the server knows.
    "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS",
    "LIVEKIT_CONFIG",
    "LIVEKIT_KEYS",
    "LIVEKIT_URL",
    "LIVEKIT_KEY",
    "LIVEKIT_SECRET",
    "LIVEKIT_KEY_FROM_FILE",
    "LIVEKIT_FULL_ACCESS_HOMESERVERS",
];
/// The same, by beginning.
const KNOWN_BEGINNINGS: [&str; 6] = [
    "LIVEKIT_AS_",
    "LIVEKIT_HS_",
    "LIVEKIT_JWT_",
    "LIVEKIT_SECRET_FROM_",
    "LIVEKIT_INSECURE_",
    "LIVEKIT_TURN_CERT",
];

/// Variables of the companion service that set nothing here, a value that asks for what is so anyway,
/// and what to do instead.
const INSTEAD: [(&str, &str, &str); 2] = [
    (
        "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS",
        "",
        "set matrix.app_service.membership_interval",
    ),
    (
        "LIVEKIT_CAN_UPDATE_OWN_METADATA",
        "true",
        "remove it: participants may always change what is told of them (MSC4195)",
    ),
];

/// Parts of keys that LiveKit addresses one by one in flags and variables.
const PARTS: [(&str, &str); 4] = [
    ("rtc.udp_port.start", "rtc.udp_port"),
    ("rtc.udp_port.end", "rtc.udp_port"),
    ("rtc.node_ip.ipv4", "rtc.node_ip"),
    ("rtc.node_ip.ipv6", "rtc.node_ip"),
];

/// One flag as typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes: a key's path, or one of [`NAMED`].
    pub name: String,
    /// Its value; repeated values joined by commas.
    pub text: String,
}

/// Everything a configuration is made from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--config-body`.
    pub body: Option<String>,
    /// `--dev`.
    pub development: bool,
    /// Unknown keys are errors; `--disable-strict-config` is the opposite.
    pub lenient: bool,
    /// All other flags.
    pub flags: Vec<Flag>,
    /// The environment.
    pub variables: Vec<(String, String)>,
}

/// A configuration with all there is to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The sections; not to be used if there are errors.
    pub config: Config,
    /// The values and where they came from.
    pub values: Values,
    /// What is wrong.
    pub complaints: Complaints,
    /// Nothing at all was configured.
    pub unconfigured: bool,
}

impl Sources {
    /// The variables of this process; those that are no text are left out.
    #[must_use]
    pub fn environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect()
    }

    /// An empty variable counts as unset.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, text)| known == name && !text.is_empty())
            .map(|(_, text)| text.as_str())
    }

    /// Reads everything, weakest source first.
    #[must_use]
    pub fn load(&self) -> Loaded {
        self.load_below(|_| {})
    }

    /// The same with what `above` sets over all sources, before anything is judged.
    fn load_below(&self, above: impl FnOnce(&mut Values)) -> Loaded {
        let mut loading = Loading {
            sources: self,
            values: Values::default(),
            complaints: Complaints::default(),
        };
        let has_text = loading.yaml();
        loading.companion_variables();
        loading.generated_variables();
        loading.flags(|flag| named_flag(&flag.name).is_none());
        loading.named_variables();
        loading.flags(|flag| named_flag(&flag.name).is_some());
        loading.unknown_variables();
        let Loading {
            mut values,
            mut complaints,
            ..
        } = loading;
        if self.development {
            let place = Place::Flag("dev".into());
            values.set("development", Value::Bool(true), place);
        }
        let unconfigured = values.is_empty() && !has_text && !complaints.has_errors();
        if unconfigured {
            values.set("development", Value::Bool(true), Place::Development);
        }
        values.resolve_aliases(&mut complaints);
        above(&mut values);
        file::read_keys(&mut values, self, &mut complaints);
        file::read_registration(&mut values, self, &mut complaints);
        file::read_turn_secrets(&mut values, self, &mut complaints);
        let config = check(&mut values, &mut complaints);
        Loaded {
            config,
            values,
            complaints,
            unconfigured,
        }
    }
}

fn named_flag(name: &str) -> Option<&'static Named> {
    NAMED.iter().find(|named| named.flag == name)
}

/// The state of one reading.
struct Loading<'a> {
    sources: &'a Sources,
    values: Values,
    complaints: Complaints,
}

impl Loading<'_> {
    /// The text given, else the file; never both. True if there was either.
    fn yaml(&mut self) -> bool {
        let strict = !self.sources.lenient;
        let body = self.sources.body.as_deref().filter(|body| !body.is_empty());
        let texts = [
            ("--config-body", body),
            ("$LIVEKIT_CONFIG", self.sources.variable("LIVEKIT_CONFIG")),
        ];
        let given = texts
            .into_iter()
            .find_map(|(name, text)| Some((name, text?)));
        if let Some((name, text)) = given {
            self.values
                .read_yaml(text, name, strict, &mut self.complaints);
            return true;
        }
        let Some(path) = &self.sources.file else {
            return false;
        };
        match file::read_bounded(path) {
            Ok(text) => {
                let name = path.display().to_string();
                self.values
                    .read_yaml(&text, &name, strict, &mut self.complaints);
            }
            Err(error) => {
                let cause = format!("cannot read {}: {error}", path.display());
                self.complaints
                    .error("", Place::Flag("config".into()), cause, "");
            }
        }
        true
    }

    fn generated_variables(&mut self) {
        for key in table::all() {
            let Some(name) = key.variable() else { continue };
            // An older name that shares its variable with the new one would only be warned of.
            let aliased = matches!(key.status, crate::config::raw::Status::AliasOf(target)
                if variable_name(target) == name);
            if let Some(text) = self.sources.variable(&name).filter(|_| !aliased) {
                self.set(key, text, Place::Variable(name));
            }
        }
        for (part, path) in PARTS {
            let name = variable_name(part);
            if let Some(text) = self.sources.variable(&name) {
                self.set_part(part, path, text, Place::Variable(name));
            }
        }
    }

    /// The companion's lists may have white space between their entries.
    fn companion_variables(&mut self) {
        for (name, path) in COMPANION {
            let (Some(text), Some(key)) = (self.sources.variable(name), table::find(path)) else {
                continue;
            };
            let words = text.split([',', ' ', '\t', '\n', '\r']);
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            self.set(key, &words.join(","), Place::Variable(name.to_owned()));
        }
        let Some(text) = self.sources.variable(CLIENT_APIS) else {
            return;
        };
        const KEY: &str = "matrix.client_apis";
        let place = Place::Variable(CLIENT_APIS.to_owned());
        match client_apis(text) {
            Ok(pairs) => self.values.set(KEY, Value::Map(pairs), place),
            Err(cause) => {
                let fix = "write for example example.org=https://matrix.example.org";
                self.complaints.error(KEY, place, cause, fix);
            }
        }
    }

    fn named_variables(&mut self) {
        for named in NAMED.iter().filter(|named| !named.variable.is_empty()) {
            let Some(text) = self.sources.variable(named.variable) else {
                continue;
            };
            let place = Place::Variable(named.variable.to_owned());
            // Orchestrators set NODE_IP on their own, so it does not override what was written.
            // (LK: server ops §7.1)
            if named.variable == "NODE_IP" && self.values.is_set(named.path) {
                let cause = "ignored, since rtc.node_ip is set elsewhere";
                self.complaints
                    .warning(named.path, place, cause, "use --node-ip to override");
            } else if let Some(key) = table::find(named.path) {
                self.set(key, text, place);
            }
        }
    }

    fn flags(&mut self, wanted: impl Fn(&Flag) -> bool) {
        for flag in self.sources.flags.iter().filter(|flag| wanted(flag)) {
            let path = named_flag(&flag.name).map_or(flag.name.as_str(), |named| named.path);
            let place = Place::Flag(flag.name.clone());
            if let Some(key) = table::find(path) {
                self.set(key, &flag.text, place);
            } else if let Some((part, whole)) = PARTS.into_iter().find(|(part, _)| *part == path) {
                self.set_part(part, whole, &flag.text, place);
            } else {
                self.complaints.error(path, place, "unknown key", "");
            }
        }
    }

    fn set(&mut self, key: &'static Key, text: &str, place: Place) {
        set_text(&mut self.values, key, text, place, &mut self.complaints);
    }

    /// One end of a range, or the address of one family. The other stays as it is.
    fn set_part(&mut self, part: &str, path: &'static str, text: &str, place: Place) {
        let value = match part {
            "rtc.udp_port.start" => text.parse().ok().and_then(|start: u16| {
                let last = self.set_ports(path).map_or(start, PortRange::last);
                PortRange::new(start, last.max(start)).ok()
            }),
            "rtc.udp_port.end" => text.parse().ok().and_then(|end: u16| {
                let first = self.set_ports(path).map_or(end, PortRange::first);
                PortRange::new(first, end).ok()
            }),
            _ => return self.set_address(part.ends_with("ipv4"), path, text, place),
        };
        match value {
            Some(range) => self.values.set(path, Value::Ports(range), place),
            None => self.complaints.error(part, place, "expected a port", ""),
        }
    }

    fn set_ports(&self, path: &str) -> Option<PortRange> {
        self.values.is_set(path).then(|| self.values.ports(path))?
    }

    fn set_address(&mut self, v4: bool, path: &'static str, text: &str, place: Place) {
        let ip: IpAddr = match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv4() == v4 => ip,
            _ => {
                let cause = "expected an address of that family";
                return self.complaints.error(path, place, cause, "");
            }
        };
        let mut list = self.values.addresses(path);
        list.retain(|known| known.is_ipv4() != v4);
        list.push(ip);
        self.values.set(path, Value::Addresses(list), place);
    }

    /// LiveKit ignores them in silence, and operators believe that they work.
    fn unknown_variables(&mut self) {
        let known: Vec<String> = table::all()
            .filter_map(Key::variable)
            .chain(PARTS.iter().map(|(part, _)| variable_name(part)))
            .collect();
        for (name, text) in &self.sources.variables {
            if !name.starts_with("LIVEKIT_")
                || known.contains(name)
                || KNOWN_VARIABLES.contains(&name.as_str())
                || KNOWN_BEGINNINGS.iter().any(|known| name.starts_with(known))
                || self.complaints.is_full()
            {
                continue;
            }
            let instead = INSTEAD.iter().find(|(other, ..)| other == name);
            if instead.is_some_and(|(_, anyway, _)| text.is_empty() || text == anyway) {
                continue;
            }
            let near = || nearest(name, known.iter().map(String::as_str));
            let fix = match instead {
                Some((_, _, fix)) => (*fix).to_owned(),
                None => near().map_or_else(String::new, |near| format!("did you mean {near}?")),
            };
            let place = Place::Variable(crate::config::complaint::quoted(name));
            self.complaints
                .warning("", place, "sets no key, ignored", fix);
        }
    }
}

#[cfg(test)]
mod tests;
