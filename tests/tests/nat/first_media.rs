//! How long a client waits for media where the network leaves one path. Printed, and judged by nobody.

use super::expected::{is_skipped, turn};
use serde_json::Value;
use std::fmt::Write as _;
use tests::certified::{Certified, HOST};
use tests::laboratory::{Families, Laboratory, Router};
use tests::ports::free_port;
use tests::script;
use tests::server::{Server, show};

/// Ports of a server that has everything.
#[derive(Debug, Clone, Copy)]
struct Ports {
    media: [u16; 2],
    turn: u16,
    turn_tls: u16,
    tls: u16,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// The Python SDK, which is libwebrtc. It trusts the authorities that are compiled into it, and no
    /// other: it has no TURN over TLS with a certificate of ours.
    Python,
    Chromium,
}

/// A path that a network leaves.
struct Path {
    name: &'static str,
    client: Client,
    /// What passes the wall beside the signalling.
    passes: fn(Ports) -> String,
    /// How the client tells its end.
    own: &'static str,
}

const fn path(
    name: &'static str,
    client: Client,
    passes: fn(Ports) -> String,
    own: &'static str,
) -> Path {
    Path {
        name,
        client,
        passes,
        own,
    }
}

fn paths() -> [Path; 7] {
    use Client::{Chromium, Python};
    let udp: fn(Ports) -> String = |ports| format!("udp dport {}", ports.media[0]);
    let tcp: fn(Ports) -> String = |ports| format!("tcp dport {}", ports.media[1]);
    [
        path("UDP", Python, udp, "prflx udp"),
        path("ICE-TCP", Python, tcp, "prflx tcp"),
        path(
            "ICE-TCP at the port of TLS",
            Python,
            |ports| format!("tcp dport {}", ports.tls),
            "prflx tcp",
        ),
        path(
            "TURN over UDP",
            Python,
            |ports| format!("udp dport {}", ports.turn),
            "relay udp",
        ),
        path(
            "TURN over TCP",
            Python,
            |ports| format!("tcp dport {}", ports.turn),
            "relay udp",
        ),
        path("UDP, Chromium", Chromium, udp, "prflx udp"),
        path(
            "TURN over TLS, Chromium",
            Chromium,
            |ports| format!("tcp dport {}", ports.turn_tls),
            "relay udp",
        ),
    ]
}

/// What was given from outside.
fn given(name: &str) -> Option<String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test harness is configured from outside"
    )]
    std::env::var(name).ok()
}

#[tokio::test]
async fn the_time_to_first_media_over_each_path_is_told() {
    if is_skipped().await {
        return;
    }
    let (tries, all) = match given("TRIES").and_then(|text| text.parse().ok()) {
        Some(tries) => (tries, ""),
        // By the others go other cases.
        None => (1, "TURN over T"),
    };
    let chosen = given("FOCI_CASE").unwrap_or_else(|| all.to_owned());
    let mut table = format!(
        "ms from connect(), median and worst of {tries}{:>8}{:>16}{:>16}\n",
        "joined", "sound", "picture"
    );
    for path in paths().iter().filter(|path| path.name.contains(&chosen)) {
        let told = wait(path, tries).await;
        let _ = write!(table, "{:32}", path.name);
        for what in ["connected", "sound", "picture"] {
            let mut all: Vec<u64> = told.iter().filter_map(|one| one[what].as_u64()).collect();
            assert_eq!(all.len(), tries, "{told:?}");
            all.sort_unstable();
            let _ = write!(table, "{:>8}{:>8}", all[tries / 2], all[tries - 1]);
        }
        table.push('\n');
    }
    show(&table);
}

/// So many times, each with what the client told; all of them came by the path.
async fn wait(path: &Path, tries: usize) -> Vec<Value> {
    let laboratory = Laboratory::open(Families::V4, &[Router::passing(&[])]);
    let here = laboratory.here();
    let certified = Certified::default();
    certified.renew();
    let [turn_port, turn_tls, tls] = [(); 3].map(|()| free_port());
    let turn = turn(&format!(
        "udp_port: {turn_port}, tcp_port: {turn_port}, tls_port: {turn_tls}, domain: {HOST}"
    ));
    let advertise = format!("advertise: [\"{here}\", \"{here}:{tls}/tcp\"]");
    let more = turn + &certified.config(tls);
    let server = Server::start_behind(here.into(), &[&advertise], &more).await;
    let ports = Ports {
        media: [server.udp.port(), server.tcp.port()],
        turn: turn_port,
        turn_tls,
        tls,
    };
    laboratory.let_through(&format!("tcp dport {}", server.http.port()));
    laboratory.let_through(&(path.passes)(ports));
    let client = laboratory.client();
    // Nobody answers questions of names; Chromium waits for one even if it knows the address.
    client.etc("resolv.conf", "nameserver 127.0.0.1\n");
    client.etc("hosts", &format!("127.0.0.1 localhost\n{here} {HOST}\n"));
    let url = laboratory.url(server.http.port());
    let printed = match path.client {
        Client::Python => {
            let script = format!("first_media.py {tries}");
            script::python_in(client, &url, &server, &script).await
        }
        Client::Chromium => {
            let script = format!("first_media.mjs {tries}");
            script::node_in(client, &url, &server, &script).await
        }
    };
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    let told: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let came = |one: &Value| {
        one["path"]
            .as_str()
            .is_some_and(|by| by.starts_with(path.own))
    };
    assert!(told.iter().all(came), "{}: {told:?}", path.name);
    told
}
