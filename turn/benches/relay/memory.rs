//! What an allocation takes of the heap, with a permission and a channel.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;
use turn::address::{Client, Transport};
use turn::config::{Config, Wall};
use turn::credentials::{Credentials, Secret};
use turn::message::attribute::{
    CHANNEL_NUMBER, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME, XOR_PEER_ADDRESS,
};
use turn::message::integrity::Key;
use turn::message::writer::Writer;
use turn::message::{Class, Message, Method};
use turn::server::Server;

const ALLOCATIONS: u32 = 5000;

/// Makes many, and counts.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
pub(crate) fn print() {
    let now = Instant::now();
    let mut config = Config::new("bench", Wall { at: now, unix_s: 0 });
    config.credentials = Credentials {
        fixed: vec![("bench".into(), Secret::new("secret"))],
        ..Credentials::default()
    };
    config.own.external = vec![Ipv4Addr::new(9, 9, 9, 9).into()];
    config.limits.user_allocations = 0;
    config.limits.unknown_answers_burst = 1_000_000;
    let mut server = Server::new(config, &[1; 32], now);
    let key = Key::long_term("bench", "bench", "secret");
    let counted = allocation_counter::measure(|| {
        for n in 0..ALLOCATIONS {
            allocate(&mut server, &key, n, now);
        }
    });
    assert_eq!(server.stats().allocations, u64::from(ALLOCATIONS));
    let each = counted.bytes_current / i64::from(ALLOCATIONS);
    println!("\nmemory: {each} bytes an allocation with a permission and a channel");
}

fn allocate(server: &mut Server, key: &Key, n: u32, now: Instant) {
    let remote = SocketAddr::new(Ipv4Addr::from(0x0B00_0000 + n).into(), 5000);
    let client = Client {
        transport: Transport::Udp,
        local: ([9, 9, 9, 9], 3479).into(),
        remote,
        shared: false,
        link: 0,
    };
    let mut nonce = Vec::new();
    for method in [Method::Allocate, Method::Allocate, Method::ChannelBind] {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, method, Class::Request, &[nonce.len() as u8; 12]);
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(CHANNEL_NUMBER, &[0x40, 0, 0, 0])
            .address(
                XOR_PEER_ADDRESS,
                SocketAddr::new(Ipv4Addr::from(0x0101_0000 + n).into(), 7),
            );
        if !nonce.is_empty() {
            writer
                .bytes(USERNAME, b"bench")
                .bytes(REALM, b"bench")
                .bytes(NONCE, &nonce)
                .sign(key, false);
        }
        writer.finish(false);
        server.handle_client(client, &out, now);
        let (_, answer) = server.poll_output().expect("an answer");
        let answer = Message::parse(answer).expect("a message");
        if let Some(told) = answer.attribute(NONCE) {
            nonce = told.to_vec();
        }
    }
    while server.poll_event().is_some() {}
}
