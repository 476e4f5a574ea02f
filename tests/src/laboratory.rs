//! A laboratory of home routers: clients in a network namespace, behind one router or several, each a
//! namespace with rules of its own; this machine is the internet they reach. Of the other side, a server
//! behind a router, is [`home`].
//!
//! Owns the namespaces, their addresses and their rules (nftables). What a client runs is given from
//! outside. Needs root, `ip` and `nft`.

pub mod home;
mod router;

use crate::space::{Space, ip, nodad};
pub use router::Router;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// Counts those of this process.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// What a client's network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

/// The addresses of one laboratory.
#[derive(Debug, Clone, Copy)]
struct Plan {
    families: Families,
    process: u32,
    count: u8,
}

impl Plan {
    fn has(self, family: Families) -> bool {
        matches!(self.families, Families::Both) || self.families == family
    }

    /// On the wire between this machine (1) and the outermost router. Of the range for tests of networks
    /// (RFC 2544), apart from that of the roads.
    const fn outer(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(
            198,
            19,
            (self.process % 250) as u8,
            8 * (self.count % 31) + host,
        )
    }

    /// On a wire, counted from this machine, 0. (RFC 3849)
    const fn v6(self, wire: usize, host: u16) -> Ipv6Addr {
        let wire = self.count as u16 * 16 + wire as u16;
        Ipv6Addr::new(0x2001, 0xdb8, self.process as u16, wire, 0, 0, 0, host)
    }

    /// The addresses of the outer (1) or inner (2) end of a wire, with their prefixes.
    fn at(self, wire: usize, host: u8) -> Vec<String> {
        let v4 = match wire {
            0 => format!("{}/29", self.outer(host)),
            wire => format!("192.168.{wire}.{host}/24"),
        };
        let v6 = format!("{}/64", self.v6(wire, host.into()));
        let v4 = self.has(Families::V4).then_some(v4);
        let v6 = self.has(Families::V6).then_some(v6);
        v4.into_iter().chain(v6).collect()
    }
}

/// The namespaces, gone when dropped.
#[derive(Debug)]
pub struct Laboratory {
    /// The routers from the outermost on, then the client's.
    spaces: Vec<Space>,
    plan: Plan,
    /// The outermost router's host number.
    outside: Cell<u8>,
}

impl Laboratory {
    /// Makes everything; the outermost router first.
    ///
    /// # Panics
    /// Without root, `ip` or `nft`.
    #[must_use]
    pub fn open(families: Families, routers: &[Router]) -> Self {
        let plan = Plan {
            families,
            process: std::process::id(),
            count: COUNT.fetch_add(1, Ordering::Relaxed),
        };
        let Plan { process, count, .. } = plan;
        let name = |n| format!("foci-lab-{process}-{count}-{n}");
        let spaces: Vec<_> = (0..=routers.len()).map(|n| Space::make(name(n))).collect();
        let outer = format!("fl{}w{count}", process % 10_000);
        spaces[0].wire_here("wan", &outer);
        for address in plan.at(0, 1) {
            ip(&format!(
                "addr add {address} dev {outer}{}",
                nodad(&address)
            ));
        }
        ip(&format!("link set {outer} up"));
        for (n, router) in routers.iter().enumerate() {
            spaces[n].wire("lan", &spaces[n + 1], "wan");
            spaces[n].address("lan", &plan.at(n + 1, 1));
            spaces[n].forward();
            spaces[n].rules(&router.0);
        }
        let laboratory = Self {
            spaces,
            plan,
            outside: Cell::new(2),
        };
        for n in 0..laboratory.spaces.len() {
            laboratory.connect(n);
        }
        laboratory
    }

    /// Gives a space its addresses outside, and the ways there; those outside learn the ways to it.
    fn connect(&self, n: usize) {
        let (space, plan) = (&self.spaces[n], self.plan);
        space.address("wan", &plan.at(n, 2));
        if plan.has(Families::V4) {
            let via = match n {
                0 => plan.outer(1),
                n => Ipv4Addr::new(192, 168, n as u8, 1),
            };
            space.ip(&format!("route add default via {via}"));
        }
        if plan.has(Families::V6) {
            space.ip(&format!("route add default via {}", plan.v6(n, 1)));
            // IPv6 is not translated: everybody further out must know where this wire is.
            let wire = format!("{}/64", plan.v6(n, 0));
            for outer in 0..n {
                let way = format!("route add {wire} via {}", plan.v6(outer, 2));
                match outer.checked_sub(1) {
                    None => ip(&format!("-6 {way}")),
                    Some(router) => self.spaces[router].ip(&way),
                }
            }
        }
    }

    /// This machine, as the client sees it.
    #[must_use]
    pub const fn here(&self) -> Ipv4Addr {
        self.plan.outer(1)
    }

    /// The same over IPv6.
    #[must_use]
    pub const fn here_v6(&self) -> Ipv6Addr {
        self.plan.v6(0, 1)
    }

    /// The outermost router, as this machine sees it.
    #[must_use]
    pub const fn outside(&self) -> Ipv4Addr {
        self.plan.outer(self.outside.get())
    }

    /// The client over IPv6, as everybody sees it.
    #[must_use]
    pub const fn client_v6(&self) -> Ipv6Addr {
        self.plan.v6(self.spaces.len() - 1, 2)
    }

    /// Where the client is.
    #[must_use]
    pub fn client(&self) -> &Space {
        self.spaces.last().expect("a client")
    }

    /// The client's URL of a server here that answers at this port.
    #[must_use]
    pub fn url(&self, port: u16) -> String {
        let here = match self.plan.families {
            Families::V4 | Families::Both => IpAddr::from(self.here()),
            Families::V6 => IpAddr::from(self.here_v6()),
        };
        format!("ws://{}", SocketAddr::new(here, port))
    }

    /// Lets something more pass the outermost router, which shuts out what it was not told of.
    pub fn let_through(&self, what: &str) {
        self.spaces[0].rules(&format!("insert rule inet wall c {what} accept"));
    }

    /// The outermost router loses so many percent of the UDP that passes it, each way.
    pub fn lose_udp(&self, percent: u8) {
        self.spaces[0].rules(&format!(
            "table inet lossy {{ chain c {{ type filter hook forward priority filter;
               meta l4proto udp numgen random mod 100 < {percent} drop; }}\n}}\n"
        ));
    }

    /// The home line gets another address, and loses the one it had.
    pub fn renumber(&self) {
        let before = self.outside();
        self.outside.set(self.outside.get() + 1);
        renumber(&self.spaces[0], (before, self.outside(), 29), self.here());
    }
}

/// A router's outer address becomes another one.
fn renumber(router: &Space, (before, after, prefix): (Ipv4Addr, Ipv4Addr, u8), via: Ipv4Addr) {
    router.ip(&format!("addr del {before}/{prefix} dev wan"));
    router.ip(&format!("addr add {after}/{prefix} dev wan"));
    router.ip(&format!("route replace default via {via}"));
}
