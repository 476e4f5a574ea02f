//! Browsers and Node on the real server: the unmodified npm clients, and our own page. Run with
//! `cargo browser`; screenshots go to `FOCI_ARTIFACTS`.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;
use tests::certified::Certified;
use tests::script;
use tests::server::{Server, free_tcp_port, free_udp_port};
use tests::stun::Stun;
use tokio::time::interval;

#[tokio::test]
async fn three_participants_call_with_livekit_client() {
    let server = Server::start().await;
    script::node(&server, "call.mjs").await;
}

#[tokio::test]
async fn three_participants_call_where_no_udp_is() {
    let server = Server::start_flagged(&["--rtc.force_tcp"]).await;
    script::node(&server, "call.mjs").await;
    let log = server.log();
    let active = log
        .lines()
        .filter(|line| line.contains("participant active"));
    let (by_tcp, others): (Vec<_>, Vec<_>) =
        active.partition(|line| line.contains("connectionType=\"tcp\""));
    assert!(by_tcp.len() >= 3 && others.is_empty(), "{others:?}");
}

/// Every participant who got in came through the relay.
fn assert_all_relayed(server: &Server) {
    let log = server.log();
    let active = log
        .lines()
        .filter(|line| line.contains("participant active"));
    let (relayed, others): (Vec<_>, Vec<_>) =
        active.partition(|line| line.contains("connectionType=\"turn\""));
    assert!(relayed.len() >= 3 && others.is_empty(), "{others:?}");
    // Nobody is refused anything: each asks as he should, and has room for all he asks. But for leave to
    // reach an address of this machine that has gone: tests beside this one make networks and take them down.
    let refused = log
        .lines()
        .filter(|line| line.contains("TURN request refused") && !line.contains("code=403"));
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
async fn chromium_and_firefox_call_through_the_relay_alone() {
    for (transport, port, dual) in [
        ("udp", free_udp_port(), "chromium"),
        ("tcp", free_tcp_port(), "firefox"),
    ] {
        let server = Server::start_with_relays(&format!("{transport}_port: {port}"), "").await;
        script::node(&server, &format!("relayed.mjs {transport} {port} {dual}")).await;
        assert_all_relayed(&server);
    }
}

#[tokio::test]
async fn chromium_and_firefox_call_through_the_relay_over_tls_alone() {
    let certified = Certified::default();
    certified.renew();
    let port = free_tcp_port();
    let own = format!("domain: localhost, tls_port: {port}, {}", certified.keys());
    let shared = "domain: localhost, tls_port: 0";
    let port_of_tls = certified.config(port);
    for (turn, more, dual) in [
        (own.as_str(), "", "chromium"),
        (shared, port_of_tls.as_str(), "firefox"),
    ] {
        let server = Server::start_with_relays(turn, more).await;
        let script = format!("relayed.mjs tls {port} {dual}");
        script::node_trusting(&certified, &server, &script).await;
        assert_all_relayed(&server);
    }
}

#[tokio::test]
async fn who_is_led_to_tcp_or_to_a_relay_comes_by_it_and_comes_back_by_it() {
    let turn = format!("tcp_port: {}", free_tcp_port());
    let server = Server::start_with_relays(&turn, "").await;
    script::node(&server, "fallback.mjs").await;
    for to in ["tcp", "relay"] {
        let label = format!("to=\"{to}\"");
        assert_eq!(server.metric("foci_fallbacks_total", &[&label]).await, 1.0);
    }
}

#[tokio::test]
async fn a_call_goes_on_when_the_server_is_reached_by_another_address() {
    let stun = Stun::open(Some(Ipv4Addr::LOCALHOST)).await;
    let servers = format!("stun_servers: [\"{}\"]", stun.at);
    let without_ipv6 = "ips: {excludes: [\"::/0\"]}";
    let server = Server::start_reached(&["use_external_ip: true", &servers, without_ipv6]).await;
    let changed = async {
        let mut tick = interval(Duration::from_millis(100));
        // Each of three sees and hears the other two; whoever is only just joining is not sent back.
        let active = || server.log().matches("participant active").count();
        while server.metric("foci_downstreams", &[]).await < 12.0 || active() < 3 {
            tick.tick().await;
        }
        stun.say(Some(Ipv4Addr::new(127, 0, 0, 2)));
        server.check_addresses().await;
    };
    tokio::join!(script::node(&server, "call.mjs moved"), changed);
    let log = server.log();
    for name in ["a", "b", "c"] {
        let name = format!("participant={name} ");
        let moved = log.lines().any(|line| {
            line.contains("ice reconnected or switched pair")
                && line.contains(&name)
                && line.contains("host 127.0.0.2:")
        });
        assert!(moved, "{name} joined anew");
    }
}

/// The address of this machine that others see.
fn towards_others() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent. (RFC 5737)
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[tokio::test]
async fn firefox_and_chromium_tell_a_server_that_asks_where_they_see_it() {
    let ip = towards_others().unwrap_or(Ipv4Addr::LOCALHOST);
    let stun = Stun::open(Some(ip)).await;
    let servers = format!("stun_servers: [\"{}\"]", stun.at);
    let without_ipv6 = "ips: {excludes: [\"::/0\"]}";
    let server = Server::start_reached(&["use_external_ip: true", &servers, without_ipv6]).await;
    script::node(&server, "meet.mjs firefox,chromium host,prflx,srflx").await;
    let result = async |name: &str| {
        let label = format!("result=\"{name}\"");
        server
            .metric("foci_address_questions_total", &[&label])
            .await
    };
    let (asked, answered) = (result("asked").await, result("answered").await);
    assert!(answered >= 2.0 && result("refused").await == 0.0);
    // Whoever is just leaving may be asked in vain.
    assert!(asked - answered <= 1.0, "{answered} of {asked} answered");
}

#[tokio::test]
async fn every_generation_of_livekit_client_calls_every_other() {
    let server = Server::start().await;
    script::node(&server, "call.mjs mixed").await;
}

#[tokio::test]
async fn browsers_with_the_key_see_and_hear_and_nobody_else() {
    let server = Server::start().await;
    script::node(&server, "encrypted.mjs").await;
}

#[tokio::test]
async fn firefox_and_chromium_call_each_other() {
    // Firefox nominates every pair that works; it has many.
    let server = Server::start_everywhere().await;
    script::node(&server, "firefox.mjs").await;
    let log = server.log();
    let moves = log
        .lines()
        .filter(|line| line.contains("switched pair") && !line.contains("participant=b "));
    let moves: Vec<_> = moves.collect();
    assert!(!moves.is_empty(), "a resume is told in other words now");
    // Some when it connects and when it resumes, but none while media flows.
    assert!(moves.len() <= 16, "the path flaps:\n{}", moves.join("\n"));
}

#[tokio::test]
async fn a_call_survives_every_failure_of_the_shell() {
    let server = Server::start_with("faults:\n  seed: 7\n").await;
    script::node_on_a_faulty(&server, "faulty.mjs").await;
}

#[tokio::test]
async fn three_participants_call_with_rtc_node() {
    let server = Server::start().await;
    script::node(&server, "node.mjs").await;
}

#[tokio::test]
async fn two_tabs_of_the_try_page_call_each_other() {
    let server = Server::start_with("development: true\n").await;
    script::node(&server, "try.mjs").await;
}

#[tokio::test]
async fn the_try_page_is_there_in_development_mode_only() {
    let server = Server::start().await;
    for path in ["/try", "/try/try.js", "/try/token", "/livekit/sfu/try"] {
        assert_eq!(server.get(path, "").await.status, 404, "{path}");
    }
}
