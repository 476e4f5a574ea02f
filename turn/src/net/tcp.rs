//! Streams: TCP and TLS connections of clients, and the limits they live under.
//!
//! Owns the listeners and the table of connections: who is let in, who is closed and why. It decides
//! nothing of TURN; the worker reads frames from it, and the carrier puts frames into it.

mod crowd;
mod connection;

use super::outgoing::Kind;
use super::stream_limits::StreamLimits;
use super::tls::{Certificates, Session};
use crate::address::{Client, Transport, plain};
use crate::allocation::SILENT;
use crate::hash::Keyed;
use crate::limiter::Limiter;
pub(super) use connection::{Connection, Flow};
use crowd::Crowd;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Tokens of listeners count up from here; those of UDP sockets stand before.
pub(super) const LISTENERS: usize = 1 << 20;
/// Tokens of connections count up from here.
pub(super) const CONNECTIONS: usize = 1 << 24;
/// Connections accepted in one pass, so that a flood of them holds no packet up.
const ACCEPTS_PER_PASS: usize = 64;
/// A connection with an allocation is looked at this often: has it lost it, is it stalled?
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Connections looked at in one pass.
const LOOKS_PER_PASS: usize = 256;
/// Connections looked at for one that gives way to another, drawn by lot if there are more: of whoever has
/// the most many are among them.
const LOOKS_FOR_ROOM: usize = 128;

/// What streams count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Connections that are open.
    pub open: u64,
    /// Connections let in.
    pub accepted: u64,
    /// Connections turned away at a limit.
    pub turned_away: u64,
    /// Closed for TLS that failed or took too long.
    pub handshakes_failed: u64,
    /// Closed for having no allocation, or leaving a frame half sent, for too long.
    pub idle: u64,
    /// Closed for taking nothing for too long.
    pub stalled: u64,
    /// Closed for bytes that are no frame.
    pub broken: u64,
    /// Closed without an allocation, or with one that was silent, to make room for others.
    pub displaced: u64,
    /// Frames that found no place in a connection that is too slow.
    pub frames_full: u64,
    /// Frames dropped for having waited too long.
    pub frames_late: u64,
    /// Frames for a connection that was gone, or that were waiting when it closed.
    pub frames_closed: u64,
}

/// A connection that another port has accepted, and that begins with a STUN message.
#[derive(Debug)]
pub struct Adopted {
    /// The connection; it does not block. Its peer need not be the client.
    pub stream: std::net::TcpStream,
    /// The client, whose limits count.
    pub remote: SocketAddr,
    /// It is a proxy, who does not say which client: the limits of one address do not count.
    pub shared: bool,
    /// The port the client came to.
    pub port: u16,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    transport: Transport,
    local: SocketAddr,
    acceptable: bool,
}

/// All streams.
#[derive(Debug)]
pub(super) struct Streams {
    listeners: Vec<Listener>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    crowd: Crowd,
    accepts: Limiter,
    limits: StreamLimits,
    certificates: Option<Certificates>,
    /// Those with something to read.
    ready: Vec<u32>,
    /// Those with something to write.
    dirty: Vec<u32>,
    /// When which is looked at; one entry each.
    timers: BTreeSet<(Instant, u32)>,
    /// Those that had to make room, until their allocations have ended: as many as came in one pass.
    displaced: Vec<Client>,
    keyed: Keyed,
    /// How often lots were drawn.
    drawn: u64,
    counters: StreamCounters,
}

/// Why a connection is closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client did it, or the network.
    Gone,
    Handshake,
    Idle,
    Stalled,
    Broken,
    /// Another takes its place.
    Displaced,
}

impl Streams {
    pub(super) fn new(
        limits: StreamLimits,
        certificates: Option<Certificates>,
        keyed: Keyed,
        now: Instant,
    ) -> Self {
        Self {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            crowd: Crowd::default(),
            accepts: Limiter::new(limits.accepts_s, limits.accepts_burst, keyed, now),
            limits,
            certificates,
            ready: Vec::new(),
            dirty: Vec::new(),
            timers: BTreeSet::new(),
            displaced: Vec::new(),
            keyed,
            drawn: 0,
            counters: StreamCounters::default(),
        }
    }

    /// Listens on an address; tells the one it got.
    pub(super) fn listen(
        &mut self,
        address: SocketAddr,
        transport: Transport,
        registry: &Registry,
    ) -> io::Result<SocketAddr> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("TURN, tcp {address}: {error}"))
        };
        let mut socket = connection::listen(address).map_err(named)?;
        let local = socket.local_addr()?;
        let token = Token(LISTENERS + self.listeners.len());
        registry.register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener {
            socket,
            transport,
            local,
            acceptable: true,
        });
        Ok(local)
    }

    pub(super) fn set_certificates(&mut self, certificates: Certificates) {
        self.certificates = Some(certificates);
    }

    /// epoll said something of a listener or a connection.
    pub(super) fn mark(&mut self, token: usize, readable: bool, writable: bool) {
        if token < CONNECTIONS {
            if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                listener.acceptable = true;
            }
            return;
        }
        let slot = (token - CONNECTIONS) as u32;
        if readable {
            self.mark_ready(slot);
        }
        if writable {
            self.mark_dirty(slot);
        }
    }

    fn mark_ready(&mut self, slot: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(slot as usize)
            && !std::mem::replace(&mut connection.ready, true)
        {
            self.ready.push(slot);
        }
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(Some(connection)) = self.connections.get_mut(slot as usize)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(slot);
        }
    }

    /// There is something to do at once.
    pub(super) fn has_more(&self) -> bool {
        !self.ready.is_empty() || self.listeners.iter().any(|listener| listener.acceptable)
    }

    /// Lets in who waits, as far as the limits allow.
    pub(super) fn accept(&mut self, registry: &Registry, now: Instant) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_PASS {
                let Some(listener) = self.listeners.get_mut(index).filter(|one| one.acceptable)
                else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((socket, remote)) => {
                        let (transport, port) = (listener.transport, listener.local.port());
                        let client = (transport, port, plain(remote), false);
                        self.admit(socket, client, registry, now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.acceptable = false;
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        // Out of descriptors: the next connection makes epoll speak again.
                        tracing::debug!(%error, "TURN: a connection cannot be accepted");
                        listener.acceptable = false;
                    }
                }
            }
        }
    }

    /// Takes a connection that somebody else has accepted, under the same limits.
    pub(super) fn adopt(&mut self, adopted: Adopted, registry: &Registry, now: Instant) {
        let Adopted {
            stream,
            remote,
            shared,
            port,
        } = adopted;
        let socket = TcpStream::from_std(stream);
        let client = (Transport::Tcp, port, plain(remote), shared);
        self.admit(socket, client, registry, now);
    }

    fn admit(
        &mut self,
        socket: TcpStream,
        (transport, port, remote, shared): (Transport, u16, SocketAddr, bool),
        registry: &Registry,
        now: Instant,
    ) {
        let may = shared
            || self.crowd.admits(remote.ip(), &self.limits) && self.accepts.take(remote.ip(), now);
        let made = if may && self.has_room((!shared).then_some(remote.ip()), now) {
            self.connection(socket, (transport, port, remote, shared), registry, now)
        } else {
            None
        };
        let Some(slot) = made else {
            self.counters.turned_away += 1;
            return;
        };
        self.crowd.enter(remote.ip(), slot, now);
        self.counters.accepted += 1;
        self.counters.open += 1;
        self.mark_ready(slot);
        self.look_by(slot, now + self.limits.handshake.min(self.limits.idle));
    }

    /// Makes room for one more, of this address if it counts, if it must and can: nobody who waits for an
    /// allocation is worth more than the next who does, and where one network has too many of these its own
    /// oldest goes. Nor is anybody who makes no use of his allocation worth more than they.
    fn has_room(&mut self, ip: Option<IpAddr>, now: Instant) -> bool {
        if let Some(oldest) = ip.and_then(|ip| self.crowd.displaced_by(ip, &self.limits)) {
            self.close(oldest, Fault::Displaced);
        }
        let all = |streams: &Self| streams.counters.open >= streams.limits.connections as u64;
        let waiting = |streams: &Self| streams.crowd.half_open() >= streams.limits.half_open;
        // Where few wait for an allocation they are the ones that come just now: sent away, they would only send
        // each other away for ever, while all others have what they do not use.
        let goes = if waiting(self) {
            self.crowd.oldest()
        } else if all(self) {
            self.silent(now).or_else(|| self.crowd.oldest())
        } else {
            None
        };
        let displaced = goes.and_then(|slot| self.close(slot, Fault::Displaced));
        self.displaced.extend(displaced);
        !(all(self) || waiting(self))
    }

    /// A connection whose allocation is not in use: of those looked at, the most silent of whoever has the
    /// most.
    fn silent(&mut self, now: Instant) -> Option<u32> {
        let count = self.connections.len();
        let mut worst = None;
        for n in 0..count.min(LOOKS_FOR_ROOM) {
            let slot = if count > LOOKS_FOR_ROOM {
                self.drawn += 1;
                (self.keyed.hash_one(self.drawn) % count as u64) as usize
            } else {
                n
            };
            let Some(Some(connection)) = self.connections.get(slot) else {
                continue;
            };
            let silence = now.saturating_duration_since(connection.heard);
            if silence >= SILENT {
                let has = self.crowd.count(connection.client.remote.ip());
                worst = worst.max(Some((has, silence, slot as u32)));
            }
        }
        worst.map(|(.., slot)| slot)
    }

    /// The client of a connection that had to make room; to be asked for before anything is read.
    pub(super) fn poll_displaced(&mut self) -> Option<Client> {
        self.displaced.pop()
    }

    fn connection(
        &mut self,
        mut socket: TcpStream,
        (transport, port, remote, shared): (Transport, u16, SocketAddr, bool),
        registry: &Registry,
        now: Instant,
    ) -> Option<u32> {
        let session = match (transport, &self.certificates) {
            (Transport::Tls, Some(certificates)) => Some(Session::new(certificates).ok()?),
            (Transport::Tls, None) => return None,
            _ => None,
        };
        connection::prepare(&socket);
        let local = socket.local_addr().ok()?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        let token = Token(CONNECTIONS + slot as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if registry.register(&mut socket, token, interest).is_err() {
            self.free.push(slot);
            return None;
        }
        let client = Client {
            transport,
            local: SocketAddr::new(local.ip().to_canonical(), port),
            remote,
            shared,
            link: slot,
        };
        if let Some(place) = self.connections.get_mut(slot as usize) {
            *place = Some(Box::new(Connection::new(socket, session, client, now)));
        }
        Some(slot)
    }

    /// A connection that has something to read.
    pub(super) fn next_ready(&mut self) -> Option<u32> {
        let slot = self.ready.pop()?;
        if let Some(Some(connection)) = self.connections.get_mut(slot as usize) {
            connection.ready = false;
        }
        Some(slot)
    }

    /// How many have something to read.
    pub(super) const fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Reads what a connection has into `buffer`, behind what was left of the last frame.
    pub(super) fn read(&mut self, slot: u32, buffer: &mut [u8]) -> Option<(Client, Flow)> {
        let connection = self.connections.get_mut(slot as usize)?.as_mut()?;
        let flow = connection.read(buffer);
        let client = connection.client;
        let wants_write = connection.wants_write();
        if matches!(flow, Flow::Bytes { more: true, .. }) {
            self.mark_ready(slot);
        }
        if wants_write {
            self.mark_dirty(slot);
        }
        Some((client, flow))
    }

    /// Keeps what is left of a frame that is not whole, and came behind `more` that were.
    pub(super) fn keep(&mut self, slot: u32, rest: &[u8], more: bool, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(slot as usize) else {
            return;
        };
        connection.keep(rest, more, now);
        if connection.has_begun_frame() {
            self.look_by(slot, now + self.limits.frame);
        }
    }

    /// Puts a frame into a connection, in parts.
    pub(super) fn send(&mut self, slot: u32, (kind, parts): (Kind, [&[u8]; 3]), now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(slot as usize) else {
            self.counters.frames_closed += 1;
            return;
        };
        if connection.send(kind, parts, now) {
            self.mark_dirty(slot);
        } else {
            self.counters.frames_full += 1;
        }
    }

    /// Writes what waits; tells of each connection that turns out to be gone.
    pub(super) fn flush(&mut self, now: Instant, mut gone: impl FnMut(u32)) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(Some(connection)) = self.connections.get_mut(slot as usize) else {
                continue;
            };
            connection.dirty = false;
            self.counters.frames_late += connection.outgoing.drop_late(now);
            if connection.flush(now).is_err() {
                gone(slot);
            } else if connection.is_stuck() {
                let by = now + self.limits.stalled;
                self.look_by(slot, by);
            }
        }
    }

    /// A connection has an allocation, of which use was made last at that time, or has none.
    pub(super) fn set_allocated(&mut self, slot: u32, heard: Option<Instant>, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let allocated = heard.is_some();
        connection.heard = heard.unwrap_or(connection.heard);
        if connection.allocated == allocated {
            return;
        }
        connection.allocated = allocated;
        if !allocated {
            connection.idle_since = now;
        }
        let (ip, since) = (connection.client.remote.ip(), connection.idle_since);
        self.crowd.set_half_open(ip, slot, since, !allocated);
        if !allocated {
            self.look_by(slot, now + self.limits.idle);
        }
    }

    /// Looks at those whose time has come: `heard` tells of their allocations; whose time is over is told
    /// to `over`.
    pub(super) fn look(
        &mut self,
        now: Instant,
        heard: impl Fn(&Client) -> Option<Instant>,
        mut over: impl FnMut(u32, Fault),
    ) {
        for _ in 0..LOOKS_PER_PASS {
            let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now) else {
                return;
            };
            self.timers.remove(&(at, slot));
            let Some(Some(connection)) = self.connections.get(slot as usize) else {
                continue;
            };
            let heard = heard(&connection.client);
            self.set_allocated(slot, heard, now);
            let Some(Some(connection)) = self.connections.get_mut(slot as usize) else {
                continue;
            };
            match connection.verdict(&self.limits, now) {
                Ok(next) => {
                    let next = next.min(now + LOOK_EVERY);
                    self.timers.remove(&(connection.look_at, slot));
                    connection.look_at = next;
                    self.timers.insert((next, slot));
                }
                Err(fault) => over(slot, fault),
            }
        }
    }

    /// When [`Self::look`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn look_by(&mut self, slot: u32, at: Instant) {
        if let Some(Some(connection)) = self.connections.get_mut(slot as usize)
            && at < connection.look_at
        {
            self.timers.remove(&(connection.look_at, slot));
            connection.look_at = at;
            self.timers.insert((at, slot));
        }
    }

    /// Closes a connection; tells whose it was.
    pub(super) fn close(&mut self, slot: u32, fault: Fault) -> Option<Client> {
        let connection = self.connections.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.timers.remove(&(connection.look_at, slot));
        let (ip, since) = (connection.client.remote.ip(), connection.idle_since);
        self.crowd.leave(ip, slot, since);
        self.counters.open -= 1;
        self.counters.frames_closed += connection.outgoing.frames() as u64;
        match fault {
            Fault::Gone if connection.is_handshaking() => self.counters.handshakes_failed += 1,
            Fault::Gone => {}
            Fault::Handshake => self.counters.handshakes_failed += 1,
            Fault::Idle => self.counters.idle += 1,
            Fault::Stalled => self.counters.stalled += 1,
            Fault::Broken => self.counters.broken += 1,
            Fault::Displaced => self.counters.displaced += 1,
        }
        Some(connection.client)
    }

    pub(super) const fn counters(&self) -> StreamCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests;
