//! The MatrixRTC authorization service.

use super::AppService;
use super::url::is_url;
use crate::config::complaint::{Complaints, quoted};
use crate::config::keys::Secret;
use crate::config::raw::{Value, Values};
use std::path::PathBuf;
use std::time::Duration;

/// The only value that switches verification off. (LK: jwt-service §4)
const SKIP_VERIFY: &str = "YES_I_KNOW_WHAT_I_AM_DOING";

/// The shortest lifetime of a token: a client needs some of it to connect.
const LIFETIME_MIN: Duration = Duration::from_secs(10);
/// The longest: it says nothing of bans.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// What users of homeservers without full access may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restricted {
    /// See and hear.
    Subscribe,
    /// Send as well.
    Publish,
    /// Nothing.
    Refuse,
}

/// MatrixRTC authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// The endpoints are served.
    pub enabled: bool,
    /// The WebSocket URL told to clients; `None`: derived from each request.
    pub url: Option<String>,
    /// Whose users' rooms are created; `*` alone: everybody's.
    pub full_access_homeservers: Vec<String>,
    /// What users of all others may do.
    pub restricted: Restricted,
    /// How long a token may be used to connect.
    pub token_lifetime: Duration,
    /// Requests a minute of one address, user and homeserver.
    pub requests: [u32; 3],
    /// Delayed leaves are taken over.
    pub delegation: bool,
    /// Where they are kept over a restart.
    pub store: Option<PathBuf>,
    /// Or the URL of Redis.
    pub redis: Option<Secret>,
    /// Server names and base URLs of their client-server APIs.
    pub client_apis: Vec<(String, String)>,
    /// Server names and base URLs.
    pub homeservers: Vec<(String, String)>,
    /// Authorization services told to clients in the place of a homeserver.
    pub transports: Vec<String>,
    /// Certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Any homeserver may be at a private address.
    pub allow_private_addresses: bool,
    /// Certificates are not checked.
    pub skip_verify_tls: bool,
    /// A homeserver has us as an application service.
    pub app_service: Option<AppService>,
}

impl Matrix {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let set = |path| Some(values.text(path)).filter(|text| !text.is_empty());
        let matrix = Self {
            enabled: values.flag("matrix.enabled"),
            url: set("matrix.url"),
            full_access_homeservers: values.texts("matrix.full_access_homeservers"),
            restricted: restricted(values, complaints),
            token_lifetime: values.duration("matrix.token_lifetime"),
            requests: [
                values.count("matrix.requests_per_address"),
                values.count("matrix.requests_per_user"),
                values.count("matrix.requests_per_homeserver"),
            ],
            delegation: values.flag("matrix.delegation"),
            store: set("matrix.store").map(PathBuf::from),
            redis: set("matrix.redis").map(Secret::new),
            client_apis: values.map("matrix.client_apis"),
            homeservers: values.map("matrix.homeservers"),
            transports: values.texts("matrix.transports"),
            ca_file: set("matrix.ca_file").map(PathBuf::from),
            allow_private_addresses: values.flag("matrix.allow_private_addresses"),
            skip_verify_tls: skip_verify(values, complaints),
            app_service: AppService::read(values, complaints),
        };
        if matrix.enabled {
            matrix.urls(values, complaints);
            matrix.access(values, complaints);
            matrix.kept(values, complaints);
        }
        matrix
    }

    /// Are delayed leaves taken over?
    #[must_use]
    pub const fn delegates(&self) -> bool {
        self.enabled && self.delegation
    }

    /// Is anybody to be told who comes and goes?
    #[must_use]
    pub const fn wants_presence(&self) -> bool {
        self.delegates() || self.app_service.is_some()
    }

    /// URLs are used or told to clients much later: what is wrong with one is told now.
    fn urls(&self, values: &Values, complaints: &mut Complaints) {
        const URL: &str = "matrix.url";
        const HOMESERVERS: &str = "matrix.homeservers";
        if let Some(url) = &self.url
            && !is_url(url, &["wss://", "ws://", "https://", "http://"])
        {
            let cause = format!("`{}` is no URL that a client can open", quoted(url));
            let fix = "write for example wss://rtc.example.org/livekit/sfu";
            complaints.error(URL, values.place(URL), cause, fix);
        }
        const TRANSPORTS: &str = "matrix.transports";
        let service =
            |url: &str| is_url(url, &["https://", "http://"]) && !url.ends_with("/sfu/get");
        for url in self.transports.iter().filter(|url| !service(url)) {
            let cause = format!("`{}` is no URL of an authorization service", quoted(url));
            let fix = "write for example https://rtc.example.org/livekit/jwt, to which clients add /sfu/get";
            complaints.error(TRANSPORTS, values.place(TRANSPORTS), cause, fix);
        }
        const CLIENT_APIS: &str = "matrix.client_apis";
        let named = self.homeservers.iter().map(|entry| (HOMESERVERS, entry));
        let apis = self.client_apis.iter().map(|entry| (CLIENT_APIS, entry));
        for (key, (name, url)) in named.chain(apis) {
            if !is_url(url, &["https://", "http://"]) {
                let cause = format!("`{}`: `{}` is no base URL", quoted(name), quoted(url));
                let fix = "write for example `example.org: http://synapse:8008`";
                complaints.error(key, values.place(key), cause, fix);
            }
        }
    }

    /// Leaves are kept in one place, and no complaint shows a password.
    fn kept(&self, values: &Values, complaints: &mut Complaints) {
        const KEY: &str = "matrix.redis";
        let Some(url) = &self.redis else { return };
        if let Some((cause, fix)) = redis_fault(url) {
            complaints.error(KEY, values.place(KEY), cause, fix);
        } else if self.store.is_some() {
            let cause = "matrix.store is set too, and leaves are kept in one place";
            complaints.error(KEY, values.place(KEY), cause, "remove one of the two");
        }
    }

    /// Full access means something only where a join does not create the room.
    fn access(&self, values: &Values, complaints: &mut Complaints) {
        const KEY: &str = "matrix.full_access_homeservers";
        let names = &self.full_access_homeservers;
        let everyone = names.iter().any(|name| name == "*");
        let auto_create = values.flag("room.auto_create");
        if everyone && names.len() > 1 {
            let fix = "write `*` alone, or names alone";
            let cause = "`*` beside names matches nothing";
            complaints.warning(KEY, values.place(KEY), cause, fix);
        } else if everyone && !auto_create {
            let cause =
                "`*` lets users of every homeserver create rooms, though room.auto_create is false";
            let fix = "name the homeservers that you serve";
            complaints.warning(KEY, values.place(KEY), cause, fix);
        } else if !everyone && auto_create && values.is_set(KEY) {
            let cause = "room.auto_create is true, so users of all homeservers create rooms";
            if values.flag("matrix.allow_auto_create") {
                let fix = "nothing, if that is meant";
                return complaints.warning(KEY, values.place(KEY), cause, fix);
            }
            let fix = "remove room.auto_create, or set matrix.allow_auto_create if that is meant";
            complaints.error(KEY, values.place(KEY), cause, fix);
        }
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&self.token_lifetime) {
            const LIFETIME: &str = "matrix.token_lifetime";
            let cause = "not between 10 seconds and 24 hours";
            complaints.error(
                LIFETIME,
                values.place(LIFETIME),
                cause,
                "write for example 1h",
            );
        }
    }
}

/// Who creates rooms by asking for a token needs no joins that do: where homeservers are named,
/// `room.auto_create` is off unless it was set.
pub(super) fn apply(values: &mut Values) {
    const KEY: &str = "matrix.full_access_homeservers";
    let named = values.is_set(KEY) && values.texts(KEY) != ["*"];
    if named && values.flag("matrix.enabled") && !values.is_set("room.auto_create") {
        let place = values.place(KEY);
        values.set("room.auto_create", Value::Bool(false), place);
    }
}

/// What is wrong with the URL of Redis, and how to mend it.
pub fn redis_fault(url: &Secret) -> Option<(&'static str, &'static str)> {
    let known = ["redis://", "redis+unix://", "unix://"];
    let url = url.reveal();
    if url.starts_with("rediss://") {
        let fix = "use redis:// in a network of your own, or keep leaves in a file";
        return Some(("Redis over TLS is not supported", fix));
    }
    let is_known = known.iter().any(|scheme| url.starts_with(scheme));
    (!is_known).then_some((
        "no URL of Redis",
        "write for example redis://127.0.0.1:6379/0",
    ))
}

fn restricted(values: &Values, complaints: &mut Complaints) -> Restricted {
    const KEY: &str = "matrix.restricted_access";
    match values.text(KEY).as_str() {
        "subscribe" => Restricted::Subscribe,
        "publish" => Restricted::Publish,
        "refuse" => Restricted::Refuse,
        other => {
            let cause = format!("`{}` is no access", quoted(other));
            let fix = "write subscribe, publish or refuse";
            complaints.error(KEY, values.place(KEY), cause, fix);
            Restricted::Refuse
        }
    }
}

fn skip_verify(values: &Values, complaints: &mut Complaints) -> bool {
    const KEY: &str = "matrix.insecure_skip_verify_tls";
    let text = values.text(KEY);
    let skips = text == SKIP_VERIFY;
    let (cause, fix) = if skips {
        (
            "certificates of homeservers are not checked: anybody on the way to one can make up users",
            "remove it, and name the authority in matrix.ca_file",
        )
    } else if text.is_empty() {
        return false;
    } else {
        (
            "not the words that switch checking off: certificates are checked",
            "remove it",
        )
    };
    complaints.warning(KEY, values.place(KEY), cause, fix);
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (Matrix, Vec<String>) {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(yaml, "f", true, &mut complaints);
        apply(&mut values);
        let matrix = Matrix::read(&values, &mut complaints);
        let lines = complaints.list().iter().map(ToString::to_string).collect();
        (matrix, lines)
    }

    #[test]
    fn without_configuration_it_serves_everybody_and_complains_of_nothing() {
        let (matrix, complaints) = read("{}");
        assert!(matrix.enabled && !matrix.allow_private_addresses && !matrix.skip_verify_tls);
        assert_eq!(matrix.full_access_homeservers, ["*"]);
        assert_eq!((matrix.url, matrix.ca_file), (None, None));
        assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn leaves_are_kept_in_one_place_and_no_complaint_shows_its_password() {
        for (yaml, cause) in [
            ("{redis: 'redis://:pass-word@h/0'}", None),
            ("{redis: 'redis+unix:///run/redis.sock'}", None),
            ("{redis: 'rediss://:pass-word@h'}", Some("over TLS")),
            ("{redis: 'h:6379?pass-word'}", Some("no URL")),
            (
                "{redis: 'redis://:pass-word@h', store: /s}",
                Some("one place"),
            ),
        ] {
            let (matrix, complaints) = read(&format!("matrix: {yaml}"));
            match cause {
                None => assert!(complaints.is_empty(), "{yaml}: {complaints:?}"),
                Some(cause) => assert!(complaints[0].contains(cause), "{yaml}: {complaints:?}"),
            }
            assert!(!format!("{matrix:?} {complaints:?}").contains("pass-word"));
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_at_once() {
        for (yaml, wrong) in [
            ("matrix: {url: rtc.example.org}", true),
            ("matrix: {url: 'wss://'}", true),
            ("matrix: {url: 'wss://h/a b'}", true),
            ("matrix: {url: 'wss://h:99999'}", true),
            ("matrix: {url: 'wss://a..example'}", true),
            ("matrix: {url: 'wss://[::1'}", true),
            ("matrix: {transports: [rtc.example.org]}", true),
            (
                "matrix: {transports: ['https://h/livekit/jwt/sfu/get']}",
                true,
            ),
            ("matrix: {transports: ['https://h/livekit/jwt']}", false),
            ("matrix: {url: 'wss://h:1/livekit/sfu'}", false),
            ("matrix: {url: 'wss://192.0.2.1'}", false),
            ("matrix: {homeservers: {a.example: 'synapse:8008'}}", true),
            ("matrix: {homeservers: {a.example: 'http://u@h'}}", true),
            ("matrix: {homeservers: {a.example: 'http://h:70000'}}", true),
            (
                "matrix: {homeservers: {'a.example:1': 'http://[::1]:8008/x'}}",
                false,
            ),
            ("matrix: {enabled: false, url: nonsense}", false),
        ] {
            let (_, complaints) = read(yaml);
            let errors = complaints.iter().filter(|line| line.starts_with("error:"));
            assert_eq!(errors.count() > 0, wrong, "{yaml}: {complaints:?}");
        }
    }

    #[test]
    fn full_access_that_means_nothing_is_told() {
        let warned = |yaml: &str| !read(yaml).1.is_empty();
        assert!(warned(
            "{room: {auto_create: true}, matrix: {full_access_homeservers: [a.example]}}"
        ));
        assert!(warned("room: {auto_create: false}"));
        assert!(warned(
            "matrix: {full_access_homeservers: ['*', a.example]}"
        ));
        assert!(!warned(
            "{room: {auto_create: false}, matrix: {full_access_homeservers: [a.example]}}"
        ));
    }

    #[test]
    fn joins_create_no_rooms_where_homeservers_are_named_unless_that_is_forced() {
        let auto_create = |yaml: &str| {
            let (mut values, mut complaints) = (Values::default(), Complaints::default());
            values.read_yaml(yaml, "f", true, &mut complaints);
            apply(&mut values);
            Matrix::read(&values, &mut complaints);
            (values.flag("room.auto_create"), complaints.has_errors())
        };
        assert_eq!(auto_create("{}"), (true, false));
        assert_eq!(
            auto_create("matrix: {full_access_homeservers: ['*']}"),
            (true, false)
        );
        let named = "full_access_homeservers: [a.example]";
        assert_eq!(auto_create(&format!("matrix: {{{named}}}")), (false, false));
        let kept = format!("{{room: {{auto_create: true}}, matrix: {{{named}}}}}");
        assert_eq!(auto_create(&kept), (true, true));
        let forced = format!(
            "{{room: {{auto_create: true}}, matrix: {{{named}, allow_auto_create: true}}}}"
        );
        assert_eq!(auto_create(&forced), (true, false));
    }

    #[test]
    fn access_and_lifetime_are_what_they_can_be() {
        for (yaml, restricted) in [
            ("{}", Restricted::Subscribe),
            ("matrix: {restricted_access: publish}", Restricted::Publish),
            ("matrix: {restricted_access: refuse}", Restricted::Refuse),
        ] {
            let (matrix, complaints) = read(yaml);
            assert_eq!(matrix.restricted, restricted);
            assert!(complaints.is_empty(), "{complaints:?}");
        }
        for yaml in [
            "matrix: {restricted_access: none}",
            "matrix: {token_lifetime: 1s}",
            "matrix: {token_lifetime: 48h}",
        ] {
            assert!(read(yaml).1[0].starts_with("error:"), "{yaml}");
        }
    }

    #[test]
    fn only_the_exact_words_switch_checking_off() {
        for (words, off) in [(SKIP_VERIFY, true), ("true", false), ("yes_i_know", false)] {
            let (matrix, complaints) =
                read(&format!("matrix: {{insecure_skip_verify_tls: '{words}'}}"));
            assert_eq!(matrix.skip_verify_tls, off, "{words}");
            assert_eq!(complaints.len(), 1, "{complaints:?}");
        }
    }
}
