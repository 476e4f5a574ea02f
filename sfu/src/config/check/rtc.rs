//! Media transport: ports, addresses, buffers.

use crate::config::check::public::{Advertise, Public};
use crate::config::cidr::{Cidr, InterfaceFilter, IpFilter};
use crate::config::complaint::{Complaints, quoted};
use crate::config::ports::{PortRange, Protocol};
use crate::config::raw::Values;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The media port when nothing else is said.
const DEFAULT_UDP: u16 = 7882;
/// Of a range so many of the lowest ports are tried for one that is free. Systems draw ports for their own
/// connections from 50000 and more, too: one or two of them may be taken. A router must forward them all.
const TRIED: u16 = 8;

/// Media transport.
#[derive(Debug, Clone, PartialEq)]
pub struct Rtc {
    /// UDP ports configured; one of the lowest is used.
    pub udp_port: PortRange,
    /// The operator named the ports himself; otherwise the start line says what LiveKit would do.
    pub udp_port_configured: bool,
    /// ICE over TCP; 0: none.
    pub tcp_port: u16,
    /// No UDP at all.
    pub force_tcp: bool,
    /// Where clients with trouble are led.
    pub fallback: Fallback,
    /// Addresses told to clients in place of the local ones.
    pub node_ip: NodeIp,
    /// How public addresses are found otherwise.
    pub public: Public,
    /// Interfaces used.
    pub interfaces: InterfaceFilter,
    /// Local addresses used.
    pub ips: IpFilter,
    /// Offer loopback addresses too.
    pub enable_loopback_candidate: bool,
    /// Media threads; one so far.
    pub workers: u8,
    /// Least time between key-frame requests.
    pub pli_throttle: PliThrottle,
}

/// Clients whose media fails are led elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// They are.
    pub allowed: bool,
    /// Those too whose media does not fail but loses much for long.
    pub unstable: bool,
    /// To TCP only with a shorter round trip of signalling, in ms; 0: with any.
    pub tcp_rtt_below_ms: u32,
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeIp {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// Least time between two key-frame requests for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PliThrottle {
    /// Lowest layer.
    pub low: Duration,
    /// Middle layer.
    pub mid: Duration,
    /// Highest layer.
    pub high: Duration,
}

impl Rtc {
    /// The ports media may have: it has the first of them that is free. Where a port of the router is told in
    /// its place, that leads to the first and no other.
    #[must_use]
    pub fn udp_ports(&self) -> PortRange {
        let led = |one: &Advertise| one.port.is_some() && one.protocol == Some(Protocol::Udp);
        let tried = if self.public.advertise.iter().any(led) {
            1
        } else {
            TRIED
        };
        let first = self.udp_port.first();
        let last = first.saturating_add(tried - 1).min(self.udp_port.last());
        PortRange::new(first, last).unwrap_or(self.udp_port)
    }

    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let (udp_port, udp_port_configured) = udp_port(values, complaints);
        Self {
            udp_port,
            udp_port_configured,
            tcp_port: values.port("rtc.tcp_port"),
            force_tcp: force_tcp(values, complaints),
            fallback: Fallback {
                allowed: values.flag("rtc.allow_tcp_fallback"),
                unstable: values.flag("rtc.allow_udp_unstable_fallback"),
                tcp_rtt_below_ms: u32::try_from(values.uint("rtc.tcp_fallback_rtt_threshold"))
                    .unwrap_or(u32::MAX),
            },
            node_ip: node_ip(values, complaints),
            public: Public::read(values, complaints),
            interfaces: InterfaceFilter {
                includes: values.texts("rtc.interfaces.includes"),
                excludes: values.texts("rtc.interfaces.excludes"),
            },
            ips: IpFilter {
                includes: blocks("rtc.ips.includes", values, complaints),
                excludes: blocks("rtc.ips.excludes", values, complaints),
            },
            enable_loopback_candidate: values.flag("rtc.enable_loopback_candidate"),
            workers: workers(values, complaints),
            pli_throttle: PliThrottle {
                low: values.duration("rtc.pli_throttle.low_quality"),
                mid: values.duration("rtc.pli_throttle.mid_quality"),
                high: values.duration("rtc.pli_throttle.high_quality"),
            },
        }
    }
}

/// `udp_port`, or LiveKit's port range in its place. (LK: server ops §6.2, §15)
fn udp_port(values: &Values, complaints: &mut Complaints) -> (PortRange, bool) {
    const KEY: &str = "rtc.udp_port";
    const START: &str = "rtc.port_range_start";
    const END: &str = "rtc.port_range_end";
    let fallback = values
        .ports(KEY)
        .or(PortRange::new(DEFAULT_UDP, DEFAULT_UDP).ok());
    let fallback = fallback.expect("7882 is a port");
    let (start, end) = (values.port(START), values.port(END));
    if start == 0 && end == 0 {
        if fallback.count() > 1 {
            let cause = "all media uses one port: the lowest that is free";
            let fix = format!("write rtc.udp_port: {}", fallback.first());
            complaints.warning(KEY, values.place(KEY), cause, fix);
        }
        return (fallback, values.is_set(KEY));
    }
    if values.is_set(KEY) {
        let cause = "a port range and udp_port are both set; LiveKit would silently use the range";
        complaints.error(KEY, values.place(KEY), cause, "remove one of them");
        return (fallback, true);
    }
    match PortRange::new(start, end) {
        Ok(range) => (range, true),
        Err(error) => {
            let cause = format!("the range {start}-{end} {error}");
            let fix = "set both ends, or rtc.udp_port: 7882 instead";
            complaints.error(END, values.place(END), cause, fix);
            (fallback, true)
        }
    }
}

/// Only with a port for TCP: nobody would be reached otherwise.
fn force_tcp(values: &Values, complaints: &mut Complaints) -> bool {
    const KEY: &str = "rtc.force_tcp";
    let forced = values.flag(KEY);
    if forced && values.port("rtc.tcp_port") == 0 {
        let cause = "without rtc.tcp_port no media reaches anybody";
        let fix = "set rtc.tcp_port: 7881, or remove rtc.force_tcp";
        complaints.error(KEY, values.place(KEY), cause, fix);
    }
    forced
}

fn workers(values: &Values, complaints: &mut Complaints) -> u8 {
    const KEY: &str = "rtc.workers";
    match values.uint(KEY) {
        1 => {}
        0 => {
            let cause = "there must be one media thread";
            complaints.error(KEY, values.place(KEY), cause, "set 1");
        }
        _ => {
            let cause = "Foci has one media thread so far, and starts one";
            complaints.warning(KEY, values.place(KEY), cause, "set 1");
        }
    }
    1
}

fn node_ip(values: &Values, complaints: &mut Complaints) -> NodeIp {
    const KEY: &str = "rtc.node_ip";
    let mut node_ip = NodeIp::default();
    for ip in values.addresses(KEY) {
        if ip.is_unspecified() || ip.is_multicast() {
            let cause = format!("{ip} cannot be reached by clients");
            complaints.error(KEY, values.place(KEY), cause, "give the public address");
        }
        match ip {
            IpAddr::V4(ip) => node_ip.v4 = Some(ip),
            IpAddr::V6(ip) => node_ip.v6 = Some(ip),
        }
    }
    node_ip
}

pub(super) fn blocks(
    path: &'static str,
    values: &Values,
    complaints: &mut Complaints,
) -> Vec<Cidr> {
    let mut list = Vec::new();
    for text in values.texts(path) {
        match text.parse() {
            Ok(block) => list.push(block),
            Err(error) => {
                let cause = format!("`{}` {error}", quoted(&text));
                let fix = "write a single address as 192.0.2.1/32";
                complaints.error(path, values.place(path), cause, fix);
            }
        }
    }
    list
}
