//! What the kernel alone takes: a thread that reads a datagram and sends it on, and looks at nothing.
//!
//! No relay through the kernel's sockets costs less for packets that come one at a time and go to
//! destinations of their own; what the kernel can join (GRO, GSO) may.

use super::load::{CLIENTS, Cost, Load, PAYLOAD, Sink, bind, clone, cpu_and_whole, send};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The thread that sends on.
const FLOOR: &str = "floor";
/// Sockets it sends from, as the default range has relays.
const RELAYS: usize = 21;
/// How long it lets datagrams gather.
const GATHER: Duration = Duration::from_micros(500);

/// One round, from clients to peers.
pub(crate) fn run(load: Load) -> Cost {
    let peers: Vec<UdpSocket> = (0..CLIENTS).map(|_| bind(Ipv4Addr::LOCALHOST)).collect();
    let ways: Vec<SocketAddr> = peers
        .iter()
        .map(|peer| peer.local_addr().expect("bound"))
        .collect();
    let door = bind(Ipv4Addr::LOCALHOST);
    let at = door.local_addr().expect("bound");
    let clients: Vec<UdpSocket> = (0..CLIENTS)
        .map(|n| {
            let client = bind(Ipv4Addr::new(127, 0, 1, n as u8));
            client.connect(at).expect("an address");
            client
        })
        .collect();
    let sink = Sink::start(peers.iter().map(clone).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let thread = std::thread::Builder::new().name(FLOOR.into());
    let thread = thread.spawn(move || pass_on(&door, &ways, &end));
    std::thread::sleep(Duration::from_millis(50));
    let (cpu, whole) = cpu_and_whole(FLOOR);
    let before = sink.arrived();
    let began = Instant::now();
    let sent = send(load, |n| drop(clients[n].send(&[7; PAYLOAD])));
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(100));
    let (cpu_after, whole_after) = cpu_and_whole(FLOOR);
    ended.store(true, Ordering::Relaxed);
    let arrived = sink.arrived() - before;
    thread.expect("a thread").join().expect("it ends");
    let cpu_ns = cpu_after - cpu;
    Cost {
        arrived,
        sent,
        cpu_ns,
        peer_ns: whole_after - whole - cpu_ns,
        took,
    }
}

fn pass_on(door: &UdpSocket, ways: &[SocketAddr], ended: &AtomicBool) {
    let relays: Vec<UdpSocket> = (0..RELAYS).map(|_| bind(Ipv4Addr::LOCALHOST)).collect();
    door.set_nonblocking(true).expect("an option");
    let mut buffer = [0; 2048];
    while !ended.load(Ordering::Relaxed) {
        while let Ok((len, from)) = door.recv_from(&mut buffer) {
            let IpAddr::V4(ip) = from.ip() else { continue };
            let n = usize::from(ip.octets()[3]);
            let _ = relays[n % RELAYS].send_to(&buffer[..len], ways[n]);
        }
        std::thread::park_timeout(GATHER);
    }
}
