//! The media thread of all clients: a UDP socket each, read without decrypting but for samples.
//!
//! One thread serves them all, and lets a millisecond of packets gather when there are many, so that
//! waking it for every packet is not charged to the server.

use crate::client::Client;
use crate::packets::{OPUS, Source, VP8};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use sfu::media::demux::{self, Kind};
use sfu::media::transport::ice::stun;
use sfu::media::transport::srtp::{Opener, Sealer};
use sfu::rtp::header::Header;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

const WAKE: Token = Token(usize::MAX);
/// With more clients than this the thread pauses between two looks.
const FEW: usize = 8;
const PAUSE: Duration = Duration::from_millis(1);
/// Between two connectivity checks, and between two tries of the handshake, before media flows.
const HURRY: Duration = Duration::from_millis(50);
/// Between two checks of consent, as browsers do.
const CONSENT: Duration = Duration::from_millis(2500);
/// Between two receiver reports.
const REPORT: Duration = Duration::from_secs(1);
/// One packet of this many is opened, to see that it is what was promised.
const SAMPLE: u64 = 256;
/// The ICE password of every client.
const PASSWORD: &str = "abcdefghijklmnopqrstuvwx";

/// What one client has seen; read by the others while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    /// Received packets that were opened, and those that could not be.
    pub opened: AtomicU64,
    pub refused: AtomicU64,
    pub connected: AtomicBool,
    pub began: OnceLock<Instant>,
    pub first_media: OnceLock<Instant>,
}

pub enum Order {
    Add {
        id: usize,
        socket: std::net::UdpSocket,
        server: SocketAddr,
        client: Arc<Mutex<Client>>,
        tally: Arc<Tally>,
    },
    Publish {
        id: usize,
        source: Box<Source>,
    },
    Remove {
        id: usize,
    },
}

/// Reaches the thread.
#[derive(Clone)]
pub struct Wire {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

impl Wire {
    pub fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, orders) = channel();
        let thread = Thread {
            poll,
            orders,
            lines: BTreeMap::new(),
        };
        std::thread::spawn(move || thread.run());
        Ok(Self {
            orders: sender,
            waker,
        })
    }

    pub fn order(&self, order: Order) {
        let taken = self.orders.send(order).is_ok() && self.waker.wake().is_ok();
        assert!(taken, "the media thread lives");
    }
}

struct Thread {
    poll: Poll,
    orders: Receiver<Order>,
    lines: BTreeMap<usize, Line>,
}

impl Thread {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let due = self.lines.values().map(Line::due).min();
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll: {error}");
            }
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            for event in &events {
                if let Some(line) = self.lines.get_mut(&event.token().0) {
                    line.receive();
                }
            }
            let now = Instant::now();
            for line in self.lines.values_mut() {
                line.tick(now);
            }
            if self.lines.len() > FEW {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Add {
                id,
                socket,
                server,
                client,
                tally,
            } => {
                socket.connect(server).expect("loopback");
                socket.set_nonblocking(true).expect("a socket");
                let mut socket = UdpSocket::from_std(socket);
                let registry = self.poll.registry();
                let added = registry.register(&mut socket, Token(id), Interest::READABLE);
                added.expect("epoll takes a socket");
                self.lines
                    .insert(id, Line::new(socket, client, tally, Instant::now()));
            }
            Order::Publish { id, source } => {
                // A later answer tells of the same track: its packets are counted on.
                if let Some(line) = self.lines.get_mut(&id) {
                    line.source.get_or_insert(source);
                }
            }
            Order::Remove { id } => {
                self.lines.remove(&id);
            }
        }
    }
}

/// One client's socket.
struct Line {
    socket: UdpSocket,
    client: Arc<Mutex<Client>>,
    tally: Arc<Tally>,
    keys: Option<(Opener, Sealer)>,
    checked: bool,
    source: Option<Box<Source>>,
    heard: Vec<Heard>,
    next_check: Instant,
    next_report: Instant,
}

/// A received stream, as a receiver report tells of it.
struct Heard {
    ssrc: u32,
    highest: u16,
    cycles: u16,
}

impl Line {
    fn new(socket: UdpSocket, client: Arc<Mutex<Client>>, tally: Arc<Tally>, now: Instant) -> Self {
        Self {
            socket,
            client,
            tally,
            keys: None,
            checked: false,
            source: None,
            heard: Vec::new(),
            next_check: now,
            next_report: now + REPORT,
        }
    }

    /// When there is something to send without being asked.
    fn due(&self) -> Instant {
        let due = self.next_check.min(self.next_report);
        match (&self.source, &self.keys) {
            (Some(source), Some(_)) => due.min(source.due),
            _ => due,
        }
    }

    /// A lost datagram is lost: the socket is a network.
    fn send(&self, datagram: &[u8]) {
        let _ = self.socket.send(datagram);
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.take(&mut buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, datagram: &mut [u8]) {
        match demux::classify(datagram) {
            Kind::Rtp => self.take_media(datagram),
            Kind::Rtcp => self.take_feedback(datagram),
            Kind::Stun => self.take_stun(datagram),
            Kind::Dtls if self.keys.is_none() => {
                let mut client = self.client.lock().expect("not poisoned");
                for reply in client.handle_dtls(datagram) {
                    self.send(&reply);
                }
                self.keys = client.srtp.take();
                self.tally.connected.store(self.keys.is_some(), Relaxed);
            }
            Kind::Dtls | Kind::Other => {}
        }
    }

    fn take_stun(&mut self, datagram: &[u8]) {
        if datagram.starts_with(&[1, 1]) {
            if !std::mem::replace(&mut self.checked, true) {
                self.shake(Instant::now());
            }
            return;
        }
        // A server that is not ICE-lite checks back.
        let Ok(request) = stun::Request::parse(datagram) else {
            return;
        };
        let mut answer = [0; 256];
        let peer = self.socket.peer_addr().expect("connected");
        let len = stun::Writer::success(&mut answer, &request)
            .mapped(peer, &request.transaction)
            .sign(&stun::Key::new(PASSWORD))
            .finish();
        if let Some(len) = len {
            self.send(&answer[..len]);
        }
    }

    fn shake(&mut self, now: Instant) {
        let mut client = self.client.lock().expect("not poisoned");
        for datagram in client.handshake(now) {
            self.send(&datagram);
        }
    }

    fn take_media(&mut self, datagram: &mut [u8]) {
        let payload_type = datagram[1] & 0x7F;
        // Retransmissions and probes are not what was published.
        if payload_type != OPUS && payload_type != VP8 {
            return;
        }
        self.tally.first_media.get_or_init(Instant::now);
        let count = self.tally.received.fetch_add(1, Relaxed);
        let Some(header) = Header::parse(datagram) else {
            return;
        };
        match self
            .heard
            .iter_mut()
            .find(|heard| heard.ssrc == header.ssrc)
        {
            Some(heard) if header.sequence.wrapping_sub(heard.highest) < 0x8000 => {
                heard.cycles += u16::from(header.sequence < heard.highest);
                heard.highest = header.sequence;
            }
            Some(_) => {}
            None => self.heard.push(Heard {
                ssrc: header.ssrc,
                highest: header.sequence,
                cycles: 0,
            }),
        }
        if count.is_multiple_of(SAMPLE)
            && let Some((opener, _)) = &mut self.keys
        {
            let opened = opener.open_rtp(header.header_len, header.ssrc, header.sequence, datagram);
            let place = match opened {
                Ok(_) => &self.tally.opened,
                Err(_) => &self.tally.refused,
            };
            place.fetch_add(1, Relaxed);
        }
    }

    /// Publishers answer PLI (RFC 4585 §6.3.1) and FIR (RFC 5104 §4.3.1) with a key frame.
    fn take_feedback(&mut self, datagram: &mut [u8]) {
        let (Some(source), Some((opener, _))) = (&mut self.source, &mut self.keys) else {
            return;
        };
        let Ok(len) = opener.open_rtcp(datagram) else {
            return;
        };
        let mut rest = &datagram[..len];
        while let [first, kind, high, low, ..] = *rest {
            if kind == 206 && matches!(first & 31, 1 | 4) {
                source.key_wanted = true;
            }
            let words = usize::from(u16::from_be_bytes([high, low])) + 1;
            rest = rest.get(4 * words..).unwrap_or_default();
        }
    }

    fn tick(&mut self, now: Instant) {
        if now >= self.next_check {
            let check = self.client.lock().expect("not poisoned").check();
            self.send(&check);
            if self.checked && self.keys.is_none() {
                self.shake(now);
            }
            self.next_check = now + if self.keys.is_some() { CONSENT } else { HURRY };
        }
        if now >= self.next_report {
            self.next_report = now + REPORT;
            self.report();
        }
        let (Some(source), Some((_, sealer))) = (&mut self.source, &self.keys) else {
            return;
        };
        while source.due <= now {
            let count = source.emit(sealer, |packet| {
                let _ = self.socket.send(packet);
            });
            self.tally.sent.fetch_add(count, Relaxed);
        }
    }

    /// A receiver report without loss (RFC 3550 §6.4.2).
    fn report(&mut self) {
        let Some((_, sealer)) = &mut self.keys else {
            return;
        };
        let blocks = &self.heard[..self.heard.len().min(31)];
        let mut packet = vec![
            0x80 | blocks.len() as u8,
            201,
            0,
            (1 + 6 * blocks.len()) as u8,
        ];
        packet.extend(1_u32.to_be_bytes());
        for heard in blocks {
            packet.extend(heard.ssrc.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(heard.cycles.to_be_bytes());
            packet.extend(heard.highest.to_be_bytes());
            packet.extend([0; 12]);
        }
        let plain = packet.len();
        packet.resize(plain + sfu::media::transport::srtp::OVERHEAD_MAX, 0);
        if let Some(len) = sealer.seal_rtcp(&mut packet, plain) {
            self.send(&packet[..len]);
        }
    }
}
