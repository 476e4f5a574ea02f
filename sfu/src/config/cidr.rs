//! Address blocks (`10.0.0.0/8`) and the filters an operator builds from them.
//!
//! Owns reading and matching. Which addresses the machine has is for the worker to find out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A text is no address block; a bare address is not one either (LK: server ops §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a CIDR block such as 192.168.0.0/16 or fd00::/8")]
pub struct CidrError;

impl Cidr {
    /// The block of `prefix` leading bits around `address`.
    ///
    /// # Errors
    /// More bits than the family has.
    pub const fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(CidrError);
        }
        Ok(Self { address, prefix })
    }

    /// The address it was written with.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Leading bits that count.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// `ip` lies in the block. An address of the other family never does.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let host = 32 - u32::from(self.prefix);
                let network = |ip: Ipv4Addr| ip.to_bits().checked_shr(host).unwrap_or(0);
                network(a) == network(b)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let host = 128 - u32::from(self.prefix);
                let network = |ip: Ipv6Addr| ip.to_bits().checked_shr(host).unwrap_or(0);
                network(a) == network(b)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError)?;
        let address = address.parse().map_err(|_| CidrError)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CidrError);
        }
        Self::new(address, prefix.parse().map_err(|_| CidrError)?)
    }
}

/// Which local addresses may be used: `includes` win over `excludes` (LK: server ops §6.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpFilter {
    /// If not empty, only these.
    pub includes: Vec<Cidr>,
    /// Otherwise all but these.
    pub excludes: Vec<Cidr>,
}

impl IpFilter {
    /// May `ip` be used?
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        if self.includes.is_empty() {
            !self.excludes.iter().any(|block| block.contains(ip))
        } else {
            self.includes.iter().any(|block| block.contains(ip))
        }
    }
}

/// Which network interfaces may be used, by exact name; `includes` win over `excludes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceFilter {
    /// If not empty, only these.
    pub includes: Vec<String>,
    /// Otherwise all but these.
    pub excludes: Vec<String>,
}

impl InterfaceFilter {
    /// May the interface be used?
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        if self.includes.is_empty() {
            !self.excludes.iter().any(|known| known == name)
        } else {
            self.includes.iter().any(|known| known == name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_block_holds_its_own_addresses_only() {
        assert!(block("10.1.0.0/16").contains(ip("10.1.255.3")));
        assert!(!block("10.1.0.0/16").contains(ip("10.2.0.1")));
        assert!(block("fd00::/8").contains(ip("fd12::1")));
        assert!(!block("0.0.0.0/0").contains(ip("::1")));
        assert!(block("0.0.0.0/0").contains(ip("255.1.2.3")));
        assert!(block("::/0").contains(ip("2001:db8::1")));
        assert!(!block("10.0.0.1/32").contains(ip("10.0.0.2")));
    }

    #[test]
    fn a_bare_address_is_no_block() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/33",
            "fd00::/129",
            "/8",
            "10.0.0.0/",
            "x/8",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError), "{text}");
        }
    }

    #[test]
    fn includes_win_over_excludes() {
        let mut filter = IpFilter {
            includes: vec![],
            excludes: vec![block("10.0.0.0/8")],
        };
        assert!(!filter.allows(ip("10.0.0.1")));
        assert!(filter.allows(ip("192.0.2.1")));
        filter.includes = vec![block("10.0.0.0/24")];
        assert!(filter.allows(ip("10.0.0.1")));
        assert!(!filter.allows(ip("192.0.2.1")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[0-9a-f.:/]{0,24}") {
            if let Ok(block) = text.parse::<Cidr>() {
                prop_assert_eq!(block.to_string().parse(), Ok(block));
            }
        }
    }
}
