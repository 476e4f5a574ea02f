//! Ports that nobody has, for what a test starts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those the system gives to connections: one that is only found free may be a connection's before
/// it is used.
const PORTS: Range<u16> = 10_000..20_000;

/// A port nobody listens on now, at any address.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_tcp_port() -> u16 {
    next(|at| TcpListener::bind(at).map(drop))
}

/// The same for UDP.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_udp_port() -> u16 {
    next(|at| UdpSocket::bind(at).map(drop))
}

/// One that is free for both.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_port() -> u16 {
    next(|at| {
        TcpListener::bind(at)?;
        UdpSocket::bind(at).map(drop)
    })
}

/// Each process begins elsewhere, and gives none again before it has given all.
fn next(bind: impl Fn(SocketAddr) -> io::Result<()>) -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(397);
    let mut ports = PORTS.map(|_| {
        let n = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + (n % PORTS.len() as u32) as u16
    });
    ports
        .find(|port| is_free(*port, &bind))
        .expect("a free port")
}

/// At any address, for media is bound to everything.
fn is_free(port: u16, bind: impl Fn(SocketAddr) -> io::Result<()>) -> bool {
    let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    everywhere.into_iter().all(|ip| {
        let refused = bind(SocketAddr::new(ip, port)).err();
        refused.is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_port_for_a_test_is_no_connection_s_and_given_once() {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("procfs");
        let first = range.split_whitespace().next().expect("two numbers");
        let connections: u16 = first.parse().expect("a number");
        let ports = [free_tcp_port(), free_udp_port(), free_tcp_port()];
        assert!(ports.iter().all(|port| *port < connections), "{ports:?}");
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    }

    #[test]
    fn a_port_that_somebody_has_at_any_address_is_not_free() {
        let port = free_tcp_port();
        let bind = |at| TcpListener::bind(at).map(drop);
        let taken = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 9), port)).expect("free");
        assert!(!is_free(port, bind));
        drop(taken);
        assert!(is_free(port, bind));
    }
}
