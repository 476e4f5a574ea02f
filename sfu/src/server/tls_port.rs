//! The port that tells by their first bytes what connections are, and sees each to whoever serves it.
//!
//! Owns that way: a proxy's header, the look at the beginning, the handshake of TLS and the look at what
//! is in it, each with its time and its place among those that are half open. HTTP is served as on the
//! main port; TURN and media over TCP are handed over. What a beginning is decides `greeting`.

use super::beginning::{self, Ends, Unread};
use super::half_open::HalfOpen;
use super::listen::{Acceptor, HEADERS_WITHIN, Port};
use crate::certificates::{Certificates, Secured, is_challenge, is_turn};
use crate::crowd::is_public;
use crate::greeting::{self, Kind, MOST_BYTES, Reading, proxy};
use crate::handover::{Begun, Carried, Door, Doors, Handed, Unwanted};
use crate::http::connection::Place;
use crate::metrics::Metrics;
use axum::Router;
use bytes::{Bytes, BytesMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

/// From accepting a connection to the end of its handshake: several round trips of a bad road, and of a
/// client that sends a byte a second no more.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// The port; shared by its listeners.
pub(super) struct TlsPort {
    /// What is served to those who speak HTTP in TLS.
    pub(super) port: Port,
    /// What plain HTTP is answered.
    pub(super) plain: Router,
    /// Whom the handshakes show.
    pub(super) certificates: Certificates,
    /// Who takes what is not HTTP.
    pub(super) doors: Doors,
    /// TLS has ended before: what is plain is served.
    pub(super) external: bool,
    /// Counters.
    pub(super) metrics: Metrics,
}

/// A connection that is not known yet.
struct Opening {
    stream: TcpStream,
    ends: Ends,
    /// The trusted proxy by which it came, whose header has been read.
    by: Option<IpAddr>,
    place: Place,
}

/// One that is known as far as its first bytes tell.
enum Opened {
    Secured(Box<Secured>),
    Plain(TcpStream),
    Other(Door, TcpStream),
}

/// What became of a connection, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Https,
    PlainHttp,
    Turn,
    Media,
    Limited,
    BadProxyHeader,
    Malformed,
    Handshake,
    TimedOut,
    Closed,
    Unclaimed,
    Challenge,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::PlainHttp => "plain_http",
            Self::Turn => "turn",
            Self::Media => "media",
            Self::Limited => "limited",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::Malformed => "malformed",
            Self::Handshake => "handshake",
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::Unclaimed => "unclaimed",
            Self::Challenge => "challenge",
        }
    }
}

impl From<&Unread> for Outcome {
    fn from(unread: &Unread) -> Self {
        match unread {
            Unread::Malformed => Self::Malformed,
            Unread::Untrusted => Self::BadProxyHeader,
            Unread::Closed(_) => Self::Closed,
        }
    }
}

/// Serves the port on each of them until it is told to stop; connections that are still half open then
/// are closed.
pub(super) fn spawn(listeners: Vec<TcpListener>, tls: TlsPort) -> Vec<JoinHandle<()>> {
    let tls = Arc::new(tls);
    let each = listeners.into_iter().map(|listener| {
        let tls = Arc::clone(&tls);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, &tls) => {}
                () = tls.port.stopping.begun() => {}
            }
        })
    });
    each.collect()
}

/// The steps of those that are half open. A proxy's connection counts for nobody until its header has
/// named the client.
#[derive(Default)]
struct Steps {
    running: JoinSet<Option<Opening>>,
    half_open: HalfOpen,
}

async fn accept(listener: TcpListener, tls: &Arc<TlsPort>) {
    let mut steps = Steps::default();
    let mut acceptor = Acceptor::new(listener);
    loop {
        tokio::select! {
            arrived = acceptor.next(&tls.port) => {
                let Some((stream, peer, place)) = arrived else { return };
                steps.handle_arrival(stream, peer, place, tls);
            }
            Some(ended) = steps.running.join_next_with_id() => match ended {
                Ok((id, step)) => steps.handle_end(id, step, tls),
                // It panicked or was sent away, and is over all the same.
                Err(error) => steps.handle_end(error.id(), None, tls),
            },
        }
    }
}

impl Steps {
    fn handle_arrival(
        &mut self,
        mut stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        tls: &Arc<TlsPort>,
    ) {
        let Ok(local) = stream.local_addr() else {
            return tls.count(Outcome::Closed);
        };
        if !beginning::is_trusted(peer, &tls.port.trusted_proxies.borrow()) {
            let remote = peer;
            let ends = Ends { remote, local };
            return self.handle_opening(
                Opening {
                    stream,
                    ends,
                    by: None,
                    place,
                },
                tls,
            );
        }
        let begun = Arc::clone(tls);
        let step = self.running.spawn(async move {
            let tls = begun;
            let trusted = tls.port.trusted_proxies.borrow().clone();
            let named = timeout(OPEN_WITHIN, beginning::ends(&mut stream, peer, &trusted)).await;
            match named {
                Ok(Ok(ends)) => {
                    return Some(Opening {
                        stream,
                        ends,
                        by: Some(peer.ip()),
                        place,
                    });
                }
                Ok(Err(Unread::Closed(_))) => tls.count(Outcome::Closed),
                Ok(Err(Unread::Malformed | Unread::Untrusted)) => {
                    tls.count(Outcome::BadProxyHeader);
                }
                Err(_) => tls.count(Outcome::TimedOut),
            }
            None
        });
        self.handle_step(step, None, tls);
    }

    /// A connection whose client is known: from here on it counts for its network.
    fn handle_opening(&mut self, opening: Opening, tls: &Arc<TlsPort>) {
        if !tls.port.admit(opening.ends.remote, &opening.place) {
            return tls.count(Outcome::Limited);
        }
        // A NAT of ours may be at a private address, and behind it everybody.
        let client = tls.port.counted(opening.ends.remote);
        let client = client.filter(|ip| is_public(*ip));
        let begun = Arc::clone(tls);
        let step = self.running.spawn(async move {
            begun.open(opening).await;
            None
        });
        self.handle_step(step, client, tls);
    }

    fn handle_step(&mut self, step: AbortHandle, client: Option<IpAddr>, tls: &TlsPort) {
        if let Some(limit) = self.half_open.insert(step, client) {
            tls.metrics.limit_reached(limit);
            tls.count(Outcome::Limited);
        }
    }

    fn handle_end(&mut self, id: Id, step: Option<Opening>, tls: &Arc<TlsPort>) {
        self.half_open.remove(id);
        if let Some(opening) = step {
            self.handle_opening(opening, tls);
        }
    }
}

impl TlsPort {
    fn count(&self, outcome: Outcome) {
        self.metrics.tls_port_connection(outcome.label());
    }

    /// Finds out what a connection is, and lets it be served by a task of its own.
    async fn open(self: Arc<Self>, opening: Opening) {
        let Opening {
            stream,
            ends,
            by,
            place,
        } = opening;
        // Neither hands that are shaken nor messages of signalling wait for more to send.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + OPEN_WITHIN;
        let kind = timeout_at(deadline, looked_at(&stream)).await;
        let opened = match kind.unwrap_or(Err(Outcome::TimedOut)) {
            Ok(kind) => {
                let opened = timeout_at(deadline, self.opened(kind, stream)).await;
                opened.unwrap_or(Err(Outcome::TimedOut))
            }
            // The stream is kept until this is counted: whoever sees its end may look whether it is.
            Err(outcome) => Err(outcome),
        };
        match opened {
            Ok(opened) => {
                tokio::spawn(self.serve(opened, ends, place));
            }
            Err(outcome) => self.handle_failure(outcome, by, ends),
        }
    }

    fn handle_failure(&self, outcome: Outcome, by: Option<IpAddr>, ends: Ends) {
        match (outcome, by) {
            (Outcome::BadProxyHeader, Some(proxy)) => self.port.mistakes.second_header_of(proxy),
            (Outcome::BadProxyHeader, None) => self.port.mistakes.header_of(ends.remote.ip()),
            (Outcome::TimedOut, _) => {
                tracing::debug!(remote = %ends.remote, "connection says nothing");
            }
            _ => {}
        }
        self.count(outcome);
    }

    async fn opened(&self, kind: Kind, stream: TcpStream) -> Result<Opened, Outcome> {
        match kind {
            Kind::Tls(hello) => match self.certificates.accept(stream).await {
                Ok(secured) => Ok(Opened::Secured(Box::new(secured))),
                Err(error) => {
                    tracing::debug!(host = hello.host, %error, "no handshake");
                    Err(Outcome::Handshake)
                }
            },
            Kind::Http => Ok(Opened::Plain(stream)),
            Kind::Stun => Ok(Opened::Other(Door::Turn, stream)),
            Kind::FramedStun => Ok(Opened::Other(Door::Media, stream)),
        }
    }

    async fn serve(self: Arc<Self>, opened: Opened, ends: Ends, place: Place) {
        match opened {
            Opened::Secured(secured) => self.serve_secured(*secured, ends, place).await,
            Opened::Plain(stream) => {
                self.count(Outcome::PlainHttp);
                let router = if self.external {
                    &self.port.router
                } else {
                    &self.plain
                };
                self.port.serve(stream, router, ends.remote, place).await;
            }
            Opened::Other(door, stream) => self.hand(door, Carried::Plain(stream), ends),
        }
    }

    /// What is in TLS: TURN if the client said so or speaks it, else HTTP.
    async fn serve_secured(&self, mut stream: Secured, ends: Ends, place: Place) {
        if is_turn(&stream) {
            let begun = Begun::new(Bytes::new(), stream);
            return self.hand(Door::Turn, Carried::Decrypted(Box::new(begun)), ends);
        }
        if is_challenge(&stream) {
            self.count(Outcome::Challenge);
            return farewell(stream).await;
        }
        let beginning = tokio::select! {
            read = timeout(HEADERS_WITHIN, secured_beginning(&mut stream)) => read,
            () = self.port.stopping.begun() => return self.count(Outcome::Closed),
        };
        match beginning {
            Ok(Ok((Kind::Http, first))) => {
                self.count(Outcome::Https);
                let stream = Begun::new(first, stream);
                let router = &self.port.router;
                self.port.serve(stream, router, ends.remote, place).await;
            }
            Ok(Ok((Kind::Stun, first))) => {
                let begun = Begun::new(first, stream);
                self.hand(Door::Turn, Carried::Decrypted(Box::new(begun)), ends);
            }
            other => {
                self.count(match other {
                    Ok(Ok(_)) => Outcome::Malformed,
                    Ok(Err(unread)) => Outcome::from(&unread),
                    Err(_) => Outcome::TimedOut,
                });
                farewell(stream).await;
            }
        }
    }

    fn hand(&self, door: Door, stream: Carried, ends: Ends) {
        let Ends { remote, local } = ends;
        let handed = Handed {
            stream,
            remote,
            local,
        };
        self.count(match (self.doors.hand(door, handed), door) {
            (Ok(()), Door::Turn) => Outcome::Turn,
            (Ok(()), Door::Media) => Outcome::Media,
            (Err(Unwanted::Unclaimed), _) => Outcome::Unclaimed,
            (Err(Unwanted::Full), _) => {
                self.metrics.limit_reached("handed_over");
                Outcome::Limited
            }
        });
    }
}

/// What a connection is, which stays the caller's.
async fn looked_at(stream: &TcpStream) -> Result<Kind, Outcome> {
    let kind = beginning::look(stream, after_no_header).await;
    let kind = kind.map_err(|unread| Outcome::from(&unread))?;
    kind.ok_or(Outcome::BadProxyHeader)
}

/// What a connection is; `None` of one that begins with a header of a proxy, of which none is believed any
/// more.
fn after_no_header(bytes: &[u8]) -> Reading<Option<Kind>> {
    match proxy::read(bytes) {
        Reading::More => Reading::More,
        Reading::Is(Some(_)) | Reading::Malformed => Reading::Is(None),
        Reading::Is(None) => match greeting::kind(bytes) {
            Reading::More => Reading::More,
            Reading::Is(kind) => Reading::Is(Some(kind)),
            Reading::Malformed => Reading::Malformed,
        },
    }
}

/// Ends TLS in due form.
async fn farewell(mut stream: Secured) {
    // Whoever has gone needs none.
    let _ = timeout(OPEN_WITHIN, stream.shutdown()).await;
}

/// What begins in TLS, and the bytes that told it.
async fn secured_beginning(stream: &mut Secured) -> Result<(Kind, Bytes), Unread> {
    let mut first = BytesMut::new();
    while first.len() < MOST_BYTES {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        match greeting::kind(&first) {
            Reading::Is(kind) => return Ok((kind, first.freeze())),
            Reading::Malformed => break,
            Reading::More => {}
        }
    }
    Err(Unread::Malformed)
}

#[cfg(test)]
mod tests;
