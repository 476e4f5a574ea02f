//! A homeserver: it answers what a test lets it answer, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Nothing that is waited for takes longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) host: String,
    pub(crate) path: String,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A header's value; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    }
}

/// What it answers.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Status, more header lines, body.
    Says(u16, String, String),
    /// Nothing, ever.
    Nothing,
}

impl Reply {
    /// 200 with this body.
    pub(crate) fn body(text: &str) -> Self {
        Self::Says(200, String::new(), text.to_owned())
    }

    /// The token is this user's.
    pub(crate) fn user(user: &str) -> Self {
        Self::body(&format!(r#"{{"sub":"{user}"}}"#))
    }
}

/// A running server.
pub(crate) struct Homeserver {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Told when a request has come.
    pub(crate) was_asked: Arc<Notify>,
}

impl Homeserver {
    /// With TLS, or without.
    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let was_asked = Arc::<Notify>::default();
        let (seen, told, reply) = (Arc::clone(&asked), Arc::clone(&was_asked), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, told, reply) =
                    (Arc::clone(&seen), Arc::clone(&told), Arc::clone(&reply));
                let tls = tls.clone();
                tokio::spawn(async move {
                    let answer = move |asked: Asked| {
                        let reply = reply(&asked);
                        seen.lock().expect("not poisoned").push(asked);
                        told.notify_one();
                        reply
                    };
                    match tls {
                        None => serve(stream, answer).await,
                        // A client that does not like the certificate ends it here.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            asked,
            was_asked,
        }
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// Waits until there are so many; all so far.
    pub(crate) async fn until_asked(&self, count: usize) -> Vec<Asked> {
        let all = async {
            while self.asked().len() < count {
                self.was_asked.notified().await;
            }
        };
        timeout(PATIENCE, all).await.expect("it is asked in time");
        self.asked()
    }

    /// The hosts that these named.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.host).collect()
    }
}

async fn serve<S>(mut stream: S, answer: impl FnOnce(Asked) -> Reply)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked = Asked {
        host: String::new(),
        path,
        head,
        body: Vec::new(),
    };
    asked.host = asked.header("host").to_owned();
    asked.body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    if stream.read_exact(&mut asked.body).await.is_err() {
        return;
    }
    match answer(asked) {
        Reply::Nothing => std::future::pending().await,
        Reply::Says(status, headers, body) => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            // The client may have had enough.
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}
