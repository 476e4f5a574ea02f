//! Our host candidates: what they are, and as text.
//!
//! Owns their numbering, priorities and form. It knows nothing of sockets: the addresses are those
//! the operator advertises. Called when an answer is written and when candidates are trickled.

use crate::media::message::PathTransport;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Addresses of one transport told to a client: each costs it a check. More are left out.
pub const CANDIDATES: usize = 16;

/// Type preference of a host candidate of UDP. (RFC 8445 §5.1.2.1)
const HOST_PREFERENCE: u32 = 126;
/// The same of TCP: below everything UDP has to offer but relays. (RFC 6544 §4.2; LK: Pion takes
/// off 27)
const TCP_HOST_PREFERENCE: u32 = HOST_PREFERENCE - 27;
/// Local preference of the first address; RFC 8445 §5.1.2.1 allows 0 to 65535.
const LOCAL_PREFERENCE_MAX: u32 = 65_535;
/// The same of TCP: direction passive, then 13 bits of our own. (RFC 6544 §4.2; LK: as Pion)
const TCP_LOCAL_PREFERENCE_MAX: u32 = (4 << 13) + 8191;
/// The one component: RTCP is multiplexed.
const COMPONENT: u32 = 1;

/// Where clients are told to find us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// UDP or TCP.
    pub transport: PathTransport,
    /// The address as clients reach it.
    pub at: SocketAddr,
    /// A local address, beside the public one that leads to it.
    pub internal: bool,
}

impl Candidate {
    /// Of UDP.
    #[must_use]
    pub const fn udp(at: SocketAddr) -> Self {
        Self::of(PathTransport::Udp, at)
    }

    /// Of TCP: the client connects.
    #[must_use]
    pub const fn tcp(at: SocketAddr) -> Self {
        Self::of(PathTransport::Tcp, at)
    }

    const fn of(transport: PathTransport, at: SocketAddr) -> Self {
        Self {
            transport,
            at,
            internal: false,
        }
    }

    /// The same, told beside a public one.
    #[must_use]
    pub const fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }
}

/// Which candidates a client is told: without any wish, all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// None that is local beside a public one.
    pub outside_only: bool,
    /// Those of TCP only, if there are any but local ones beside a public one.
    pub tcp_only: bool,
}

impl Told {
    fn takes(self, candidate: &Candidate, has_tcp: bool) -> bool {
        let udp = candidate.transport == PathTransport::Udp;
        !(self.outside_only && candidate.internal || self.tcp_only && has_tcp && udp)
    }
}

/// One `candidate:…` line for each address, in the form of `RTCIceCandidateInit.candidate`; put
/// `a=` before it for a session description. Families alternate with IPv6 first, so that neither
/// starves the other (RFC 8421 §4); within a family the order given is the order preferred, and UDP
/// comes before TCP. An unspecified address is nobody's and left out.
#[must_use]
pub fn host(candidates: &[Candidate], told: Told) -> Vec<String> {
    let has_tcp = candidates
        .iter()
        .any(|one| one.transport == PathTransport::Tcp && !one.internal);
    let mut lines = Vec::new();
    let mut bases = Vec::new();
    for transport in [PathTransport::Udp, PathTransport::Tcp] {
        let of_it = candidates
            .iter()
            .filter(|one| one.transport == transport && told.takes(one, has_tcp));
        let mut taken = [0u32; 2];
        let known = of_it.map(|one| SocketAddr::new(one.at.ip().to_canonical(), one.at.port()));
        for at in known
            .filter(|at| !at.ip().is_unspecified())
            .take(CANDIDATES)
        {
            let family = usize::from(at.is_ipv4());
            let rank = 2 * taken[family] + u32::from(at.is_ipv4());
            taken[family] += 1;
            let foundation = foundation(&mut bases, (transport, at.ip()));
            lines.push(line(transport, at, foundation, rank));
        }
    }
    lines
}

/// One foundation for each base address and transport. (RFC 8445 §5.1.1.3)
fn foundation(bases: &mut Vec<(PathTransport, IpAddr)>, base: (PathTransport, IpAddr)) -> usize {
    let known = bases.iter().position(|&known| known == base);
    1 + known.unwrap_or_else(|| {
        bases.push(base);
        bases.len() - 1
    })
}

fn line(transport: PathTransport, at: SocketAddr, foundation: usize, rank: u32) -> String {
    let (ip, port) = (at.ip(), at.port());
    let mut line = String::with_capacity(96);
    let (name, priority, kind) = match transport {
        // Whoever comes through TURN comes to a candidate of UDP.
        PathTransport::Udp | PathTransport::Turn => (
            "udp",
            priority(HOST_PREFERENCE, LOCAL_PREFERENCE_MAX - rank),
            "",
        ),
        PathTransport::Tcp => (
            "tcp",
            priority(TCP_HOST_PREFERENCE, TCP_LOCAL_PREFERENCE_MAX - rank),
            " tcptype passive",
        ),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "candidate:{foundation} {COMPONENT} {name} {priority} {ip} {port} typ host{kind} generation 0"
    );
    line
}

/// The priority of a candidate. (RFC 8445 §5.1.2.1)
const fn priority(type_preference: u32, local_preference: u32) -> u32 {
    (type_preference << 24) + (local_preference << 8) + (256 - COMPONENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<Candidate> {
        let at = list.iter().map(|text| text.parse().unwrap());
        at.map(Candidate::udp).collect()
    }

    #[test]
    fn who_is_to_come_from_outside_only_is_told_no_local_address_beside_a_public_one() {
        let [local, public] = ["192.168.1.2:1", "192.0.2.1:1"].map(|text| text.parse().unwrap());
        let told = [Candidate::udp(local).internal(true), Candidate::udp(public)];
        assert_eq!(host(&told, Told::default()).len(), 2);
        let outside_only = Told {
            outside_only: true,
            tcp_only: false,
        };
        let outside = host(&told, outside_only);
        assert!(outside.len() == 1 && outside[0].contains("192.0.2.1"));
        assert_eq!(host(&[Candidate::udp(local)], outside_only).len(), 1);
    }

    #[test]
    fn who_has_trouble_with_udp_is_told_tcp_only_if_there_is_any() {
        let at = "192.0.2.1:1".parse().unwrap();
        let tcp_only = Told {
            tcp_only: true,
            outside_only: false,
        };
        let both = host(&[Candidate::udp(at), Candidate::tcp(at)], tcp_only);
        assert!(both.len() == 1 && both[0].contains(" tcp "));
        assert_eq!(host(&[Candidate::udp(at)], tcp_only).len(), 1);
        let local = Candidate::tcp("192.168.1.2:1".parse().unwrap()).internal(true);
        for outside_only in [false, true] {
            let told = Told {
                tcp_only: true,
                outside_only,
            };
            let told = host(&[Candidate::udp(at), local], told);
            assert!(told[0].contains("192.0.2.1"), "{told:?}");
        }
    }

    #[test]
    fn tcp_is_passive_and_comes_after_udp() {
        let at = "192.0.2.1:7881".parse().unwrap();
        let told = host(&[Candidate::tcp(at), Candidate::udp(at)], Told::default());
        // The numbers are Pion's but for the IPv6 that might have come first.
        assert_eq!(
            told,
            [
                "candidate:1 1 udp 2130706175 192.0.2.1 7881 typ host generation 0",
                "candidate:2 1 tcp 1671429887 192.0.2.1 7881 typ host tcptype passive generation 0"
            ]
        );
    }

    #[test]
    fn a_host_candidate_has_the_form_browsers_write() {
        assert_eq!(
            host(&addresses(&["[2001:db8::1]:7882"]), Told::default()),
            ["candidate:1 1 udp 2130706431 2001:db8::1 7882 typ host generation 0"]
        );
        assert_eq!(
            host(&addresses(&["192.0.2.1:7882"]), Told::default()),
            ["candidate:1 1 udp 2130706175 192.0.2.1 7882 typ host generation 0"]
        );
    }

    fn priorities(lines: &[String]) -> Vec<u32> {
        let field = |line: &String| line.split(' ').nth(3).unwrap().parse().unwrap();
        lines.iter().map(field).collect()
    }

    #[test]
    fn families_alternate_and_ipv6_comes_first() {
        let lines = host(
            &addresses(&[
                "192.0.2.1:1",
                "192.0.2.2:1",
                "[2001:db8::1]:1",
                "[2001:db8::2]:1",
            ]),
            Told::default(),
        );
        let [v4_first, v4_second, v6_first, v6_second] = priorities(&lines)[..] else {
            panic!("four candidates");
        };
        assert!(v6_first > v4_first && v4_first > v6_second && v6_second > v4_second);
    }

    #[test]
    fn ports_of_one_address_share_its_foundation() {
        let lines = host(
            &addresses(&["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"]),
            Told::default(),
        );
        let foundations: Vec<&str> = lines
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(foundations, ["candidate:1", "candidate:1", "candidate:2"]);
    }

    #[test]
    fn mapped_addresses_are_told_as_ipv4_and_unspecified_ones_not_at_all() {
        let lines = host(
            &addresses(&["[::ffff:192.0.2.1]:1", "0.0.0.0:1", "[::]:1"]),
            Told::default(),
        );
        assert_eq!(
            lines,
            ["candidate:1 1 udp 2130706175 192.0.2.1 1 typ host generation 0"]
        );
    }

    #[test]
    fn no_more_than_the_limit_are_told() {
        let many = (0..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let both = many.flat_map(|at| [Candidate::tcp(at), Candidate::udp(at)]);
        assert_eq!(
            host(&both.collect::<Vec<_>>(), Told::default()).len(),
            2 * CANDIDATES
        );
    }
}
