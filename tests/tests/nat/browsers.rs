//! Browsers behind routers.

use super::expected::{Expected, is_skipped, turn};
use std::net::IpAddr;
use tests::laboratory::{Families, Laboratory, Router};
use tests::pair::Pair;
use tests::ports::free_port;
use tests::script;
use tests::server::Server;

/// A call of two, of whom each goes by one of these paths, as browsers tell it; what they printed.
async fn meet(laboratory: &Laboratory, server: &Server, kinds: &str, paths: &str) -> String {
    let script = format!("meet.mjs {kinds} {paths}");
    let url = laboratory.url(server.http.port());
    script::node_in(laboratory.client(), &url, server, &script).await
}

#[tokio::test]
async fn chromium_calls_from_behind_a_symmetric_router() {
    if is_skipped().await {
        return;
    }
    let laboratory = Laboratory::open(Families::V4, &[Router::symmetric()]);
    let server = Server::start_at(laboratory.here()).await;
    let printed = meet(&laboratory, &server, "chromium,chromium", "prflx udp").await;
    let expected = Expected::direct(&laboratory, server.udp, "udp");
    expected.check(&Pair::first(&server.log()));
    expected.check_told(&printed);
}

/// A server that tells all it has: both families, TCP, relays, and the local addresses beside.
async fn start_with_everything(laboratory: &Laboratory, turn_port: u16) -> Server {
    let (v4, v6) = (laboratory.here(), laboratory.here_v6());
    let node_ip = format!("node_ip: \"{v4},{v6}\"");
    // That of this machine's own network: there is always one.
    let local = "ips: {excludes: [127.0.0.0/8, \"::/0\"]}";
    let rtc = [&*node_ip, "advertise_internal_ip: true", local];
    let more = turn(&format!("udp_port: {turn_port}, tcp_port: {turn_port}"));
    Server::start_behind(v4.into(), &rtc, &more).await
}

#[tokio::test]
async fn firefox_takes_one_of_all_candidates_there_are_and_stays_with_it() {
    if is_skipped().await {
        return;
    }
    let laboratory = Laboratory::open(Families::Both, &[Router::of_both_families()]);
    let server = start_with_everything(&laboratory, free_port()).await;
    let kinds = "firefox,firefox";
    meet(&laboratory, &server, kinds, "host udp,srflx udp,prflx udp").await;
    let log = server.log();
    let (first, later) = (Pair::first(&log), Pair::later(&log));
    let ends: [(IpAddr, IpAddr); 2] = [
        (laboratory.here_v6().into(), laboratory.client_v6().into()),
        (laboratory.here().into(), laboratory.outside().into()),
    ];
    for pair in first.iter().chain(&later) {
        let between = (pair.local.at.ip(), pair.remote.at.ip());
        let is_right = pair.path == "udp" && pair.remote.kind == "prflx" && ends.contains(&between);
        assert!(is_right, "{pair:?}");
    }
    // It nominates every pair that works, and there are two; then media decides.
    assert!(first.len() == 2 && later.len() <= 8, "{first:?} {later:?}");
}

#[tokio::test]
async fn firefox_goes_through_the_relay_though_there_are_local_addresses_beside() {
    if is_skipped().await {
        return;
    }
    let turn_port = free_port();
    let wall = Router::passing(&[&format!("udp dport {turn_port}")]);
    let laboratory = Laboratory::open(Families::V4, &[wall]);
    let server = start_with_everything(&laboratory, turn_port).await;
    laboratory.let_through(&format!("tcp dport {}", server.http.port()));
    let here = laboratory.here();
    meet(&laboratory, &server, "firefox,firefox", "relay udp").await;
    let expected = Expected {
        path: "turn",
        local: (here, server.udp.port()).into(),
        remote: ("relay", here.into()),
        own: "relay udp",
        told: here.into(),
    };
    expected.check(&Pair::first(&server.log()));
}
