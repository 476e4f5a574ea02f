//! The addresses under which a server is reached: found, told, and changed in the middle of a call.

use proto::livekit::leave_request::Action;
use proto::livekit::signal_response::Message;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use tests::client::{Client, Join};
use tests::framed::Framed;
use tests::publication::Media;
use tests::server::{Server, free_udp_port};
use tests::stun::Stun;
use tokio::time::{Instant, interval, timeout};

/// How long a test waits for anything else than a client.
const PATIENCE: Duration = Duration::from_secs(20);
/// After an address has changed, media goes by the new one within this time.
const MEDIA_WITHIN: Duration = Duration::from_secs(3);
/// Two addresses of this machine.
const OLD: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A server that asks this STUN server.
async fn start(stun: &Stun) -> Server {
    let servers = format!("stun_servers: [\"{}\"]", stun.at);
    Server::start_reached(&["use_external_ip: true", &servers]).await
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let mut tick = interval(Duration::from_millis(20));
    let wait = async {
        while !look().await {
            tick.tick().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// Waits until clients are told this address because a STUN server said so.
async fn until_told(server: &Server, ip: Ipv4Addr) {
    let line = format!("advertised candidate: udp4 host {ip}:");
    until(&line, async || server.log().contains(&line)).await;
    let ip = format!("ip=\"{ip}\"");
    let labels = [ip.as_str(), "source=\"stun\""];
    until("the metric", async || {
        let page = server.get_metrics().await;
        page.lines().any(|line| {
            line.starts_with("foci_advertised_ip_info") && labels.iter().all(|l| line.contains(l))
        })
    })
    .await;
}

async fn is_ready(server: &Server) -> bool {
    server.get("/readyz", "").await.status == 200
}

/// A port that somebody has, and its neighbour that nobody has.
fn taken_and_next() -> (UdpSocket, u16) {
    let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
    let found = (0..100).find_map(|_| {
        let first = free_udp_port();
        let next = first + 1;
        bind(next)?;
        Some((bind(first)?, next))
    });
    found.expect("two neighbours")
}

#[tokio::test]
async fn of_a_range_of_ports_the_one_that_media_has_is_told() {
    let (_taken, port) = taken_and_next();
    let range = format!("--rtc.udp_port={}-{}", port - 1, port + 100);
    let server = Server::start_flagged(&[&range]).await;
    let log = server.log();
    for told in [
        format!("advertised candidate: udp4 host {OLD}:{port}"),
        format!("rtc.portUDP={port} "),
        format!("{port}/udp media"),
    ] {
        assert!(log.contains(&told), "{told} is not in {log}");
    }
}

#[tokio::test]
async fn a_silent_stun_server_stops_no_start_and_the_server_is_not_ready_until_it_speaks() {
    let stun = Stun::open(None).await;
    let server = start(&stun).await;
    assert!(!is_ready(&server).await);
    until("it is told once", async || {
        server
            .log()
            .contains("could not determine the public address")
    })
    .await;
    // Those who reach it all the same have their call.
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    stun.say(Some(OLD));
    until("it is ready", async || is_ready(&server).await).await;
    until_told(&server, OLD).await;
    assert!(server.log().contains("found external IP via STUN"));
    until("it is tried from inside", async || {
        server
            .log()
            .contains("the public address leads here from inside too")
    })
    .await;
}

/// A client whose road to the old address, over TCP, ends while he is in a call. `check` makes the
/// server look.
async fn moves(dual: bool, check: impl AsyncFn(&Server)) {
    let stun = Stun::open(Some(OLD)).await;
    let server = start(&stun).await;
    until_told(&server, OLD).await;
    assert!(is_ready(&server).await);
    let road = Framed::open(&server).await;
    let mut how = Join::new("alice", "room").via(road.at);
    if dual {
        how = how.dual();
    }
    let alice = Client::join_with(&server, how).await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    let song = bob.publish("song", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    alice.receive(&song.sid, 10).await;
    // The line gets another address: by the old one nobody is reached any more.
    drop(road);
    stun.say(Some(NEW));
    check(&server).await;
    until_told(&server, NEW).await;
    let detected = Instant::now();
    let told = alice.message("he is sent back", |message| match message {
        Message::Leave(leave) => Some(leave.action()),
        _ => None,
    });
    assert_eq!(told.await, Action::Resume);
    alice.resume(&server, &[&sound]).await;
    bob.receive(&sound.sid, 1).await;
    alice.receive(&song.sid, 1).await;
    let took = detected.elapsed();
    assert!(took < MEDIA_WITHIN, "{took:?}");
    alice.receive(&song.sid, 20).await;
    // One answer was not enough, and nobody joined anew.
    assert!(server.log().contains("asked for a second time") && stun.asked() >= 3);
    let sessions = server.log().matches("starting RTC session").count();
    assert_eq!(sessions, 2);
    let joined = Client::join(&server, "carol", "room").await;
    let candidates = joined.seen(|seen| {
        let answer = seen.messages.iter().find_map(|message| match message {
            Message::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        });
        answer.unwrap_or_default()
    });
    assert!(candidates.contains(&NEW.to_string()), "{candidates}");
}

#[tokio::test]
async fn a_new_address_reaches_a_call_by_a_resume_and_new_joins_at_once() {
    moves(false, async |server| server.check_addresses().await).await;
}

#[tokio::test]
async fn clients_of_two_connections_come_by_the_new_address_too() {
    moves(true, async |server| server.hang_up()).await;
}

#[tokio::test]
async fn a_client_that_falls_silent_makes_the_server_ask_for_its_address_at_once() {
    let stun = Stun::open(Some(OLD)).await;
    let servers = format!("stun_servers: [\"{}\"]", stun.at);
    let seldom = "address_check_interval: 1h";
    let rtc = ["use_external_ip: true", &servers, seldom];
    let debug = "logging: {level: debug}\n";
    let server = Server::start_behind(NEW.into(), &rtc, debug).await;
    until_told(&server, OLD).await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    let answered = ["result=\"answered\""];
    let answered = server.metric("foci_address_questions_total", &answered);
    assert!(answered.await >= 1.0, "who is here is asked");
    let asked = stun.asked();
    // Without a word, as somebody whose network is gone, or to whom ours is.
    drop(alice);
    server
        .logs("a client is silent: has our address changed?")
        .await;
    until("it is asked", async || stun.asked() > asked).await;
}

#[tokio::test]
async fn one_wrong_answer_of_a_stun_server_moves_nobody() {
    let stun = Stun::open(Some(OLD)).await;
    let server = start(&stun).await;
    until_told(&server, OLD).await;
    let alice = Client::join(&server, "alice", "room").await;
    let asked = stun.asked();
    stun.say(Some(NEW));
    server.check_addresses().await;
    until("it is asked", async || stun.asked() > asked).await;
    stun.say(Some(OLD));
    until("it is asked again", async || stun.asked() > asked + 1).await;
    server.check_addresses().await;
    until("and a third time", async || stun.asked() > asked + 2).await;
    let changes = server.metric("foci_advertised_changes_total", &[]).await;
    assert!(changes <= 1.0, "{changes} changes");
    assert!(alice.seen(|seen| !seen.closed));
}

#[tokio::test]
async fn two_lines_that_are_used_in_turn_are_both_told_and_send_nobody_back() {
    let stun = Stun::open(Some(OLD)).await;
    let server = start(&stun).await;
    until_told(&server, OLD).await;
    stun.say(Some(NEW));
    server.check_addresses().await;
    until_told(&server, NEW).await;
    let alice = Client::join(&server, "alice", "room").await;
    stun.say(Some(OLD));
    server.check_addresses().await;
    server.logs("now at one address, now at another").await;
    for ip in [OLD, NEW] {
        let ip = format!("ip=\"{ip}\"");
        let labels = [ip.as_str(), "source=\"stun\""];
        server
            .until_metric("foci_advertised_ip_info", &labels, |value| value == 1.0)
            .await;
    }
    let asked = stun.asked();
    stun.say(Some(NEW));
    server.check_addresses().await;
    until("it is asked", async || stun.asked() > asked).await;
    assert!(alice.seen(|seen| !seen.closed));
    let changes = server.metric("foci_advertised_changes_total", &[]).await;
    assert!(changes <= 3.0, "{changes} changes");
}

#[tokio::test]
async fn the_addresses_of_a_name_are_told() {
    let server = Server::start_reached(&["node_ip: localhost", "use_external_ip: false"]).await;
    until("it is ready", async || is_ready(&server).await).await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    let name = "source=\"name\"";
    assert!(server.metric("foci_advertised_ip_info", &[name]).await >= 1.0);
    let lost = Server::start_reached(&["node_ip: nowhere.invalid", "use_external_ip: false"]).await;
    assert!(!is_ready(&lost).await);
}

#[tokio::test]
async fn a_list_of_addresses_is_told_as_it_is() {
    let list = "advertise: [\"198.51.100.1:40000/udp\", \"[2001:db8::1]:443/tcp\", 127.0.0.1]";
    let server = Server::start_reached(&[list, "use_external_ip: true"]).await;
    let alice = Client::join(&server, "alice", "room").await;
    let sdp = alice
        .message("an answer", |message| match message {
            Message::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        })
        .await;
    let udp = server.udp.port();
    for place in [
        " 198.51.100.1 40000 typ host generation",
        " 2001:db8::1 443 typ host tcptype passive",
        &format!(" 127.0.0.1 {udp} typ host generation"),
    ] {
        assert!(sdp.contains(place), "{place} in {sdp}");
    }
    let of_list = sdp.lines().filter(|line| line.starts_with("a=candidate"));
    assert_eq!(
        of_list
            .filter(|line| line.contains(" 198.51.100.1 "))
            .count(),
        1
    );
}

#[tokio::test]
async fn a_call_goes_by_a_further_address_where_the_first_one_leads_nowhere() {
    let rtc = ["node_ip: 192.0.2.1", "additional_host_ips: [127.0.0.1]"];
    let server = Server::start_reached(&rtc).await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    for (ip, source) in [("192.0.2.1", "node_ip"), ("127.0.0.1", "advertise")] {
        let line = format!("advertised candidate: udp4 host {ip}:{}", server.udp.port());
        assert!(server.log().contains(&line), "{line}");
        let labels = [format!("ip=\"{ip}\""), format!("source=\"{source}\"")];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let told = server.metric("foci_advertised_ip_info", &labels).await;
        assert_eq!(told, 1.0, "{labels:?}");
    }
    server.assert_calm();
}
