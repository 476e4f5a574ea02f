//! Clients that are wrong, greedy, slow or not there at all.

use super::client::{Client, channel_data};
use super::server::{Peer, REALM, SFU, Server};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use turn::message::attribute::{LIFETIME, REQUESTED_TRANSPORT, USERNAME};
use turn::message::writer::Writer;
use turn::message::{Class, Method};

#[test]
fn when_the_range_is_used_up_a_client_hears_508_and_others_are_served() {
    let server = Server::start();
    let mut all: Vec<Client> = (0..21)
        .map(|_| {
            let mut client = Client::udp(server.udp(), "alice", "alice-password");
            assert_eq!(client.allocate().code(), 0);
            client
        })
        .collect();
    let mut one_more = Client::udp(server.udp(), "alice", "alice-password");
    assert_eq!(one_more.allocate().code(), 508);
    assert_eq!(
        Client::udp(server.udp(), "bob", "bob-password")
            .allocate()
            .code(),
        0
    );
    assert_eq!(all[7].refresh(0), 0);
    assert_eq!(one_more.allocate().code(), 0);
}

#[test]
fn a_quota_is_486() {
    let server = Server::with(|settings| settings.server.limits.user_allocations = 2);
    let codes: Vec<u16> = (0..3)
        .map(|_| {
            Client::udp(server.udp(), "alice", "alice-password")
                .allocate()
                .code()
        })
        .collect();
    assert_eq!(codes, [0, 0, 486]);
}

#[test]
fn wrong_passwords_names_and_realms_are_401_and_a_spoilt_nonce_438() {
    let server = Server::start();
    assert_eq!(
        Client::udp(server.udp(), "alice", "bob-password")
            .allocate()
            .code(),
        401
    );
    assert_eq!(
        Client::tcp(server.tcp(), "mallory", "x").allocate().code(),
        401
    );
    let mut client = Client::udp(server.udp(), "alice", "alice-password");
    client.greet();
    client.realm = "elsewhere.example".into();
    assert_eq!(client.allocate().code(), 401);
    client.realm = REALM.into();
    client.spoil_nonce();
    assert_eq!(client.allocate().code(), 438);
    client.greet();
    assert_eq!(client.allocate().code(), 0);
}

#[test]
fn oversized_attributes_and_truncated_channel_data_are_dropped_and_the_client_goes_on() {
    let server = Server::start();
    let peer = Peer::start(Ipv4Addr::LOCALHOST.into()).address;
    let mut client = Client::udp(server.udp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, peer), 0);
    // An attribute that tells more than is there.
    let mut long = client.request(Method::Refresh, |writer| {
        writer.bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    long[22..24].copy_from_slice(&[0xFF, 0xFF]);
    client.send(&long).expect("sent");
    let data = channel_data(0x4001, b"payload!");
    for len in 0..data.len() {
        client.send(&data[..len]).expect("sent");
    }
    assert_eq!(client.echo(0x4001, b"payload!").0, data);
    // A name longer than any may be.
    let mut stranger = Client::udp(server.udp(), &"x".repeat(3000), "y");
    assert_eq!(stranger.allocate().code(), 401);
    server.until(|totals| totals.server.drops.malformed >= 13);
}

#[test]
fn ten_thousand_spoofed_binding_requests_leave_relaying_alone() {
    let server = Server::with(|settings| settings.server.limits.unknown_answers_burst = 20);
    let mut client = Client::udp(server.udp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, SFU.parse().expect("an address")), 0);
    let mut request = Vec::new();
    Writer::new(&mut request, Method::Binding, Class::Request, &[1; 12]).finish(false);
    for n in 0..10_000_u32 {
        let from = Ipv4Addr::from(0x7F01_0000 + n);
        let socket = UdpSocket::bind((from, 0)).expect("a socket");
        socket.send_to(&request, server.udp()).expect("sent");
        if n % 500 == 0 {
            let back = client.echo(0x4001, &n.to_be_bytes());
            assert_eq!(back.0[4..], n.to_be_bytes());
        }
    }
    // And as many from one address, which is answered no more than its burst and its rate.
    let one = UdpSocket::bind("127.9.9.9:0").expect("a socket");
    for _ in 0..2000 {
        one.send_to(&request, server.udp()).expect("sent");
    }
    let totals = server.until(|totals| totals.server.drops.unknown_answers > 1000);
    assert_eq!(totals.server.allocations, 1);
    assert_eq!(client.echo(0x4001, b"still here").0[4..14], *b"still here");
}

/// Reads until the server closes; tells how much came.
fn until_closed(stream: &mut TcpStream) -> usize {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    bytes.len()
}

#[test]
fn who_is_slow_or_says_nothing_over_tcp_or_tls_is_closed() {
    let server = Server::with(|settings| {
        settings.streams.handshake = Duration::from_millis(200);
        settings.streams.idle = Duration::from_millis(400);
        settings.streams.frame = Duration::from_millis(200);
    });
    let slow: [(SocketAddr, &[u8]); 5] = [
        (server.tcp(), &[]),
        (server.tls(), &[]),
        (server.tcp(), &[0, 1, 0, 100, 0x21, 0x12]),
        (server.tls(), &[22, 3, 1, 2, 0, 1]),
        (server.tcp(), &[0x40, 0, 1, 0, 9]),
    ];
    for (address, begin) in slow {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(begin).expect("taken");
        assert_eq!(until_closed(&mut stream), 0, "{address} {begin:?}");
    }
    // What is no frame is closed at once, and what is no TLS is told so.
    for (address, begin) in [
        (server.tcp(), b"GET / HTTP/1.1\r\n\r\n"),
        (server.tls(), b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(begin).expect("taken");
        assert!(until_closed(&mut stream) < 16);
    }
    // One with an allocation stays, until a frame of it stops halfway.
    let mut client = Client::tcp(server.tcp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, SFU.parse().expect("an address")), 0);
    let totals = server.until(|totals| totals.streams.open == 1);
    assert_eq!(
        (totals.streams.broken, totals.streams.handshakes_failed),
        (1, 3)
    );
    assert_eq!(totals.streams.idle, 3);
    assert_eq!(client.echo(0x4001, b"here").0[4..], *b"here");
    client.send(&[0x40, 1, 0, 9, 1]).expect("taken");
    assert!(client.receive().is_err());
    server.until(|totals| totals.server.closed == 1 && totals.streams.open == 0);
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let server = Server::with(|settings| {
        settings.streams.half_open_of_address = 3;
        settings.streams.half_open = 5;
    });
    let from = |ip: &str| {
        let socket = socket(ip);
        socket.connect(&server.tcp().into()).expect("a connection");
        TcpStream::from(socket)
    };
    let mut open: Vec<TcpStream> = (0..3).map(|_| from("127.0.0.5")).collect();
    server.until(|totals| totals.streams.open == 3);
    // Whoever is one too many of his address takes the place of its oldest.
    open.push(from("127.0.0.5"));
    assert_eq!(until_closed(&mut open[0]), 0);
    open.extend((0..2).map(|_| from("127.0.0.6")));
    // All are without an allocation: whoever comes takes the place of the oldest of all.
    let mut client = Client::tcp(server.tcp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(until_closed(&mut open[1]), 0);
    let totals = server.until(|totals| totals.streams.open == 5);
    assert_eq!(
        (totals.streams.turned_away, totals.streams.displaced),
        (0, 2)
    );
    open.truncate(3);
    server.until(|totals| totals.streams.open == 2);
}

fn socket(ip: &str) -> socket2::Socket {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address: SocketAddr = format!("{ip}:0").parse().expect("an address");
    socket.bind(&address.into()).expect("bound");
    socket
}

#[test]
fn a_reader_that_takes_nothing_costs_a_bounded_buffer_and_is_closed() {
    let server = Server::with(|settings| settings.streams.stalled = Duration::from_millis(500));
    let sfu: SocketAddr = SFU.parse().expect("an address");
    let mut client = Client::tcp(server.tcp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, sfu), 0);
    // The SFU sends all of it back, and the client reads none: 40 MB.
    let data = channel_data(0x4001, &[7; 1200]);
    let mut sent = 0;
    for _ in 0..34_000 {
        if client.send(&data).is_err() {
            break;
        }
        sent += 1;
    }
    let totals = server.until(|totals| totals.streams.stalled == 1);
    assert!(
        totals.streams.frames_full + totals.streams.frames_late > 0,
        "{totals:?}, {sent} sent"
    );
    // What waited for it is lost with it.
    assert!(totals.streams.frames_closed > 0, "{totals:?}");
}

#[test]
fn an_answer_reaches_a_client_that_was_slow_however_much_media_waited_for_it() {
    let server = Server::start();
    let sfu: SocketAddr = SFU.parse().expect("an address");
    let mut client = Client::tcp(server.tcp(), "alice", "alice-password");
    assert_eq!(client.allocate().code(), 0);
    assert_eq!(client.bind(0x4001, sfu), 0);
    let data = channel_data(0x4001, &[7; 1200]);
    for _ in 0..34_000 {
        client.send(&data).expect("taken");
    }
    server.until(|totals| totals.streams.frames_full > 0);
    // Not even the least finds a place; the kernel may take a little more at first.
    for relayed in [34_200, 34_400] {
        for _ in 0..200 {
            client.send(&channel_data(0x4001, &[7; 4])).expect("taken");
        }
        server.until(|totals| totals.server.traffic.packets_in == relayed);
    }
    let request = client.request(Method::Refresh, |writer| {
        writer.word(LIFETIME, 600);
    });
    client.send(&request).expect("taken");
    // What waits is late by then.
    let relayed = server.totals().server.traffic.packets_in;
    client.send(&data).expect("taken");
    server.until(|totals| totals.server.traffic.packets_in > relayed);
    let answer = loop {
        let received = client.receive().expect("the answer is not lost");
        if received.0[0] < 0x40 {
            break received;
        }
    };
    assert_eq!(answer.message().transaction[..], request[8..20]);
    assert_eq!(answer.code(), 0);
}

#[test]
fn a_name_that_is_no_text_is_400() {
    let server = Server::start();
    let mut client = Client::udp(server.udp(), "alice", "alice-password");
    client.greet();
    let answer = client.ask(Method::Allocate, |writer| {
        writer.bytes(USERNAME, &[0xFF, 0xFE]);
    });
    assert_eq!(answer.code(), 400);
}
