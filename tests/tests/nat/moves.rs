//! A home line gets another address in the middle of a call: the clients' line, or the server's.

use super::expected::{Expected, call, is_skipped};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;
use tests::laboratory::home::{Home, Tunnel};
use tests::laboratory::{Families, Laboratory, Router};
use tests::pair::Pair;
use tests::script;
use tests::server::Server;
use tests::stun::Stun;
use tokio::sync::Barrier;
use tokio::time::{interval, timeout};

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

/// A server at home, and the STUN server in the internet that it asks for its address.
async fn start_asking(home: &Home) -> (Server, Stun) {
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
    (server, stun)
}

#[tokio::test]
async fn a_call_goes_on_when_the_servers_home_line_gets_another_address() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let (server, _stun) = start_asking(&home).await;
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

/// A server whose router remembers no flows, and a STUN server that has said where it is and says nothing
/// more.
async fn start_exposed(home: &Home) -> Server {
    let (server, stun) = start_asking(home).await;
    home.expose(&server);
    server.logs("found external IP via STUN").await;
    stun.say(None);
    server
}

/// Where clients said at the end that they send to.
fn destinations(printed: &str) -> BTreeSet<&str> {
    let goes = printed.lines().filter(|line| line.contains(" goes from "));
    goes.filter_map(|line| line.rsplit(" to ").next()).collect()
}

async fn answered(server: &Server) -> f64 {
    let labels = ["result=\"answered\""];
    server.metric("foci_address_questions_total", &labels).await
}

#[tokio::test]
async fn the_checks_of_a_server_bring_a_call_to_its_new_address_where_nobody_says_it() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let server = start_exposed(&home).await;
    let tunnel = Tunnel::open(&home, &server).await;
    let url = format!("ws://{}", tunnel.at);
    let script = (&server, "moved.py");
    let printed = script::python_during(&home.far, &url, script, async || home.renumber()).await;
    // It was told no such address, and does not tell it either.
    assert_eq!(destinations(&printed), BTreeSet::from(["prflx udp "]));
    assert!(
        answered(&server).await >= 4.0,
        "two at first, and two out of silence"
    );
    let log = server.log();
    assert_eq!(log.matches("starting RTC session").count(), 2, "{log}");
    // Both are of one network, whose word alone is not believed.
    let told = format!("host {}:", home.line());
    assert!(!log.contains(&told), "{log}");
}

#[tokio::test]
async fn a_new_address_is_told_to_others_once_clients_of_two_networks_see_it() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let server = start_exposed(&home).await;
    let tunnel = Tunnel::open(&home, &server).await;
    let url = format!("ws://{}", tunnel.at);
    let script = (&server, "moved.py");
    let both = Barrier::new(2);
    tokio::join!(
        script::python_during(&home.far, &url, script, async || {
            both.wait().await;
            home.renumber();
        }),
        script::python_during(&home.elsewhere, &url, script, async || {
            both.wait().await;
        }),
    );
    let told = format!("advertised candidate: udp4 host {}:", home.line());
    server.logs(&told).await;
    let ip = format!("ip=\"{}\"", home.line());
    let labels = [&*ip, "source=\"client\""];
    assert_eq!(server.metric("foci_advertised_ip_info", &labels).await, 1.0);
    let expected = Expected {
        path: "udp",
        local: (Home::SERVER, server.udp.port()).into(),
        remote: ("prflx", Home::FAR.into()),
        own: "host udp",
        told: home.line().into(),
    };
    call(&home.far, &url, &server, expected).await;
}

async fn is_ready(server: &Server) -> bool {
    server.get("/readyz", "").await.status == 200
}

#[tokio::test]
async fn a_server_that_starts_before_its_interface_has_an_address_tells_it_as_soon_as_it_has() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let lease = format!("{}/24 dev wan", Home::SERVER);
    home.server.ip(&format!("addr del {lease}"));
    let outside = "ips: {excludes: [127.0.0.0/8, \"::/0\"]}";
    let server = Server::start_reached(&["use_external_ip: false", outside]).await;
    server
        .logs("no interface has an address clients could reach")
        .await;
    assert!(!is_ready(&server).await);
    home.server.ip(&format!("addr add {lease}"));
    let told = format!("advertised candidate: udp4 host {}:", Home::SERVER);
    server.logs(&told).await;
    assert!(is_ready(&server).await);
}

/// Has this machine an address of IPv6 that is temporary? (linux/if_addr.h)
fn has_temporary() -> bool {
    let list = fs::read_to_string("/proc/thread-self/net/if_inet6").expect("the kernel's list");
    let mut flags = list
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(4));
    flags.any(|flags| flags.ends_with('1'))
}

#[tokio::test]
async fn of_ipv6_the_lasting_address_is_told_and_not_the_temporary_one_beside_it() {
    if is_skipped().await {
        return;
    }
    let home = Home::open();
    let set = fs::write("/proc/sys/net/ipv6/conf/wan/use_tempaddr", "2");
    set.expect("a setting of the kernel");
    let lasting = "2001:db8:0:1::2";
    let lifetimes = "valid_lft 3600 preferred_lft 1800";
    let add = format!("addr add {lasting}/64 dev wan nodad mngtmpaddr {lifetimes}");
    home.server.ip(&add);
    let mut tick = interval(Duration::from_millis(20));
    let made = async {
        while !has_temporary() {
            tick.tick().await;
        }
    };
    timeout(Duration::from_secs(10), made)
        .await
        .expect("the kernel makes one");
    let outside = "ips: {excludes: [127.0.0.0/8, \"::1/128\"]}";
    let server = Server::start_reached(&["use_external_ip: false", outside]).await;
    let log = server.log();
    let told = log.lines().filter(|line| line.contains(": udp6 host "));
    let told: Vec<&str> = told.filter_map(|line| line.split("host ").nth(1)).collect();
    let expected = format!("[{lasting}]:{}", server.udp.port());
    assert!(
        told.len() == 1 && told[0].starts_with(&expected),
        "{told:?}"
    );
}
