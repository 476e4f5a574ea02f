//! What the operator settled. Checked by whoever read it; plain data here.

use crate::bearer::Token;
use crate::limits::Rates;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration of the authorization service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The SFU's WebSocket URL told to clients; `None`: derived from each request.
    pub url: Option<String>,
    /// Whose users may have rooms created for them.
    pub full_access: FullAccess,
    /// What users of all other homeservers may do.
    pub restricted: Restricted,
    /// How long a token may be used to connect.
    pub token_lifetime: Duration,
    /// Base URLs of homeservers that are not looked for by their name.
    pub homeservers: Vec<Homeserver>,
    /// Delayed leaves are taken over.
    pub delegation: bool,
    /// Where they are kept over a restart; `None`: nowhere.
    pub store: Option<PathBuf>,
    /// Or in Redis, in the reference's form; not both.
    pub redis: Option<RedisUrl>,
    /// Base URLs of client-server APIs that are not looked for.
    pub client_apis: Vec<Homeserver>,
    /// Authorization services told to clients in the place of a homeserver.
    pub transports: Vec<String>,
    /// How often who may ask.
    pub rates: Rates,
    /// PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificates of homeservers are checked.
    pub verify_tls: Verification,
    /// Any homeserver may be at a private address, not only those the operator named.
    pub allow_private_addresses: bool,
    /// A homeserver has us as an application service.
    pub app_service: Option<AppService>,
}

/// What we and the homeserver whose application service we are know of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppService {
    /// The homeserver's name.
    pub server: String,
    /// It shows this to us.
    pub hs_token: Token,
    /// We show this to it, and to no other.
    pub as_token: Token,
    /// How often it is asked whether those with a token are still in their Matrix room; zero: never.
    pub membership_interval: Duration,
}

/// A token's usual lifetime, as in the reference. (LK: jwt-service §5.1)
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            full_access: FullAccess::default(),
            restricted: Restricted::default(),
            token_lifetime: TOKEN_LIFETIME,
            homeservers: Vec::new(),
            delegation: false,
            store: None,
            redis: None,
            client_apis: Vec::new(),
            transports: Vec::new(),
            rates: Rates::DEFAULT,
            ca_file: None,
            verify_tls: Verification::default(),
            allow_private_addresses: false,
            app_service: None,
        }
    }
}

/// Where Redis is. It may hold a password, so it has no readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(pub String);

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(redacted)")
    }
}

/// What users of homeservers without full access may do in rooms that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restricted {
    /// See and hear. They send by an SFU of their own homeserver's. (MSC4195)
    #[default]
    Subscribe,
    /// Send as well.
    Publish,
    /// Nothing: they get no token.
    Refuse,
}

/// Are certificates checked?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// Yes.
    #[default]
    On,
    /// No: for tests of a deployment only.
    Off,
}

/// A homeserver and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Homeserver {
    /// Its server name, as in user ids.
    pub name: String,
    /// `http://` or `https://`, host, port and path of its federation or client listener.
    pub url: String,
}

/// Whose users may have rooms created for them. (LK: jwt-service §6)
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FullAccess {
    /// Everybody's.
    #[default]
    Everyone,
    /// Users of these servers, compared byte for byte.
    Servers(Vec<String>),
}

impl FullAccess {
    /// The list as written. One entry `*` alone means everybody; beside others it matches nothing.
    #[must_use]
    pub fn listed(names: Vec<String>) -> Self {
        if names == ["*"] {
            Self::Everyone
        } else {
            Self::Servers(names)
        }
    }

    /// Does a user of `server` have it?
    #[must_use]
    pub fn includes(&self, server: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Servers(names) => names.iter().any(|name| name == server),
        }
    }
}

impl Config {
    /// The configured base URL of `server`.
    #[must_use]
    pub fn base_url(&self, server: &str) -> Option<&str> {
        let mut homeservers = self.homeservers.iter();
        let found = homeservers.find(|homeserver| homeserver.name == server)?;
        Some(&found.url)
    }

    /// The configured base URL of the client-server API of `server`.
    #[must_use]
    pub fn client_api(&self, server: &str) -> Option<&str> {
        let mut apis = self.client_apis.iter();
        Some(&apis.find(|api| api.name == server)?.url)
    }

    /// The homeservers whose users are known to come: all that the operator named for them.
    #[must_use]
    pub fn named(&self) -> Vec<&str> {
        let listed: &[String] = match &self.full_access {
            FullAccess::Everyone => &[],
            FullAccess::Servers(names) => names,
        };
        let located = self.homeservers.iter().map(|homeserver| &homeserver.name);
        let mut all: Vec<&str> = listed.iter().chain(located).map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Did the operator name `server`, in whatever key?
    #[must_use]
    pub fn is_named(&self, server: &str) -> bool {
        let listed = match &self.full_access {
            FullAccess::Everyone => false,
            FullAccess::Servers(names) => names.iter().any(|name| name == server),
        };
        let ours = self
            .app_service
            .as_ref()
            .is_some_and(|ours| ours.server == server);
        listed || ours || self.base_url(server).is_some() || self.client_api(server).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> FullAccess {
        FullAccess::listed(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_star_alone_is_everybody_and_beside_others_it_is_nobody() {
        assert!(listed(&["*"]).includes("anywhere.example"));
        let mixed = listed(&["*", "a.example"]);
        assert!(mixed.includes("a.example") && !mixed.includes("b.example"));
        assert!(!listed(&[]).includes("a.example"));
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        let access = listed(&["a.example:8448"]);
        assert!(access.includes("a.example:8448"));
        for other in ["a.example", "A.example:8448", "a.example:8448 "] {
            assert!(!access.includes(other), "{other}");
        }
    }

    #[test]
    fn who_is_named_in_any_key_is_known() {
        let config = Config {
            full_access: listed(&["a.example"]),
            homeservers: vec![Homeserver {
                name: "b.example".into(),
                url: "http://synapse:8008".into(),
            }],
            ..Config::default()
        };
        assert!(config.is_named("a.example") && config.is_named("b.example"));
        assert!(!config.is_named("c.example"));
        assert_eq!(config.named(), ["a.example", "b.example"]);
        assert!(!Config::default().is_named("c.example"));
    }
}
