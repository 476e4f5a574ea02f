//! A homeserver: it answers what a test lets it answer, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) host: String,
    pub(crate) path: String,
    /// The header of this name; empty without one.
    pub(crate) authorization: String,
    pub(crate) body: String,
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
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let asked = Asked {
        host: header("host"),
        path,
        authorization: header("authorization"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
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
