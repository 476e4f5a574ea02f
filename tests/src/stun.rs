//! A STUN server that says what a test wants it to say, or nothing; and a client that asks one over a stream.
//! (RFC 8489)

use crate::server::PATIENCE;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use turn::message::Message;
use turn::message::attribute::XOR_MAPPED_ADDRESS;

/// A STUN binding request. (RFC 8489 §6)
pub const BINDING: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];

/// The magic cookie. (RFC 8489 §5)
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// What it says where somebody is.
#[derive(Debug, Clone, Copy)]
enum Says {
    Nothing,
    At(Ipv4Addr),
    Truth,
}

impl From<Option<Ipv4Addr>> for Says {
    fn from(ip: Option<Ipv4Addr>) -> Self {
        ip.map_or(Self::Nothing, Self::At)
    }
}

/// The server, there until dropped.
#[derive(Debug)]
pub struct Stun {
    /// Where it is asked.
    pub at: SocketAddr,
    says: watch::Sender<Says>,
    asked: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Stun {
    /// A server that says that everybody is at this address; `None`: it says nothing.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn open(says: Option<Ipv4Addr>) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST, says.into()).await
    }

    /// One at this address that says how it sees who asks.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn open_truthful(ip: Ipv4Addr) -> Self {
        Self::listen(ip, Says::Truth).await
    }

    async fn listen(ip: Ipv4Addr, says: Says) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await;
        let socket = socket.expect("a free port");
        let at = socket.local_addr().expect("a bound socket");
        let (count, asked) = watch::channel(0);
        let says = watch::Sender::new(says);
        let task = tokio::spawn(serve(socket, says.subscribe(), count));
        Self {
            at,
            says,
            asked,
            task,
        }
    }

    /// Says something else from now on.
    pub fn say(&self, ip: Option<Ipv4Addr>) {
        self.says.send_replace(ip.into());
    }

    /// How often it was asked so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        *self.asked.borrow()
    }
}

impl Drop for Stun {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, says: watch::Receiver<Says>, count: watch::Sender<usize>) {
    let mut message = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut message).await {
        count.send_modify(|count| *count += 1);
        let says = match (*says.borrow(), from.ip()) {
            (Says::At(ip), _) | (Says::Truth, IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        if let (Some(ip), Some(request)) = (says, message[..len].first_chunk::<20>()) {
            // Whoever does not hear it asks again.
            let _ = socket
                .send_to(&answer(request, ip, from.port()), from)
                .await;
        }
    }
}

/// A success response with an XOR-MAPPED-ADDRESS. (RFC 8489 §14.2)
fn answer(request: &[u8; 20], ip: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut answer = vec![1, 1, 0, 12];
    answer.extend(&request[4..20]);
    answer.extend([0, 0x20, 0, 8, 0, 1]);
    let clear = port.to_be_bytes().into_iter().chain(ip.octets());
    let mask = COOKIE[..2].iter().chain(&COOKIE);
    answer.extend(clear.zip(mask).map(|(byte, mask)| byte ^ mask));
    answer
}

/// Where a STUN server says that we are.
///
/// # Panics
/// When it says nothing.
pub async fn mapped(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> SocketAddr {
    stream.write_all(&BINDING).await.expect("sent");
    let mut answer = vec![0; 20];
    let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
    read.expect("in time").expect("an answer");
    let rest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    answer.resize(20 + rest, 0);
    let read = timeout(PATIENCE, stream.read_exact(&mut answer[20..])).await;
    read.expect("in time").expect("the whole of it");
    let message = Message::parse(&answer).expect("a message");
    message.address(XOR_MAPPED_ADDRESS).expect("an address")
}
