//! The authorization service alone: what the variables of lk-jwt-service say.
//!
//! Owns their names, their order, and the texts of what is wrong with them, which are those of
//! lk-jwt-service: whoever moves from it greps for them. A configuration file may stand below; variables
//! win. It opens no file itself. Called by `settings`. (LK: jwt-service §9)

use crate::config::check::matrix::redis_fault;
use crate::config::check::operation::Level;
use crate::config::check::url::is_url;
use crate::config::check::{Config, Matrix};
use crate::config::complaint::quoted;
use crate::config::keys::{Keys, Secret};
use std::time::Duration;

/// The variables that are read here, and by nobody else where the service is alone.
pub const VARIABLES: [&str; 15] = [
    URL,
    "LIVEKIT_KEY",
    "LIVEKIT_SECRET",
    "LIVEKIT_KEY_FROM_FILE",
    "LIVEKIT_SECRET_FROM_FILE",
    "LIVEKIT_KEY_FILE",
    FULL_ACCESS,
    BIND,
    PORT,
    SKIP_VERIFY,
    SANITY_CHECK,
    CLIENT_APIS,
    REDIS,
    LOG_LEVEL,
    STORE,
];

/// Variables, and the keys of a file that they win over.
pub const OVER: [(&str, &str); 13] = [
    (URL, "matrix.url"),
    (FULL_ACCESS, "matrix.full_access_homeservers"),
    (CLIENT_APIS, "matrix.client_apis"),
    (SKIP_VERIFY, "matrix.insecure_skip_verify_tls"),
    (STORE, "matrix.store"),
    (STORE, "matrix.redis"),
    (REDIS, "matrix.store"),
    (REDIS, "matrix.redis"),
    (LOG_LEVEL, "logging.level"),
    ("LIVEKIT_KEY", "keys"),
    ("LIVEKIT_KEY_FROM_FILE", "keys"),
    ("LIVEKIT_KEY_FILE", "keys"),
    ("LIVEKIT_KEY_FILE", "key_file"),
];

/// The SFU's WebSocket URL.
pub const URL: &str = "LIVEKIT_URL";
const FULL_ACCESS: &str = "LIVEKIT_FULL_ACCESS_HOMESERVERS";
const BIND: &str = "LIVEKIT_JWT_BIND";
const PORT: &str = "LIVEKIT_JWT_PORT";
const SKIP_VERIFY: &str = "LIVEKIT_INSECURE_SKIP_VERIFY_TLS";
const SANITY_CHECK: &str = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS";
/// Client-server APIs that are not looked for.
pub const CLIENT_APIS: &str = "LIVEKIT_CS_API_URL_OVERRIDES";
const REDIS: &str = "LIVEKIT_REDIS_URL";
const LOG_LEVEL: &str = "LIVEKIT_LOG_LEVEL";
/// Where Go finds its proxies.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// Foci's own.
const STORE: &str = "FOCI_JWT_STORE";

/// The only value that switches verification off. (LK: jwt-service §4)
const SKIP_WORDS: &str = "YES_I_KNOW_WHAT_I_AM_DOING";

/// Where it listens unless told otherwise: everywhere.
const DEFAULT_PORT: u16 = 8080;

/// Between two looks at a participant, at most: a year. Clocks overflow far beyond it.
const SANITY_CHECK_MOST_S: u64 = 366 * 24 * 3600;

/// The service alone.
#[derive(Debug, Clone)]
pub struct Companion {
    /// What the SFU shares with us; the first signs.
    pub keys: Keys,
    /// The section of the file with what the variables say.
    pub matrix: Matrix,
    /// Where to listen.
    pub bind: Bind,
    /// How often to see whether a participant is still there; `None`: never.
    pub sanity_check: Option<Duration>,
    /// How much is logged, if a variable says so.
    pub level: Option<Level>,
    /// What is to be logged as a warning.
    pub warnings: Vec<String>,
}

/// An address to listen on, as Go writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// An address or a name; empty: everywhere.
    pub host: String,
    /// 0: any free one.
    pub port: u16,
}

/// What a file said, and whether it said anything of what is required.
#[derive(Debug, Clone, Copy)]
pub struct Below<'a> {
    /// The file's configuration, or the defaults.
    pub config: &'a Config,
    /// It names full-access homeservers.
    pub names_homeservers: bool,
}

/// How variables and the files that they name are read.
pub struct Environment<'a> {
    /// The value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file, or why it cannot be read.
    pub file: &'a dyn Fn(&str) -> Result<String, String>,
}

impl Environment<'_> {
    /// An empty variable counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|text| !text.is_empty())
    }

    fn read(&self, variable: &str, path: &str) -> Result<String, String> {
        (self.file)(path).map_err(|cause| format!("{variable}: open {path}: {cause}"))
    }

    /// Reads everything in the order of lk-jwt-service.
    ///
    /// # Errors
    /// The first thing that is wrong, for stderr. It holds no secret.
    pub fn companion(&self, below: Below<'_>) -> Result<Companion, String> {
        let mut warnings = Vec::new();
        let mut matrix = below.config.matrix.clone();
        let (key, secret) = self.key_and_secret()?;
        matrix.url = self.get(URL).or(matrix.url);
        let keys = match (key, secret) {
            (Some(key), Some(secret)) => Keys {
                entries: vec![(key, Secret::new(secret))],
            },
            (None, None) => below.config.keys.clone(),
            _ => Keys::default(),
        };
        if keys.entries.is_empty() || matrix.url.is_none() {
            return Err("LIVEKIT_KEY* / LIVEKIT_SECRET* and LIVEKIT_URL must be set".to_owned());
        }
        match self.get(FULL_ACCESS) {
            Some(text) => matrix.full_access_homeservers = listed(&text),
            None if below.names_homeservers => {}
            None => {
                return Err(format!(
                    "{FULL_ACCESS} environment variable must be set to the homeserver(s) you intend \
                     to serve — see README for guidance"
                ));
            }
        }
        warn_of_access(&matrix, &mut warnings);
        self.warn_of_proxies(&mut warnings);
        let bind = self.bind(&mut warnings)?;
        let sanity_check = self.sanity_check()?;
        if let Some(text) = self.get(CLIENT_APIS) {
            matrix.client_apis = client_apis(&text)?;
        }
        self.store(&mut matrix, &mut warnings)?;
        self.skip_verify(&mut matrix, &mut warnings);
        let level = self.level(&mut warnings);
        matrix.enabled = true;
        Ok(Companion {
            keys,
            matrix,
            bind,
            sanity_check,
            level,
            warnings,
        })
    }

    fn key_and_secret(&self) -> Result<(Option<String>, Option<String>), String> {
        const KEY_FILE: &str = "LIVEKIT_KEY_FILE";
        if let Some(path) = self.get(KEY_FILE) {
            let text = self.read(KEY_FILE, &path)?;
            let mut parts = text.split(':');
            return match (parts.next(), parts.next(), parts.next()) {
                (Some(key), Some(secret), None) => Ok((trimmed(key), trimmed(secret))),
                _ => Err("invalid key secret file format!".to_owned()),
            };
        }
        let one = |plain: &str, from_file: &str| {
            Ok::<_, String>(match self.get(from_file) {
                Some(path) => trimmed(&self.read(from_file, &path)?),
                None => self.get(plain).and_then(|text| trimmed(&text)),
            })
        };
        Ok((
            one("LIVEKIT_KEY", "LIVEKIT_KEY_FROM_FILE")?,
            one("LIVEKIT_SECRET", "LIVEKIT_SECRET_FROM_FILE")?,
        ))
    }

    fn bind(&self, warnings: &mut Vec<String>) -> Result<Bind, String> {
        match (self.get(BIND), self.get(PORT)) {
            (Some(_), Some(_)) => Err(format!("{BIND} and {PORT} must not be set together")),
            (Some(text), None) => Bind::parse(&text).ok_or_else(|| {
                let text = quoted(&text);
                format!("{BIND}: cannot listen on \"{text}\", expected host:port or :port")
            }),
            (None, Some(text)) => {
                warnings.push(format!("{PORT} is deprecated, use {BIND}"));
                Bind::parse(&format!(":{text}"))
                    .ok_or_else(|| format!("{PORT}: \"{}\" is no port", quoted(&text)))
            }
            (None, None) => Ok(Bind {
                host: String::new(),
                port: DEFAULT_PORT,
            }),
        }
    }

    fn sanity_check(&self) -> Result<Option<Duration>, String> {
        let Some(text) = self.get(SANITY_CHECK) else {
            return Ok(None);
        };
        match text.parse::<u64>() {
            Ok(0) => Ok(None),
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds.min(SANITY_CHECK_MOST_S)))),
            Err(_) => Err(format!(
                "{SANITY_CHECK} must be a non-negative integer, got \"{}\"",
                quoted(&text)
            )),
        }
    }

    /// A file or Redis; the variable of either wins over both keys of the file.
    fn store(&self, matrix: &mut Matrix, warnings: &mut Vec<String>) -> Result<(), String> {
        match (self.get(STORE), self.get(REDIS).map(Secret::new)) {
            (Some(_), Some(_)) => {
                return Err(format!("{STORE} and {REDIS} must not be set together"));
            }
            (Some(path), None) => (matrix.store, matrix.redis) = (Some(path.into()), None),
            (None, Some(url)) => {
                if let Some((cause, fix)) = redis_fault(&url) {
                    return Err(format!("{REDIS}: {cause}; {fix}"));
                }
                (matrix.store, matrix.redis) = (None, Some(url));
            }
            (None, None) => {}
        }
        if matrix.store.is_none() && matrix.redis.is_none() {
            warnings.push(format!(
                "neither {REDIS} nor {STORE} is set: a restart forgets delegated leaves"
            ));
        }
        Ok(())
    }

    /// The reference goes through the proxies of its environment. We judge the address of each homeserver
    /// before we connect to it, which nobody can who leaves that to a proxy.
    fn warn_of_proxies(&self, warnings: &mut Vec<String>) {
        let set = PROXIES.iter().filter(|name| self.get(name).is_some());
        let set: Vec<&str> = set.copied().collect();
        if !set.is_empty() {
            warnings.push(format!(
                "{}: proxies are not used: homeservers and the SFU must be reached directly",
                set.join(", ")
            ));
        }
    }

    fn skip_verify(&self, matrix: &mut Matrix, warnings: &mut Vec<String>) {
        let Some(text) = self.get(SKIP_VERIFY) else {
            return;
        };
        matrix.skip_verify_tls = text == SKIP_WORDS;
        warnings.push(if matrix.skip_verify_tls {
            format!(
                "!!! {SKIP_VERIFY} is on: the certificates of homeservers and of the SFU are not \
                 checked, and anybody on the way to one can make up users and read the SFU's tokens. \
                 For tests of a deployment only !!!"
            )
        } else {
            format!("{SKIP_VERIFY}: not the words that switch checking off: certificates are checked")
        });
    }

    fn level(&self, warnings: &mut Vec<String>) -> Option<Level> {
        let text = (self.variable)(LOG_LEVEL)?;
        let level = match text.to_ascii_lowercase().as_str() {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" | "warning" => Level::Warn,
            "error" => Level::Error,
            _ => {
                warnings.push(format!(
                    "{LOG_LEVEL}: \"{}\" is none of debug, info, warn, error: info is used",
                    quoted(&text)
                ));
                Level::Info
            }
        };
        Some(level)
    }
}

impl Bind {
    /// `host:port`, `[v6]:port` or `:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            // Two colons without brackets are no host and port.
            None if host.contains(':') => return None,
            None => host,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        host.chars().all(fits).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Without blanks and line ends around it, as an editor leaves them; `None` if nothing is left.
fn trimmed(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\r', '\n']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// Names between commas or white space. Of separators alone nobody has full access.
fn listed(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn warn_of_access(matrix: &Matrix, warnings: &mut Vec<String>) {
    let names = &matrix.full_access_homeservers;
    if names == &["*"] {
        warnings.push(
            "`*`: users of every homeserver create rooms; name the homeservers that you serve"
                .to_owned(),
        );
    } else if names.iter().any(|name| name == "*") {
        warnings.push("`*` beside names matches nothing".to_owned());
    }
}

/// `name=url,name=url`
///
/// # Errors
/// The reference's text on the first entry that is none.
pub fn client_apis(text: &str) -> Result<Vec<(String, String)>, String> {
    let failed = |why: String| format!("failed parsing {CLIENT_APIS}: {why}");
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let shown = quoted(entry);
            let pair = entry.split_once('=').map(|(n, u)| (n.trim(), u.trim()));
            match pair {
                Some((name, url)) if !name.is_empty() && !url.is_empty() => {
                    // The reference takes anything, and every call fails.
                    if !is_url(url, &["https://", "http://"]) {
                        let why = "its URL must begin with http:// or https:// and name a host";
                        return Err(failed(format!("invalid entry \"{shown}\", {why}")));
                    }
                    Ok((name.to_owned(), url.to_owned()))
                }
                _ => Err(failed(format!(
                    "invalid entry \"{shown}\", expected server_name=url"
                ))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
