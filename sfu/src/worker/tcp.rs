//! The ICE-TCP connections of one worker: frames in, frames out. (RFC 6544, RFC 4571)
//!
//! Owns the sockets of clients that `accept` handed over; their frames and how long each is kept are
//! those of `framing`. A connection is a path as any other to the plane; whoever sends by it must have
//! passed a check there, or it ends. It never waits.

use crate::media::demux::{Carrier, Path};
use crate::media::pacer::Run;
use crate::media::transport::framing::{Deframer, End, LOOK_EVERY, Line, Taken};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Tokens of connections begin here; those of UDP sockets lie below.
const FIRST_TOKEN: usize = 256;
/// Reads of one connection at its turn, of some 16 KiB each: nobody starves the others.
const READS_PER_TURN: usize = 4;
/// Datagrams taken at once, as many as the kernel hands over of UDP: a track keeps the last few dozen
/// packets only, and what is not sent before they are written over is lost.
const DATAGRAMS_PER_BATCH: usize = 32;
/// What the kernel may hold that is not under way yet. More would make media late where we cannot
/// drop it; less would leave the line idle between two passes.
const UNSENT_BYTES: u32 = 32 * 1024;

/// A connection whose first frame is a check for a ufrag of this process.
#[derive(Debug)]
pub struct Accepted {
    /// The connection; it does not block.
    pub stream: std::net::TcpStream,
    /// What was read of it, the first frame included.
    pub deframer: Deframer,
    /// The client.
    pub remote: SocketAddr,
    /// The address it reached us by.
    pub local: IpAddr,
    /// Its places among those counted by `accept`, free again when it is dropped.
    pub places: Vec<Arc<()>>,
}

/// What the connections count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// System calls that sent.
    pub sends: u64,
    /// Datagrams put into frames.
    pub datagrams_out: u64,
    /// Media dropped because it waited too long, or found no place.
    pub lost_late: u64,
    /// Datagrams for connections that are gone.
    pub lost_closed: u64,
    /// Connections taken over.
    pub opened: u64,
    /// Connections that ended, by [`End`].
    pub ended: [u64; End::ALL.len()],
}

/// One connection.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    path: Path,
    line: Line,
    /// The kernel takes more.
    writable: bool,
    /// It is in `ready`.
    is_ready: bool,
    /// It is in `dirty`.
    is_dirty: bool,
    _places: Vec<Arc<()>>,
}

/// How reading of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// All was read.
    Empty,
    /// There may be more.
    More,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Connections {
    registry: Registry,
    open: HashMap<u32, Connection>,
    next: u32,
    /// Those that may have something to read.
    ready: VecDeque<u32>,
    /// Those with something to write.
    dirty: Vec<u32>,
    /// The paths of those that ended.
    lost: Vec<Path>,
    next_look: Option<Instant>,
    counters: TcpCounters,
}

impl Connections {
    /// None so far; they are to be registered here.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            open: HashMap::new(),
            next: 0,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            lost: Vec::new(),
            next_look: None,
            counters: TcpCounters::default(),
        }
    }

    /// Takes over a connection. Its first frame is read with the next pass.
    pub fn adopt(&mut self, accepted: Accepted, now: Instant) {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut stream = TcpStream::from_std(accepted.stream);
        if let Err(error) = prepare(&mut stream, &self.registry, token(number)) {
            tracing::warn!(%error, "a media connection cannot be served");
            return;
        }
        self.counters.opened += 1;
        let connection = Connection {
            stream,
            path: Path {
                carrier: Carrier::Tcp(number),
                local: Some(accepted.local),
                port: 0,
                remote: accepted.remote,
            },
            line: Line::new(accepted.deframer, now),
            writable: true,
            is_ready: true,
            is_dirty: false,
            _places: accepted.places,
        };
        self.open.insert(number, connection);
        self.ready.push_back(number);
        self.next_look.get_or_insert(now + LOOK_EVERY);
    }

    /// epoll said something of the connection with this token.
    pub fn mark(&mut self, at: usize, readable: bool, writable: bool) {
        let number = at.checked_sub(FIRST_TOKEN).map(u32::try_from);
        let Some(Ok(number)) = number else { return };
        let Some(connection) = self.open.get_mut(&number) else {
            return;
        };
        if readable && !std::mem::replace(&mut connection.is_ready, true) {
            self.ready.push_back(number);
        }
        if writable {
            connection.writable = true;
            if connection.line.waits() && !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(number);
            }
        }
    }

    /// A connection was not read empty, or has something to write: the next pass must not sleep.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.dirty.is_empty()
    }

    /// Reads a batch of those that have something, each in its turn, or until `take` is full; true if
    /// there may be more.
    pub fn receive(
        &mut self,
        now: Instant,
        mut take: impl FnMut(Path, &mut [u8]) -> Taken,
    ) -> bool {
        // None once nothing more is taken: the last one may have ended its connection, too.
        let left = Cell::new(DATAGRAMS_PER_BATCH);
        let mut take = |path: Path, datagram: &mut [u8]| {
            let Taken { known, full } = take(path, datagram);
            left.set(if full { 0 } else { left.get() - 1 });
            let full = left.get() == 0;
            Taken { known, full }
        };
        for _ in 0..self.ready.len() {
            if left.get() == 0 {
                break;
            }
            let Some(number) = self.ready.pop_front() else {
                break;
            };
            let Some(connection) = self.open.get_mut(&number) else {
                continue;
            };
            match connection.receive(now, &mut take) {
                Ok(Reading::Empty) => connection.is_ready = false,
                Ok(Reading::More) => self.ready.push_back(number),
                Err(end) => self.end(number, end),
            }
        }
        !self.ready.is_empty()
    }

    /// Puts the packets of a run into frames of a connection.
    pub fn push(&mut self, number: u32, run: &Run<'_, Path>, now: Instant) {
        let Some(connection) = self.open.get_mut(&number) else {
            self.counters.lost_closed += run.count as u64;
            return;
        };
        let dropped = connection.line.dropped();
        let mut packets = run.bytes.chunks(run.segment.max(1));
        let mut put = 0;
        let ended = packets.find_map(|packet| {
            connection.line.push(packet, now).err().or_else(|| {
                put += 1;
                None
            })
        });
        self.counters.datagrams_out += put;
        self.counters.lost_late += connection.line.dropped() - dropped;
        if let Some(end) = ended {
            self.counters.lost_closed += run.count as u64 - put;
            return self.end(number, end);
        }
        if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(number);
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    pub fn flush(&mut self, now: Instant) {
        while let Some(number) = self.dirty.pop() {
            let Some(connection) = self.open.get_mut(&number) else {
                continue;
            };
            connection.is_dirty = false;
            if connection.write(&mut self.counters.sends, now).is_err() {
                self.end(number, End::Closed);
            }
        }
    }

    /// Ends connections that nobody uses. `knows` tells whether anybody here is behind a path.
    pub fn look(&mut self, now: Instant, knows: impl Fn(&Path) -> bool) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        let ended = self.open.iter().filter_map(|(number, connection)| {
            let end = connection.line.verdict(knows(&connection.path), now)?;
            Some((*number, end))
        });
        for (number, end) in ended.collect::<Vec<_>>() {
            self.end(number, end);
        }
        self.next_look = (!self.open.is_empty()).then_some(now + LOOK_EVERY);
    }

    /// The path of a connection that ended, to be told to the plane.
    pub fn poll_lost(&mut self) -> Option<Path> {
        self.lost.pop()
    }

    /// Connections that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Totals since the start.
    #[must_use]
    pub const fn counters(&self) -> TcpCounters {
        self.counters
    }

    fn end(&mut self, number: u32, end: End) {
        let Some(mut connection) = self.open.remove(&number) else {
            return;
        };
        tracing::debug!(remote = %connection.path.remote, ?end, "media connection ended");
        self.counters.ended[end as usize] += 1;
        // It may have been half written: nobody can tell whether the rest would have come.
        self.counters.lost_closed += connection.line.frames() as u64;
        // Closing it takes it out of epoll as well.
        let _ = self.registry.deregister(&mut connection.stream);
        self.lost.push(connection.path);
    }
}

impl Connection {
    /// Reads what there is.
    fn receive(
        &mut self,
        now: Instant,
        take: &mut impl FnMut(Path, &mut [u8]) -> Taken,
    ) -> Result<Reading, End> {
        // What came with the connection, or was not taken the last time, is there already.
        if !self.cut(now, take)? {
            return Ok(Reading::More);
        }
        for _ in 0..READS_PER_TURN {
            match self.stream.read(self.line.room()) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => self.line.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Reading::Empty);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Closed),
            }
            if !self.cut(now, take)? {
                return Ok(Reading::More);
            }
        }
        Ok(Reading::More)
    }

    fn cut(
        &mut self,
        now: Instant,
        take: &mut impl FnMut(Path, &mut [u8]) -> Taken,
    ) -> Result<bool, End> {
        let path = self.path;
        self.line.cut(now, |datagram| take(path, datagram))
    }

    fn write(&mut self, sends: &mut u64, now: Instant) -> io::Result<()> {
        while self.writable && self.line.waits() {
            *sends += 1;
            match self.stream.write(self.line.front()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.line.wrote(count, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const fn token(number: u32) -> Token {
    Token(FIRST_TOKEN + number as usize)
}

fn prepare(stream: &mut TcpStream, registry: &Registry, token: Token) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(&*stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::net::TcpListener;

    /// A client's end of a connection, and ours.
    fn accepted(deframer: Deframer) -> (std::net::TcpStream, Accepted) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(at).expect("connected");
        let (stream, remote) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        let accepted = Accepted {
            stream,
            deframer,
            remote,
            local: at.ip(),
            places: Vec::new(),
        };
        (client, accepted)
    }

    #[test]
    fn a_batch_ends_although_its_last_datagram_ended_a_connection() {
        let poll = Poll::new().expect("epoll");
        let mut connections = Connections::new(poll.registry().try_clone().expect("epoll"));
        // Of whom nothing is known eight datagrams are the last.
        let strange = [0, 1, 7].repeat(8);
        let now = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..=DATAGRAMS_PER_BATCH / 8 {
            let mut deframer = Deframer::default();
            deframer.room()[..strange.len()].copy_from_slice(&strange);
            deframer.filled(strange.len());
            let (client, accepted) = accepted(deframer);
            clients.push(client);
            connections.adopt(accepted, now);
        }
        let mut taken = 0;
        let more = connections.receive(now, |_, _| {
            taken += 1;
            Taken {
                known: false,
                full: false,
            }
        });
        assert_eq!((taken, more), (DATAGRAMS_PER_BATCH, true));
    }

    #[test]
    fn a_burst_is_taken_in_batches_between_which_it_can_be_sent() {
        let mut poll = Poll::new().expect("epoll");
        let mut connections = Connections::new(poll.registry().try_clone().expect("epoll"));
        let (mut client, accepted) = accepted(Deframer::default());
        let now = Instant::now();
        connections.adopt(accepted, now);
        let frames: Vec<u8> = (0..=u8::MAX).flat_map(|number| [0, 1, number]).collect();
        client.write_all(&frames).expect("sent");
        let mut taken: Vec<u8> = Vec::new();
        let mut events = Events::with_capacity(4);
        while taken.len() <= usize::from(u8::MAX) {
            if !connections.has_more() {
                poll.poll(&mut events, None).expect("polled");
                for event in events.iter() {
                    connections.mark(event.token().0, event.is_readable(), event.is_writable());
                }
            }
            let before = taken.len();
            let more = connections.receive(now, |_, datagram| {
                taken.extend_from_slice(datagram);
                Taken {
                    known: true,
                    full: false,
                }
            });
            assert!(taken.len() - before <= DATAGRAMS_PER_BATCH);
            assert_eq!(more, connections.has_more());
        }
        assert!(taken.into_iter().eq(0..=u8::MAX));
    }
}
