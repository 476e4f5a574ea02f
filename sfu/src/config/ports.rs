//! Ports and port ranges, checked against each other.
//!
//! Owns the arithmetic of ranges and the search for two uses of one port. It opens no socket.

use std::fmt;
use std::str::FromStr;

/// The first port an ordinary user may bind on Linux.
pub const FIRST_UNPRIVILEGED: u16 = 1024;

/// One or more neighbouring ports; never empty, never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is no port range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// Neither `7882` nor `7882-7892`.
    #[error("is not a port (1 to 65535) nor a range such as 7882-7892")]
    Malformed,
    /// Port 0.
    #[error("contains port 0")]
    Zero,
    /// The end lies below the start.
    #[error("ends below its start")]
    Reversed,
}

impl PortRange {
    /// The ports from `first` to `last`, both included.
    ///
    /// # Errors
    /// Port 0, or an end below the start.
    pub const fn new(first: u16, last: u16) -> Result<Self, PortRangeError> {
        if first == 0 {
            return Err(PortRangeError::Zero);
        }
        if last < first {
            return Err(PortRangeError::Reversed);
        }
        Ok(Self { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are, 1 to 65535.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// Every port, lowest first.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Has a port in common with `other`.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Needs more rights than an ordinary user has.
    #[must_use]
    pub const fn is_privileged(self) -> bool {
        self.first < FIRST_UNPRIVILEGED
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| -> Result<u16, PortRangeError> {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(PortRangeError::Malformed);
            }
            text.parse().map_err(|_| PortRangeError::Malformed)
        };
        Self::new(port(first)?, port(last)?)
    }
}

/// TCP or UDP: one number may be used once in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What some ports are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortUse {
    /// The key that sets them.
    pub key: &'static str,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
    /// For the operator: what listens there.
    pub purpose: &'static str,
}

/// The ports in one line: `7880/tcp HTTP and WebSocket, 7882/udp media (ICE/UDP)`.
#[must_use]
pub fn listed(uses: &[PortUse]) -> String {
    let each = uses
        .iter()
        .map(|used| format!("{}/{} {}", used.ports, used.protocol, used.purpose));
    each.collect::<Vec<_>>().join(", ")
}

/// Every pair of uses that share a port, in the order given.
#[must_use]
pub fn conflicts(uses: &[PortUse]) -> Vec<(PortUse, PortUse)> {
    let mut found = Vec::new();
    for (index, one) in uses.iter().enumerate() {
        for other in uses.iter().skip(index + 1) {
            if one.protocol == other.protocol && one.ports.overlaps(other.ports) {
                found.push((*one, *other));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_port_and_a_range_are_read() {
        assert_eq!("7882".parse(), PortRange::new(7882, 7882));
        assert_eq!("7882-7892".parse(), PortRange::new(7882, 7892));
        assert_eq!("7882 - 7892".parse(), PortRange::new(7882, 7892));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<PortRange>().expect_err(text);
        assert_eq!(refused("7892-7882"), PortRangeError::Reversed);
        assert_eq!(refused("0"), PortRangeError::Zero);
        for text in ["", "-", "7882-", "65536", "+7", "7882-7883-7884", "http"] {
            assert_eq!(refused(text), PortRangeError::Malformed, "{text}");
        }
    }

    #[test]
    fn one_number_may_serve_tcp_and_udp_but_not_udp_twice() {
        let of = |key, protocol, text: &str| PortUse {
            key,
            protocol,
            ports: text.parse().expect("range"),
            purpose: "test",
        };
        let uses = [
            of("a", Protocol::Udp, "7882-7890"),
            of("b", Protocol::Tcp, "7885"),
            of("c", Protocol::Udp, "7890-8000"),
        ];
        let found = conflicts(&uses);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.key, found[0].1.key), ("a", "c"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,24}") {
            let _ = text.parse::<PortRange>();
        }

        #[test]
        fn a_written_range_reads_back(a in 1_u16.., b in 1_u16..) {
            let range = PortRange::new(a.min(b), a.max(b)).expect("ordered");
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            prop_assert_eq!(range.ports().count(), range.count() as usize);
        }
    }
}
