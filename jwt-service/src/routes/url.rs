//! The SFU's URL for whoever asked, where the operator set none.
//!
//! The SFU is where the question was asked: the same host, and the prefix of the authorization
//! service exchanged for the SFU's. Pure. (LK: jwt-service §11 for the prefixes)

use http::{HeaderMap, HeaderName, header};

/// Deployments of Element Call serve the two below these.
const OURS: &str = "/livekit/jwt";
const SFU: &str = "/livekit/sfu";

const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTOCOL: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The URL, from a request whose path as it came was `path` and meant `endpoint`. `None` without a
/// usable host.
pub(super) fn derived(headers: &HeaderMap, path: &str, endpoint: &str) -> Option<String> {
    let host = first(headers, &HOST).or_else(|| first(headers, &header::HOST))?;
    if !is_authority(host) {
        return None;
    }
    let scheme = if is_secure(headers, host) {
        "wss"
    } else {
        "ws"
    };
    let before = path.strip_suffix(endpoint).unwrap_or_default();
    let taken = first(headers, &PREFIX).unwrap_or_default();
    let prefix = tidy(taken)? + &tidy(before)?;
    let prefix = match prefix.strip_suffix(OURS) {
        Some(outer) => format!("{outer}{SFU}"),
        None => prefix,
    };
    Some(format!("{scheme}://{host}{prefix}"))
}

/// The first of a header's values: what the proxy nearest to the client said.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let first = value.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
}

/// Host and port, of nothing but the characters these have.
fn is_authority(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    text.len() <= 261 && text.bytes().all(plain)
}

/// A proxy says how it was asked. If it does not: a page that came over https could not ask an
/// http server at all, but one on its own machine.
fn is_secure(headers: &HeaderMap, host: &str) -> bool {
    if let Some(protocol) = first(headers, &PROTOCOL) {
        return ["https", "wss"]
            .iter()
            .any(|known| protocol.eq_ignore_ascii_case(known));
    }
    let own = ["localhost", "127.", "[::1]"]
        .iter()
        .any(|own| host.starts_with(own));
    first(headers, &header::ORIGIN).is_some_and(|origin| origin.starts_with("https://")) && !own
}

/// A prefix without slashes at the end or in a row; `None` if it is no plain path.
fn tidy(path: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    if !path.bytes().all(plain) {
        return None;
    }
    let parts = path.split('/').filter(|part| !part.is_empty());
    Some(parts.flat_map(|part| ["/", part]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str, endpoint: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header"));
        }
        derived(&map, path, endpoint)
    }

    fn of(path: &str, headers: &[(&'static str, &str)]) -> String {
        let with_host: Vec<_> = [("host", "h.example")]
            .iter()
            .chain(headers)
            .copied()
            .collect();
        url(path, "/sfu/get", &with_host).expect("a URL")
    }

    #[test]
    fn the_sfu_is_where_the_question_was_asked() {
        assert_eq!(of("/sfu/get", &[]), "ws://h.example");
        assert_eq!(of("//sfu/get", &[]), "ws://h.example");
        assert_eq!(
            of("/livekit/jwt/sfu/get", &[]),
            "ws://h.example/livekit/sfu"
        );
        assert_eq!(
            of("/livekit/jwt//sfu/get", &[]),
            "ws://h.example/livekit/sfu"
        );
        assert_eq!(
            of("/livekit/sfu/sfu/get", &[]),
            "ws://h.example/livekit/sfu"
        );
        assert_eq!(of("/calls/sfu/get", &[]), "ws://h.example/calls");
        let host = [("host", "localhost:7880")];
        assert_eq!(
            url("/get_token", "/get_token", &host).as_deref(),
            Some("ws://localhost:7880")
        );
        let host = [("host", "[::1]:7880")];
        assert_eq!(
            url("/get_token", "/get_token", &host).as_deref(),
            Some("ws://[::1]:7880")
        );
    }

    #[test]
    fn proxies_are_believed_about_host_protocol_and_the_prefix_they_took_away() {
        let proxied = [
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "rtc.example:8443, inner"),
            ("x-forwarded-prefix", "/livekit/jwt/"),
        ];
        assert_eq!(
            of("/sfu/get", &proxied),
            "wss://rtc.example:8443/livekit/sfu"
        );
        let outer = [("x-forwarded-prefix", "/a")];
        assert_eq!(
            of("/livekit/jwt/sfu/get", &outer),
            "ws://h.example/a/livekit/sfu"
        );
    }

    #[test]
    fn a_page_over_https_gets_a_url_it_may_open() {
        let page = ("origin", "https://call.example");
        assert_eq!(of("/sfu/get", &[page]), "wss://h.example");
        assert_eq!(
            of("/sfu/get", &[("x-forwarded-proto", "http"), page]),
            "ws://h.example"
        );
        assert_eq!(
            of("/sfu/get", &[("origin", "http://call.example")]),
            "ws://h.example"
        );
        let local = [("host", "localhost:7880"), page];
        let local = url("/sfu/get", "/sfu/get", &local);
        assert_eq!(local.as_deref(), Some("ws://localhost:7880"));
    }

    #[test]
    fn a_host_or_prefix_of_other_characters_makes_no_url() {
        for host in ["", "h\"x", "h/x", "h x", "u@h", "h?x", "h<x>"] {
            assert_eq!(
                url("/sfu/get", "/sfu/get", &[("host", host)]),
                None,
                "{host}"
            );
        }
        assert_eq!(url("/sfu/get", "/sfu/get", &[]), None);
        let prefix = [("host", "h"), ("x-forwarded-prefix", "/a?b")];
        assert_eq!(url("/sfu/get", "/sfu/get", &prefix), None);
    }
}
