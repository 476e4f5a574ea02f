//! A home router's NAT: rewrites UDP and TCP over IPv4, each inner port as one outer port, whoever
//! it talks to. (RFC 4787: endpoint-independent mapping and filtering)

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Numbers of the protocols in IPv4.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The first outer port. Those below are for servers.
const FIRST_PORT: u16 = 20_000;
/// Mappings of one protocol; the table of a cheap router is as large. None is given up: more clients
/// than that are no test of ours.
const MAPPINGS_MOST: usize = 4096;

/// The inner side of a mapping.
pub(super) type Inner = (Ipv4Addr, u16);

/// Mappings of one protocol.
#[derive(Debug, Default)]
struct Mappings {
    outer: HashMap<Inner, u16>,
    inner: HashMap<u16, Inner>,
}

/// The router.
#[derive(Debug)]
pub(super) struct Nat {
    public: Ipv4Addr,
    udp: Mappings,
    tcp: Mappings,
    next: u16,
}

/// Where things lie in a packet.
#[derive(Debug, Clone, Copy)]
struct Layout {
    protocol: u8,
    /// Where the ports are.
    body: usize,
    /// Where the checksum of UDP or TCP is.
    checksum: usize,
}

impl Layout {
    /// Of a whole UDP or TCP packet.
    fn of(packet: &[u8]) -> Option<Self> {
        let head = packet.first_chunk::<20>()?;
        let body = usize::from(head[0] & 0x0F) * 4;
        let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3FFF;
        if head[0] >> 4 != 4 || body < 20 || fragment != 0 {
            return None;
        }
        let checksum = match head[9] {
            UDP => body + 6,
            TCP => body + 16,
            _ => return None,
        };
        packet.get(checksum..checksum + 2)?;
        Some(Self {
            protocol: head[9],
            body,
            checksum,
        })
    }
}

impl Nat {
    pub(super) fn new(public: Ipv4Addr) -> Self {
        Self {
            public,
            udp: Mappings::default(),
            tcp: Mappings::default(),
            next: FIRST_PORT,
        }
    }

    /// A packet leaves: it comes from us now. `None` if it is nothing a NAT passes on.
    pub(super) fn leave(&mut self, packet: &mut [u8]) -> Option<()> {
        let layout = Layout::of(packet)?;
        let (address, port) = end(packet, 12, layout.body);
        let next = &mut self.next;
        let mappings = match layout.protocol {
            UDP => &mut self.udp,
            _ => &mut self.tcp,
        };
        let outer = match mappings.outer.get(&(address, port)) {
            Some(outer) => *outer,
            None if mappings.outer.len() >= MAPPINGS_MOST => return None,
            None => {
                let outer = *next;
                *next = next.checked_add(1).unwrap_or(FIRST_PORT);
                mappings.outer.insert((address, port), outer);
                mappings.inner.insert(outer, (address, port));
                outer
            }
        };
        rewrite(packet, layout, (12, layout.body), (self.public, outer));
        Some(())
    }

    /// Whose packet this is that has left: `None` if it is none of UDP, or from before we forgot.
    pub(super) fn sender(&self, packet: &[u8]) -> Option<Inner> {
        let layout = Layout::of(packet).filter(|layout| layout.protocol == UDP)?;
        let (_, port) = end(packet, 12, layout.body);
        self.udp.inner.get(&port).copied()
    }

    /// Whose packet this is that has come in. `None` if it is none of UDP.
    pub(super) fn receiver(packet: &[u8]) -> Option<Inner> {
        let layout = Layout::of(packet).filter(|layout| layout.protocol == UDP)?;
        Some(end(packet, 16, layout.body + 2))
    }

    /// A packet comes back. `None` if nobody sent anything that it could answer.
    pub(super) fn enter(&self, packet: &mut [u8]) -> Option<()> {
        let layout = Layout::of(packet)?;
        let (address, port) = end(packet, 16, layout.body + 2);
        let mappings = match layout.protocol {
            UDP => &self.udp,
            _ => &self.tcp,
        };
        let inner = *mappings
            .inner
            .get(&port)
            .filter(|_| address == self.public)?;
        rewrite(packet, layout, (16, layout.body + 2), inner);
        Some(())
    }

    /// Forgets all of UDP, as after a pause too long. Connections of TCP are told by their flags and
    /// stay.
    pub(super) fn rebind(&mut self) {
        self.udp = Mappings::default();
    }
}

/// Address and port at these places.
fn end(packet: &[u8], address: usize, port: usize) -> (Ipv4Addr, u16) {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let bits = u32::from(word(address)) << 16 | u32::from(word(address + 2));
    (Ipv4Addr::from(bits), word(port))
}

/// Replaces address and port at these places, and corrects the checksums. (RFC 1624)
fn rewrite(
    packet: &mut [u8],
    layout: Layout,
    (address_at, port_at): (usize, usize),
    (address, port): Inner,
) {
    let [a, b, c, d] = address.octets();
    let words = [
        (address_at, u16::from_be_bytes([a, b])),
        (address_at + 2, u16::from_be_bytes([c, d])),
        (port_at, port),
    ];
    for (at, new) in words {
        let old = u16::from_be_bytes([packet[at], packet[at + 1]]);
        packet[at..at + 2].copy_from_slice(&new.to_be_bytes());
        if at != port_at {
            correct(packet, 10, old, new);
        }
        // A UDP checksum of zero is none.
        let at = layout.checksum;
        if layout.protocol == TCP || packet[at..at + 2] != [0, 0] {
            correct(packet, at, old, new);
            // And one that comes out as zero is written as its other form. (RFC 768)
            if layout.protocol == UDP && packet[at..at + 2] == [0, 0] {
                packet[at..at + 2].copy_from_slice(&[0xFF, 0xFF]);
            }
        }
    }
}

/// A word has changed: so does the checksum at this place.
fn correct(packet: &mut [u8], at: usize, old: u16, new: u16) {
    let sum = u16::from_be_bytes([packet[at], packet[at + 1]]);
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xFFFF {
        total = (total >> 16) + (total & 0xFFFF);
    }
    packet[at..at + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
    const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    /// The sum that is zero when a checksum is right.
    fn sum(bytes: &[u8], more: u32) -> u16 {
        let mut total = more;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            total += u32::from(u16::from_be_bytes([pair[0], low]));
        }
        while total > 0xFFFF {
            total = (total >> 16) + (total & 0xFFFF);
        }
        !(total as u16)
    }

    fn pseudo(packet: &[u8]) -> u32 {
        let words = packet[12..20].chunks(2);
        let ends: u32 = words
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        ends + u32::from(packet[9]) + (packet.len() - 20) as u32
    }

    fn packet(protocol: u8, from: Inner, to: Inner, payload: &[u8]) -> Vec<u8> {
        let head = if protocol == UDP { 8 } else { 20 };
        let mut packet = vec![0; 20 + head];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&from.0.octets());
        packet[16..20].copy_from_slice(&to.0.octets());
        packet[20..22].copy_from_slice(&from.1.to_be_bytes());
        packet[22..24].copy_from_slice(&to.1.to_be_bytes());
        packet.extend(payload);
        let at = 20 + if protocol == UDP { 6 } else { 16 };
        let body = sum(&packet[20..], pseudo(&packet));
        packet[at..at + 2].copy_from_slice(&body.to_be_bytes());
        let own = sum(&packet[..20], 0);
        packet[10..12].copy_from_slice(&own.to_be_bytes());
        packet
    }

    fn assert_sound(packet: &[u8]) {
        assert_eq!(sum(&packet[..20], 0), 0, "the header's checksum");
        assert_eq!(sum(&packet[20..], pseudo(packet)), 0, "the body's checksum");
    }

    #[test]
    fn packets_go_out_by_a_port_of_the_router_and_answers_come_back_with_sound_checksums() {
        for protocol in [UDP, TCP] {
            let mut nat = Nat::new(PUBLIC);
            let mut out = packet(protocol, (CLIENT, 5000), (SERVER, 7882), b"hello");
            nat.leave(&mut out).expect("passed on");
            assert_sound(&out);
            let seen = end(&out, 12, 20);
            assert_eq!(seen, (PUBLIC, FIRST_PORT));
            let mut back = packet(protocol, (SERVER, 7882), seen, b"hello you");
            nat.enter(&mut back).expect("passed on");
            assert_sound(&back);
            assert_eq!(end(&back, 16, 22), (CLIENT, 5000));
            let owner = (protocol == UDP).then_some((CLIENT, 5000));
            assert_eq!((nat.sender(&out), Nat::receiver(&back)), (owner, owner));
        }
    }

    #[test]
    fn a_rebind_gives_udp_another_port_and_closes_the_old_one() {
        let mut nat = Nat::new(PUBLIC);
        let leave = |nat: &mut Nat, protocol| {
            let mut out = packet(protocol, (CLIENT, 5000), (SERVER, 7882), b"x");
            nat.leave(&mut out).expect("passed on");
            end(&out, 12, 20)
        };
        let (udp, tcp) = (leave(&mut nat, UDP), leave(&mut nat, TCP));
        let under_way = packet(UDP, udp, (SERVER, 7882), b"x");
        assert_eq!(nat.sender(&under_way), Some((CLIENT, 5000)));
        nat.rebind();
        assert_eq!(nat.sender(&under_way), None);
        assert_ne!(leave(&mut nat, UDP), udp);
        assert_eq!(leave(&mut nat, TCP), tcp);
        let mut back = packet(UDP, (SERVER, 7882), udp, b"x");
        assert_eq!(nat.enter(&mut back), None);
    }

    #[test]
    fn what_is_no_whole_packet_of_udp_or_tcp_is_not_passed_on() {
        let mut nat = Nat::new(PUBLIC);
        let mut good = packet(UDP, (CLIENT, 5000), (SERVER, 7882), b"x");
        let spoilt: [fn(&mut Vec<u8>); 5] = [
            |packet| packet.truncate(27),
            |packet| packet.clear(),
            |packet| packet[0] = 0x65,
            |packet| packet[9] = 1,
            |packet| packet[6] = 0x20,
        ];
        for spoil in spoilt {
            let mut packet = good.clone();
            spoil(&mut packet);
            assert_eq!(nat.leave(&mut packet), None);
        }
        assert_eq!(nat.leave(&mut good), Some(()));
    }
}
