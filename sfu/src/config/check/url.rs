//! What a URL or a server name that an operator wrote must look like to be of use.

use std::net::Ipv6Addr;

/// One of these schemes, a host, perhaps a path; nothing that does not belong into a base URL.
pub fn is_url(text: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let Some(rest) = rest else { return false };
    let printable = |byte: u8| byte.is_ascii_graphic() && !b"?#@\"\\<>`".contains(&byte);
    is_authority(rest.split('/').next().unwrap_or_default()) && rest.bytes().all(printable)
}

/// Where a URL of TLS leads: its host, and 443 unless it says another port.
pub(super) fn host_over_tls(url: &str) -> Option<(&str, u16)> {
    const PORT: u16 = 443;
    let schemes = ["https://", "wss://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme))?;
    let authority = rest.split('/').next().filter(|text| is_authority(text))?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, PORT)),
    }
}

/// A host or address, perhaps with a port.
pub(super) fn is_authority(text: &str) -> bool {
    let (host_fits, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, port)) => (ip.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_host(host), port)
        }
    };
    let port_fits = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok();
    host_fits && (port.is_empty() || port.strip_prefix(':').is_some_and(port_fits))
}

/// A name of DNS, or an address of IPv4, which looks like one.
pub(super) fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    let bare = text.strip_suffix('.').unwrap_or(text);
    bare.len() <= 253 && bare.split('.').all(label)
}
