//! A server at home: behind a router that forwards its ports, with somebody in the same network and
//! somebody far away. The internet between them is a namespace as well.

use super::{COUNT, Router, renumber};
use crate::server::Server;
use crate::space::{Space, Visit};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The networks are their own: any address will do. (RFC 5737)
const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const HOME_LINE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const HOME_LINE_AFTERWARDS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 3);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const BEFORE_FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const BEFORE_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The namespaces. The thread of the test is where the server is, until this is dropped.
#[derive(Debug)]
pub struct Home {
    /// Ends first.
    _visit: Visit,
    /// What is neither at home nor far away.
    pub internet: Space,
    router: Space,
    /// Where the server is to be.
    pub server: Space,
    /// In the same network as the server.
    pub guest: Space,
    /// In the internet.
    pub far: Space,
    /// In the internet, in another network.
    pub elsewhere: Space,
    line: Cell<Ipv4Addr>,
    /// The port for media of a server that is exposed.
    exposed: Cell<Option<u16>>,
}

impl Home {
    /// The line's address that is left by [`Self::renumber`].
    pub const LINE: Ipv4Addr = HOME_LINE;
    /// The router, as its own network sees it.
    pub const ROUTER: Ipv4Addr = ROUTER;
    /// The server, as its own network sees it.
    pub const SERVER: Ipv4Addr = SERVER;
    /// Who is in the same network.
    pub const GUEST: Ipv4Addr = GUEST;
    /// Who is far away.
    pub const FAR: Ipv4Addr = FAR;
    /// The internet's own address.
    pub const INTERNET: Ipv4Addr = INTERNET;

    /// Makes everything, and moves the thread to where the server is to be.
    ///
    /// # Panics
    /// Without root, `ip` or `nft`.
    #[must_use]
    pub fn open() -> Self {
        let process = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let make = |what: &str| Space::make(format!("foci-home-{process}-{count}-{what}"));
        let (internet, router) = (make("internet"), make("router"));
        let (server, guest) = (make("server"), make("guest"));
        let (far, elsewhere) = (make("far"), make("else"));
        router.ip("link add lan type bridge");
        router.address("lan", &[format!("{ROUTER}/24")]);
        for (name, space, at) in [("server", &server, SERVER), ("guest", &guest, GUEST)] {
            router.wire(name, space, "wan");
            router.ip(&format!("link set {name} master lan up"));
            space.address("wan", &[format!("{at}/24")]);
            space.ip(&format!("route add default via {ROUTER}"));
        }
        internet.wire("home", &router, "wan");
        internet.address("home", &[format!("{INTERNET}/24")]);
        router.address("wan", &[format!("{HOME_LINE}/24")]);
        router.ip(&format!("route add default via {INTERNET}"));
        for (name, space, at, via) in [
            ("far", &far, FAR, BEFORE_FAR),
            ("else", &elsewhere, ELSEWHERE, BEFORE_ELSEWHERE),
        ] {
            internet.wire(name, space, "wan");
            internet.address(name, &[format!("{via}/24")]);
            space.address("wan", &[format!("{at}/24")]);
            space.ip(&format!("route add default via {via}"));
        }
        internet.forward();
        router.forward();
        router.rules(&Router::before_a_server().0);
        Self {
            _visit: server.visit(),
            internet,
            router,
            server,
            guest,
            far,
            elsewhere,
            line: Cell::new(HOME_LINE),
            exposed: Cell::new(None),
        }
    }

    /// Forwards the server's ports to it, for who comes from outside; if the router is one that turns
    /// packets around (hairpin), for its own network too.
    pub fn forward(&self, server: &Server, turns_around: bool) {
        let from = if turns_around {
            "fib daddr type local ip daddr != 192.168.1.0/24"
        } else {
            "iifname \"wan\""
        };
        let tcp = format!("{{ {}, {} }}", server.http.port(), server.tcp.port());
        for what in [
            format!("udp dport {}", server.udp.port()),
            format!("tcp dport {tcp}"),
        ] {
            let rule = format!("add rule ip into c {from} {what} dnat to {SERVER}");
            self.router.rules(&rule);
        }
    }

    /// Maps the line's address and that of the server to one another, for media over UDP, and remembers
    /// nothing of it: what the server sends after the line has got another address comes from that. So does
    /// a router with an exposed host, or one that forgets all flows with its line.
    pub fn expose(&self, server: &Server) {
        self.exposed.set(Some(server.udp.port()));
        self.router.rules(&self.mapping());
    }

    fn mapping(&self) -> String {
        let (line, port) = (self.line(), self.exposed.get());
        let Some(port) = port else {
            return String::new();
        };
        format!(
            "table ip exposed {{
               chain arriving {{ type filter hook prerouting priority raw;
                 iifname \"wan\" ip daddr {line} udp dport {port} ip daddr set {SERVER} notrack;
                 iifname \"lan\" ip saddr {SERVER} udp sport {port} notrack; }}
               chain leaving {{ type filter hook postrouting priority srcnat;
                 oifname \"wan\" ip saddr {SERVER} udp sport {port} ip saddr set {line}; }}\n}}\n"
        )
    }

    /// The home line as it is reached now.
    #[must_use]
    pub const fn line(&self) -> Ipv4Addr {
        self.line.get()
    }

    /// The home line gets another address, and loses the one it had.
    pub fn renumber(&self) {
        let before = self.line.replace(HOME_LINE_AFTERWARDS);
        renumber(&self.router, (before, HOME_LINE_AFTERWARDS, 24), INTERNET);
        if self.exposed.get().is_some() {
            let again = format!("delete table ip exposed\n{}", self.mapping());
            self.router.rules(&again);
        }
        // Nobody is at the old one: what the router still knows of it leads nowhere.
        self.internet.rules(&format!(
            "table ip wall {{ chain c {{ type filter hook forward priority filter;
               ip saddr {before} drop; ip daddr {before} drop; }}\n}}\n"
        ));
    }
}

/// A way from the internet to where the server is that is no matter of the home line: what comes to an
/// address is carried to it. So do proxies elsewhere with a tunnel home.
#[derive(Debug)]
pub struct Tunnel {
    /// Its end in the internet.
    pub at: SocketAddr,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// Opens it to a server.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn open(home: &Home, server: &Server) -> Self {
        let listener = {
            let _there = home.internet.visit();
            TcpListener::bind((INTERNET, 0)).await.expect("a free port")
        };
        let at = listener.local_addr().expect("a bound socket");
        let to = server.http;
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await.expect("the server answers");
                    // Either end may close first.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { at, task }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}
