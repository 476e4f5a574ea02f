//! Relaying over every transport and family: to a peer through the kernel, to the SFU in process, to
//! a neighbour.

use super::client::{Client, Received, channel_data};
use super::server::{Peer, SFU, SFU_IPV6, Server};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::space::{self, Space};
use turn::message::attribute::{DATA, DONT_FRAGMENT, XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS};
use turn::message::writer::Writer;
use turn::message::{Class, Method};

fn clients(server: &Server) -> Vec<(&'static str, Client)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let bound = server.turn().bound();
    vec![
        ("udp", Client::udp(server.udp(), "alice", "alice-password")),
        ("udp6", Client::udp(bound.udp[1], "alice", "alice-password")),
        ("tcp", Client::tcp(server.tcp(), "alice", "alice-password")),
        ("tcp6", Client::tcp(bound.tcp[1], "alice", "alice-password")),
        (
            "tls",
            Client::tls(server.tls(), "alice", "alice-password", &seen),
        ),
    ]
}

fn send(client: &mut Client, peer: SocketAddr, payload: &[u8], whole: bool) {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12]);
    writer.address(XOR_PEER_ADDRESS, peer);
    if whole {
        writer.bytes(DONT_FRAGMENT, &[]);
    }
    writer.bytes(DATA, payload).finish(false);
    client.send(&out).expect("taken");
}

fn data(received: &Received) -> (SocketAddr, Vec<u8>) {
    let message = received.message();
    let payload = message.attribute(DATA).expect("data").to_vec();
    (message.address(XOR_PEER_ADDRESS).expect("a peer"), payload)
}

/// Sends payloads of a size side by side, and takes them back.
fn echo_two(client: &mut Client, len: usize) {
    let payloads = [vec![1; len], vec![2; len]];
    let frames = payloads.each_ref().map(|one| channel_data(0x4001, one));
    client.send(&frames.concat()).expect("taken");
    for frame in frames {
        assert_eq!(client.receive().expect("it comes back").0, frame);
    }
}

#[test]
fn datagrams_larger_than_the_network_takes_arrive_though_they_come_together() {
    if let Some(reason) = space::refusal() {
        #[allow(
            clippy::print_stderr,
            reason = "it is to be seen that nothing was tried"
        )]
        {
            eprintln!("skipped: {reason}");
        }
        return;
    }
    let narrow = Space::make(format!("foci-mtu-{}", std::process::id()));
    narrow.ip("link set lo mtu 1500");
    let _visit = narrow.visit();
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    // What is read of a stream at once goes out at once.
    let mut client = Client::tcp(server.tcp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, peer), 0);
    for len in [1200, 1472, 1476, 2000] {
        echo_two(&mut client, len);
    }
    let lost = server.until(|totals| totals.udp.datagrams_in >= 8).udp;
    assert_eq!((lost.lost_size, lost.lost_other), (0, 0));
}

#[test]
fn a_peer_is_reached_over_every_transport_and_family() {
    let server = Server::start();
    let ips: [(u8, IpAddr); 2] = [
        (1, Ipv4Addr::LOCALHOST.into()),
        (2, Ipv6Addr::LOCALHOST.into()),
    ];
    for (family, ip) in ips {
        let peer = Peer::start(ip).address;
        for (name, mut client) in clients(&server) {
            assert_eq!(client.allocate_family(family).code(), 0, "{name}");
            assert_eq!(client.permit(peer), 0, "{name}");
            for whole in [false, true] {
                send(&mut client, peer, b"hello", whole);
                let back = client.receive().expect("it comes back");
                assert_eq!(data(&back), (peer, b"hello".to_vec()), "{name}");
            }
            assert_eq!(client.bind(0x4001, peer), 0, "{name}");
            for len in [0, 1, 5, 172, 1200, 4000] {
                let payload = vec![len as u8; len];
                let back = client.echo(0x4001, &payload);
                assert_eq!(back.0[4..4 + len], payload, "{name} {len}");
            }
            assert_eq!(client.refresh(0), 0, "{name}");
        }
    }
    assert_eq!(
        server
            .until(|totals| totals.server.released == 10)
            .udp
            .lost_other,
        0
    );
}

#[test]
fn a_peer_sees_the_relayed_address_whichever_the_machine_would_choose() {
    let [told, other] = [2, 1].map(|last| IpAddr::from([127, 0, 0, last]));
    let server = Server::with(|settings| {
        settings.server.own.external = vec![told];
        settings.server.own.host = vec![told, other];
        settings.relay = vec![Ipv4Addr::UNSPECIFIED.into()];
    });
    let peer = UdpSocket::bind((other, 0)).expect("a socket");
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let at = peer.local_addr().expect("bound");
    let mut client = Client::udp(server.udp(), "alice", "alice-password");
    let relayed = client.allocate().relayed();
    assert_eq!((relayed.ip(), client.permit(at)), (told, 0));
    for whole in [false, true] {
        send(&mut client, at, b"hello", whole);
        let (_, from) = peer.recv_from(&mut [0; 10]).expect("it comes");
        assert_eq!(from, relayed);
    }
}

#[test]
fn the_sfu_is_reached_in_process_over_every_transport() {
    let server = Server::start();
    for (family, sfu) in [(1, SFU), (2, SFU_IPV6)] {
        let sfu = sfu.parse().expect("an address");
        for (name, mut client) in clients(&server) {
            assert_eq!(client.allocate_family(family).code(), 0, "{name}");
            assert_eq!(client.permit(sfu), 0);
            send(&mut client, sfu, b"hello", false);
            let back = client.receive().expect("it comes back");
            assert_eq!(data(&back), (sfu, b"hello".to_vec()), "{name}");
            assert_eq!(client.bind(0x4001, sfu), 0);
            for n in 0..50 {
                let back = client.echo(0x4001, &[n; 172]);
                assert_eq!(back.0[..176], channel_data(0x4001, &[n; 172]), "{name}");
            }
        }
    }
    assert_eq!(
        server
            .until(|totals| totals.server.traffic.packets_out >= 510)
            .sfu_full,
        0
    );
}

#[test]
fn two_clients_of_ours_talk_over_their_relays() {
    let server = Server::start();
    let mut alice = Client::udp(server.udp(), "alice", "alice-password");
    let mut bob = Client::tcp(server.tcp(), "bob", "bob-password");
    let hers = alice.allocate().relayed();
    let his = bob.allocate().relayed();
    assert_eq!((alice.bind(0x4001, his), bob.bind(0x4002, hers)), (0, 0));
    alice.send(&channel_data(0x4001, b"hello")).expect("taken");
    assert_eq!(
        bob.receive().expect("it comes").0,
        [&[0x40, 2, 0, 5][..], b"hello"].concat()
    );
    bob.send(&channel_data(0x4002, b"hi, alice"))
        .expect("taken");
    assert_eq!(
        alice.receive().expect("it comes").0,
        [&[0x40, 1, 0, 9][..], b"hi, alice"].concat()
    );
}

#[test]
fn a_shared_port_tells_peers_apart_by_their_address() {
    let server =
        Server::with(|settings| settings.server.relay_ports.1 = settings.server.relay_ports.0);
    let mut alice = Client::udp(server.udp(), "alice", "alice-password");
    let mut bob = Client::udp(server.udp(), "bob", "bob-password");
    let relayed = alice.allocate().relayed();
    assert_eq!(bob.allocate().relayed(), relayed);
    let peers = ["127.0.0.2", "127.0.0.3"].map(|ip| {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        socket
    });
    let addresses = peers
        .each_ref()
        .map(|peer| peer.local_addr().expect("bound"));
    assert_eq!(alice.bind(0x4001, addresses[0]), 0);
    assert_eq!(bob.bind(0x4001, addresses[0]), 403);
    assert_eq!(bob.bind(0x4001, addresses[1]), 0);
    peers[1].send_to(b"for bob", relayed).expect("sent");
    peers[0].send_to(b"for alice", relayed).expect("sent");
    assert_eq!(alice.receive().expect("it comes").0[4..], *b"for alice");
    assert_eq!(bob.receive().expect("it comes").0[4..], *b"for bob");
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let server =
        Server::with(|settings| settings.udp = vec!["0.0.0.0:0".parse().expect("an address")]);
    let port = server.udp().port();
    for ip in ["127.0.0.1", "127.0.0.77"] {
        // A connected socket takes nothing from any other address.
        let mut client = Client::udp(
            format!("{ip}:{port}").parse().expect("an address"),
            "alice",
            "alice-password",
        );
        let answer = client.ask(Method::Binding, |_| {});
        let mapped = answer.message().address(XOR_MAPPED_ADDRESS).expect("told");
        assert!(mapped.ip().is_loopback());
        assert_eq!(client.allocate().code(), 0);
    }
}

#[test]
fn the_sfu_is_told_of_an_allocation_that_ends_at_once_and_after_its_packets() {
    let server = Server::start();
    let sfu: SocketAddr = SFU.parse().expect("an address");
    let mut ended = Vec::new();
    for (name, mut client) in clients(&server) {
        let allocated = client.allocate_family(1);
        assert_eq!(client.permit(sfu), 0, "{name}");
        send(&mut client, sfu, b"hello", false);
        let back = client.receive().expect("it comes back");
        assert_eq!(data(&back), (sfu, b"hello".to_vec()), "{name}");
        if name.starts_with("udp") {
            assert_eq!(client.refresh(0), 0, "{name}");
        } else {
            drop(client);
        }
        let end = server.end_told();
        assert_eq!(end.relayed, allocated.relayed(), "{name}");
        assert!(!ended.contains(&end.allocation), "{name}");
        ended.push(end.allocation);
    }
}
