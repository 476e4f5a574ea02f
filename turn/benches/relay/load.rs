//! The load: who sends how much where, what arrives, what it cost the server.

use super::client::{CHANNEL, Client};
use super::servers::{cpu_of, cpu_of_sender};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An Opus packet of 60 kbit/s in SRTP.
pub(super) const PAYLOAD: usize = 172;
/// Clients, each with a peer of its own.
pub(super) const CLIENTS: usize = 48;
/// The thread that receives.
const SINK: &str = "sink";
/// One round.
const ROUND: Duration = Duration::from_secs(2);

/// Which server, whose CPU, and where peers are.
pub(crate) struct Target {
    pub(crate) server: SocketAddr,
    /// Nanoseconds that its threads have run.
    pub(crate) cpu_ns: Box<dyn Fn() -> u64>,
    /// In process: the SFU's address, what arrived there, and what makes it send.
    pub(crate) sfu: Option<SfuTarget>,
}

/// The SFU's side of the process.
pub(crate) struct SfuTarget {
    pub(crate) address: SocketAddr,
    pub(crate) arrived: Arc<AtomicU64>,
    /// Packets it is to send, shared out among all allocations it knows.
    pub(crate) to_send: Arc<AtomicU64>,
    /// How many in a row to one allocation.
    pub(crate) in_a_row: Arc<AtomicU64>,
    /// The name of its thread.
    pub(crate) thread: &'static str,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToPeer,
    FromPeer,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToPeer => "client to peer",
            Self::FromPeer => "peer to client",
        })
    }
}

/// How much: every `every`, each of `senders` sends `packets` in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    name: &'static str,
    every: Duration,
    senders: usize,
    packets: usize,
}

impl Load {
    /// 24,000 packets a second, one at a time.
    pub(crate) const CALLS: Self = Self {
        name: "calls: 48 clients, 24,000 packets/s, one at a time",
        every: Duration::from_micros(500),
        senders: 12,
        packets: 1,
    };
    /// 32,000 packets a second, eight in a row as a video frame has them.
    pub(crate) const FRAMES: Self = Self {
        name: "frames: 48 clients, 32,000 packets/s, eight in a row",
        every: Duration::from_millis(1),
        senders: 4,
        packets: 8,
    };
    /// As many as the sender can.
    pub(crate) const FLOOD: Self = Self {
        name: "flood: 48 clients, as fast as one thread sends",
        every: Duration::ZERO,
        senders: 48,
        packets: 1,
    };
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a round cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(super) arrived: u64,
    pub(super) sent: u64,
    pub(super) cpu_ns: u64,
    /// What the peer's, or the SFU's, own thread spent on sending or receiving.
    pub(super) peer_ns: u64,
    pub(super) took: Duration,
}

impl Cost {
    pub(crate) fn ns_per_packet(&self) -> f64 {
        self.cpu_ns as f64 / self.arrived.max(1) as f64
    }

    /// The server and its peer.
    pub(crate) fn whole_ns_per_packet(&self) -> f64 {
        (self.cpu_ns + self.peer_ns) as f64 / self.arrived.max(1) as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.2} us CPU a packet ({:5.2} with its peer), {:7.0} packets/s, {:4.1} % lost",
            self.ns_per_packet() / 1000.0,
            self.whole_ns_per_packet() / 1000.0,
            self.per_second(),
            100.0 - 100.0 * self.arrived as f64 / self.sent.max(1) as f64
        )
    }
}

/// Nanoseconds that a thread has run, and it and the sink together.
pub(super) fn cpu_and_whole(thread: &str) -> (u64, u64) {
    let own = cpu_of(thread);
    (own, own + cpu_of(SINK))
}

/// One round.
pub(crate) fn run(target: &Target, direction: Direction, load: Load) -> Cost {
    let peers: Vec<UdpSocket> = (0..CLIENTS).map(|_| bind(Ipv4Addr::LOCALHOST)).collect();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            // Addresses of their own, so that one user may have them all.
            let from = SocketAddr::new(Ipv4Addr::new(127, 0, 1, n as u8 + 1).into(), 0);
            let peer = match &target.sfu {
                Some(sfu) => sfu.address,
                None => peers[n].local_addr().expect("bound"),
            };
            Client::new(target.server, from, peer)
        })
        .collect();
    let data = [
        &CHANNEL.to_be_bytes()[..],
        &(PAYLOAD as u16).to_be_bytes(),
        &[7; PAYLOAD],
    ]
    .concat();
    // The SFU, and a NAT, must have seen each once.
    for (client, peer) in clients.iter().zip(&peers) {
        client.socket.send(&data).expect("sent");
        let _ = peer.send_to(&data[4..], client.relayed);
    }
    std::thread::sleep(Duration::from_millis(100));
    let client_sockets: Vec<UdpSocket> = clients
        .iter()
        .map(|one| one.socket.try_clone().expect("a clone"))
        .collect();
    let ways: Vec<SocketAddr> = clients.iter().map(|one| one.relayed).collect();
    let sink = match direction {
        Direction::ToPeer => Sink::start(peers.iter().map(clone).collect()),
        Direction::FromPeer => Sink::start(client_sockets.iter().map(clone).collect()),
    };
    let arrived = || match (direction, &target.sfu) {
        (Direction::ToPeer, Some(sfu)) => sfu.arrived.load(Ordering::Relaxed),
        _ => sink.arrived(),
    };
    std::thread::sleep(Duration::from_millis(50));
    let peer_ns = || match (direction, &target.sfu) {
        (_, Some(sfu)) => cpu_of(sfu.thread),
        (Direction::ToPeer, None) => cpu_of(SINK),
        (Direction::FromPeer, None) => cpu_of_sender(),
    };
    let (before, cpu_before, peer_before) = (arrived(), (target.cpu_ns)(), peer_ns());
    if let Some(sfu) = &target.sfu {
        sfu.in_a_row.store(load.packets as u64, Ordering::Relaxed);
    }
    let began = Instant::now();
    let sent = send(load, |n| match (direction, &target.sfu) {
        (Direction::ToPeer, _) => drop(client_sockets[n].send(&data)),
        (Direction::FromPeer, Some(sfu)) => drop(sfu.to_send.fetch_add(1, Ordering::Relaxed)),
        (Direction::FromPeer, None) => drop(peers[n].send_to(&data[4..], ways[n])),
    });
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(100));
    Cost {
        arrived: arrived() - before,
        sent,
        cpu_ns: (target.cpu_ns)() - cpu_before,
        peer_ns: peer_ns() - peer_before,
        took,
    }
}

/// Sends as the load says, for one round; tells how much.
pub(super) fn send(load: Load, mut one: impl FnMut(usize)) -> u64 {
    let began = Instant::now();
    let (mut sent, mut turn, mut due) = (0, 0, Duration::ZERO);
    while began.elapsed() < ROUND {
        for _ in 0..load.senders {
            for _ in 0..load.packets {
                one(turn);
                sent += 1;
            }
            turn = (turn + 1) % CLIENTS;
        }
        due += load.every;
        if let Some(left) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(left);
        }
    }
    sent
}

pub(super) fn bind(ip: Ipv4Addr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(ip.into(), 0)).expect("a socket")
}

pub(super) fn clone(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("a clone")
}

/// Reads sockets and counts, in batches.
pub(super) struct Sink {
    arrived: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub(super) fn start(sockets: Vec<UdpSocket>) -> Self {
        let arrived = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (count, end) = (Arc::clone(&arrived), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name(SINK.into());
        let thread = thread.spawn(move || read(sockets, &count, &end));
        Self {
            arrived,
            ended,
            thread: thread.ok(),
        }
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the sink ends");
        }
    }
}

fn read(sockets: Vec<UdpSocket>, count: &AtomicU64, ended: &AtomicBool) {
    use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
    use std::io::IoSliceMut;
    let mut poll = mio::Poll::new().expect("epoll");
    let mut events = mio::Events::with_capacity(128);
    let mut sockets: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("options");
            socket.set_nonblocking(true).expect("an option");
            (mio::net::UdpSocket::from_std(socket), state)
        })
        .collect();
    for (n, (socket, _)) in sockets.iter_mut().enumerate() {
        let interest = mio::Interest::READABLE;
        poll.registry()
            .register(socket, mio::Token(n), interest)
            .expect("registered");
    }
    let mut buffers = vec![vec![0; 65_536]; BATCH_SIZE];
    while !ended.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(20)))
            .expect("epoll");
        for event in events.iter() {
            let (socket, state) = &sockets[event.token().0];
            loop {
                let mut meta = [RecvMeta::default(); BATCH_SIZE];
                let mut slices: Vec<IoSliceMut<'_>> = buffers
                    .iter_mut()
                    .map(|buffer| IoSliceMut::new(buffer))
                    .collect();
                let Ok(got) = state.recv(UdpSockRef::from(socket), &mut slices, &mut meta) else {
                    break;
                };
                let datagrams: u64 = meta[..got]
                    .iter()
                    .map(|one| one.len.div_ceil(one.stride.max(1)) as u64)
                    .sum();
                count.fetch_add(datagrams, Ordering::Relaxed);
            }
        }
    }
}
