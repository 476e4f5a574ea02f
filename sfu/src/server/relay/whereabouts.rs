//! Where TURN is: the addresses it listens on, those clients are told, and those it takes for its own.
//!
//! Decides by the configuration and what media is told; asks only which families the machine has.
//! Called by `relay`.

use crate::addresses::{self, Machine};
use crate::config::check::{Config, Turn};
use crate::config::cidr::Cidr;
use crate::crowd::is_public;
use crate::media::message::PathTransport;
use crate::media::transport::candidates::Candidate;
use std::net::{IpAddr, SocketAddr};
use turn::config::Own;
use turn::policy::Prefix;

/// Addresses of one family that clients are told of for TURN: one that leads here from everywhere and one
/// of this network. A browser makes an allocation by each, on each of its networks.
const TOLD_OF_FAMILY: usize = 2;
/// Bits of the widest network whose machines are taken for neighbours, in IPv4 and in IPv6: the largest that
/// anybody has on one wire, and what one customer is given at most (RFC 6177). Of a wider one, as a tunnel may
/// have it (a /0 of a VPN, a /16 of 6to4), it is so much around the machine's address: all of it would be
/// other people's networks, up to the whole internet.
const WIDEST_LINK: [u8; 2] = [16, 48];

/// One for each family.
pub(super) fn relays(turn: &Turn) -> Vec<IpAddr> {
    let mut ips = listens(turn);
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup_by_key(|ip| ip.is_ipv6());
    ips
}

/// Where TURN listens.
pub(super) fn listens(turn: &Turn) -> Vec<IpAddr> {
    match turn.bind_addresses.as_slice() {
        [] => addresses::bind(0).iter().map(SocketAddr::ip).collect(),
        some => some.to_vec(),
    }
}

/// Whether somebody who is told an address may find one of these there. One that is not the machine's is
/// its router's, who leads where the operator says.
fn leads_to(ip: IpAddr, bound: &[IpAddr], machine: &[IpAddr]) -> bool {
    bound
        .iter()
        .filter(|at| at.is_ipv4() == ip.is_ipv4())
        .any(|at| at.is_unspecified() || *at == ip || !machine.contains(&ip))
}

/// The addresses clients are told are the SFU's, and so are those of the machine with the port it has
/// there, which a router may call otherwise outside. Relays are told of at the first of each family that
/// leads to them, a public one if there is one.
pub(super) fn own(turn: &Turn, candidates: &[Candidate], machine: Machine, udp_port: u16) -> Own {
    let Machine { ips: host, links } = machine;
    let udp = outside_first(candidates);
    let relays = relays(turn);
    let mut external: Vec<IpAddr> = Vec::new();
    let ips = udp.iter().map(|one| one.at.ip());
    for ip in ips.filter(|ip| leads_to(*ip, &relays, &host)) {
        if !external.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            external.push(ip);
        }
    }
    let mut sfu: Vec<SocketAddr> = udp.iter().map(|one| one.at).collect();
    if !sfu.is_empty() {
        sfu.extend(host.iter().map(|ip| SocketAddr::new(*ip, udp_port)));
    }
    sfu.sort_unstable();
    sfu.dedup();
    Own {
        external,
        sfu,
        host,
        links: links.iter().filter_map(link).collect(),
    }
}

/// The part of a network of the machine that peers are not let into.
fn link(network: &Cidr) -> Option<Prefix> {
    let [v4, v6] = WIDEST_LINK;
    let least = if network.address().is_ipv4() { v4 } else { v6 };
    Prefix::new(network.address(), network.prefix().max(least)).ok()
}

/// Those for UDP, the addresses of this network behind those that lead here from everywhere. Where the
/// interfaces alone say what is ours none is marked so, and a private one is known by itself.
fn outside_first(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut udp: Vec<&Candidate> = candidates.iter().filter(|one| is_udp(one)).collect();
    udp.sort_by_key(|one| (one.internal, !is_public(one.at.ip())));
    udp
}

fn is_udp(candidate: &Candidate) -> bool {
    candidate.transport == PathTransport::Udp
}

/// The URLs clients are told: addresses for UDP and TCP, the certificate's name for TLS. (LK: server
/// ops §8.6)
pub(super) fn urls(
    turn: &Turn,
    shared_port: u16,
    candidates: &[Candidate],
    machine: &[IpAddr],
) -> Vec<String> {
    let mut urls = Vec::new();
    let bound = listens(turn);
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in outside_first(candidates).iter().map(|one| one.at.ip()) {
        let same = |known: &&IpAddr| known.is_ipv4() == ip.is_ipv4();
        let room = ips.iter().filter(same).count() < TOLD_OF_FAMILY;
        if room && !ips.contains(&ip) && leads_to(ip, &bound, machine) {
            ips.push(ip);
        }
    }
    for (port, transport) in [(turn.udp_port, "udp"), (turn.tcp_port, "tcp")] {
        if port == 0 {
            continue;
        }
        urls.extend(ips.iter().map(|ip| {
            let at = SocketAddr::new(*ip, port);
            format!("turn:{at}?transport={transport}")
        }));
    }
    let own = if turn.tls_port == 0 {
        0
    } else {
        turn.advertised_tls_port
    };
    let mut ports = vec![own, shared_port];
    ports.dedup();
    if !turn.domain.is_empty() {
        let domain = &turn.domain;
        let over_tls = ports.iter().filter(|port| **port != 0);
        urls.extend(over_tls.map(|port| format!("turns:{domain}:{port}?transport=tcp")));
    }
    urls
}

/// The port of TLS as clients reach it; 0: there is none.
pub(super) fn shared_port(config: &Config) -> u16 {
    if config.tls.port == 0 {
        0
    } else {
        config.tls.advertised_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;

    fn config(text: &str) -> Config {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        check(&mut values, &mut complaints)
    }

    fn with(ips: &[IpAddr]) -> Machine {
        Machine {
            ips: ips.to_vec(),
            links: Vec::new(),
        }
    }

    fn udp() -> Vec<Candidate> {
        ["192.0.2.1:7882", "[2001:db8::1]:7882"]
            .map(|at| Candidate::udp(at.parse().expect("an address")))
            .to_vec()
    }

    #[test]
    fn clients_are_told_addresses_for_udp_and_tcp_and_the_real_port_for_tls() {
        let plain = urls(&config("").turn, 0, &udp(), &[]);
        assert_eq!(
            plain,
            [
                "turn:192.0.2.1:3479?transport=udp",
                "turn:[2001:db8::1]:3479?transport=udp",
                "turn:192.0.2.1:3479?transport=tcp",
                "turn:[2001:db8::1]:3479?transport=tcp",
            ]
        );
        let tls = "turn: {domain: t.example, tls_port: 5350, external_tls: true}\n";
        let only = urls(&config(tls).turn, 0, &udp(), &[]);
        assert_eq!(only, ["turns:t.example:5350?transport=tcp"]);
        let both = urls(&config(tls).turn, 443, &udp(), &[]);
        assert_eq!(both[1], "turns:t.example:443?transport=tcp");
    }

    #[test]
    fn the_sfu_is_known_by_what_clients_are_told_and_by_the_machine_s_own_addresses() {
        let mut candidates = udp();
        candidates.insert(
            0,
            Candidate {
                internal: true,
                ..Candidate::udp("10.0.0.7:7882".parse().expect("an address"))
            },
        );
        let machine = ["127.0.0.1", "10.0.0.7"].map(|ip| ip.parse().expect("an address"));
        let own = own(&config("").turn, &candidates, with(&machine), 7882);
        let told: Vec<IpAddr> = udp().iter().map(|one| one.at.ip()).collect();
        assert_eq!(own.external, told, "the public ones");
        for at in ["127.0.0.1:7882", "10.0.0.7:7882", "192.0.2.1:7882"] {
            assert!(own.is_sfu(at.parse().expect("an address")), "{at}");
        }
        assert!(!own.is_sfu("127.0.0.1:7880".parse().expect("an address")));
    }

    #[test]
    fn a_public_address_goes_before_private_ones_that_nobody_calls_internal() {
        let ips = [
            "10.0.0.2",
            "10.8.0.1",
            "95.216.1.2",
            "fd00::2",
            "2a01:4f9::2",
        ];
        let ips = ips.map(|ip| -> IpAddr { ip.parse().expect("an address") });
        let candidates = ips.map(|ip| Candidate::udp(SocketAddr::new(ip, 7882)));
        let turn = config("turn: {udp_port: 3479, tcp_port: 0}\n").turn;
        let [vpn, _, v4, ula, v6] = ips;
        let urls = urls(&turn, 0, &candidates, &ips);
        let url = |ip| format!("turn:{}?transport=udp", SocketAddr::new(ip, 3479));
        assert_eq!(urls, [url(v4), url(v6), url(vpn), url(ula)]);
        let own = own(&turn, &candidates, with(&ips), 7882);
        assert_eq!(own.external, [v4, v6]);
    }

    #[test]
    fn nobody_is_told_of_turn_where_it_does_not_listen() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let machine = ["10.0.0.7", "10.0.0.8", "2001:db8::1"].map(ip);
        let at = |ip| Candidate::udp(SocketAddr::new(ip, 7882));
        // The router's, and all of the machine.
        let mut candidates = vec![at(ip("192.0.2.1"))];
        candidates.extend(machine.map(|ip| at(ip).internal(true)));
        let of = |bound: &str| {
            let turn = config(&format!(
                "turn: {{udp_port: 3479, bind_addresses: [{bound}]}}\n"
            ))
            .turn;
            let own = own(&turn, &candidates, with(&machine), 7882);
            (urls(&turn, 0, &candidates, &machine), own.external)
        };
        let (urls, external) = of("10.0.0.8");
        let url = |ip: &str| format!("turn:{ip}:3479?transport=udp");
        assert_eq!(urls, [url("192.0.2.1"), url("10.0.0.8")]);
        assert_eq!(external, [ip("192.0.2.1")], "no relays of IPv6");
        let (urls, external) = of("'2001:db8::1'");
        assert_eq!(urls, [url("[2001:db8::1]")]);
        assert_eq!(external, [ip("2001:db8::1")]);
        let (urls, _) = of("0.0.0.0");
        assert_eq!(
            urls,
            [url("192.0.2.1"), url("10.0.0.7")],
            "and no third one"
        );
    }

    #[test]
    fn neighbours_are_those_on_the_machine_s_networks_and_no_network_takes_in_the_internet() {
        let near = |network: &str, ip: &str| {
            let links = vec![network.parse().expect("a network")];
            let ips = Vec::new();
            let own = own(&config("").turn, &[], Machine { ips, links }, 7882);
            own.is_neighbour(ip.parse().expect("an address"))
        };
        assert!(near("2003:ab:cd:1::10/64", "2003:ab:cd:1::20"));
        assert!(!near("2003:ab:cd:1::10/64", "2003:ab:cd:2::20"));
        assert!(near("95.216.1.2/24", "95.216.1.77"));
        // A machine by itself, as providers have it and at the end of a line.
        assert!(!near("95.216.1.2/32", "95.216.1.3") && near("95.216.1.2/32", "95.216.1.2"));
        assert!(!near("2003:ab:cd:1::10/128", "2003:ab:cd:1::11"));
        for (tunnel, beside, far) in [
            ("95.216.1.2/0", "95.216.9.9", "95.217.1.1"),
            ("44.128.0.5/9", "44.128.9.9", "44.129.0.1"),
            ("2003:ab:cd:1::10/0", "2003:ab:cd:2::1", "2003:ab:ce::1"),
        ] {
            assert!(near(tunnel, beside) && !near(tunnel, far), "{tunnel}");
        }
    }

    #[test]
    fn a_router_may_forward_another_port_to_the_sfu_than_it_has_on_this_machine() {
        let told = Candidate::udp("192.0.2.1:40000".parse().expect("an address"));
        let machine = ["127.0.0.1".parse().expect("an address")];
        let own = own(&config("").turn, &[told], with(&machine), 7882);
        let is_sfu = |at: &str| own.is_sfu(at.parse().expect("an address"));
        assert!(is_sfu("192.0.2.1:40000") && is_sfu("127.0.0.1:7882"));
        assert!(!is_sfu("127.0.0.1:40000"), "somebody else may have it");
    }
}
