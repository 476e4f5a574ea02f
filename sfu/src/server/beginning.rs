//! The first bytes of a connection, looked at in its socket.
//!
//! Owns the looking: nothing is taken out but a proxy's header, so that whoever serves the connection
//! finds it whole. What bytes mean is `greeting`'s part. The caller limits the time.

use crate::config::cidr::Cidr;
use crate::greeting::{MOST_BYTES, Reading, proxy};
use rustix::net::{RecvFlags, recv};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;

/// Bytes looked at first: most beginnings are shorter.
const FIRST_LOOK: usize = 2048;

/// Why a beginning says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is none that is known.
    #[error("unknown beginning")]
    Malformed,
    /// It is the header of a proxy that nobody trusts.
    #[error("PROXY header that is not believed")]
    Untrusted,
    /// The connection is over before.
    #[error("closed: {0}")]
    Closed(#[from] io::Error),
}

/// The two ends of a connection, as far as they can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The client.
    pub(super) remote: SocketAddr,
    /// What it connected to.
    pub(super) local: SocketAddr,
}

/// Looks at the beginning until `read` can tell what it is.
pub(super) async fn look<T>(
    stream: &TcpStream,
    read: impl Fn(&[u8]) -> Reading<T>,
) -> Result<T, Unread> {
    let mut bytes = vec![0; FIRST_LOOK];
    let mut seen = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            let (count, _) = recv(stream, &mut bytes[..], RecvFlags::PEEK)?;
            // What was seen before stays in the socket: only more of it is something new.
            if count > seen {
                Ok(count)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        match looked {
            Ok(count) => seen = count,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if ready.is_read_closed() => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Err(_) => continue,
        }
        match read(&bytes[..seen]) {
            Reading::Is(what) => return Ok(what),
            Reading::Malformed => return Err(Unread::Malformed),
            Reading::More if seen == MOST_BYTES => return Err(Unread::Malformed),
            Reading::More if seen == bytes.len() => bytes.resize(MOST_BYTES, 0),
            Reading::More => {}
        }
    }
}

/// Is `peer` a proxy whose word is believed?
pub(super) fn is_trusted(peer: SocketAddr, trusted: &[Cidr]) -> bool {
    let ip = peer.ip().to_canonical();
    trusted.iter().any(|block| block.contains(ip))
}

/// The ends of a connection: of a trusted proxy's, those that its header tells, which is taken out.
pub(super) async fn ends(
    stream: &mut TcpStream,
    peer: SocketAddr,
    trusted: &[Cidr],
) -> Result<Ends, Unread> {
    let own = Ends {
        remote: peer,
        local: stream.local_addr()?,
    };
    let trusts = is_trusted(peer, trusted);
    let header = match look(stream, proxy::read).await {
        Ok(None) => return Ok(own),
        Ok(Some(_)) | Err(Unread::Malformed) if !trusts => return Err(Unread::Untrusted),
        Ok(Some(header)) => header,
        Err(error) => return Err(error),
    };
    let mut taken = vec![0; header.length];
    stream.read_exact(&mut taken).await?;
    let told = header
        .addresses
        .map(|(remote, local)| Ends { remote, local });
    Ok(told.unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::greeting;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    async fn both() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("an address");
        let (far, near) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (near, peer) = near.expect("accepted");
        (far.expect("connected"), near, peer)
    }

    #[tokio::test]
    async fn a_beginning_in_pieces_is_waited_for_and_stays_in_the_socket() {
        let (mut far, mut near, _) = both().await;
        let looked = tokio::spawn(async move {
            let kind = look(&near, greeting::kind).await.expect("told");
            let mut text = [0; 5];
            near.read_exact(&mut text).await.expect("still there");
            (kind, text)
        });
        for byte in b"GET /" {
            far.write_all(&[*byte]).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let told = looked.await.expect("ended");
        assert_eq!(told, (greeting::Kind::Http, *b"GET /"));
    }

    #[tokio::test]
    async fn a_beginning_that_ends_or_never_says_anything_is_given_up() {
        let (mut far, near, _) = both().await;
        far.write_all(b"GE").await.expect("sent");
        drop(far);
        let over = look(&near, greeting::kind).await;
        assert!(matches!(over, Err(Unread::Closed(_))), "{over:?}");
        let (mut far, near, _) = both().await;
        let talk = tokio::spawn(async move {
            // It ends when the other side has heard enough.
            while far.write_all(&[7; 4096]).await.is_ok() {}
        });
        let mute = look(&near, |_| Reading::<()>::More).await;
        assert!(matches!(mute, Err(Unread::Malformed)), "{mute:?}");
        drop(near);
        talk.await.expect("ended");
    }

    #[tokio::test]
    async fn a_header_is_taken_out_and_believed_of_a_trusted_proxy_only() {
        let header = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /";
        let trusted: [Cidr; 1] = ["127.0.0.0/8".parse().expect("a block")];
        let (mut far, mut near, peer) = both().await;
        far.write_all(header).await.expect("sent");
        let told = ends(&mut near, peer, &trusted).await.expect("told");
        assert_eq!(told.remote.to_string(), "192.0.2.1:56324");
        let mut text = [0; 4];
        near.read_exact(&mut text).await.expect("there");
        assert_eq!(&text, b"GET ");
        for header in [&header[..], b"PROXY nonsense\r\n"] {
            let (mut far, mut near, peer) = both().await;
            far.write_all(header).await.expect("sent");
            let told = ends(&mut near, peer, &[]).await;
            assert!(matches!(told, Err(Unread::Untrusted)), "{told:?}");
        }
        let (mut far, mut near, peer) = both().await;
        far.write_all(b"PUT /").await.expect("sent");
        let told = ends(&mut near, peer, &[]).await.expect("told");
        assert_eq!(told.remote, peer);
    }
}
