//! A server at home, and clients in the same network: the router turns their packets around (hairpin), or
//! the local address is told beside the public one.

use super::expected::{Expected, call, is_skipped};
use std::net::{IpAddr, Ipv4Addr};
use tests::laboratory::home::Home;
use tests::server::Server;

/// Who asks the server at home by an address, and is seen at another one.
fn at_home(server: &Server, told: Ipv4Addr, (own, seen): (&'static str, Ipv4Addr)) -> Expected {
    Expected {
        path: "udp",
        local: (Home::SERVER, server.udp.port()).into(),
        remote: ("prflx", seen.into()),
        own,
        told: told.into(),
    }
}

async fn start(rtc: &[&str]) -> Server {
    let node_ip = format!("node_ip: \"{}\"", Home::LINE);
    let rtc: Vec<&str> = rtc.iter().copied().chain([&*node_ip]).collect();
    Server::start_behind(Home::SERVER.into(), &rtc, "").await
}

fn url(ip: impl Into<IpAddr>, server: &Server) -> String {
    format!("ws://{}:{}", ip.into(), server.http.port())
}

#[tokio::test]
async fn a_router_that_turns_packets_around_lets_the_own_network_in_by_the_public_address() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let server = start(&[]).await;
    home.forward(&server, true);
    let public = url(Home::LINE, &server);
    let expected = at_home(&server, Home::LINE, ("prflx udp", Home::ROUTER));
    call(&home.guest, &public, &server, expected).await;
}

#[tokio::test]
async fn where_no_router_turns_packets_around_the_local_address_beside_the_public_one_serves_both()
{
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let server = start(&["advertise_internal_ip: true"]).await;
    home.forward(&server, false);
    let local = url(Home::SERVER, &server);
    let guest = at_home(&server, Home::SERVER, ("host udp", Home::GUEST));
    call(&home.guest, &local, &server, guest).await;
    let public = url(Home::LINE, &server);
    let far = at_home(&server, Home::LINE, ("host udp", Home::FAR));
    call(&home.far, &public, &server, far).await;
}
