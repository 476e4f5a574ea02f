//! A bad road for real clients: every IP packet between a network namespace of their own and this
//! machine passes the link model, on the real clock, and a NAT.
//!
//! Two TUN devices: one is the namespace's only way out, the other this machine's way back. Nothing
//! else connects the two, so that nothing can go around. What clients do is theirs; what becomes of
//! the road they ask for by a socket in the file system (see [`Road::control`]), which no outage
//! breaks. Needs root and `/dev/net/tun`.

mod control;
mod moved;
mod nat;
mod space;

use crate::link::{Carried, Conditions, Link};
use moved::Moved;
use nat::Nat;
use space::Space;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tun_rs::AsyncDevice;

/// The largest packet of the devices.
const PACKET_BYTES: usize = 1500;
/// IP and UDP headers: the link model counts what UDP carries.
const HEADERS: usize = 28;
/// Packets and orders that wait for the road; behind them the devices' own queues fill.
const INBOX: usize = 1024;
/// Packets under way at once: a second of a fast call. More are refused and counted.
const UNDER_WAY_MOST: usize = 16_384;

/// What became of all packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// From the clients.
    pub up: Carried,
    /// To the clients.
    pub down: Carried,
    /// Nothing that a NAT passes on: fragments, other protocols, what nobody asked for.
    pub foreign: u64,
    /// Handed to the devices at either end, duplicates included.
    pub arrived: u64,
    /// Dropped by a limit of the road itself; a sound test has none.
    pub refused: u64,
    /// So long since the NAT last forgot nothing arrived of a client that had been in a call.
    pub silent: Duration,
}

/// What may be asked of a road.
#[derive(Debug)]
enum Order {
    /// Other conditions from now on, in both directions.
    Set(Conditions),
    /// Nothing that is sent from now on until so much later arrives.
    Break(Duration),
    /// The NAT forgets: each client is seen at a new UDP port, what comes to the old one is gone.
    Rebind,
    /// Nothing.
    Count,
}

#[derive(Debug)]
enum Event {
    Packet(Direction, Vec<u8>),
    Order(Order, oneshot::Sender<Counters>),
}

/// Whether a packet goes to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Up,
    Down,
}

/// Where orders are taken.
#[derive(Debug, Clone)]
struct Orders(mpsc::Sender<Event>);

impl Orders {
    /// Carries an order out; what was counted until then.
    async fn give(&self, order: Order) -> Counters {
        let (done, answer) = oneshot::channel();
        let sent = self.0.send(Event::Order(order, done)).await;
        assert!(sent.is_ok(), "the road has ended");
        answer.await.expect("the road answers")
    }
}

/// The road, open until dropped.
#[derive(Debug)]
pub struct Road {
    space: Space,
    orders: Orders,
    control: control::Socket,
    /// Ends with us.
    _tasks: JoinSet<()>,
}

impl Road {
    /// Opens a good road; `bad` is what it may become. All chance comes from `seed`.
    ///
    /// # Panics
    /// Without root, `ip` or `/dev/net/tun`.
    pub async fn open(bad: Conditions, seed: u64) -> Self {
        let (space, [near, far]) = Space::make().await;
        let (sink, inbox) = mpsc::channel(INBOX);
        let mut tasks = JoinSet::new();
        tasks.spawn(read(Direction::Up, Arc::clone(&near), sink.clone()));
        tasks.spawn(read(Direction::Down, Arc::clone(&far), sink.clone()));
        let traffic = Traffic {
            devices: [near, far],
            nat: Nat::new(space.public),
            moved: Moved::default(),
            links: [seed, seed.wrapping_add(1)].map(|seed| Link::new(Conditions::GOOD, seed)),
            under_way: BinaryHeap::new(),
            serial: 0,
            foreign: 0,
            arrived: 0,
            refused: 0,
        };
        tasks.spawn(traffic.run(inbox));
        let orders = Orders(sink);
        let control = control::Socket::open(orders.clone(), bad, &mut tasks);
        Self {
            space,
            orders,
            control,
            _tasks: tasks,
        }
    }

    /// This machine, as the clients see it.
    #[must_use]
    pub const fn here(&self) -> Ipv4Addr {
        self.space.here
    }

    /// Runs a program where the clients are.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.space.command(program)
    }

    /// A socket that takes a line each and answers with what was counted so far, as JSON: `bad`,
    /// `good`, `outage MILLISECONDS`, `rebind`, `count`.
    #[must_use]
    pub fn control(&self) -> &Path {
        self.control.path()
    }

    /// Totals since it was opened.
    pub async fn counters(&self) -> Counters {
        self.orders.give(Order::Count).await
    }
}

/// Reads a device until nobody wants its packets.
async fn read(direction: Direction, device: Arc<AsyncDevice>, sink: mpsc::Sender<Event>) {
    let mut packet = [0; PACKET_BYTES];
    // It fails once the device is gone.
    while let Ok(size) = device.recv(&mut packet).await {
        let event = Event::Packet(direction, packet[..size].to_vec());
        if sink.send(event).await.is_err() {
            return;
        }
    }
}

/// When it arrives, a serial number for those at one time, where to, and itself.
type UnderWay = Reverse<(Instant, u64, Direction, Vec<u8>)>;

struct Traffic {
    /// Of the clients, and of this machine.
    devices: [Arc<AsyncDevice>; 2],
    nat: Nat,
    moved: Moved,
    /// Up and down.
    links: [Link; 2],
    under_way: BinaryHeap<UnderWay>,
    serial: u64,
    foreign: u64,
    arrived: u64,
    refused: u64,
}

impl Traffic {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        loop {
            let event = match self.under_way.peek() {
                None => inbox.recv().await,
                Some(Reverse(next)) => match timeout_at(next.0, inbox.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.deliver().await;
                        continue;
                    }
                },
            };
            match event {
                None => return,
                Some(Event::Packet(direction, packet)) => self.take(direction, packet),
                Some(Event::Order(order, done)) => {
                    // What was due before it came was before it.
                    self.deliver().await;
                    self.obey(order);
                    // Whoever asked may have gone.
                    let _ = done.send(self.counters());
                }
            }
            self.deliver().await;
        }
    }

    /// A packet sets out. The NAT is on the clients' side of the road.
    fn take(&mut self, direction: Direction, mut packet: Vec<u8>) {
        if direction == Direction::Up && self.nat.leave(&mut packet).is_none() {
            self.foreign += 1;
            return;
        }
        let now = Instant::now().into_std();
        let size = packet.len().saturating_sub(HEADERS);
        for at in self.links[direction as usize].carry(size, now) {
            if self.under_way.len() >= UNDER_WAY_MOST {
                self.refused += 1;
                continue;
            }
            self.serial += 1;
            let at = Instant::from_std(at);
            let under_way = (at, self.serial, direction, packet.clone());
            self.under_way.push(Reverse(under_way));
        }
    }

    /// What is due arrives. What a device does not take is one more that is lost, as on any road.
    async fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(Reverse(next)) = self.under_way.peek()
            && next.0 <= now
            && let Some(Reverse((_, _, direction, mut packet))) = self.under_way.pop()
        {
            self.arrived += 1;
            let [near, far] = &self.devices;
            match direction {
                Direction::Up => {
                    // DTLS of a client that has moved tells nobody whose it is. (RFC 7983 §7)
                    let is_dtls = matches!(packet.get(HEADERS), Some(20..=63));
                    if let Some(client) = self.nat.sender(&packet).filter(|_| !is_dtls) {
                        self.moved.hear(client, now.into_std());
                    }
                    let _ = far.send(&packet).await;
                }
                Direction::Down if self.nat.enter(&mut packet).is_some() => {
                    if let Some(client) = Nat::receiver(&packet) {
                        self.moved.reach(client, now.into_std());
                    }
                    let _ = near.send(&packet).await;
                }
                Direction::Down => self.foreign += 1,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Set(conditions) => {
                for link in &mut self.links {
                    link.set(conditions.clone());
                }
            }
            Order::Break(time) => {
                let end = Instant::now().into_std() + time;
                for link in &mut self.links {
                    link.break_until(end);
                }
            }
            Order::Rebind => {
                self.nat.rebind();
                self.moved.forget(Instant::now().into_std());
            }
            Order::Count => {}
        }
    }

    fn counters(&self) -> Counters {
        let [up, down] = &self.links;
        Counters {
            up: up.counters(),
            down: down.counters(),
            foreign: self.foreign,
            arrived: self.arrived,
            refused: self.refused,
            silent: self.moved.silent(Instant::now().into_std()),
        }
    }
}
