//! A home line gets another address in the middle of a call: the clients' line, or the server's.

use super::expected::is_skipped;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tests::laboratory::home::{Home, Tunnel};
use tests::laboratory::{Families, Laboratory, Router};
use tests::pair::Pair;
use tests::script;
use tests::server::Server;
use tests::stun::Stun;

/// Those whose connection is at a pair that is right, later than at first; and nobody joined anew.
#[track_caller]
fn assert_moved(server: &Server, is_right: impl Fn(&Pair) -> bool) {
    let log = server.log();
    let later = Pair::later(&log);
    let right = later.iter().filter(|pair| is_right(pair));
    let moved: BTreeSet<&str> = right.map(|pair| &*pair.participant).collect();
    assert_eq!(moved, BTreeSet::from(["a", "b"]), "{later:?}");
    assert_eq!(log.matches("starting RTC session").count(), 2, "{log}");
}

#[tokio::test]
async fn a_call_goes_on_when_the_clients_home_line_gets_another_address() {
    if is_skipped().await {
        return;
    }
    let laboratory = Laboratory::open(Families::V4, &[Router::port_restricted()]);
    let server = Server::start_at(laboratory.here()).await;
    let before = laboratory.outside();
    let url = laboratory.url(server.http.port());
    let script = (&server, "moved.py");
    script::python_during(laboratory.client(), &url, script, async || {
        let pairs = Pair::first(&server.log());
        assert!(
            pairs.iter().all(|pair| pair.remote.at.ip() == before),
            "{pairs:?}"
        );
        laboratory.renumber();
    })
    .await;
    let after = laboratory.outside();
    assert_ne!(before, after);
    assert_moved(&server, |pair| {
        pair.path == "udp" && pair.remote.kind == "prflx" && pair.remote.at.ip() == after
    });
}

#[tokio::test]
async fn a_call_goes_on_when_the_servers_home_line_gets_another_address() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let stun = {
        let _there = home.internet.visit();
        Stun::open_truthful(Home::INTERNET).await
    };
    let asked = format!("stun_servers: [\"{}\"]", stun.at);
    let rtc = [
        "use_external_ip: true",
        &asked,
        "ips: {excludes: [\"::/0\"]}",
    ];
    let server = Server::start_behind(Home::SERVER.into(), &rtc, "").await;
    home.forward(&server, false);
    let tunnel = Tunnel::open(&home, &server).await;
    let url = format!("ws://{}", tunnel.at);
    let script = (&server, "moved.py");
    let printed = script::python_during(&home.far, &url, script, async || {
        home.renumber();
        server.check_addresses().await;
    })
    .await;
    assert_moved(&server, |pair| {
        let is_local = pair.local.at == SocketAddr::from((Home::SERVER, server.udp.port()));
        pair.path == "udp" && is_local && pair.remote.at.ip() == Home::FAR
    });
    let told = format!(" to host udp {}", home.line());
    let goes = printed.lines().filter(|line| line.contains(" goes from "));
    assert!(goes.clone().count() == 2 && goes.clone().all(|line| line.ends_with(&told)));
}
