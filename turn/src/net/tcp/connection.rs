//! One connection: its socket, its TLS, what is left of a frame, what waits to be written.

use super::Fault;
use crate::address::Client;
use crate::frame::FRAME_MAX;
use crate::net::outgoing::{Kind, Outgoing};
use crate::net::stream_limits::StreamLimits;
use crate::net::tls::Session;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// What the kernel keeps of what is sent: more would only wait there, beyond our reach.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Far enough to be always later.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Flow {
    /// So many bytes are in the buffer; whether there may be more to read.
    Bytes { len: usize, more: bool },
    /// The end, of the stream or of our patience.
    End,
}

/// A connection.
#[derive(Debug)]
pub(in crate::net) struct Connection {
    socket: TcpStream,
    session: Option<Session>,
    pub(super) client: Client,
    inbound: Vec<u8>,
    pub(super) outgoing: Outgoing,
    began: Instant,
    frame_since: Option<Instant>,
    /// When something was written last, or nothing waited.
    progress: Instant,
    pub(super) idle_since: Instant,
    pub(super) allocated: bool,
    /// When its allocation was last made use of.
    pub(super) heard: Instant,
    pub(super) look_at: Instant,
    pub(super) ready: bool,
    pub(super) dirty: bool,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        session: Option<Session>,
        client: Client,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            session,
            client,
            inbound: Vec::new(),
            outgoing: Outgoing::default(),
            began: now,
            frame_since: None,
            progress: now,
            idle_since: now,
            allocated: false,
            heard: now,
            look_at: now + NEVER,
            ready: false,
            dirty: false,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_handshaking)
    }

    /// What is left of a frame, and behind it what can be read, in `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Flow {
        let kept = self.inbound.len();
        let Some((front, rest)) = buffer.split_at_mut_checked(kept) else {
            return Flow::End;
        };
        front.copy_from_slice(&self.inbound);
        let mut len = 0;
        loop {
            let Some(room) = rest.get_mut(len..).filter(|room| !room.is_empty()) else {
                return self.taken(kept + len, true);
            };
            let read = match &mut self.session {
                Some(session) => session.read(&mut self.socket, room),
                None => self.socket.read(room),
            };
            match read {
                // What came before the end still counts, but nobody is there to be answered.
                Ok(0) => return Flow::End,
                Ok(count) => len += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.taken(kept + len, false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // TLS may have an alert to tell.
                    if let Some(session) = &mut self.session {
                        let _ = session.flush(&mut self.socket);
                    }
                    return Flow::End;
                }
            }
        }
    }

    fn taken(&mut self, len: usize, more: bool) -> Flow {
        self.inbound.clear();
        Flow::Bytes { len, more }
    }

    /// Keeps what is left of a frame: never more than the longest one. `more` frames were whole before
    /// it, so that it has only begun.
    pub(super) fn keep(&mut self, rest: &[u8], more: bool, now: Instant) {
        self.inbound.clear();
        if self.inbound.capacity() > rest.len().max(2048) {
            self.inbound = Vec::new();
        }
        self.inbound
            .extend_from_slice(rest.get(..rest.len().min(FRAME_MAX)).unwrap_or_default());
        self.frame_since = match self.frame_since {
            _ if rest.is_empty() => None,
            Some(since) if !more => Some(since),
            _ => Some(now),
        };
    }

    pub(super) const fn has_begun_frame(&self) -> bool {
        self.frame_since.is_some()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(Session::wants_write)
    }

    /// Puts a frame behind the others; false if there is no place.
    pub(super) fn send(&mut self, kind: Kind, parts: [&[u8]; 3], now: Instant) -> bool {
        if !self.is_stuck() {
            self.progress = now;
        }
        self.outgoing.add(kind, parts, now)
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let wrote = match self.write_some(now) {
                Ok(wrote) => wrote,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if !wrote {
                return Ok(());
            }
        }
    }

    /// Whether something was written, and there may be more to write.
    fn write_some(&mut self, now: Instant) -> io::Result<bool> {
        let Some(session) = &mut self.session else {
            if self.outgoing.waiting() == 0 {
                return Ok(false);
            }
            let count = self.socket.write(self.outgoing.next())?;
            self.outgoing.advance(count);
            self.progress = now;
            return Ok(count > 0);
        };
        // A frame a record: there are clients that take one for the other.
        let mut sealed = 0;
        while self.outgoing.waiting() > 0 {
            let count = session.seal(self.outgoing.next_frame());
            if count == 0 {
                break;
            }
            self.outgoing.advance(count);
            sealed += count;
        }
        // A socket that is full now has taken something before.
        let (wrote, done) = session.flush(&mut self.socket);
        if wrote {
            self.progress = now;
        }
        done.map(|()| wrote || sealed > 0)
    }

    /// Something waits that the socket does not take.
    pub(super) fn is_stuck(&self) -> bool {
        self.outgoing.waiting() > 0 || self.wants_write()
    }

    /// Whether its time is over; if not, when to look again.
    pub(super) fn verdict(&self, limits: &StreamLimits, now: Instant) -> Result<Instant, Fault> {
        let mut next = now + NEVER;
        let mut until = |since: Instant, limit: Duration, fault: Fault| {
            let end = since + limit;
            next = next.min(end);
            if end <= now { Err(fault) } else { Ok(()) }
        };
        if self.is_handshaking() {
            until(self.began, limits.handshake, Fault::Handshake)?;
        }
        if !self.allocated {
            until(self.idle_since, limits.idle, Fault::Idle)?;
        }
        if let Some(since) = self.frame_since {
            until(since, limits.frame, Fault::Idle)?;
        }
        if self.is_stuck() {
            until(self.progress, limits.stalled, Fault::Stalled)?;
        }
        Ok(next)
    }
}

/// A listening socket.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an old process still close when a new one begins.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Media waits for nothing, neither in the kernel nor for a full segment.
pub(super) fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Transport;

    fn connection(session: Option<Session>, now: Instant) -> (Connection, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("bound");
        let far = std::net::TcpStream::connect(local).expect("a connection");
        let (near, remote) = listener.accept().expect("it came");
        near.set_nonblocking(true).expect("a socket");
        let client = Client {
            transport: Transport::Tcp,
            local,
            remote,
            shared: false,
            link: 0,
        };
        let near = TcpStream::from_std(near);
        (Connection::new(near, session, client, now), far)
    }

    #[test]
    fn whoever_was_quiet_is_not_stalled_by_what_has_just_been_sent() {
        let now = Instant::now();
        let limits = StreamLimits::default();
        let (mut connection, _far) = connection(None, now);
        connection.allocated = true;
        let later = now + 2 * limits.stalled;
        assert!(connection.send(Kind::Media, [b"late", b"", b""], later));
        assert!(connection.verdict(&limits, later).is_ok());
        let soon = later + limits.stalled / 2;
        assert!(connection.send(Kind::Media, [b"more", b"", b""], soon));
        let end = later + limits.stalled;
        assert_eq!(connection.verdict(&limits, end), Err(Fault::Stalled));
        connection.flush(end).expect("it takes all");
        assert!(connection.verdict(&limits, end).is_ok());
    }

    #[test]
    fn whoever_sends_frame_after_frame_is_not_slow_wherever_reads_end() {
        let now = Instant::now();
        let limits = StreamLimits::default();
        let (mut connection, _far) = connection(None, now);
        connection.allocated = true;
        let at = |seconds| now + Duration::from_secs(seconds);
        for second in 0..60 {
            connection.keep(&[0x40], second > 0, at(second));
            assert!(connection.verdict(&limits, at(second)).is_ok(), "{second}");
        }
        // One that only grows has begun when it began.
        connection.keep(&[0x40, 0], false, at(68));
        assert!(connection.verdict(&limits, at(68)).is_ok());
        assert_eq!(connection.verdict(&limits, at(69)), Err(Fault::Idle));
    }
}
