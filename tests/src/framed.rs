//! A road on which a client's UDP goes on over TCP: its datagrams in frames of two bytes of length
//! (RFC 4571), on one connection for each of its sockets, as ICE-TCP has it.
//!
//! A reading of its own of both: nothing is the server's.

use crate::server::Server;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Larger than any datagram of a call.
const DATAGRAM_BYTES: usize = 2048;
/// What the kernel keeps of what the client does not read: little, so that it is soon full.
const UNREAD_BYTES: u32 = 4096;

/// What the road is like now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// So many times all connections were broken.
    cuts: usize,
    /// Nothing is read of what the server sends.
    deaf: bool,
}

/// The road, open until dropped.
#[derive(Debug)]
pub struct Framed {
    /// Where the client sends instead of to the server.
    pub at: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Framed {
    /// Opens a road to a server.
    pub async fn open(server: &Server) -> Self {
        Self::lead(Ipv4Addr::LOCALHOST, server.tcp).await
    }

    /// Opens a road that goes on from this address to whoever takes media over TCP there.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn lead(from: Ipv4Addr, to: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let near = Arc::new(near.expect("a free port"));
        let at = near.local_addr().expect("a bound socket");
        let state = watch::Sender::new(State::default());
        let task = tokio::spawn(carry(near, (from, to), state.subscribe()));
        Self { at, state, task }
    }

    /// Breaks all connections. New ones follow with the client's next checks.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// From now on, reads nothing of what the server sends, or does again.
    pub fn be_deaf(&self, deaf: bool) {
        self.state.send_modify(|state| state.deaf = deaf);
    }
}

impl Drop for Framed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    near: Arc<UdpSocket>,
    ends: (Ipv4Addr, SocketAddr),
    mut state: watch::Receiver<State>,
) {
    let mut connections: HashMap<SocketAddr, OwnedWriteHalf> = HashMap::new();
    let mut readers = JoinSet::new();
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut cuts = 0;
    loop {
        let (size, client) = tokio::select! {
            Ok(received) = near.recv_from(&mut datagram) => received,
            Ok(()) = state.changed() => {
                if std::mem::replace(&mut cuts, state.borrow().cuts) < cuts {
                    readers.abort_all();
                    connections.clear();
                }
                continue;
            }
            else => return,
        };
        let datagram = &datagram[..size];
        // A connection begins with a check; what comes before one is lost.
        if !connections.contains_key(&client) && datagram[0] < 4 {
            let Ok(stream) = connect(ends).await else {
                continue;
            };
            let (reader, writer) = stream.into_split();
            connections.insert(client, writer);
            let near = Arc::clone(&near);
            readers.spawn(read(reader, near, client, state.clone()));
        }
        if let Some(writer) = connections.get_mut(&client) {
            let mut frame = (size as u16).to_be_bytes().to_vec();
            frame.extend(datagram);
            if writer.write_all(&frame).await.is_err() {
                connections.remove(&client);
            }
        }
    }
}

async fn connect((from, to): (Ipv4Addr, SocketAddr)) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.set_recv_buffer_size(UNREAD_BYTES)?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn read(
    mut from: tokio::net::tcp::OwnedReadHalf,
    near: Arc<UdpSocket>,
    client: SocketAddr,
    mut state: watch::Receiver<State>,
) {
    let mut body = [0; DATAGRAM_BYTES];
    loop {
        if state.wait_for(|state| !state.deaf).await.is_err() {
            return;
        }
        let Ok(len) = from.read_u16().await else {
            return;
        };
        let body = &mut body[..usize::from(len)];
        if from.read_exact(body).await.is_err() {
            return;
        }
        // One that cannot be sent is lost, as on any road.
        let _ = near.send_to(body, client).await;
    }
}
