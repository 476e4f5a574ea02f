//! Clients behind routers of every kind.

use super::expected::{Expected, call_in, is_skipped, turn};
use std::sync::Arc;
use tests::certified::Certified;
use tests::laboratory::{Families, Laboratory, Router};
use tests::ports::free_port;
use tests::server::Server;

/// A call with a server at its defaults.
async fn through(routers: &[Router]) {
    let laboratory = Laboratory::open(Families::V4, routers);
    let server = Server::start_at(laboratory.here()).await;
    let expected = Expected::direct(&laboratory, server.udp, "udp");
    call_in(&laboratory, &server, expected).await;
}

#[tokio::test]
async fn every_kind_of_router_lets_media_over_udp_through() {
    if is_skipped().await {
        return;
    }
    for router in [
        Router::full_cone(),
        Router::restricted(),
        Router::port_restricted(),
        Router::symmetric(),
    ] {
        through(&[router]).await;
    }
}

#[tokio::test]
async fn two_routers_one_behind_the_other_do_as_well() {
    if is_skipped().await {
        return;
    }
    through(&[Router::port_restricted(), Router::symmetric()]).await;
}

#[tokio::test]
async fn where_there_is_only_ipv6_media_goes_over_it() {
    if is_skipped().await {
        return;
    }
    let laboratory = Laboratory::open(Families::V6, &[Router::of_both_families()]);
    let here = laboratory.here_v6();
    let server = Server::start_at(here).await;
    let expected = Expected {
        path: "udp",
        local: (here, server.udp.port()).into(),
        // Nothing is translated.
        remote: ("prflx", laboratory.client_v6().into()),
        own: "host udp",
        told: here.into(),
    };
    call_in(&laboratory, &server, expected).await;
}

#[tokio::test]
async fn where_no_udp_passes_media_goes_over_tcp() {
    if is_skipped().await {
        return;
    }
    let wall = Router::passing(&["meta l4proto tcp"]);
    let laboratory = Laboratory::open(Families::V4, &[wall]);
    let server = Server::start_at(laboratory.here()).await;
    let expected = Expected::direct(&laboratory, server.tcp, "tcp");
    call_in(&laboratory, &server, expected).await;
}

#[tokio::test]
async fn where_neither_port_that_is_told_leads_anywhere_media_goes_through_the_relay() {
    if is_skipped().await {
        return;
    }
    let laboratory = Laboratory::open(Families::V4, &[Router::port_restricted()]);
    let here = laboratory.here();
    // Nobody answers there, but for the TURN server it is the SFU's.
    let told = free_port();
    let advertise = format!("advertise: [\"{here}:{told}/udp\", \"{here}:{told}/tcp\"]");
    for (transport, own) in [("udp", "relay udp"), ("tcp", "relay udp")] {
        let more = turn(&format!("{transport}_port: {}", free_port()));
        let server = Server::start_behind(here.into(), &[&advertise], &more).await;
        let expected = Expected {
            path: "turn",
            local: (here, told).into(),
            remote: ("relay", here.into()),
            own,
            told: here.into(),
        };
        call_in(&laboratory, &server, expected).await;
    }
}

#[tokio::test]
async fn where_only_one_port_of_udp_passes_media_goes_through_the_relay_there() {
    if is_skipped().await {
        return;
    }
    let turn_port = free_port();
    let more = turn(&format!("udp_port: {turn_port}"));
    let wall = Router::passing(&[&format!("udp dport {turn_port}")]);
    let laboratory = Laboratory::open(Families::V4, &[wall]);
    let here = laboratory.here();
    let server = Server::start_at_with(&[here.into()], &more).await;
    laboratory.let_through(&format!("tcp dport {}", server.http.port()));
    let expected = Expected {
        path: "turn",
        local: (here, server.udp.port()).into(),
        remote: ("relay", here.into()),
        own: "relay udp",
        told: here.into(),
    };
    call_in(&laboratory, &server, expected).await;
}

#[tokio::test]
async fn where_only_the_port_of_tls_passes_media_goes_there() {
    if is_skipped().await {
        return;
    }
    let tls = free_port();
    let laboratory = Laboratory::open(
        Families::V4,
        &[Router::passing(&[&format!("tcp dport {tls}")])],
    );
    let here = laboratory.here();
    let certified = Arc::new(Certified::default());
    certified.renew();
    let advertise = format!("advertise: [\"{here}:{tls}/tcp\"]");
    let config = certified.config(tls);
    let server = Server::start_behind(here.into(), &[&advertise], &config).await;
    laboratory.let_through(&format!("tcp dport {}", server.http.port()));
    let at = (here, tls).into();
    call_in(
        &laboratory,
        &server,
        Expected::direct(&laboratory, at, "tcp"),
    )
    .await;
}
