//! Which addresses of IPv6 are temporary: those from which a host asks others, and that it changes from time
//! to time. (RFC 8981)

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::net::{IpAddr, Ipv6Addr};

/// One line for each address: itself, number of the interface, bits of the prefix, scope and flags in
/// hexadecimal, and the interface's name. (linux/net/ipv6/addrconf.c)
const LIST: &str = "/proc/thread-self/net/if_inet6";
/// The column of the flags.
const FLAGS: usize = 4;
/// IFA_F_TEMPORARY (linux/if_addr.h)
const TEMPORARY: u8 = 0x01;

/// Those of the machine; none where the kernel does not say.
pub(super) fn list() -> BTreeSet<IpAddr> {
    let text = read_to_string(LIST).unwrap_or_default();
    text.lines().filter_map(temporary).collect()
}

fn temporary(line: &str) -> Option<IpAddr> {
    let mut columns = line.split_ascii_whitespace();
    let ip = u128::from_str_radix(columns.next()?, 16).ok()?;
    let flags = u8::from_str_radix(columns.nth(FLAGS - 1)?, 16).ok()?;
    (flags & TEMPORARY != 0).then_some(Ipv6Addr::from_bits(ip).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_which_addresses_are_temporary() {
        let lines = [
            "20010db8000000000211223344556677 02 40 00 00     eth0",
            "20010db800000000a1b2c3d4e5f60718 02 40 00 01     eth0",
            "20010db8000000001111222233334444 02 40 00 21     eth0",
            "fe800000000000000211223344556677 02 40 20 80     eth0",
            "20010db8",
            "x 02 40 00 01 eth0",
        ];
        let found: Vec<IpAddr> = lines.iter().filter_map(|line| temporary(line)).collect();
        let expected = [
            "2001:db8::a1b2:c3d4:e5f6:718",
            "2001:db8::1111:2222:3333:4444",
        ];
        assert_eq!(
            found,
            expected.map(|ip| ip.parse::<IpAddr>().expect("an address"))
        );
    }
}
