//! Takes connections on `rtc.tcp_port` and hands each to the worker of the peer it is for.
//!
//! Owns who may knock, and how often and how long: the port is open to everybody. A connection says
//! with its first frame for whom it is; it is handed on, frame and all, and what it says is judged
//! there. It never answers. Runs on the control runtime, for no packet of a call passes it.

use super::placement::Workers;
use super::tcp::Accepted;
use crate::config::faults::Point;
use crate::crowd::{self, Block, Most};
use crate::faults::Faults;
use crate::handover::{Carried, Handed};
use crate::media::demux::{self, Place};
use crate::media::transport::framing::{Deframer, FRAME_MAX};
use crate::metrics::Metrics;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How long the first frame may take: a round trip of a bad line, and a resend.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
/// The longest first frame: a check is a tenth of it.
const FIRST_MAX: usize = 1500;
/// Connections that have not said yet for whom they are; each costs some 20 KiB for three seconds. When
/// there are more, the oldest goes.
const KNOCKING: usize = 1024;
/// The same of one network.
const KNOCKING_OF_ONE: Most = Most {
    network: 32,
    site: 128,
};
/// Connections in all: each may hold a quarter of a MiB of unsent media, and as many participants
/// are more than one machine's media threads serve.
pub const OPEN: usize = 8192;
/// The same of one network: an office behind one NAT.
const OPEN_OF_ONE: Most = Most {
    network: 256,
    site: 1024,
};
/// Until the next attempt after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Counted by its clones: one is kept here, one is held by each connection.
type Count = Arc<()>;

/// What one network or site has.
#[derive(Debug, Default)]
struct Visitor {
    knocking: Count,
    open: Count,
}

/// Who may knock.
#[derive(Debug, Default)]
struct Door {
    open: Count,
    visitors: HashMap<Block, Visitor>,
}

/// The places of one connection: those it holds while it knocks, those it holds while it is open.
#[derive(Debug)]
struct Places {
    knocking: Vec<Count>,
    open: Vec<Count>,
}

impl Door {
    /// Places for a connection from `ip`.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    fn admit(&mut self, ip: IpAddr) -> Result<Places, &'static str> {
        if self.visitors.len() > 2 * OPEN {
            self.visitors.retain(|_, one| held(&one.open) > 0);
        }
        if held(&self.open) >= OPEN {
            return Err("tcp_connections");
        }
        for block in crowd::blocks(ip) {
            let visitor = self.visitors.entry(block).or_default();
            if held(&visitor.open) >= OPEN_OF_ONE.of(block) as usize {
                return Err("tcp_connections_address");
            }
            if held(&visitor.knocking) >= KNOCKING_OF_ONE.of(block) as usize {
                return Err("tcp_knocking_address");
            }
        }
        let mut places = Places {
            knocking: Vec::new(),
            open: vec![Arc::clone(&self.open)],
        };
        for block in crowd::blocks(ip) {
            let visitor = self.visitors.entry(block).or_default();
            places.knocking.push(Arc::clone(&visitor.knocking));
            places.open.push(Arc::clone(&visitor.open));
        }
        Ok(places)
    }
}

/// So many hold a clone besides us.
fn held(count: &Count) -> usize {
    Arc::strong_count(count) - 1
}

/// Those that knock, the oldest first.
#[derive(Debug, Default)]
struct Knocking {
    running: JoinSet<()>,
    steps: VecDeque<AbortHandle>,
}

impl Knocking {
    /// One more. True if the oldest had to go: whoever means it has said for whom long before.
    fn insert(&mut self, step: impl Future<Output = ()> + Send + 'static) -> bool {
        while self.running.try_join_next().is_some() {}
        self.steps.retain(|step| !step.is_finished());
        let full = self.steps.len() >= KNOCKING;
        if full && let Some(oldest) = self.steps.pop_front() {
            oldest.abort();
        }
        self.steps.push_back(self.running.spawn(step));
        full
    }
}

/// How a connection ended that was not handed to the worker of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unheard {
    #[error("it said not in time for whom it is")]
    Late,
    #[error("it was closed before it had said for whom it is")]
    Closed,
    #[error("it does not begin with a check for anybody here")]
    Malformed,
    #[error("the media thread takes no more, or is gone")]
    Refused,
}

impl Unheard {
    const fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

impl From<io::Error> for Unheard {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Where connections come from.
#[derive(Debug)]
pub struct Comings {
    /// The port of media.
    pub listener: TcpListener,
    /// Those who came to another port, and turned out to be for us.
    pub handed: Option<mpsc::Receiver<Handed>>,
}

impl Comings {
    /// The next connection, and its client.
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let Some(queue) = &mut self.handed else {
                return self.listener.accept().await;
            };
            let handed = tokio::select! {
                accepted = self.listener.accept() => return accepted,
                handed = queue.recv() => handed,
            };
            match handed {
                Some(Handed {
                    stream: Carried::Plain(stream),
                    remote,
                    ..
                }) => return Ok((stream, remote)),
                // Media is encrypted as it is: none comes out of TLS.
                Some(_) => {}
                None => self.handed = None,
            }
        }
    }
}

/// Takes connections until it is dropped.
pub async fn accept(mut comings: Comings, workers: Workers, metrics: Metrics, faults: Faults) {
    let mut door = Door::default();
    let mut knocking = Knocking::default();
    loop {
        let accepted = comings.next().await;
        let accepted = if faults.strike(Point::AcceptError) {
            Err(io::Error::other("on purpose"))
        } else {
            accepted
        };
        let (stream, remote) = match accepted {
            Ok((stream, remote)) => (
                stream,
                SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            ),
            Err(error) if is_the_client_s(&error) => continue,
            // Out of file descriptors, mostly: some must be closed first.
            Err(error) => {
                tracing::warn!(%error, "a media connection cannot be accepted");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        match door.admit(remote.ip()) {
            Ok(places) => {
                let (workers, counters) = (workers.clone(), metrics.clone());
                let full = knocking.insert(async move {
                    let shown = timeout(FIRST_WITHIN, show_in(stream, remote, places, &workers));
                    if let Err(error) = shown.await.unwrap_or(Err(Unheard::Late)) {
                        counters.tcp_unheard(error.label());
                        tracing::debug!(%remote, %error, "a media connection ended before it began");
                    }
                });
                if full {
                    metrics.limit_reached("tcp_knocking");
                }
            }
            Err(limit) => metrics.limit_reached(limit),
        }
    }
}

/// Reads the first frame, and hands the connection to whom it names.
async fn show_in(
    stream: TcpStream,
    remote: SocketAddr,
    places: Places,
    workers: &Workers,
) -> Result<(), Unheard> {
    let mut deframer = Deframer::default();
    let place = loop {
        if let Some(place) = wanted(&deframer)? {
            break place;
        }
        stream.readable().await?;
        match stream.try_read(deframer.room()) {
            Ok(0) => return Err(Unheard::Closed),
            Ok(count) => deframer.filled(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    };
    let local = stream.local_addr()?.ip().to_canonical();
    let accepted = Accepted {
        stream: stream.into_std()?,
        deframer,
        remote,
        local,
        places: places.open,
    };
    let adopted = workers.adopt(place, Box::new(accepted));
    adopted.map_err(|_| Unheard::Refused)
}

/// Where the peer is that the first frame names; `None` while it is not whole.
fn wanted(deframer: &Deframer) -> Result<Option<Place>, Unheard> {
    let Some(frame) = deframer.peek().map_err(|_| Unheard::Malformed)? else {
        return if deframer.waiting() > FIRST_MAX {
            Err(Unheard::Malformed)
        } else {
            Ok(None)
        };
    };
    let place = demux::username(frame).and_then(Place::of);
    place.map(Some).ok_or(Unheard::Malformed)
}

/// The connection was gone before it was accepted: the next one may be well.
#[must_use]
pub fn is_the_client_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

const _: () = assert!(FIRST_MAX < FRAME_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_may_knock_so_often_and_again_when_it_has_said_for_whom() {
        let mut door = Door::default();
        let mut places: Vec<Places> = Vec::new();
        for _ in 0..KNOCKING_OF_ONE.network {
            places.push(door.admit(HERE).expect("a place"));
        }
        assert_eq!(door.admit(HERE).err(), Some("tcp_knocking_address"));
        assert!(door.admit(IpAddr::from([192, 0, 2, 2])).is_ok());
        // It is open from then on.
        let open = places.pop().map(|one| one.open);
        assert!(door.admit(HERE).is_ok());
        let mut held = vec![open];
        while let Ok(one) = door.admit(HERE) {
            held.push(Some(one.open));
        }
        let open = u32::try_from(held.len() + places.len()).expect("few");
        assert_eq!(open, OPEN_OF_ONE.network);
        assert_eq!(door.admit(HERE).err(), Some("tcp_connections_address"));
        drop((held, places));
        assert!(door.admit(HERE).is_ok());
    }

    #[test]
    fn a_site_of_ipv6_knocks_no_more_often_however_many_networks_it_has() {
        let mut door = Door::default();
        let mut places: Vec<Places> = Vec::new();
        let ip = |number: u32| IpAddr::from([0x2001, 0xDB8, 0, number as u16, 0, 0, 0, 1]);
        let last = (0..u32::from(u16::MAX)).find_map(|number| match door.admit(ip(number)) {
            Ok(one) => {
                places.push(one);
                None
            }
            Err(limit) => Some((number, limit)),
        });
        assert_eq!(last, Some((KNOCKING_OF_ONE.site, "tcp_knocking_address")));
        assert!(door.admit(HERE).is_ok());
    }

    #[tokio::test]
    async fn when_too_many_knock_the_oldest_is_sent_away() {
        let mut knocking = Knocking::default();
        let (held, mut gone) = tokio::sync::oneshot::channel::<()>();
        assert!(!knocking.insert(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        for _ in 1..KNOCKING {
            assert!(!knocking.insert(std::future::pending()));
        }
        assert!(knocking.insert(std::future::pending()));
        assert!((&mut gone).await.is_err());
        assert_eq!(knocking.steps.len(), KNOCKING);
    }

    #[test]
    fn who_does_not_begin_with_a_check_for_somebody_here_is_not_waited_for() {
        let mut deframer = Deframer::default();
        assert!(matches!(wanted(&deframer), Ok(None)));
        let words = b"GET / HTTP/1.1\r\n";
        deframer.room()[..words.len()].copy_from_slice(words);
        deframer.filled(words.len());
        assert!(
            wanted(&deframer).is_err(),
            "a frame of that length is none of ours"
        );
    }
}
