//! Under which addresses clients are told to reach the media ports.

use crate::config::complaint::{Complaints, quoted};
use crate::config::ports::Protocol;
use crate::config::raw::Values;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What LiveKit asks where nothing is named. (LK: server ops §6.2)
const STUN_SERVERS: [&str; 3] = [
    "stun.l.google.com:19302",
    "stun1.l.google.com:19302",
    "global.stun.twilio.com:3478",
];
/// More are not asked one after the other in a time that is of use.
const STUN_SERVERS_MAX: usize = 8;
/// More addresses are more than clients are told.
const ADVERTISE_MAX: usize = 16;
/// Asked more often, a STUN server would take us for an attack.
const CHECK_MIN: Duration = Duration::from_secs(5);

/// How our addresses are found.
#[derive(Debug, Clone, PartialEq)]
pub struct Public {
    /// Just these, if there are any.
    pub advertise: Vec<Advertise>,
    /// These beside whatever else is told.
    pub additional: Vec<IpAddr>,
    /// Of what is looked for, an address of IPv4 must be known.
    pub require_ipv4: bool,
    /// The name whose addresses are told, in place of `node_ip`.
    pub name: Option<String>,
    /// STUN servers to ask, as `host:port`; none if none is to be asked.
    pub stun_servers: Vec<String>,
    /// Tell the addresses of the interfaces beside the public ones.
    pub internal: bool,
    /// Tell no address of an interface, even where no public one is known.
    pub external_only: bool,
    /// Try, for the log, whether the address a STUN server says leads back here.
    pub tries: bool,
    /// How often all of it is looked at again.
    pub check_every: Duration,
}

/// One address to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    /// The address.
    pub ip: IpAddr,
    /// Where it is not the port we listen on.
    pub port: Option<u16>,
    /// Of UDP or TCP; `None`: both.
    pub protocol: Option<Protocol>,
}

impl Public {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let name = values.text("rtc.node_ip");
        let asks = values.flag("rtc.use_external_ip");
        Self {
            advertise: advertise(values, complaints),
            additional: additional(values, complaints),
            require_ipv4: values.flag("rtc.require_ipv4"),
            name: (!name.is_empty()).then_some(name),
            stun_servers: stun_servers(values, complaints),
            internal: values.flag("rtc.advertise_internal_ip"),
            external_only: asks && values.flag("rtc.external_ip_only"),
            tries: !values.flag("rtc.skip_external_ip_validation"),
            check_every: check_every(values, complaints),
        }
    }
}

fn advertise(values: &Values, complaints: &mut Complaints) -> Vec<Advertise> {
    const KEY: &str = "rtc.advertise";
    let mut list = Vec::new();
    for text in values.texts(KEY).iter().take(ADVERTISE_MAX + 1) {
        match entry(text) {
            Ok(one) => list.push(one),
            Err(fix) => {
                let cause = format!("`{}` is no address to tell", quoted(text));
                complaints.error(KEY, values.place(KEY), cause, fix);
            }
        }
    }
    if list.len() > ADVERTISE_MAX {
        let cause = format!("more than {ADVERTISE_MAX} addresses cost each client too many checks");
        complaints.error(KEY, values.place(KEY), cause, "remove some");
    }
    list
}

/// Addresses alone, as LiveKit has them.
fn additional(values: &Values, complaints: &mut Complaints) -> Vec<IpAddr> {
    const KEY: &str = "rtc.additional_host_ips";
    let texts = values.texts(KEY);
    let mut list = Vec::new();
    for text in texts.iter().take(ADVERTISE_MAX + 1) {
        let ip = text.trim().parse::<IpAddr>();
        match ip.map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                let cause = format!("`{}` leads to nobody", quoted(text));
                complaints.error(KEY, values.place(KEY), cause, "give one that clients reach");
            }
            Ok(ip) => list.push(ip),
            Err(_) => {
                let cause = format!("`{}` is no address", quoted(text));
                let fix = "write 203.0.113.7 or 2001:db8::1; for one with a port see rtc.advertise";
                complaints.error(KEY, values.place(KEY), cause, fix);
            }
        }
    }
    if texts.len() > ADVERTISE_MAX {
        let cause = format!("more than {ADVERTISE_MAX} addresses cost each client too many checks");
        complaints.error(KEY, values.place(KEY), cause, "remove some");
    }
    list
}

/// `ip`, or `ip:port/udp` and `ip:port/tcp`.
fn entry(text: &str) -> Result<Advertise, &'static str> {
    const FORM: &str = "write 203.0.113.7, or 203.0.113.7:40000/udp, or [2001:db8::1]:443/tcp";
    let (address, protocol) = match text.rsplit_once('/') {
        None => (text, None),
        Some((address, "udp")) => (address, Some(Protocol::Udp)),
        Some((address, "tcp")) => (address, Some(Protocol::Tcp)),
        Some(_) => return Err(FORM),
    };
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let (ip, port) = match (bare.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
        (Ok(ip), _) => (ip, None),
        (_, Ok(at)) => (at.ip(), Some(at.port())),
        _ => return Err(FORM),
    };
    if ip.is_unspecified() || ip.is_multicast() || port == Some(0) {
        return Err("give the address and the port that clients use");
    }
    if port.is_some() && protocol.is_none() {
        return Err("say whether the port is /udp or /tcp: they are not the same here");
    }
    Ok(Advertise { ip, port, protocol })
}

/// Those to ask: with `use_external_ip` the ones named, or LiveKit's.
fn stun_servers(values: &Values, complaints: &mut Complaints) -> Vec<String> {
    const KEY: &str = "rtc.stun_servers";
    if !values.flag("rtc.use_external_ip") {
        return Vec::new();
    }
    let named = values.texts(KEY);
    if named.is_empty() {
        return STUN_SERVERS.map(str::to_owned).to_vec();
    }
    if named.len() > STUN_SERVERS_MAX {
        let cause = format!("only the first {STUN_SERVERS_MAX} are asked");
        complaints.warning(KEY, values.place(KEY), cause, "remove the others");
    }
    let mut list = Vec::new();
    for text in named.iter().take(STUN_SERVERS_MAX) {
        match server(text) {
            Some(server) => list.push(server),
            None => {
                let cause = format!("`{}` is no server", quoted(text));
                let fix = "write stun.example.org:3478, without `stun:`";
                complaints.error(KEY, values.place(KEY), cause, fix);
            }
        }
    }
    list
}

/// A host with its port, 3478 if it has none. (RFC 8489 §8.1)
fn server(text: &str) -> Option<String> {
    const PORT: u16 = 3478;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT).to_string());
    }
    if let Ok(at) = text.parse::<SocketAddr>() {
        return Some(at.to_string());
    }
    let (host, port) = match text.split_once(':') {
        None => (text, PORT),
        Some((host, port)) => (host, port.parse().ok()?),
    };
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!host.is_empty() && host.bytes().all(sound)).then(|| format!("{host}:{port}"))
}

fn check_every(values: &Values, complaints: &mut Complaints) -> Duration {
    const KEY: &str = "rtc.address_check_interval";
    let given = values.duration(KEY);
    if given < CHECK_MIN {
        let cause = format!("addresses are looked at every {CHECK_MIN:?} at most");
        complaints.error(KEY, values.place(KEY), cause, "set 1m");
    }
    given.max(CHECK_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn further_addresses_are_addresses_and_nothing_else() {
        let read = |list: &str| {
            let (mut values, mut complaints) = (Values::default(), Complaints::default());
            let text = format!("rtc: {{additional_host_ips: {list}}}");
            values.read_yaml(&text, "test", true, &mut complaints);
            let list = additional(&values, &mut complaints);
            (list, complaints.has_errors())
        };
        let (v4, v6) = (ip("192.0.2.1"), ip("2001:db8::1"));
        assert_eq!(read("[192.0.2.1, '2001:db8::1']"), (vec![v4, v6], false));
        for wrong in [
            "192.0.2.0/24",
            "192.0.2.1:7882",
            "example.org",
            "0.0.0.0",
            "224.0.0.1",
        ] {
            let (list, refused) = read(&format!("[{wrong}]"));
            assert!(list.is_empty() && refused, "{wrong}");
        }
        let many = vec!["192.0.2.1"; ADVERTISE_MAX + 1].join(", ");
        assert!(read(&format!("[{many}]")).1);
    }

    #[test]
    fn an_address_to_tell_is_one_with_our_ports_or_one_of_its_own() {
        let of = |ip, port, protocol| Ok(Advertise { ip, port, protocol });
        assert_eq!(entry("192.0.2.1"), of(ip("192.0.2.1"), None, None));
        assert_eq!(entry("2001:db8::1"), of(ip("2001:db8::1"), None, None));
        let udp = Some(Protocol::Udp);
        assert_eq!(entry("192.0.2.1/udp"), of(ip("192.0.2.1"), None, udp));
        assert_eq!(
            entry("192.0.2.1:40000/udp"),
            of(ip("192.0.2.1"), Some(40_000), udp)
        );
        let tcp = Some(Protocol::Tcp);
        assert_eq!(
            entry("[2001:db8::1]:443/tcp"),
            of(ip("2001:db8::1"), Some(443), tcp)
        );
        for text in [
            "",
            "x",
            "192.0.2.1:40000",
            "192.0.2.1:0/udp",
            "0.0.0.0",
            "192.0.2.1/sctp",
            "/udp",
        ] {
            assert!(entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stun_server_has_a_port_of_its_own_or_the_usual_one() {
        assert_eq!(
            server("stun.example.org").as_deref(),
            Some("stun.example.org:3478")
        );
        assert_eq!(
            server("stun.example.org:19302").as_deref(),
            Some("stun.example.org:19302")
        );
        assert_eq!(server("2001:db8::1").as_deref(), Some("[2001:db8::1]:3478"));
        for text in ["", "stun:stun.example.org", "stun.example.org:x", "a b"] {
            assert_eq!(server(text), None, "{text}");
        }
    }
}
