//! The ICE-TCP connections of a server of the world: what `worker::accept` and `worker::tcp` are to a
//! real one, without sockets.
//!
//! Owns which connections are open, and none of what is decided of them: frames, queues and limits are
//! those of `media::transport::framing`. Called by its server; who has the other end writes what waits.

use sfu::media::demux::{self, Carrier, Path, Place};
use sfu::media::pacer::Run;
use sfu::media::transport::framing::{Deframer, End, LOOK_EVERY, Line, Taken};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

/// One connection.
#[derive(Debug)]
enum Stream {
    /// It has not said yet for whom it is.
    Knocking(Deframer),
    Open(Box<Line>),
}

/// What connections count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that said for whom they are.
    pub opened: u64,
    /// Media dropped because it waited too long, or found no place.
    pub lost_late: u64,
    /// Datagrams for connections that are gone.
    pub lost_closed: u64,
    /// Connections that ended, by [`End`].
    pub ended: [u64; End::ALL.len()],
}

/// All of them.
#[derive(Debug, Default)]
pub struct Streams {
    open: BTreeMap<u32, (SocketAddr, Stream)>,
    /// Paths of those that ended, and their numbers.
    lost: Vec<Path>,
    ended: Vec<u32>,
    next_look: Option<Instant>,
    counters: Counters,
}

const fn path(number: u32, remote: SocketAddr) -> Path {
    Path {
        carrier: Carrier::Tcp(number),
        local: None,
        port: 0,
        remote,
    }
}

impl Streams {
    pub(super) fn connected(&mut self, number: u32, remote: SocketAddr, now: Instant) {
        let stream = Stream::Knocking(Deframer::default());
        self.open.insert(number, (remote, stream));
        self.next_look.get_or_insert(now + LOOK_EVERY);
    }

    /// Cuts what came into frames, until `take` is full: how many of the bytes were read. It is to be
    /// called again after that, with what is left.
    pub(super) fn receive(
        &mut self,
        number: u32,
        bytes: &[u8],
        now: Instant,
        mut take: impl FnMut(Path, &mut [u8]) -> Taken,
    ) -> Option<usize> {
        let mut rest = bytes;
        loop {
            let (remote, stream) = self.open.get_mut(&number)?;
            let path = path(number, *remote);
            if let Stream::Open(line) = stream {
                match line.cut(now, |datagram| take(path, datagram)) {
                    Ok(true) => {}
                    Ok(false) => return Some(bytes.len() - rest.len()),
                    Err(end) => {
                        self.end(number, end);
                        return None;
                    }
                }
            }
            if rest.is_empty() {
                return None;
            }
            let room = match stream {
                Stream::Knocking(deframer) => deframer.room(),
                Stream::Open(line) => line.room(),
            };
            let len = rest.len().min(room.len());
            room[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            match stream {
                Stream::Open(line) => line.filled(len),
                Stream::Knocking(deframer) => {
                    deframer.filled(len);
                    let wanted = match deframer.peek() {
                        Ok(None) => continue,
                        Ok(Some(frame)) => demux::username(frame).and_then(Place::of),
                        Err(_) => None,
                    };
                    if wanted.is_none() {
                        self.end(number, End::Unknown);
                        return None;
                    }
                    self.counters.opened += 1;
                    let line = Line::new(std::mem::take(deframer), now);
                    *stream = Stream::Open(Box::new(line));
                }
            }
        }
    }

    pub(super) fn closed(&mut self, number: u32) {
        self.end(number, End::Closed);
    }

    pub(super) fn push(&mut self, number: u32, run: &Run<'_, Path>, now: Instant) {
        let Some((_, Stream::Open(line))) = self.open.get_mut(&number) else {
            self.counters.lost_closed += run.count as u64;
            return;
        };
        let dropped = line.dropped();
        let mut packets = run.bytes.chunks(run.segment.max(1));
        let ended = packets.find_map(|packet| line.push(packet, now).err());
        self.counters.lost_late += line.dropped() - dropped;
        if let Some(end) = ended {
            self.end(number, end);
        }
    }

    pub(super) fn look(&mut self, now: Instant, knows: impl Fn(&Path) -> bool) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        let ended = self.open.iter().filter_map(|(number, (remote, stream))| {
            let Stream::Open(line) = stream else {
                return None;
            };
            let end = line.verdict(knows(&path(*number, *remote)), now)?;
            Some((*number, end))
        });
        for (number, end) in ended.collect::<Vec<_>>() {
            self.end(number, end);
        }
        self.next_look = (!self.open.is_empty()).then_some(now + LOOK_EVERY);
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.next_look
    }

    pub(super) fn poll_lost(&mut self) -> Option<Path> {
        self.lost.pop()
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The number of a connection the server ended.
    pub fn poll_ended(&mut self) -> Option<u32> {
        self.ended.pop()
    }

    /// Connections with something to write.
    #[must_use]
    pub fn waiting(&self) -> Vec<u32> {
        let waits = |stream: &Stream| matches!(stream, Stream::Open(line) if line.waits());
        let waiting = self.open.iter().filter(|(_, (_, stream))| waits(stream));
        waiting.map(|(number, _)| *number).collect()
    }

    /// Writes what waits, as far as `write` takes it.
    pub fn flush(&mut self, number: u32, now: Instant, mut write: impl FnMut(&[u8]) -> usize) {
        let Some((_, Stream::Open(line))) = self.open.get_mut(&number) else {
            return;
        };
        while line.waits() {
            let count = write(line.front());
            if count == 0 {
                return;
            }
            line.wrote(count, now);
        }
    }

    /// Media a connection has dropped so far.
    #[must_use]
    pub fn dropped(&self, number: u32) -> Option<u64> {
        match self.open.get(&number) {
            Some((_, Stream::Open(line))) => Some(line.dropped()),
            _ => None,
        }
    }

    /// Totals since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn end(&mut self, number: u32, end: End) {
        if let Some((remote, _)) = self.open.remove(&number) {
            self.counters.ended[end as usize] += 1;
            self.lost.push(path(number, remote));
            self.ended.push(number);
        }
    }
}
