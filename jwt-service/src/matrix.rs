//! Matrix's own words: server names, the OpenID request, the well-known file.
//!
//! Owns their grammar and where a server name says its server is; the only file that names the
//! crate `ruma`. Pure: it builds and reads messages, others carry them.
//! (Matrix: server-server API, Resolving server names; LK: jwt-service §4)

pub mod proxied;
mod endpoint;

pub use endpoint::Endpoint;
pub use proxied::encoded;

use crate::leave::Action;
use ruma::ServerName as Grammar;
use ruma::api::auth_scheme::SendAccessToken;
use ruma::api::client::delayed_events::update_delayed_event::{
    UpdateAction, unstable_v2 as delayed,
};
use ruma::api::client::discovery::discover_homeserver as client_discovery;
use ruma::api::federation::discovery::discover_homeserver;
use ruma::api::federation::openid::get_openid_userinfo::v1 as userinfo;
use ruma::api::{IncomingResponseExt as _, OutgoingRequestExt as _, SupportedVersions};
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Where federation listens when nothing says otherwise.
pub const FEDERATION_PORT: u16 = 8448;

/// A host: an address, or a name to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Host {
    /// A host as it stands in a server name or a URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Self::Ip(ip.into()));
        }
        is_dns_name(text).then(|| Self::Name(text.to_owned()))
    }
}

/// A name that can be looked up: labels of 1 to 63 letters, digits and hyphens, a dot at the end
/// at most. (RFC 1123 §2.1)
fn is_dns_name(text: &str) -> bool {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    bare.len() <= 253 && bare.split('.').all(label)
}

/// A server name, taken apart. (Matrix: appendices, Server Name)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName {
    text: String,
    host: Host,
    port: Option<u16>,
}

/// Where to connect for a server, and as whom to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Connect to this.
    pub host: Host,
    /// On this port.
    pub port: u16,
    /// The `Host` header.
    pub host_header: String,
    /// What the certificate must be for; `None`: no TLS.
    pub tls_name: Option<Host>,
}

impl ServerName {
    /// Reads a server name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let grammar = <&Grammar>::try_from(text).ok()?;
        // The crate takes some ports and names that no grammar allows.
        let host = Host::parse(grammar.host())?;
        let port = grammar.port();
        let tail = &text[grammar.host().len()..];
        let digits = tail.strip_prefix(':').unwrap_or_default();
        if port.is_some() == tail.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            host,
            port,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host without the port.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The name to look for, if the server name does not say by itself where the server is.
    #[must_use]
    pub fn unresolved(&self) -> Option<&str> {
        match (&self.host, self.port) {
            (Host::Name(name), None) => Some(name),
            _ => None,
        }
    }

    /// The server at what the name itself says, else at `port`.
    #[must_use]
    pub fn direct(&self, port: u16) -> Destination {
        Destination {
            host: self.host.clone(),
            port: self.port.unwrap_or(port),
            host_header: self.text.clone(),
            tls_name: Some(self.host.clone()),
        }
    }

    /// The server at a target that DNS named. (SRV records change neither header nor certificate.)
    #[must_use]
    pub fn at(&self, target: Host, port: u16) -> Destination {
        Destination {
            host: target,
            port,
            ..self.direct(port)
        }
    }
}

/// The path and query that ask who `token` belongs to.
#[must_use]
pub fn userinfo_path(token: &str) -> Option<String> {
    let request = userinfo::Request::new(token.to_owned());
    let request = request.try_into_http_request::<Vec<u8>>("http://homeserver", (), ());
    Some(request.ok()?.uri().path_and_query()?.as_str().to_owned())
}

/// The user id in the answer to [`userinfo_path`].
#[must_use]
pub fn userinfo_subject(body: &[u8]) -> Option<String> {
    let answer = userinfo::Response::try_from_http_response(http::Response::new(body));
    Some(answer.ok()?.sub.into())
}

/// The server name that a well-known file delegates to.
#[must_use]
pub fn delegated_server(body: &[u8]) -> Option<ServerName> {
    let answer = http::Response::new(body);
    let answer = discover_homeserver::Response::try_from_http_response(answer).ok()?;
    ServerName::parse(answer.server.as_str())
}

/// The base URL of the client-server API that a well-known file names.
#[must_use]
pub fn client_api(body: &[u8]) -> Option<String> {
    let answer = http::Response::new(body);
    let answer = client_discovery::Response::try_from_http_response(answer).ok()?;
    Some(answer.homeserver.base_url)
}

/// The path that restarts or sends a delayed event; `None` if the id cannot be part of a path: `.` and
/// `..` would lead elsewhere. (MSC4140)
#[must_use]
pub fn delayed_event_path(delay_id: &str, action: Action) -> Option<String> {
    if matches!(delay_id, "" | "." | "..") {
        return None;
    }
    let action = match action {
        Action::Restart => UpdateAction::Restart,
        Action::Send => UpdateAction::Send,
    };
    let request = delayed::Request::new(delay_id.to_owned(), action);
    let versions = SupportedVersions {
        versions: Default::default(),
        features: Default::default(),
    };
    let versions = std::borrow::Cow::Owned(versions);
    let request = request.try_into_http_request::<Vec<u8>>(
        "http://homeserver",
        SendAccessToken::None,
        versions,
    );
    Some(request.ok()?.uri().path().to_owned())
}

/// How long an error body asks to wait. (Matrix: client-server API, Rate limiting)
#[must_use]
pub fn retry_after(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Limited {
        retry_after_ms: u64,
    }
    let limited: Limited = serde_json::from_slice(body).ok()?;
    Some(Duration::from_millis(limited.retry_after_ms))
}

/// The server of a user id. (Matrix: appendices, User Identifiers)
#[must_use]
pub fn server_of(user: &str) -> Option<&str> {
    let (localpart, server) = user.strip_prefix('@')?.split_once(':')?;
    let fits = user.len() <= proxied::MAX_ID_BYTES && !localpart.contains('\0');
    ServerName::parse(server).filter(|_| fits)?;
    Some(server)
}

/// Is `user` a user of the server `name`? All after the first colon must be the name, byte for byte.
#[must_use]
pub fn belongs_to(user: &str, name: &str) -> bool {
    user.strip_prefix('@')
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(_, server)| server == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn direct(text: &str) -> (String, u16, String, Option<Host>) {
        let to = name(text).direct(8448);
        (to.host.to_string(), to.port, to.host_header, to.tls_name)
    }

    #[test]
    fn a_server_name_says_where_its_server_is() {
        let rows = [
            ("192.0.2.1", "192.0.2.1", 8448),
            ("192.0.2.1:80", "192.0.2.1", 80),
            ("[2001:db8::1]", "[2001:db8::1]", 8448),
            ("[2001:db8::1]:80", "[2001:db8::1]", 80),
            ("a.example:443", "a.example", 443),
        ];
        for (text, host, port) in rows {
            assert_eq!(name(text).unresolved(), None, "{text}");
            let tls = Host::parse(host);
            let expected = (host.to_owned(), port, text.to_owned(), tls);
            assert_eq!(direct(text), expected, "{text}");
        }
        assert_eq!(name("a.example").unresolved(), Some("a.example"));
    }

    #[test]
    fn a_target_from_dns_changes_neither_header_nor_certificate() {
        let target = Host::Name("b.example".into());
        let to = name("a.example").at(target.clone(), 7);
        assert_eq!((to.host, to.port), (target, 7));
        assert_eq!(to.host_header, "a.example");
        assert_eq!(to.tls_name, Some(Host::Name("a.example".into())));
    }

    #[test]
    fn what_is_no_server_name_is_refused() {
        for text in [
            "",
            ":80",
            "a.example:",
            "a.example:+80",
            "a.example:65536",
            "a..example",
            "..",
            ".example",
            "a_b/c",
            "https://a.example",
            "a.example/path",
            "a.example?x",
            "a@b",
            "[::1",
            "[::1]x",
            "[192.0.2.1]",
            "dömäne.example",
            "a b",
        ] {
            assert_eq!(ServerName::parse(text), None, "{text}");
        }
        assert_eq!(ServerName::parse(&"a".repeat(64)), None);
    }

    #[test]
    fn a_token_is_encoded_into_the_query() {
        let path = userinfo_path("a b&c=d#?/+ä").expect("a path");
        let expected = "/_matrix/federation/v1/openid/userinfo?access_token=";
        let token = path.strip_prefix(expected).expect(&path);
        assert!(!token.contains(['&', '#', ' ', '?', '=']), "{token}");
        assert!(token.is_ascii());
    }

    #[test]
    fn the_subject_is_read_and_nothing_else_will_do() {
        let good = br#"{"sub":"@alice:example.com","more":1}"#;
        assert_eq!(
            userinfo_subject(good).as_deref(),
            Some("@alice:example.com")
        );
        for bad in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"sub":1}"#,
            r#"{"sub":"alice"}"#,
            r#"{"sub":"#,
        ] {
            assert_eq!(userinfo_subject(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_user_belongs_to_the_server_after_the_first_colon_byte_for_byte() {
        assert!(belongs_to("@a:example.com", "example.com"));
        assert!(belongs_to("@a:example.com:80", "example.com:80"));
        for (user, server) in [
            ("@a:example.com", "Example.com"),
            ("@a:example.com:80", "example.com"),
            ("@a:example.com", "example.com:8448"),
            ("@a:evil.example:example.com", "example.com"),
            ("@a:example.com.", "example.com"),
            ("a:example.com", "example.com"),
            ("@a", ""),
        ] {
            assert!(!belongs_to(user, server), "{user} {server}");
        }
    }

    #[test]
    fn a_user_id_names_its_server() {
        assert_eq!(server_of("@a:example.com:80"), Some("example.com:80"));
        for text in ["", "@a", "a:example.com", "@a:", "@a:x y", "!a:example.com"] {
            assert_eq!(server_of(text), None, "{text}");
        }
        assert_eq!(server_of(&format!("@{}:h", "x".repeat(255))), None);
    }

    #[test]
    fn the_id_of_a_delayed_event_stays_one_piece_of_its_path() {
        let path = |id| delayed_event_path(id, Action::Restart);
        let prefix = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/";
        assert_eq!(
            path("syd_abc").expect("a path"),
            format!("{prefix}syd_abc/restart")
        );
        assert_eq!(
            delayed_event_path("a", Action::Send).expect("a path"),
            format!("{prefix}a/send")
        );
        let odd = path("../../admin?x#y z").expect("a path");
        let piece = odd
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix("/restart"));
        assert!(
            !piece.expect("its place").contains(['/', '?', '#', ' ']),
            "{odd}"
        );
        for none in ["", ".", ".."] {
            assert_eq!(path(none), None, "{none}");
        }
    }

    #[test]
    fn a_well_known_file_names_a_client_api_or_nothing() {
        let told = |text: &str| client_api(text.as_bytes());
        let good = r#"{"m.homeserver":{"base_url":"https://matrix.example.com"},"more":1}"#;
        assert_eq!(told(good).as_deref(), Some("https://matrix.example.com"));
        for bad in ["", "{}", "[]", r#"{"m.homeserver":{}}"#] {
            assert_eq!(told(bad), None, "{bad}");
        }
        let limited = br#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#;
        assert_eq!(retry_after(limited), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after(b"{}"), None);
    }

    #[test]
    fn a_well_known_file_names_a_server_or_nothing() {
        let delegated = |text: &str| delegated_server(text.as_bytes());
        assert_eq!(
            delegated(r#"{"m.server":"b.example:443"}"#),
            Some(name("b.example:443"))
        );
        for bad in [
            "",
            "{}",
            r#"{"m.server":""}"#,
            r#"{"m.server":"https://b.example"}"#,
            r#"{"m.server":["b.example"]}"#,
            r#"{"m.server":"b..example"}"#,
        ] {
            assert_eq!(delegated(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_server_name_or_none(text in "\\PC{0,40}") {
            if let Some(name) = ServerName::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
            }
        }

        #[test]
        fn any_answer_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = userinfo_subject(&body);
            let _ = delegated_server(&body);
        }
    }
}
