//! Connections handed from the port that took them to whoever speaks their protocol.
//!
//! Owns what is handed over and the queues to those who take it. It reads nothing of a connection and
//! serves none. `server` hands over; a TURN server and media over TCP take.

use crate::certificates::Secured;
use bytes::{Buf as _, Bytes};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Connections that wait to be taken, for each taker: it is woken at once and only has to put them away.
pub const DEPTH: usize = 256;

/// A connection, of which nothing is lost.
#[derive(Debug)]
pub struct Handed {
    /// The connection.
    pub stream: Carried,
    /// The client: what a trusted proxy said, else the socket's.
    pub remote: SocketAddr,
    /// Where the client connected to, told likewise. Behind a proxy it may be no address of this machine.
    pub local: SocketAddr,
}

/// How it comes.
#[derive(Debug)]
pub enum Carried {
    /// As it was accepted: its first byte is still in the socket, for whoever takes it (with
    /// `into_std`, if it is to be watched otherwise).
    Plain(TcpStream),
    /// Taken out of TLS; what was read already comes first.
    Decrypted(Box<Begun<Secured>>),
}

/// Who may take connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A TURN server: STUN without frames. (RFC 8656 §3.1)
    Turn,
    /// Media over TCP: frames of RFC 4571, STUN in the first. (RFC 6544)
    Media,
}

/// Why nobody takes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// There is nobody to take it.
    Unclaimed,
    /// Too many wait.
    Full,
}

/// The queues to those who take connections.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// To the TURN server.
    pub turn: Option<mpsc::Sender<Handed>>,
    /// To media.
    pub media: Option<mpsc::Sender<Handed>>,
}

/// A queue to somebody who takes connections.
#[must_use]
pub fn queue() -> (mpsc::Sender<Handed>, mpsc::Receiver<Handed>) {
    mpsc::channel(DEPTH)
}

impl Doors {
    /// Hands it over without waiting.
    ///
    /// # Errors
    /// Nobody takes it, and it is closed.
    pub fn hand(&self, door: Door, handed: Handed) -> Result<(), Unwanted> {
        let queue = match door {
            Door::Turn => &self.turn,
            Door::Media => &self.media,
        };
        let sent = queue.as_ref().ok_or(Unwanted::Unclaimed)?.try_send(handed);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => Unwanted::Full,
            TrySendError::Closed(_) => Unwanted::Unclaimed,
        })
    }
}

/// A stream of which the first bytes were read to see what it is: they are read once more.
#[derive(Debug)]
pub struct Begun<S> {
    first: Bytes,
    stream: S,
}

impl<S> Begun<S> {
    /// `first` was read of `stream`.
    pub const fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }

    /// The stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The bytes that were read, as far as they were not read again, and the stream after them.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.first, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_was_read_is_read_again_before_what_follows() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut begun = Begun::new(Bytes::from_static(b"abc"), near);
        far.write_all(b"def").await.expect("written");
        let mut two = [0; 2];
        begun.read_exact(&mut two).await.expect("read");
        assert_eq!(&two, b"ab");
        begun.write_all(b"xyz").await.expect("written");
        let mut four = [0; 4];
        begun.read_exact(&mut four).await.expect("read");
        assert_eq!(&four, b"cdef");
        let mut answer = [0; 3];
        far.read_exact(&mut answer).await.expect("read");
        assert_eq!(&answer, b"xyz");
    }

    #[tokio::test]
    async fn a_connection_that_nobody_takes_is_told_from_one_too_many() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("an address");
        let one = || async {
            let stream = TcpStream::connect(at).await.expect("connected");
            Handed {
                stream: Carried::Plain(stream),
                remote: at,
                local: at,
            }
        };
        let mut doors = Doors::default();
        let refused = doors.hand(Door::Turn, one().await);
        assert_eq!(refused, Err(Unwanted::Unclaimed));
        let (queue, taker) = mpsc::channel(1);
        doors.turn = Some(queue);
        assert_eq!(doors.hand(Door::Turn, one().await), Ok(()));
        assert_eq!(doors.hand(Door::Turn, one().await), Err(Unwanted::Full));
        assert_eq!(
            doors.hand(Door::Media, one().await),
            Err(Unwanted::Unclaimed)
        );
        drop(taker);
        let refused = doors.hand(Door::Turn, one().await);
        assert_eq!(refused, Err(Unwanted::Unclaimed));
    }
}
