//! Clients of others: coturn's `turnutils_uclient` and aioice.

use super::server::{Peer, SECRET, Server};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Once;
use std::thread::JoinHandle;

/// The password of a time-limited name.
pub(crate) fn password(name: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    STANDARD.encode(hmac::sign(&key, name.as_bytes()))
}

fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/setup");
        let status = Command::new("bash").args([script, "turn"]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "tests/setup turn"
        );
    });
}

/// Messages of each client.
const MESSAGES: u32 = 40;

/// Runs coturn's client and tells what it says; its peer is `peer`.
fn uclient(server: SocketAddr, peer: SocketAddr, arguments: &[&str]) -> String {
    set_up();
    let mut command = Command::new("timeout");
    // Some of its odd ways never end.
    command.args(["30", "turnutils_uclient"]).args(arguments);
    command.args(["-n", &MESSAGES.to_string(), "-z", "5", "-l", "172"]);
    command.args(["-e", &peer.ip().to_string(), "-r", &peer.port().to_string()]);
    command.args(["-p", &server.port().to_string(), &server.ip().to_string()]);
    let Output { stdout, stderr, .. } = command.output().expect("it is installed");
    format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    )
}

#[track_caller]
fn assert_nothing_lost(said: &str, clients: u32) {
    let sent = format!("tot_send_msgs={0}, tot_recv_msgs={0}", clients * MESSAGES);
    assert!(said.contains(&sent), "{sent} is not in\n{said}");
    assert!(said.contains("Total lost packets 0"), "{said}");
}

const ALICE: [&str; 4] = ["-u", "alice", "-w", "alice-password"];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&ALICE[..], more].concat()
}

#[test]
fn the_client_of_coturn_relays_over_every_transport_by_channels_and_indications() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    for more in [&["-c"][..], &["-c", "-s"], &["-c", "-g"], &["-c", "-D"]] {
        assert_nothing_lost(&uclient(server.udp(), peer, &with(more)), 1);
    }
    for more in [
        &["-c", "-t"][..],
        &["-c", "-t", "-s"],
        &["-c", "-t", "-m", "4"],
    ] {
        let clients = if more.contains(&"-m") { 4 } else { 1 };
        assert_nothing_lost(&uclient(server.tcp(), peer, &with(more)), clients);
    }
    for more in [&["-c", "-t", "-S"][..], &["-c", "-t", "-S", "-s"]] {
        assert_nothing_lost(&uclient(server.tls(), peer, &with(more)), 1);
    }
    let bound = server.turn().bound();
    assert_nothing_lost(&uclient(bound.udp[1], peer, &with(&["-c"])), 1);
    let said = uclient(server.udp(), peer, &["-c", "-u", "dora", "-W", SECRET]);
    assert_nothing_lost(&said, 1);
}

#[test]
fn the_client_of_coturn_relays_to_ipv6() {
    let server = Server::start();
    let peer = Peer::start(Ipv6Addr::LOCALHOST.into()).address;
    let bound = server.turn().bound();
    for address in [server.udp(), bound.udp[1]] {
        assert_nothing_lost(&uclient(address, peer, &with(&["-c", "-x"])), 1);
    }
    assert_nothing_lost(
        &uclient(bound.tls[1], peer, &with(&["-c", "-x", "-t", "-S"])),
        1,
    );
}

#[test]
fn the_client_of_coturn_gets_even_ports_with_their_neighbours_and_talks_to_itself() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    // With RTCP: an even port and the reserved one above it. Client to client: relay to relay.
    for more in [
        &["-y"][..],
        &["-y", "-c"],
        &["-y", "-s", "-c"],
        &["-y", "-t", "-m", "4"],
    ] {
        let address = if more.contains(&"-t") {
            server.tcp()
        } else {
            server.udp()
        };
        let said = uclient(address, peer, &with(more));
        assert!(said.contains("Total lost packets 0"), "{more:?}\n{said}");
    }
}

#[test]
fn the_client_of_coturn_is_refused_with_a_wrong_password() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    let said = uclient(
        server.udp(),
        peer,
        &["-c", "-u", "alice", "-w", "bob-password", "-v"],
    );
    assert!(said.contains("Cannot complete Allocation"), "{said}");
    server.until(|totals| totals.server.denied > 0 && totals.server.allocated == 0);
}

#[test]
fn odd_requests_of_the_client_of_coturn_do_no_harm() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    // A peer of its own: of those who talk with one peer there is room for one on each relay port, and the
    // odd ones may take them all.
    let other = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    let odd: [&'static [&'static str]; 6] = [
        &["-N"],
        &["-R"],
        &["-G", "-c"],
        &["-O"],
        &["-N", "-R", "-t"],
        &["-Z", "-c"],
    ];
    let all: Vec<_> = odd
        .into_iter()
        .map(|more| {
            let tcp = more.contains(&"-t");
            let address = if tcp { server.tcp() } else { server.udp() };
            beside(address, peer, with(more))
        })
        .collect();
    let said = uclient(
        server.udp(),
        other,
        &["-c", "-u", "bob", "-w", "bob-password"],
    );
    assert_nothing_lost(&said, 1);
    for one in all {
        one.join().expect("it ends");
    }
    assert_nothing_lost(&uclient(server.udp(), other, &with(&["-c"])), 1);
}

fn beside(
    server: SocketAddr,
    peer: SocketAddr,
    arguments: Vec<&'static str>,
) -> JoinHandle<String> {
    #[expect(clippy::disallowed_methods, reason = "a client beside others")]
    std::thread::spawn(move || uclient(server, peer, &arguments))
}

#[test]
fn aioice_relays_over_every_transport_and_its_agents_meet() {
    let server = Server::start();
    let ip: IpAddr = Ipv4Addr::LOCALHOST.into();
    let peer = Peer::start(ip).address;
    let ports = [server.udp(), server.tcp(), server.tls(), peer].map(|at| at.port().to_string());
    run("relay.py", &ports);
}

/// Runs a script of `tests/turn`, which ends well if all went well.
fn run(script: &str, arguments: &[String]) {
    set_up();
    #[expect(
        clippy::disallowed_methods,
        reason = "a test harness is configured from outside"
    )]
    let cache = std::env::var("FOCI_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/foci", std::env::var("HOME").unwrap_or_default()));
    let status = Command::new(format!("{cache}/turn/bin/python"))
        .arg(format!("{}/turn/{script}", env!("CARGO_MANIFEST_DIR")))
        .args(arguments)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{script}");
}

#[test]
fn a_client_of_rfc_8489_written_apart_chooses_sha_256_and_hides_its_name_where_it_may() {
    for (names, forget) in [("named", false), ("hidden", true)] {
        let server = Server::with(|settings| {
            if forget {
                settings.server.credentials.shared.clear();
            }
        });
        let port = server.udp().port().to_string();
        run("sha256.py", &[port, names.into()]);
    }
}
