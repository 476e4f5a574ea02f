//! Connections out of TLS on their way to the TURN server, which waits on sockets of its own.
//!
//! Owns that way: a connection of this machine to itself for each, how much may be on it, and its end.
//! It is over as soon as either side is: TURN judges who may stay, and whoever it sends away must not stay
//! here. Called by `relay`.

use socket2::SockRef;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Tunnels at a time, of three descriptors and some 100 KiB each: as many as TURN has connections.
const MOST: usize = 4096;
/// What is carried at once: a record of TLS has no more. (RFC 8446 §5.1)
const PIECE_BYTES: usize = 16 * 1024;
/// What each socket on the way holds that is not under way yet. TURN drops media that waits too long, and
/// must see that it waits: beyond its own queue it would only grow old.
const UNSENT_BYTES: u32 = 16 * 1024;
/// Whoever takes no piece in so long is gone: a client counts as away after as long. It is what lies
/// between the end of TURN's side and that of a client who reads nothing.
const STALLED: Duration = Duration::from_secs(10);

/// The ways to TURN; cheap to clone.
#[derive(Clone)]
pub(super) struct Tunnels(Arc<Semaphore>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Tunnels {
    /// TURN's end of a way to this client; `None` if there are too many.
    ///
    /// # Errors
    /// The machine has no connection to itself.
    pub(super) async fn begin(
        &self,
        client: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> io::Result<Option<std::net::TcpStream>> {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            return Ok(None);
        };
        let (near, far) = to_itself().await?;
        tokio::spawn(async move {
            carry_both(client, near).await;
            drop(place);
        });
        far.into_std().map(Some)
    }
}

/// Lets a socket hold little of what is written to it.
pub(super) fn hold_little(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES)
}

/// Both ends of a connection of this process to itself.
async fn to_itself() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpSocket::new_v4()?;
    // Before it is connected, or it grows by itself all the same.
    near.set_recv_buffer_size(UNSENT_BYTES)?;
    let near = near.connect(listener.local_addr()?).await?;
    let (far, peer) = listener.accept().await?;
    // Somebody else on this machine may have been quicker.
    if peer != near.local_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    hold_little(&far)?;
    Ok((near, far))
}

/// Carries both ways until one of them is over, and says farewell to the client.
async fn carry_both(client: impl AsyncRead + AsyncWrite, mut near: TcpStream) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_turn, mut to_turn) = near.split();
    let ended = tokio::select! {
        ended = carry(&mut from_client, &mut to_turn) => ended,
        ended = carry(&mut from_turn, &mut to_client) => ended,
    };
    if ended.is_ok() {
        // Whoever has gone needs none.
        let _ = timeout(STALLED, to_client.shutdown()).await;
    }
}

/// Carries one way, until nothing more comes or a piece is not taken.
async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        let taken = async {
            to.write_all(&piece[..count]).await?;
            to.flush().await
        };
        timeout(STALLED, taken).await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    /// The client, TURN's end, and all places.
    async fn begun() -> (DuplexStream, TcpStream, Tunnels) {
        let tunnels = Tunnels::default();
        let (client, ours) = duplex(64);
        let far = tunnels.begin(ours).await.expect("a connection");
        let far = far.expect("a place");
        (client, TcpStream::from_std(far).expect("a stream"), tunnels)
    }

    impl Tunnels {
        async fn emptied(&self) {
            let all = u32::try_from(MOST).expect("few");
            let _all = self.0.acquire_many(all).await.expect("open");
        }
    }

    #[tokio::test]
    async fn what_is_sent_either_way_arrives() {
        let (mut client, mut far, _tunnels) = begun().await;
        client.write_all(b"question").await.expect("sent");
        let mut read = [0; 8];
        far.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"question");
        far.write_all(b"an answer").await.expect("sent");
        let mut read = [0; 9];
        client.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"an answer");
    }

    #[tokio::test]
    async fn whom_turn_sends_away_is_gone_though_he_says_nothing() {
        let (mut client, far, tunnels) = begun().await;
        drop(far);
        tunnels.emptied().await;
        assert_eq!(client.read(&mut [0; 1]).await.expect("farewell"), 0);
    }

    #[tokio::test]
    async fn turn_hears_of_a_client_that_goes() {
        let (client, mut far, tunnels) = begun().await;
        drop(client);
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = far.read_to_end(&mut rest).await;
        tunnels.emptied().await;
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_gone_in_time_after_turn_has_gone() {
        let (client, mut far, tunnels) = begun().await;
        far.write_all(&[0; 1000]).await.expect("sent");
        drop(far);
        // Time runs to the next timer whenever nobody has anything to do.
        tokio::time::pause();
        tunnels.emptied().await;
        drop(client);
    }

    #[tokio::test]
    async fn little_waits_on_the_way_to_a_client_that_takes_nothing() {
        let (_client, mut far, _tunnels) = begun().await;
        tokio::time::pause();
        let mut written = 0;
        // Time runs to the next timer whenever nobody has anything to do.
        while let Ok(wrote) = timeout(Duration::from_secs(1), far.write(&[0; 1000])).await {
            written += wrote.expect("open");
        }
        assert!(written < 128 * 1024, "{written}");
    }

    #[tokio::test]
    async fn there_are_only_so_many() {
        let tunnels = Tunnels::default();
        let all = u32::try_from(MOST).expect("few");
        let all = tunnels.0.acquire_many(all).await.expect("open");
        let one = tunnels.begin(duplex(1).1).await.expect("no error");
        assert!(one.is_none());
        drop(all);
        let one = tunnels.begin(duplex(1).1).await.expect("no error");
        assert!(one.is_some());
    }
}
