//! Who asks: the token of an HTTP request, and the address it came from.
//!
//! Owns where a token is looked for and what a refusal is logged as. Judging it is `proto::token`'s
//! part, what it permits the handler's. Never logs a token or a query. Called by `http/router`.
//! (LK: signalling §1.3, operation §1)

use crate::config::cidr::Cidr;
use crate::crowd::is_public;
use axum::extract::{ConnectInfo, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use proto::token::{Claims, Keys, TokenError, Verified};
use std::net::{IpAddr, SocketAddr};
use tracing::warn;

/// Verifies the request's token; `None` if it has none, which handlers judge. `now_unix` in seconds.
///
/// # Errors
/// There is a token, and it is not valid. The refusal is logged.
pub fn authenticate(
    keys: &Keys,
    request: &Parts,
    now_unix: u64,
) -> Result<Option<Verified<Claims>>, TokenError> {
    let verified = match token(&request.headers, &request.uri) {
        Ok(Some(token)) => keys.verify(&token, now_unix).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    if let Err(error) = &verified {
        log_refusal(request, 401, error);
    }
    verified
}

/// Logs a refused request, with the address that it claims.
pub fn log_refusal(request: &Parts, status: u16, error: &dyn std::error::Error) {
    let client_ip = client_address(request).map(|ip| ip.to_string());
    warn!(
        status,
        method = %request.method,
        path = request.uri.path(),
        error = %error,
        clientIP = client_ip.as_deref().unwrap_or("unknown"),
        "error handling request"
    );
}

/// The query parameters, percent-decoded.
#[must_use]
pub fn query(uri: &Uri) -> Vec<(String, String)> {
    Query::try_from_uri(uri).map_or_else(|_| Vec::new(), |Query(pairs)| pairs)
}

/// The value of a query parameter, percent-decoded; the first one of that name.
#[must_use]
pub fn query_value(uri: &Uri, name: &str) -> Option<String> {
    query(uri)
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// Where the client is, as far as headers of proxies and the socket tell; anybody can write such a
/// header, so it is good for logs only.
#[must_use]
pub fn client_address(request: &Parts) -> Option<IpAddr> {
    let named = |header: &str| {
        let value = request.headers.get(header)?.to_str().ok()?;
        let first = value.split(',').next()?.trim();
        first.parse::<IpAddr>().ok()
    };
    let socket = || {
        let ConnectInfo(address) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(address.ip())
    };
    named("cf-connecting-ip")
        .or_else(|| named("x-forwarded-for"))
        .or_else(|| named("x-real-ip"))
        .or_else(socket)
}

/// Where the client is, as far as that can be believed: what a header says counts only if the request
/// came from a proxy that is trusted. `None` for a private address where no proxy is: it is one most
/// likely, and has everybody behind it.
#[must_use]
pub fn believed_address(request: &Parts, trusted: &[Cidr]) -> Option<IpAddr> {
    let ConnectInfo(socket) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let socket = socket.ip().to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|block| block.contains(ip));
    if !is_trusted(socket) {
        return (!trusted.is_empty() || is_public(socket)).then_some(socket);
    }
    // The last one that no proxy of ours wrote of another: whatever stands before may be made up. Every proxy
    // writes this header itself, and passes on any other that clients like to send.
    let lines = request.headers.get_all("x-forwarded-for");
    let lines: Vec<&str> = lines.iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let forwarded = hops
        .map_while(|hop| hop.trim().parse().ok())
        .map(|ip: IpAddr| ip.to_canonical())
        .find(|ip| !is_trusted(*ip));
    Some(forwarded.unwrap_or(socket))
}

/// Whom a connection from `remote` is of, as far as that tells; `None` if it is of a proxy that is trusted,
/// or of one most likely: behind either is everybody.
#[must_use]
pub fn client_end(remote: IpAddr, trusted: &[Cidr]) -> Option<IpAddr> {
    let ip = remote.to_canonical();
    let is_trusted = trusted.iter().any(|block| block.contains(ip));
    let is_proxy = is_trusted || (trusted.is_empty() && !is_public(ip));
    (!is_proxy).then_some(ip)
}

/// A proxy whose word on where the client is counts for nothing, since nobody named it: a request that says
/// where it comes from, by way of an address that is private. (What comes by a public one anybody may have
/// written.)
#[must_use]
pub fn unnamed_proxy(request: &Parts, trusted: &[Cidr]) -> Option<IpAddr> {
    let ConnectInfo(socket) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let socket = socket.ip().to_canonical();
    let is_trusted = trusted.iter().any(|block| block.contains(socket));
    let says = request.headers.contains_key("x-forwarded-for");
    (says && !is_trusted && !is_public(socket)).then_some(socket)
}

/// The header wins over the parameter, even a useless one.
fn token(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, TokenError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(query_value(uri, "access_token").filter(|token| !token.is_empty()));
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "))
        .ok_or(TokenError::Scheme)?;
    Ok(Some(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use proto::token::{Secret, VideoGrant};
    use std::time::Duration;

    fn keys() -> Keys {
        [("key".to_owned(), Secret::new("secret"))]
            .into_iter()
            .collect()
    }

    fn signed(identity: &str) -> String {
        let claims = Claims {
            identity: identity.into(),
            video: Some(VideoGrant::join("r")),
            ..Claims::default()
        };
        let token = keys().sign(&claims, Duration::from_secs(60), 1000);
        token.expect("signed")
    }

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("request").into_parts().0
    }

    fn identity(request: &Parts) -> Result<Option<String>, TokenError> {
        let verified = authenticate(&keys(), request, 1000)?;
        Ok(verified.map(|claims| claims.identity.clone()))
    }

    #[test]
    fn headers_are_believed_of_trusted_proxies_only() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "::1/128"]
            .map(|text| text.parse().expect("a block"))
            .to_vec();
        let address = |socket: &str, headers: &[(&str, &str)], trusted: &[Cidr]| {
            let mut request = request("/", headers);
            let peer: SocketAddr = socket.parse().expect("an address");
            request.extensions.insert(ConnectInfo(peer));
            believed_address(&request, trusted).map(|ip| ip.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        let forged = ("X-Forwarded-For", "192.0.2.1");
        assert_eq!(
            address("198.51.100.1:5", &[forged], &trusted),
            is("198.51.100.1")
        );
        assert_eq!(
            address("198.51.100.1:5", &[forged], &[]),
            is("198.51.100.1")
        );
        // Behind a proxy that nobody named everybody would be one.
        assert_eq!(address("127.0.0.1:5", &[forged], &[]), None);
        assert_eq!(address("100.64.0.2:5", &[forged], &[]), None);
        assert_eq!(address("10.0.0.2:5", &[forged], &trusted), is("192.0.2.1"));
        assert_eq!(
            address("[::ffff:10.0.0.2]:5", &[forged], &trusted),
            is("192.0.2.1")
        );
        // What the client wrote itself stands before what our proxies wrote.
        let chain = ("X-Forwarded-For", "203.0.113.9, 192.0.2.1, 10.0.0.3");
        assert_eq!(address("10.0.0.2:5", &[chain], &trusted), is("192.0.2.1"));
        let added = ("X-Forwarded-For", "198.51.100.4");
        assert_eq!(
            address("10.0.0.2:5", &[chain, added], &trusted),
            is("198.51.100.4")
        );
        // What no proxy writes the client may have written.
        for name in ["CF-Connecting-IP", "X-Real-IP"] {
            let claimed = (name, "192.0.2.7");
            assert_eq!(
                address("[::1]:5", &[claimed, chain], &trusted),
                is("192.0.2.1")
            );
            assert_eq!(address("[::1]:5", &[claimed], &trusted), is("::1"));
        }
        assert_eq!(address("10.0.0.2:5", &[], &trusted), is("10.0.0.2"));
        let nonsense = ("X-Forwarded-For", "192.0.2.1, nonsense");
        assert_eq!(address("10.0.0.2:5", &[nonsense], &trusted), is("10.0.0.2"));
    }

    #[test]
    fn a_proxy_is_unnamed_if_it_is_near_and_says_for_whom_it_asks() {
        let trusted: Vec<Cidr> = vec!["10.0.0.0/8".parse().expect("a block")];
        let unnamed = |socket: &str, headers: &[(&str, &str)]| {
            let mut request = request("/", headers);
            let peer: SocketAddr = socket.parse().expect("an address");
            request.extensions.insert(ConnectInfo(peer));
            unnamed_proxy(&request, &trusted).map(|ip| ip.to_string())
        };
        let says = [("X-Forwarded-For", "192.0.2.1")];
        assert_eq!(unnamed("127.0.0.1:5", &says), Some("127.0.0.1".to_owned()));
        let mapped = unnamed("[::ffff:172.18.0.2]:5", &says);
        assert_eq!(mapped, Some("172.18.0.2".to_owned()));
        let by_vpn = unnamed("100.100.0.2:5", &says);
        assert_eq!(by_vpn, Some("100.100.0.2".to_owned()));
        assert_eq!(unnamed("127.0.0.1:5", &[]), None);
        assert_eq!(unnamed("10.0.0.2:5", &says), None, "it is trusted");
        assert_eq!(unnamed("198.51.100.1:5", &says), None, "it may be anybody");
    }

    #[test]
    fn a_token_comes_in_the_header_or_in_the_query() {
        let (alice, bob) = (signed("alice"), signed("bob"));
        let bearer = format!("Bearer {alice}");
        let query = format!("/rtc/v1?x=1&access_token={bob}");
        let by_header = request("/rtc/v1", &[("Authorization", &bearer)]);
        assert_eq!(identity(&by_header), Ok(Some("alice".into())));
        assert_eq!(identity(&request(&query, &[])), Ok(Some("bob".into())));
        let both = request(&query, &[("Authorization", &bearer)]);
        assert_eq!(identity(&both), Ok(Some("alice".into())));
        assert_eq!(identity(&request("/rtc/v1", &[])), Ok(None));
        assert_eq!(identity(&request("/?access_token=", &[])), Ok(None));
    }

    #[test]
    fn a_header_without_bearer_is_refused_whatever_the_query_says() {
        let query = format!("/?access_token={}", signed("alice"));
        for value in ["Basic abc", "bearer abc", "Bearer", ""] {
            let refused = identity(&request(&query, &[("Authorization", value)]));
            assert_eq!(refused, Err(TokenError::Scheme), "{value}");
        }
        let empty = identity(&request("/", &[("Authorization", "Bearer ")]));
        assert_eq!(empty, Err(TokenError::Malformed));
    }

    #[test]
    fn the_nearest_proxy_that_names_an_address_is_believed() {
        let address = |headers: &[(&str, &str)]| {
            let mut request = request("/", headers);
            let peer = SocketAddr::from(([127, 0, 0, 1], 5));
            request.extensions.insert(ConnectInfo(peer));
            client_address(&request).map(|ip| ip.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(address(&[]), is("127.0.0.1"));
        assert_eq!(address(&[("X-Real-IP", "2001:db8::1")]), is("2001:db8::1"));
        let forwarded = ("X-Forwarded-For", "192.0.2.1, 10.0.0.1");
        assert_eq!(
            address(&[("X-Real-IP", "10.0.0.2"), forwarded]),
            is("192.0.2.1")
        );
        assert_eq!(
            address(&[("CF-Connecting-IP", "192.0.2.9"), forwarded]),
            is("192.0.2.9")
        );
        assert_eq!(
            address(&[("X-Forwarded-For", "evil\tlog")]),
            is("127.0.0.1")
        );
        assert_eq!(client_address(&request("/", &[])), None);
    }

    #[test]
    fn a_parameter_is_percent_decoded() {
        let uri = Uri::from_static("/?join_request=ab%3D%3D&join_request=no");
        assert_eq!(query_value(&uri, "join_request"), Some("ab==".into()));
        assert_eq!(query_value(&uri, "absent"), None);
    }
}
