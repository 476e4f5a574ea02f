//! Real clients behind home routers: each case is a call of three with the Python SDK, which is
//! libwebrtc, and must go by the path that the network leaves. Run with `cargo nat`; it needs root.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tests::certified::Certified;
use tests::laboratory::{Laboratory, Router};
use tests::script;
use tests::server::{Server, free_tcp_port};

/// The laboratory with these routers, the outermost first.
async fn open(routers: &[Router]) -> Laboratory {
    script::set_up("nat").await;
    Laboratory::open(routers).await
}

/// A call through these routers; every participant comes by `path`, as the server sees it.
async fn call(laboratory: &Laboratory, server: &Server, path: &str) {
    script::python_in(laboratory, server, "call.py").await;
    let log = server.log();
    let active = log
        .lines()
        .filter(|line| line.contains("participant active"));
    let wanted = format!("connectionType=\"{path}\"");
    let (right, others): (Vec<_>, Vec<_>) = active.partition(|line| line.contains(&wanted));
    assert!(right.len() >= 3 && others.is_empty(), "{path}: {others:?}");
}

/// A call with a server at its defaults.
async fn through(routers: &[Router], path: &str) {
    let laboratory = open(routers).await;
    let server = Server::start_at(laboratory.here()).await;
    call(&laboratory, &server, path).await;
}

/// One port a test may take, and a range of relay ports.
fn turn(more: &str) -> String {
    let first = 26_000 + std::process::id() % 100 * 20;
    format!(
        "turn: {{{more}, relay_range_start: {first}, relay_range_end: {}}}\n",
        first + 19
    )
}

#[tokio::test]
async fn every_kind_of_router_lets_media_over_udp_through() {
    for router in [
        Router::full_cone(),
        Router::restricted(),
        Router::port_restricted(),
        Router::symmetric(),
    ] {
        through(&[router], "udp").await;
    }
}

#[tokio::test]
async fn two_routers_one_behind_the_other_do_as_well() {
    through(&[Router::port_restricted(), Router::symmetric()], "udp").await;
}

#[tokio::test]
async fn where_no_udp_passes_media_goes_over_tcp() {
    through(&[Router::passing(&["meta l4proto tcp"])], "tcp").await;
}

#[tokio::test]
async fn where_neither_port_that_is_told_leads_anywhere_media_goes_through_the_relay() {
    let laboratory = open(&[Router::port_restricted()]).await;
    let ip = laboratory.here();
    // Nobody answers there, but for the TURN server it is the SFU's.
    let port = free_tcp_port();
    let told = format!("advertise: [\"{ip}:{port}/udp\", \"{ip}:{port}/tcp\"]");
    for transport in ["udp", "tcp"] {
        let more = turn(&format!("{transport}_port: {}", free_tcp_port()));
        let server = Server::start_advertising(ip, &told, &more).await;
        call(&laboratory, &server, "turn").await;
    }
}

#[tokio::test]
async fn where_only_one_port_of_udp_passes_media_goes_through_the_relay_there() {
    let port = free_tcp_port();
    let more = turn(&format!("udp_port: {port}"));
    let wall = Router::passing(&[&format!("udp dport {port}")]);
    let laboratory = open(&[wall]).await;
    let server = Server::start_at_with(laboratory.here(), &more).await;
    laboratory
        .let_through(&format!("tcp dport {}", server.http.port()))
        .await;
    call(&laboratory, &server, "turn").await;
}

#[tokio::test]
async fn where_only_the_port_of_tls_passes_media_goes_there() {
    let tls = free_tcp_port();
    let laboratory = open(&[Router::passing(&[&format!("tcp dport {tls}")])]).await;
    let here = laboratory.here();
    let certified = Arc::new(Certified::default());
    certified.renew();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, tls));
    let advertise = format!("advertise: [\"{here}:{tls}/tcp\"]");
    let config = certified.config(at.port());
    let server = Server::start_advertising(here, &advertise, &config).await;
    laboratory
        .let_through(&format!("tcp dport {}", server.http.port()))
        .await;
    call(&laboratory, &server, "tcp").await;
}
