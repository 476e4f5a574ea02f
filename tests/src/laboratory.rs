//! A laboratory of home routers: clients in a network namespace, behind one router or several, each a
//! namespace with rules of its own; this machine is the internet they reach.
//!
//! Owns the namespaces, their addresses and their rules (nftables). What a client runs is given from
//! outside. Needs root, `ip` and `nft`.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Counts those of this process.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// What a router does, as rules of nftables. Its outer device is `wan`, its inner one `lan`; the client,
/// or the next router, is at `192.168.N.2` with N counted from the outermost, 1.
#[derive(Debug, Clone)]
pub struct Router(pub String);

impl Router {
    /// Anybody may send to a port that the client has sent from. (RFC 3489 §5: full cone)
    #[must_use]
    pub fn full_cone() -> Self {
        Self(format!(
            "{}
             table ip into {{ chain c {{ type nat hook prerouting priority dstnat;
               iifname \"wan\" meta l4proto udp dnat to 192.168.1.2; }}\n}}\n",
            masquerade("")
        ))
    }

    /// Any port of an address that the client has sent to may answer. (RFC 3489 §5: restricted cone)
    #[must_use]
    pub fn restricted() -> Self {
        Self(format!(
            "{}
             table ip known {{
               set asked {{ type ipv4_addr; flags dynamic; timeout 5m; }}
               chain c {{ type filter hook forward priority filter;
                 iifname \"lan\" add @asked {{ ip daddr }}
                 iifname \"wan\" meta l4proto udp ip saddr != @asked drop; }}\n}}\n",
            Self::full_cone().0
        ))
    }

    /// Only what the client has sent to may answer, and the port outside is mostly that inside. (RFC 3489
    /// §5: port restricted cone) So are most routers.
    #[must_use]
    pub fn port_restricted() -> Self {
        Self(masquerade(""))
    }

    /// Another port for each flow. (RFC 3489 §5: symmetric)
    #[must_use]
    pub fn symmetric() -> Self {
        Self(masquerade("fully-random"))
    }

    /// As most routers, and nothing passes but this, in words of nftables: `tcp dport 443`.
    #[must_use]
    pub fn passing(what: &[&str]) -> Self {
        let accept: Vec<String> = what.iter().map(|one| format!("{one} accept;")).collect();
        Self(format!(
            "{}
             table ip wall {{ chain c {{ type filter hook forward priority filter; policy drop;
               ct state established,related accept;
               {} }}\n}}\n",
            masquerade(""),
            accept.join(" ")
        ))
    }
}

fn masquerade(how: &str) -> String {
    format!(
        "table ip out {{ chain c {{ type nat hook postrouting priority srcnat;
           oifname \"wan\" masquerade {how}; }}\n}}\n"
    )
}

/// The namespaces, gone when dropped.
#[derive(Debug)]
pub struct Laboratory {
    /// The routers from the outermost on, then the client's.
    spaces: Vec<String>,
    here: Ipv4Addr,
}

impl Laboratory {
    /// Makes everything; the outermost router first.
    ///
    /// # Panics
    /// Without root, `ip` or `nft`.
    pub async fn open(routers: &[Router]) -> Self {
        let process = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Of the range for tests of networks (RFC 2544), apart from that of the roads.
        let here = Ipv4Addr::new(198, 19, (process % 250) as u8, 1 + 4 * (count % 60));
        let mut laboratory = Self {
            spaces: Vec::new(),
            here,
        };
        let outer = format!("fl{}w{count}", process % 10_000);
        for n in 0..=routers.len() {
            let name = format!("foci-lab-{process}-{count}-{n}");
            // One of a process of this id that was killed may be left.
            let _ = Command::new("ip")
                .args(["netns", "delete", &name])
                .stderr(Stdio::null())
                .status()
                .await;
            ip(&format!("netns add {name}")).await;
            ip(&format!("-n {name} link set lo up")).await;
            laboratory.spaces.push(name);
        }
        let spaces = &laboratory.spaces;
        let [a, b, c, d] = here.octets();
        ip(&format!(
            "link add {outer} type veth peer name wan netns {}",
            spaces[0]
        ))
        .await;
        ip(&format!("addr add {here}/30 dev {outer}")).await;
        ip(&format!("link set {outer} up")).await;
        laboratory
            .connect(0, &format!("{a}.{b}.{c}.{}/30", d + 1), &here.to_string())
            .await;
        for (n, router) in routers.iter().enumerate() {
            let (space, next) = (&spaces[n], &spaces[n + 1]);
            let lan = n + 1;
            ip(&format!(
                "-n {space} link add lan type veth peer name wan netns {next}"
            ))
            .await;
            ip(&format!("-n {space} addr add 192.168.{lan}.1/24 dev lan")).await;
            ip(&format!("-n {space} link set lan up")).await;
            let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
            inside(space, &["sh", "-c", forward], "").await;
            inside(space, &["nft", "-f", "-"], &router.0).await;
            let inner = format!("192.168.{lan}.2/24");
            laboratory
                .connect(n + 1, &inner, &format!("192.168.{lan}.1"))
                .await;
        }
        laboratory
    }

    /// Gives a space its address outside, and the way there.
    async fn connect(&self, n: usize, address: &str, via: &str) {
        let space = &self.spaces[n];
        ip(&format!("-n {space} addr add {address} dev wan")).await;
        ip(&format!("-n {space} link set wan up")).await;
        ip(&format!("-n {space} route add default via {via}")).await;
    }

    /// This machine, as the client sees it.
    #[must_use]
    pub const fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// Lets something more pass the outermost router, which shuts out what it was not told of.
    pub async fn let_through(&self, what: &str) {
        let rule = format!("insert rule ip wall c {what} accept");
        inside(&self.spaces[0], &["nft", "-f", "-"], &rule).await;
    }

    /// Runs a program where the client is.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let client = self.spaces.last().map_or("", String::as_str);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", client, program]);
        command
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        for name in &self.spaces {
            let removal = std::process::Command::new("ip")
                .args(["netns", "delete", name])
                .stderr(Stdio::null())
                .status();
            // A namespace too many does no harm, and a test that fails already must not fail of this.
            drop(removal);
        }
    }
}

async fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().await;
    let output = output.unwrap_or_else(|error| panic!("ip (of iproute2): {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {complaint}");
}

/// Runs a program in a space, with this at its standard input.
async fn inside(space: &str, words: &[&str], input: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).args(words);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ip (of iproute2)");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(input.as_bytes()).await.expect("it reads");
    drop(pipe);
    let output = child.wait_with_output().await.expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {complaint}\n{input}");
}
