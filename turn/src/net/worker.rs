//! The thread: waits, reads, lets the carrier carry, sends, looks at the time.

use super::carrier::{Carrier, Doors, Relays};
use super::sends::Sends;
use super::settings::{Bound, Observation, Observe, Settings, Totals};
use super::tcp::{Adopted, CONNECTIONS, Fault, Flow, LISTENERS, Streams};
use super::tls::Certificates;
use super::udp::{Kind, Sockets};
use crate::address::{Client, Family, RelayPort, Transport, plain};
use crate::config::{Config, Own, Wall};
use crate::credentials::Credentials;
use crate::event::Event;
use crate::frame::{self, FRAME_MAX, Frame};
use crate::hash::Keyed;
use crate::server::Server;
use mio::{Events, Poll, Token, Waker};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// epoll token of the waker.
const WAKER: Token = Token(usize::MAX);
/// epoll events taken at once.
const EPOLL_EVENTS: usize = 256;
/// Receive batches of one socket in one pass, so that no socket starves the others.
const BATCHES_PER_PASS: usize = 2;
/// Connections read in one pass.
const READS_PER_PASS: usize = 256;
/// What is read of one connection at once.
const READ_BYTES: usize = 64 << 10;
/// Longest sleep: totals are told, and the clock looked at, at least this often.
const IDLE: Duration = Duration::from_secs(30);
/// Totals are told no more often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// From so many datagrams a second on, they are waited for a little, so that a wake-up reads several
/// and those to one destination leave together: below, there is nothing to gather.
const GATHER_FROM_S: u64 = 4000;
/// A pass that had so many is gathered enough.
const GATHERED: u64 = 32;
/// How long: no listener hears it, and it makes two thousand wake-ups a second of any load.
const GATHER: Duration = Duration::from_micros(500);
/// The rate is looked at this often.
const RATE_WINDOW: Duration = Duration::from_millis(20);

/// What the embedder wants done.
#[derive(Debug)]
pub(super) enum Order {
    Stop,
    Own(Own),
    Credentials(Credentials),
    Certificates(Certificates),
    Adopt(Adopted),
    Retire(Vec<String>),
}

/// The thread's belongings.
pub(super) struct Worker {
    poll: Poll,
    waker: Arc<Waker>,
    orders: Receiver<Order>,
    sockets: Sockets,
    carrier: Carrier,
    bound: Bound,
    buffer: Box<[u8]>,
    observe: Observe,
    next_report: Instant,
    /// The SFU has more than one pass takes.
    more_of_sfu: bool,
    rate: Rate,
}

/// How busy the sockets are.
#[derive(Debug)]
struct Rate {
    since: Instant,
    count: u64,
    is_high: bool,
    /// The count after the last pass, and what that pass had.
    last: u64,
    pass: u64,
}

impl Rate {
    /// Many come, and one or a few at a time.
    const fn is_worth_a_pause(&self) -> bool {
        self.is_high && self.pass < GATHERED
    }

    /// Looks at the count of datagrams so far.
    fn look(&mut self, count: u64, now: Instant) {
        self.pass = count - self.last;
        self.last = count;
        let passed = now.saturating_duration_since(self.since);
        if passed < RATE_WINDOW {
            return;
        }
        let per_s = (count - self.count) * 1_000_000 / (passed.as_micros() as u64).max(1);
        self.is_high = per_s >= GATHER_FROM_S;
        self.since = now;
        self.count = count;
    }
}

impl Worker {
    /// Binds everything.
    pub(super) fn bind(mut settings: Settings, orders: Receiver<Order>) -> io::Result<Self> {
        let now = Instant::now();
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut sockets = Sockets::new();
        let mut bound = Bound::default();
        for address in &settings.udp {
            let local = sockets.bind(*address, Kind::Listener, poll.registry())?;
            bound.udp.push(local);
        }
        let relays = bind_relays(&settings, &mut sockets, &poll)?;
        settings.server.own = relays.told(settings.server.own);
        let keyed = |n: u64| {
            let word = |at: usize| {
                let bytes = settings.seed.get(at..at + 8).unwrap_or_default();
                bytes
                    .iter()
                    .fold(n, |word, byte| word << 8 ^ word >> 56 ^ u64::from(*byte))
            };
            Keyed::new([word(8), word(16)])
        };
        let mut streams = Streams::new(settings.streams, settings.certificates, keyed(1), now);
        for (addresses, transport, told) in [
            (&settings.tcp, Transport::Tcp, &mut bound.tcp),
            (&settings.tls, Transport::Tls, &mut bound.tls),
        ] {
            for address in addresses {
                told.push(streams.listen(*address, transport, poll.registry())?);
            }
        }
        let doors = Doors::new(settings.sfu);
        for door in &doors.doors {
            let waker = Arc::clone(&waker);
            door.from_sfu.wake_by(move || {
                let _ = waker.wake();
            });
        }
        let carrier = Carrier {
            server: Server::new(settings.server, &settings.seed, now),
            sends: Sends::new(keyed(2)),
            streams,
            doors,
            relays,
        };
        Ok(Self {
            poll,
            waker,
            orders,
            sockets,
            carrier,
            bound,
            buffer: vec![0; FRAME_MAX + READ_BYTES].into(),
            observe: settings.observe,
            next_report: now,
            more_of_sfu: false,
            rate: Rate {
                since: now,
                count: 0,
                is_high: false,
                last: 0,
                pass: 0,
            },
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound.clone()
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EPOLL_EVENTS);
        loop {
            if let Err(error) = self.wait(&mut events) {
                tracing::error!(%error, "TURN cannot wait for its sockets");
                return;
            }
            let now = Instant::now();
            if !self.take_orders() {
                return;
            }
            self.accept(now);
            self.receive(now);
            self.rate.look(self.sockets.counters().datagrams_in, now);
            self.read_streams(now);
            self.more_of_sfu = self.carrier.take_from_sfu(now);
            self.carrier.server.handle_timeout(now);
            self.send(now);
            // What can be written is, before anybody is called stalled.
            self.look_at_streams(now);
            self.report(now);
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let due = [
            self.carrier.server.poll_timeout(),
            self.carrier.streams.poll_timeout(),
        ];
        let left = |at: Instant| at.saturating_duration_since(now);
        let mut timeout = due
            .into_iter()
            .flatten()
            .map(left)
            .fold(IDLE, Duration::min);
        let busy = self.sockets.has_more() || self.carrier.streams.has_more() || self.more_of_sfu;
        if busy {
            timeout = Duration::ZERO;
        } else if self.rate.is_worth_a_pause() {
            std::thread::park_timeout(GATHER);
        }
        if !self.carrier.doors.may_sleep() {
            timeout = Duration::ZERO;
        }
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.carrier.doors.woke();
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                Token(token) if token < LISTENERS => self.sockets.mark_readable(token),
                Token(token) => {
                    let (readable, writable) = (event.is_readable(), event.is_writable());
                    debug_assert!(token < CONNECTIONS || readable || writable || event.is_error());
                    self.carrier.streams.mark(token, readable, writable);
                }
            }
        }
        Ok(())
    }

    /// False once it is to stop.
    fn take_orders(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Stop => return false,
                Order::Own(own) => {
                    let own = self.carrier.relays.told(own);
                    self.carrier.server.set_own(own, Instant::now());
                }
                Order::Credentials(credentials) => self.carrier.server.set_credentials(credentials),
                Order::Certificates(certificates) => {
                    self.carrier.streams.set_certificates(certificates);
                }
                Order::Retire(users) => {
                    let now = Instant::now();
                    for user in users {
                        self.carrier.server.retire(&user, now);
                    }
                }
                Order::Adopt(adopted) => {
                    let streams = &mut self.carrier.streams;
                    streams.adopt(adopted, self.poll.registry(), Instant::now());
                }
            }
        }
        true
    }

    fn accept(&mut self, now: Instant) {
        let Carrier {
            server, streams, ..
        } = &mut self.carrier;
        streams.accept(self.poll.registry(), now);
        while let Some(client) = streams.poll_displaced() {
            server.handle_closed(&client, now);
        }
    }

    fn receive(&mut self, now: Instant) {
        for index in 0..self.sockets.len() {
            for _ in 0..BATCHES_PER_PASS {
                let carrier = &mut self.carrier;
                let more = self
                    .sockets
                    .receive(index, |arrival, bytes| match arrival.kind {
                        Kind::Relay(port) => carrier.handle_peer(port, arrival.remote, bytes, now),
                        Kind::Listener => {
                            let client = Client {
                                transport: Transport::Udp,
                                local: plain(arrival.local),
                                remote: plain(arrival.remote),
                                shared: false,
                                link: arrival.socket,
                            };
                            carrier.handle_client(client, bytes, now);
                        }
                    });
                if self.carrier.sends.is_full() {
                    self.sockets.send(&mut self.carrier.sends);
                }
                if !more {
                    break;
                }
            }
        }
    }

    fn read_streams(&mut self, now: Instant) {
        let most = self.carrier.streams.ready().min(READS_PER_PASS);
        for _ in 0..most {
            let Some(slot) = self.carrier.streams.next_ready() else {
                return;
            };
            let read = self.carrier.streams.read(slot, &mut self.buffer);
            let Some((client, flow)) = read else {
                continue;
            };
            match flow {
                Flow::End => self.carrier.close(slot, Fault::Gone, now),
                Flow::Bytes { len, .. } => self.take_frames(slot, client, len, now),
            }
        }
    }

    /// The frames in the buffer, one after the other.
    fn take_frames(&mut self, slot: u32, client: Client, len: usize, now: Instant) {
        let mut rest = self.buffer.get(..len).unwrap_or_default();
        let mut whole = false;
        loop {
            match frame::next(rest) {
                Frame::Whole { len, taken } => {
                    let bytes = rest.get(..len).unwrap_or_default();
                    self.carrier.handle_client(client, bytes, now);
                    rest = rest.get(taken..).unwrap_or_default();
                    whole = true;
                }
                Frame::Partial => break,
                Frame::Broken => return self.carrier.close(slot, Fault::Broken, now),
            }
        }
        self.carrier.streams.keep(slot, rest, whole, now);
        let heard = self.carrier.server.heard(&client);
        self.carrier.streams.set_allocated(slot, heard, now);
    }

    fn look_at_streams(&mut self, now: Instant) {
        let Carrier {
            server, streams, ..
        } = &mut self.carrier;
        let mut over = Vec::new();
        streams.look(
            now,
            |client| server.heard(client),
            |slot, fault| over.push((slot, fault)),
        );
        for (slot, fault) in over {
            self.carrier.close(slot, fault, now);
        }
    }

    fn send(&mut self, now: Instant) {
        self.sockets.send(&mut self.carrier.sends);
        self.carrier.doors.flush();
        let mut gone = Vec::new();
        self.carrier.streams.flush(now, |slot| gone.push(slot));
        for slot in gone {
            self.carrier.close(slot, Fault::Gone, now);
        }
    }

    fn report(&mut self, now: Instant) {
        let doors = &mut self.carrier.doors;
        while let Some(event) = self.carrier.server.poll_event() {
            if let Event::Ended {
                allocation,
                relayed,
                ..
            } = &event
            {
                doors.end(*allocation, relayed);
            }
            (self.observe)(Observation::Event(event));
        }
        doors.flush();
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_EVERY;
        self.carrier.server.set_wall(wall());
        let totals = Totals {
            server: self.carrier.server.stats(),
            udp: self.sockets.counters(),
            streams: self.carrier.streams.counters(),
            sfu_full: self.carrier.doors.dropped(),
        };
        (self.observe)(Observation::Totals(&totals));
    }
}

/// What time it is.
pub(super) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Wall {
        at: Instant::now(),
        unix_s: since.map_or(0, |since| since.as_secs()),
    }
}

/// A socket for each port of the range and each family that has relays.
fn bind_relays(settings: &Settings, sockets: &mut Sockets, poll: &Poll) -> io::Result<Relays> {
    let Config { relay_ports, .. } = settings.server;
    let mut relays = Relays {
        first: relay_ports.0,
        sockets: Default::default(),
    };
    for ip in &settings.relay {
        let family = Family::of(*ip);
        for port in relay_ports.0..=relay_ports.1 {
            let at = RelayPort { family, port };
            let index = sockets.len() as u32;
            sockets.bind(SocketAddr::new(*ip, port), Kind::Relay(at), poll.registry())?;
            if let Some(of_family) = relays.sockets.get_mut(family.index()) {
                of_family.push(index);
            }
        }
    }
    Ok(relays)
}
