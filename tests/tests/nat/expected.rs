//! What the cases share: whether they can be tried, and by which pair of candidates media must go.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use tests::laboratory::Laboratory;
use tests::pair::Pair;
use tests::script;
use tests::server::Server;
use tests::space::{self, Space};

/// Nothing can be tried here, and the reason is told.
pub(crate) async fn is_skipped() -> bool {
    if space::is_root() {
        script::set_up("nat").await;
    }
    let Some(reason) = space::refusal() else {
        return false;
    };
    #[allow(
        clippy::print_stderr,
        reason = "it is to be seen that nothing was tried"
    )]
    {
        eprintln!("skipped: {reason}");
    }
    true
}

/// A pair of candidates, as the server and as its client see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// `connectionType`.
    pub(crate) path: &'static str,
    /// Where the server is asked.
    pub(crate) local: SocketAddr,
    /// Kind and address of the client's end, as the server sees it; the port is the router's business.
    pub(crate) remote: (&'static str, IpAddr),
    /// How the client calls its own end: `prflx udp`.
    pub(crate) own: &'static str,
    /// Where the client sends to.
    pub(crate) told: IpAddr,
}

impl Expected {
    /// Directly from a router's outer address to one of this machine.
    pub(crate) fn direct(laboratory: &Laboratory, at: SocketAddr, path: &'static str) -> Self {
        Self {
            path,
            local: SocketAddr::new(laboratory.here().into(), at.port()),
            remote: ("prflx", laboratory.outside().into()),
            own: if path == "tcp" {
                "prflx tcp"
            } else {
                "prflx udp"
            },
            told: laboratory.here().into(),
        }
    }

    /// Asserts that all pairs that were the first of their participants are this one.
    #[track_caller]
    pub(crate) fn check(&self, pairs: &[Pair]) {
        assert!(pairs.len() >= 2, "{pairs:?}");
        let network = match (self.path, self.local) {
            ("tcp", SocketAddr::V4(_)) => "tcp4",
            ("tcp", SocketAddr::V6(_)) => "tcp6",
            (_, SocketAddr::V4(_)) => "udp4",
            (_, SocketAddr::V6(_)) => "udp6",
        };
        for pair in pairs {
            let (local, remote) = (&pair.local, &pair.remote);
            let is_right = pair.path == self.path
                && (&*local.network, &*local.kind, local.at) == (network, "host", self.local)
                && (&*remote.network, &*remote.kind) == (network, self.remote.0)
                && remote.at.ip() == self.remote.1;
            assert!(is_right, "{pair:?} is not {self:?}");
        }
    }

    /// Asserts that clients that printed this see it so as well.
    #[track_caller]
    pub(crate) fn check_told(&self, printed: &str) {
        let goes = |line: &&str| line.contains(" goes from ");
        let lines: Vec<&str> = printed.lines().filter(goes).collect();
        assert!(lines.len() >= 2, "{printed}");
        let protocol = if self.path == "tcp" { "tcp" } else { "udp" };
        let to = format!(" to host {protocol} {}", self.told);
        for line in lines {
            let is_right =
                line.contains(&format!(" goes from {}", self.own)) && line.ends_with(&to);
            assert!(is_right, "{line} is not {self:?}");
        }
    }
}

/// A call of three with the Python SDK, which is libwebrtc; all participants come by one pair.
pub(crate) async fn call(space: &Space, url: &str, server: &Server, expected: Expected) {
    let before = Pair::first(&server.log()).len();
    let printed = script::python_in(space, url, server, "call.py brief").await;
    expected.check(&Pair::first(&server.log())[before..]);
    expected.check_told(&printed);
}

/// The same behind the routers of a laboratory.
pub(crate) async fn call_in(laboratory: &Laboratory, server: &Server, expected: Expected) {
    let url = laboratory.url(server.http.port());
    call(laboratory.client(), &url, server, expected).await;
}

/// A TURN server with these ports alone, and a range of relay ports of its own below those that systems draw
/// from.
pub(crate) fn turn(ports: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = std::process::id().wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let first = 26_000 + count % 200 * 20;
    format!(
        "turn: {{{ports}, relay_range_start: {first}, relay_range_end: {}}}\n",
        first + 19
    )
}
