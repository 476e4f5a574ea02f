//! The main port.

use crate::config::check::addresses;
use crate::config::cidr::Cidr;
use crate::config::complaint::{Complaints, quoted};
use crate::config::raw::Values;
use proto::signal::MAX_FRAME_BYTES;
use std::net::IpAddr;

/// Prefixes at most; each is one more mount of the whole router.
const MOST_PREFIXES: usize = 16;
/// First path segments that are routes of their own and cannot be prefixes.
const TAKEN: [&str; 12] = [
    "rtc",
    "twirp",
    "try",
    "healthz",
    "readyz",
    "sfu",
    "get_token",
    "delegate_delayed_leave",
    "sfu_webhook",
    "whip",
    "agent",
    "metrics",
];
/// What a size of 0, "no limit", means: everything has one.
const UNLIMITED_BYTES: usize = 256 << 20;

/// The main port: HTTP and WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// TCP port; 0: any free one.
    pub port: u16,
    /// Where to listen; empty: everywhere.
    pub bind_addresses: Vec<IpAddr>,
    /// Paths under which everything is served once more, `/a/b` each.
    pub path_prefixes: Vec<String>,
    /// Proxies whose word on where a request came from is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Bytes of an API request's body.
    pub max_api_request_body_size: usize,
    /// Bytes of one signalling message.
    pub signal_message_size_limit: usize,
}

impl Http {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let size = |path| match usize::try_from(values.uint(path)) {
            Ok(0) | Err(_) => UNLIMITED_BYTES,
            Ok(bytes) => bytes,
        };
        Self {
            port: values.port("port"),
            bind_addresses: addresses("bind_addresses", values, complaints),
            path_prefixes: prefixes(values, complaints),
            trusted_proxies: trusted_proxies(values, complaints),
            max_api_request_body_size: size("limit.max_api_request_body_size"),
            signal_message_size_limit: message_size(values, complaints),
        }
    }
}

/// Blocks, or single addresses.
fn trusted_proxies(values: &Values, complaints: &mut Complaints) -> Vec<Cidr> {
    const KEY: &str = "http.trusted_proxies";
    let mut list = Vec::new();
    for text in values.texts(KEY).iter().filter(|text| !text.is_empty()) {
        let single = |ip: IpAddr| Cidr::new(ip, if ip.is_ipv4() { 32 } else { 128 }).ok();
        let block = text.parse().ok().or_else(|| single(text.parse().ok()?));
        match block {
            Some(block) => list.push(block),
            None => {
                let cause = format!("`{}` is no address or block", quoted(text));
                let fix = "write for example 127.0.0.1, ::1 or 10.0.0.0/8";
                complaints.error(KEY, values.place(KEY), cause, fix);
            }
        }
    }
    list
}

/// Bytes of a message: what the operator allows, as far as a frame can hold it.
fn message_size(values: &Values, complaints: &mut Complaints) -> usize {
    const KEY: &str = "limit.signal_message_size_limit";
    match usize::try_from(values.uint(KEY)) {
        Ok(bytes @ 1..=MAX_FRAME_BYTES) => bytes,
        Ok(0) => MAX_FRAME_BYTES,
        _ => {
            let cause = format!("Foci takes {MAX_FRAME_BYTES} bytes at most, and does so");
            complaints.warning(KEY, values.place(KEY), cause, "lower it");
            MAX_FRAME_BYTES
        }
    }
}

/// The prefixes that can be mounted, without the slash at their end, none twice.
fn prefixes(values: &Values, complaints: &mut Complaints) -> Vec<String> {
    const KEY: &str = "http.path_prefixes";
    let mut list: Vec<String> = Vec::new();
    for text in values.texts(KEY) {
        let prefix = text.trim_end_matches('/');
        if let Err(cause) = usable(prefix) {
            let cause = format!("`{}` {cause}", quoted(&text));
            complaints.error(
                KEY,
                values.place(KEY),
                cause,
                "write for example /livekit/sfu",
            );
        } else if list.len() == MOST_PREFIXES {
            let cause = format!("more than {MOST_PREFIXES} prefixes");
            complaints.error(KEY, values.place(KEY), cause, "remove some");
            break;
        } else if !list.iter().any(|known| known == prefix) {
            list.push(prefix.to_owned());
        }
    }
    list
}

fn usable(prefix: &str) -> Result<(), &'static str> {
    let Some(path) = prefix.strip_prefix('/') else {
        return Err("does not begin with /, or is / itself");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if !path
        .split('/')
        .all(|part| !part.is_empty() && part.chars().all(plain))
    {
        return Err("has an empty part or a character other than letters, digits and -_.~");
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err("contains . or ..");
    }
    let first = path.split('/').next().unwrap_or_default();
    if TAKEN.contains(&first) {
        return Err("begins with a path of Foci itself");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_path_that_hides_no_route() {
        assert_eq!(usable("/livekit/sfu"), Ok(()));
        for bad in [
            "", "livekit", "/a//b", "/a/../b", "/{x}", "/a b", "/rtc/v1", "/a/*rest",
        ] {
            assert!(usable(bad).is_err(), "{bad}");
        }
    }
}
