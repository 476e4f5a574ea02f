//! Our host candidates as text.
//!
//! Owns their numbering, priorities and form. It knows nothing of sockets: the addresses are those
//! the operator advertises. Called when an answer is written and when candidates are trickled.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Addresses told to a client: each costs it a check. More are left out, and `host` says how many
/// it took by the length of its answer.
pub const CANDIDATES: usize = 16;

/// Type preference of a host candidate. (RFC 8445 §5.1.2.1)
const HOST_PREFERENCE: u32 = 126;
/// Local preference of the first address; RFC 8445 §5.1.2.1 allows 0 to 65535.
const LOCAL_PREFERENCE_MAX: u32 = 65_535;
/// The one component: RTCP is multiplexed.
const COMPONENT: u32 = 1;

/// One `candidate:…` line for each address, in the form of `RTCIceCandidateInit.candidate`; put
/// `a=` before it for a session description. Families alternate with IPv6 first, so that neither
/// starves the other (RFC 8421 §4); within a family the order given is the order preferred.
/// An unspecified address is nobody's and left out.
#[must_use]
pub fn host(addresses: &[SocketAddr]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ips: Vec<IpAddr> = Vec::new();
    let mut taken = [0u32; 2];
    for address in addresses {
        let ip = address.ip().to_canonical();
        if ip.is_unspecified() || lines.len() >= CANDIDATES {
            continue;
        }
        // One foundation for each base address. (RFC 8445 §5.1.1.3)
        let foundation = ips
            .iter()
            .position(|&known| known == ip)
            .unwrap_or(ips.len());
        if foundation == ips.len() {
            ips.push(ip);
        }
        let family = usize::from(ip.is_ipv4());
        let local = LOCAL_PREFERENCE_MAX - 2 * taken[family] - u32::from(ip.is_ipv4());
        taken[family] += 1;
        let mut line = String::with_capacity(80);
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "candidate:{} {COMPONENT} udp {} {ip} {} typ host generation 0",
            foundation + 1,
            priority(local),
            address.port()
        );
        lines.push(line);
    }
    lines
}

/// The priority of a host candidate. (RFC 8445 §5.1.2.1)
const fn priority(local_preference: u32) -> u32 {
    (HOST_PREFERENCE << 24) + (local_preference << 8) + (256 - COMPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_host_candidate_has_the_form_browsers_write() {
        assert_eq!(
            host(&addresses(&["[2001:db8::1]:7882"])),
            ["candidate:1 1 udp 2130706431 2001:db8::1 7882 typ host generation 0"]
        );
        assert_eq!(
            host(&addresses(&["192.0.2.1:7882"])),
            ["candidate:1 1 udp 2130706175 192.0.2.1 7882 typ host generation 0"]
        );
    }

    fn priorities(lines: &[String]) -> Vec<u32> {
        let field = |line: &String| line.split(' ').nth(3).unwrap().parse().unwrap();
        lines.iter().map(field).collect()
    }

    #[test]
    fn families_alternate_and_ipv6_comes_first() {
        let lines = host(&addresses(&[
            "192.0.2.1:1",
            "192.0.2.2:1",
            "[2001:db8::1]:1",
            "[2001:db8::2]:1",
        ]));
        let [v4_first, v4_second, v6_first, v6_second] = priorities(&lines)[..] else {
            panic!("four candidates");
        };
        assert!(v6_first > v4_first && v4_first > v6_second && v6_second > v4_second);
    }

    #[test]
    fn ports_of_one_address_share_its_foundation() {
        let lines = host(&addresses(&["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"]));
        let foundations: Vec<&str> = lines
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(foundations, ["candidate:1", "candidate:1", "candidate:2"]);
    }

    #[test]
    fn mapped_addresses_are_told_as_ipv4_and_unspecified_ones_not_at_all() {
        let lines = host(&addresses(&["[::ffff:192.0.2.1]:1", "0.0.0.0:1", "[::]:1"]));
        assert_eq!(
            lines,
            ["candidate:1 1 udp 2130706175 192.0.2.1 1 typ host generation 0"]
        );
    }

    #[test]
    fn no_more_than_the_limit_are_told() {
        let many: Vec<SocketAddr> = (0..100)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
            .collect();
        assert_eq!(host(&many).len(), CANDIDATES);
    }
}
