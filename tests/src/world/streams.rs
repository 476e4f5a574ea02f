//! TCP connections of the world: from a client to its server or to a TURN server, both ends of each.
//!
//! Owns how a connection comes to be, its two directions, what each end has read of a frame, and what
//! TURN has queued. Takes frames apart by itself, as a client does; decides nothing. Driven by the
//! world, which has the roads.

use super::client::Leg;
use super::invariants::Frames;
use super::pipe::{CLIENT_UNSENT, Pipe, SERVER_UNSENT};
use crate::link::Link;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use turn::address::Client;
use turn::frame::{self, Frame};

/// What is not answered is sent again after so long. (RFC 6298 §2)
pub const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// Frames of TURN that wait for a client: what its own shell keeps of one connection.
const TURN_QUEUE_BYTES: usize = 256 << 10;
/// Bytes before the body of a frame. (RFC 4571 §2)
const HEAD: usize = 2;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// ICE-TCP of this server.
    Server(usize),
    /// The TURN server of this number, which knows the client so.
    Turn(usize, Client),
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has answered yet.
    Knocking,
    /// It is there, and no check was answered on it.
    Open,
    /// Media may go by it.
    Used,
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    /// Whose.
    pub who: usize,
    /// Which of his.
    pub leg: Leg,
    /// To whom.
    pub end: End,
    /// How far it is.
    pub state: State,
    /// The other end has it.
    pub taken: bool,
    /// RTP packets of the client that have not arrived yet.
    pub media: u64,
    /// What the server has put in, and what came of it.
    pub frames: Frames,
    /// From the client.
    pub up: Pipe,
    /// To the client.
    pub down: Pipe,
    /// What the client has read of a frame, and TURN.
    client_read: Vec<u8>,
    turn_read: Vec<u8>,
    /// What TURN has to write.
    turn_queue: VecDeque<u8>,
    /// Frames of TURN that found no place.
    pub turn_full: u64,
}

impl Stream {
    /// A connection that is being made.
    #[must_use]
    pub fn new((who, leg): (usize, Leg), end: End, seed: u64) -> Self {
        Self {
            who,
            leg,
            end,
            state: State::Knocking,
            taken: false,
            media: 0,
            frames: Frames::default(),
            up: Pipe::new(CLIENT_UNSENT, seed),
            down: Pipe::new(SERVER_UNSENT, seed ^ 0x5555),
            client_read: Vec::new(),
            turn_read: Vec::new(),
            turn_queue: VecDeque::new(),
            turn_full: 0,
        }
    }

    /// It was answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Knocking
    }

    /// The server it goes to, if it is none of TURN.
    #[must_use]
    pub const fn server(&self) -> Option<usize> {
        match self.end {
            End::Server(server) => Some(server),
            End::Turn(..) => None,
        }
    }

    /// Segments sent more than once.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.up.repeated + self.down.repeated
    }

    /// When [`Self::drive`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ways = [self.up.poll_timeout(), self.down.poll_timeout()];
        ways.into_iter().flatten().min()
    }

    /// Something can be read at one end.
    #[must_use]
    pub const fn has_come(&self) -> bool {
        self.up.has_come() || self.down.has_come()
    }

    /// Lets both directions go on by their roads.
    pub fn drive(&mut self, up: &mut Link, down: &mut Link, now: Instant) {
        while !self.turn_queue.is_empty() {
            let count = self.down.write(self.turn_queue.as_slices().0);
            if count == 0 {
                break;
            }
            self.turn_queue.drain(..count);
        }
        self.up.drive(up, down, now);
        self.down.drive(down, up, now);
    }

    /// The client writes a datagram: as a whole or not at all.
    pub fn write(&mut self, datagram: &[u8]) -> bool {
        let framed = match self.end {
            End::Server(_) => {
                let head = (datagram.len() as u16).to_be_bytes();
                [&head[..], datagram].concat()
            }
            // TURN's messages tell their length themselves.
            End::Turn(..) => datagram.to_vec(),
        };
        let fits = framed.len() <= self.up.room();
        if fits {
            self.up.write(&framed);
        }
        fits
    }

    /// TURN writes a message: as a whole or not at all.
    pub fn write_turn(&mut self, message: &[u8]) {
        if self.turn_queue.len() + message.len() > TURN_QUEUE_BYTES {
            self.turn_full += 1;
        } else {
            self.turn_queue.extend(message);
        }
    }

    /// The frames that have come to the client.
    pub fn read(&mut self) -> Vec<Vec<u8>> {
        let came = self.down.read();
        self.client_read.extend(came);
        match self.end {
            End::Server(_) => cut(&mut self.client_read, |bytes| {
                let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
                let len = usize::from(u16::from_be_bytes(*head));
                (rest.len() >= len).then_some((HEAD..HEAD + len, HEAD + len))
            }),
            End::Turn(..) => cut(&mut self.client_read, |bytes| {
                let head = bytes.get(..4)?;
                let told = usize::from(u16::from_be_bytes([head[2], head[3]]));
                let len = if head[0] < 0x40 { 20 } else { 4 } + told;
                let taken = len.next_multiple_of(4);
                (bytes.len() >= taken).then_some((0..len, taken))
            }),
        }
    }

    /// The messages that have come to TURN; none any more from bytes that are no messages.
    pub fn read_turn(&mut self) -> Vec<Vec<u8>> {
        let came = self.up.read();
        self.turn_read.extend(came);
        cut(&mut self.turn_read, |bytes| match frame::next(bytes) {
            Frame::Whole { len, taken } => Some((0..len, taken)),
            Frame::Partial | Frame::Broken => None,
        })
    }
}

/// Takes out what is whole: where a message is at the front of the bytes, and how many it takes up.
fn cut(
    bytes: &mut Vec<u8>,
    front: impl Fn(&[u8]) -> Option<(std::ops::Range<usize>, usize)>,
) -> Vec<Vec<u8>> {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some((place, taken)) = front(&bytes[at..]) {
        messages.push(bytes[at..][place].to_vec());
        at += taken;
    }
    bytes.drain(..at);
    messages
}
