//! Under which addresses clients reach the media sockets.
//!
//! Owns the choice among the operator's `rtc.node_ip` and what the interfaces have; reads them once,
//! at start. The only file that names if-addrs.

use crate::config::check::Rtc;
use crate::media::transport::candidates::Candidate;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Interfaces of containers and virtual machines: nobody outside reaches them.
const CONTAINER_INTERFACES: [&str; 5] = ["docker", "veth", "br-", "cni", "virbr"];

/// The addresses to advertise, without duplicates. With `rtc.node_ip` just these; otherwise every
/// allowed interface address, loopback only when switched on.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn advertised(rtc: &Rtc, port: u16) -> io::Result<Vec<Candidate>> {
    let node: Vec<IpAddr> = [
        rtc.node_ip.v4.map(IpAddr::from),
        rtc.node_ip.v6.map(IpAddr::from),
    ]
    .into_iter()
    .flatten()
    .collect();
    let ips = if node.is_empty() {
        interface_addresses(rtc)?
    } else {
        node
    };
    let udp = ips
        .iter()
        .map(|ip| Candidate::udp(SocketAddr::new(*ip, port)));
    let tcp = ips
        .iter()
        .map(|ip| Candidate::tcp(SocketAddr::new(*ip, rtc.tcp_port)));
    let udp = udp.filter(|_| !rtc.force_tcp);
    Ok(udp.chain(tcp.filter(|_| rtc.tcp_port != 0)).collect())
}

/// The addresses the media sockets bind: everything, in both families where the machine has them.
#[must_use]
pub fn bind(port: u16) -> Vec<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => vec![v4, v6],
        Err(_) => vec![v4],
    }
}

fn interface_addresses(rtc: &Rtc) -> io::Result<Vec<IpAddr>> {
    let mut ips = BTreeSet::new();
    for interface in if_addrs::get_if_addrs()? {
        let ip = interface.ip();
        if is_advertisable(&interface.name, ip, rtc) {
            ips.insert(ip);
        }
    }
    Ok(ips.into_iter().collect())
}

/// The address from which this machine reaches others, where a router would forward to: that of its
/// default route. Nothing is sent.
#[must_use]
pub fn towards_others() -> Option<IpAddr> {
    const SOMEBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SOMEBODY).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// Every address of the machine, loopback included.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn of_machine() -> io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let ips: BTreeSet<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    Ok(ips.into_iter().collect())
}

/// May clients be told this address of this interface?
fn is_advertisable(name: &str, ip: IpAddr, rtc: &Rtc) -> bool {
    if ip.is_loopback() {
        return rtc.enable_loopback_candidate;
    }
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let container = CONTAINER_INTERFACES
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let named = rtc.interfaces.includes.iter().any(|one| one == name);
    !link_local && (!container || named) && rtc.interfaces.allows(name) && rtc.ips.allows(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn rtc() -> Rtc {
        let sources = Sources {
            body: Some("keys: {k: 0123456789abcdef0123456789abcdef}".into()),
            ..Sources::default()
        };
        sources.load().config.rtc
    }

    #[test]
    fn node_ip_replaces_what_the_interfaces_have() {
        let mut rtc = rtc();
        rtc.node_ip.v4 = Some(Ipv4Addr::new(203, 0, 113, 7));
        let told = advertised(&rtc, 7882).expect("no system call needed");
        let at = |text: &str| text.parse().expect("an address");
        let udp = Candidate::udp(at("203.0.113.7:7882"));
        let tcp = Candidate::tcp(at("203.0.113.7:7881"));
        assert_eq!(told, [udp, tcp]);
        rtc.force_tcp = true;
        assert_eq!(advertised(&rtc, 7882).expect("the same"), [tcp]);
        (rtc.force_tcp, rtc.tcp_port) = (false, 0);
        assert_eq!(advertised(&rtc, 7882).expect("the same"), [udp]);
    }

    #[test]
    fn loopback_and_container_addresses_are_kept_to_ourselves() {
        let mut rtc = rtc();
        let lan = IpAddr::from([192, 168, 1, 2]);
        assert!(is_advertisable("eth0", lan, &rtc));
        assert!(!is_advertisable("docker0", lan, &rtc));
        assert!(!is_advertisable(
            "eth0",
            IpAddr::from([169, 254, 1, 1]),
            &rtc
        ));
        assert!(!is_advertisable("lo", IpAddr::from([127, 0, 0, 1]), &rtc));
        rtc.enable_loopback_candidate = true;
        assert!(is_advertisable("lo", IpAddr::from([127, 0, 0, 1]), &rtc));
        rtc.interfaces.includes = vec!["docker0".into()];
        assert!(is_advertisable("docker0", lan, &rtc));
    }
}
