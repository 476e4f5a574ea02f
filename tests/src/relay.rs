//! A UDP road with losses between one client and the server: a bad network, on purpose and counted.

use crate::server::Server;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Larger than any datagram of a call.
const DATAGRAM_BYTES: usize = 2048;

/// Which media packets are lost: each so-manieth; 0 is none. Nothing but media is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loss {
    /// From the client to the server.
    pub up: usize,
    /// From the server to the client.
    pub down: usize,
}

/// The road, open until dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where the client sends instead of to the server.
    pub at: SocketAddr,
    lost: Arc<AtomicUsize>,
    choked: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Opens a road to a server.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn open(server: &Server, loss: Loss) -> Self {
        let local = (Ipv4Addr::LOCALHOST, 0);
        let near = UdpSocket::bind(local).await.expect("a free port");
        let far = UdpSocket::bind(local).await.expect("a free port");
        far.connect(server.udp).await.expect("a local address");
        let at = near.local_addr().expect("a bound socket");
        let lost = Arc::new(AtomicUsize::new(0));
        let choked = Arc::new(AtomicBool::new(false));
        let road = (near, far);
        let task = tokio::spawn(carry(road, loss, Arc::clone(&lost), Arc::clone(&choked)));
        Self {
            at,
            lost,
            choked,
            task,
        }
    }

    /// From now on no data reaches the client. Media and checks do: its connection lives.
    pub fn choke(&self) {
        self.choked.store(true, Ordering::Relaxed);
    }

    /// How many packets were lost so far.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    (near, far): (UdpSocket, UdpSocket),
    loss: Loss,
    lost: Arc<AtomicUsize>,
    choked: Arc<AtomicBool>,
) {
    let (mut up, mut down) = ([0; DATAGRAM_BYTES], [0; DATAGRAM_BYTES]);
    let (mut ups, mut downs) = (0, 0);
    let mut client = None;
    let falls = |datagram: &[u8], count: &mut usize, each: usize| {
        *count += usize::from(is_media(datagram));
        let falls = is_media(datagram) && each > 0 && count.is_multiple_of(each);
        lost.fetch_add(usize::from(falls), Ordering::Relaxed);
        falls
    };
    // A datagram that cannot be sent is one more that is lost, as on any road.
    loop {
        tokio::select! {
            Ok((size, from)) = near.recv_from(&mut up) => {
                client = Some(from);
                if !falls(&up[..size], &mut ups, loss.up) {
                    let _ = far.send(&up[..size]).await;
                }
            }
            Ok(size) = far.recv(&mut down) => {
                if let Some(client) = client
                    && !falls(&down[..size], &mut downs, loss.down)
                    && !(choked.load(Ordering::Relaxed) && is_data(&down[..size]))
                {
                    let _ = near.send_to(&down[..size], client).await;
                }
            }
            else => break,
        }
    }
}

/// DTLS application data (RFC 5246 §6.2.1).
fn is_data(datagram: &[u8]) -> bool {
    datagram.first() == Some(&23)
}

/// SRTP but not SRTCP (RFC 5761 §4, RFC 7983 §7).
fn is_media(datagram: &[u8]) -> bool {
    match datagram {
        [first, second, ..] => (128..192).contains(first) && !(64..96).contains(&(second & 0x7f)),
        _ => false,
    }
}

#[test]
fn media_is_told_from_the_rest() {
    assert!(is_media(&[0x80, 96, 0, 1]) && is_media(&[0x90, 0x80 | 111, 0, 1]));
    for other in [
        &[0x80, 200, 0, 1][..],
        &[0x81, 205],
        &[0, 1],
        &[22, 254],
        &[0x80],
    ] {
        assert!(!is_media(other), "{other:?}");
    }
}
