//! The ICE-TCP connections of one worker: frames in, frames out. (RFC 6544, RFC 4571)
//!
//! Owns the sockets of clients that `accept` handed over, what waits to be written to them, and how
//! long one is kept. A connection is a path as any other to the plane; whoever sends by it must have
//! passed a check there, or it ends. It never waits.

use crate::media::demux::{Carrier, Path};
use crate::media::pacer::Run;
use crate::media::transport::framing::{Deframer, Queue};
use crate::metrics::ConnectionEnd as End;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// Whoever sends nothing for so long has another path: checks come each half minute on a path that
/// is only kept in reserve.
const IDLE: Duration = Duration::from_secs(60);
/// A connection that takes nothing for so long is dead: a client counts as away after as long.
const STALLED: Duration = Duration::from_secs(10);
/// A check that is refused (a role to be settled, a password that was just changed) may be followed by
/// a better one: so many datagrams and so long a connection may be without a good one.
const STRANGE_DATAGRAMS: u8 = 8;
/// See [`STRANGE_DATAGRAMS`].
const STRANGE_FOR: Duration = Duration::from_secs(2);
/// How often connections are looked at for these.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    deframer: Deframer,
    queue: Queue,
    /// The kernel takes more.
    writable: bool,
    /// It is in `ready`.
    is_ready: bool,
    /// It is in `dirty`.
    is_dirty: bool,
    /// Datagrams that came while nobody here was known behind it.
    strange: u8,
    /// When it came.
    since: Instant,
    /// When something came last.
    heard: Instant,
    /// When something was written last, or nothing waited.
    moved: Instant,
    _places: Vec<Arc<()>>,
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
            deframer: accepted.deframer,
            queue: Queue::default(),
            writable: true,
            is_ready: true,
            is_dirty: false,
            strange: 0,
            since: now,
            heard: now,
            moved: now,
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
            if !connection.queue.is_empty() && !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(number);
            }
        }
    }

    /// A connection was not read empty, or has something to write: the next pass must not sleep.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.dirty.is_empty()
    }

    /// Reads a batch of those that have something, each in its turn; true if there may be more. `take` tells
    /// whether whoever sent the datagram is known there: a connection begins with a check that makes him
    /// so.
    pub fn receive(&mut self, now: Instant, mut take: impl FnMut(Path, &mut [u8]) -> bool) -> bool {
        let mut left = DATAGRAMS_PER_BATCH;
        for _ in 0..self.ready.len() {
            if left == 0 {
                break;
            }
            let Some(number) = self.ready.pop_front() else {
                break;
            };
            let Some(connection) = self.open.get_mut(&number) else {
                continue;
            };
            match connection.receive(now, &mut left, &mut take) {
                Ok(true) => self.ready.push_back(number),
                Ok(false) => connection.is_ready = false,
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
        if connection.queue.is_empty() {
            connection.moved = now;
        }
        let dropped = connection.queue.dropped();
        for packet in run.bytes.chunks(run.segment.max(1)) {
            self.counters.datagrams_out += 1;
            if connection.queue.push(packet, now).is_err() {
                self.end(number, End::Stalled);
                return;
            }
        }
        self.counters.lost_late += connection.queue.dropped() - dropped;
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
            let past = |since, limit| now.saturating_duration_since(since) >= limit;
            let waits = !connection.queue.is_empty();
            let strange = past(connection.since, STRANGE_FOR) && !knows(&connection.path);
            let end = if strange {
                End::Unknown
            } else if waits && past(connection.moved, STALLED) {
                End::Stalled
            } else if past(connection.heard, IDLE) {
                End::Idle
            } else {
                return None;
            };
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
        // Closing it takes it out of epoll as well.
        let _ = self.registry.deregister(&mut connection.stream);
        self.lost.push(connection.path);
    }
}

impl Connection {
    /// Reads what there is, up to `left` datagrams; true if there may be more.
    fn receive(
        &mut self,
        now: Instant,
        left: &mut usize,
        take: &mut impl FnMut(Path, &mut [u8]) -> bool,
    ) -> Result<bool, End> {
        // What came with the connection is there already.
        self.cut(now, left, take)?;
        for _ in 0..READS_PER_TURN {
            if *left == 0 {
                break;
            }
            match self.stream.read(self.deframer.room()) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => self.deframer.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Closed),
            }
            self.cut(now, left, take)?;
        }
        Ok(true)
    }

    fn cut(
        &mut self,
        now: Instant,
        left: &mut usize,
        take: &mut impl FnMut(Path, &mut [u8]) -> bool,
    ) -> Result<(), End> {
        while *left > 0
            && let Some(datagram) = self.deframer.next_frame().map_err(|_| End::Malformed)?
        {
            *left -= 1;
            self.heard = now;
            if !take(self.path, datagram) {
                self.strange += 1;
                if self.strange >= STRANGE_DATAGRAMS {
                    return Err(End::Unknown);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, sends: &mut u64, now: Instant) -> io::Result<()> {
        while self.writable && !self.queue.is_empty() {
            *sends += 1;
            match self.stream.write(self.queue.front()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.moved = now;
                    self.queue.wrote(count);
                }
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

    #[test]
    fn a_burst_is_taken_in_batches_between_which_it_can_be_sent() {
        let mut poll = Poll::new().expect("epoll");
        let mut connections = Connections::new(poll.registry().try_clone().expect("epoll"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        let mut client = std::net::TcpStream::connect(at).expect("connected");
        let (stream, remote) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        let now = Instant::now();
        let accepted = Accepted {
            stream,
            deframer: Deframer::default(),
            remote,
            local: at.ip(),
            places: Vec::new(),
        };
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
                true
            });
            assert!(taken.len() - before <= DATAGRAMS_PER_BATCH);
            assert_eq!(more, connections.has_more());
        }
        assert!(taken.into_iter().eq(0..=u8::MAX));
    }
}
