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
/// The same of one network, whose own oldest goes.
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

/// Who may be open. An address that is not public is most likely that of a NAT of ours, and has everybody
/// behind it: it counts for nobody.
#[derive(Debug, Default)]
struct Door {
    open: Count,
    visitors: HashMap<Block, Count>,
}

/// The places of one connection, while it is open.
type Places = Vec<Count>;

impl Door {
    /// Places for a connection of `client`.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    fn admit(&mut self, client: Option<IpAddr>) -> Result<Places, &'static str> {
        if self.visitors.len() > 2 * OPEN {
            self.visitors.retain(|_, open| held(open) > 0);
        }
        if held(&self.open) >= OPEN {
            return Err("tcp_connections");
        }
        let blocks = || client.into_iter().flat_map(crowd::blocks);
        for block in blocks() {
            let open = self.visitors.entry(block).or_default();
            if held(open) >= OPEN_OF_ONE.of(block) as usize {
                return Err("tcp_connections_address");
            }
        }
        let mut places = vec![Arc::clone(&self.open)];
        for block in blocks() {
            places.push(Arc::clone(self.visitors.entry(block).or_default()));
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
    steps: VecDeque<(AbortHandle, Option<IpAddr>)>,
}

impl Knocking {
    /// One more, of `client`. The name of the limit for which an older one had to go: whoever means it has
    /// said for whom long before.
    fn insert(
        &mut self,
        client: Option<IpAddr>,
        step: impl Future<Output = ()> + Send + 'static,
    ) -> Option<&'static str> {
        while self.running.try_join_next().is_some() {}
        self.steps.retain(|(step, _)| !step.is_finished());
        let mut reached = None;
        for block in client.into_iter().flat_map(crowd::blocks) {
            let mut of_one = self.steps.iter().enumerate().filter(|(_, (_, other))| {
                other.is_some_and(|other| crowd::blocks(other).any(|one| one == block))
            });
            let oldest = of_one.next().map(|(at, _)| at);
            // The first has been taken out of the count already.
            let full = of_one.count() + 1 >= KNOCKING_OF_ONE.of(block) as usize;
            if let Some(oldest) = oldest.filter(|_| full) {
                self.send_away(oldest);
                reached = Some("tcp_knocking_address");
            }
        }
        if self.steps.len() >= KNOCKING {
            self.send_away(0);
            reached = Some("tcp_knocking");
        }
        self.steps.push_back((self.running.spawn(step), client));
        reached
    }

    fn send_away(&mut self, at: usize) {
        if let Some((step, _)) = self.steps.remove(at) {
            step.abort();
        }
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
        let client = Some(remote.ip()).filter(|ip| crowd::is_public(*ip));
        match door.admit(client) {
            Ok(places) => {
                let (workers, counters) = (workers.clone(), metrics.clone());
                let reached = knocking.insert(client, async move {
                    let shown = timeout(FIRST_WITHIN, show_in(stream, remote, places, &workers));
                    if let Err(error) = shown.await.unwrap_or(Err(Unheard::Late)) {
                        counters.tcp_unheard(error.label());
                        tracing::debug!(%remote, %error, "a media connection ended before it began");
                    }
                });
                if let Some(limit) = reached {
                    metrics.limit_reached(limit);
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
        places,
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
    fn an_address_has_so_many_open_and_one_that_is_not_public_counts_for_nobody() {
        let mut door = Door::default();
        let mut held = Vec::new();
        for _ in 0..OPEN_OF_ONE.network {
            held.push(door.admit(Some(HERE)).expect("a place"));
        }
        assert_eq!(
            door.admit(Some(HERE)).err(),
            Some("tcp_connections_address")
        );
        assert!(door.admit(Some([192, 0, 2, 2].into())).is_ok());
        for _ in 0..=OPEN_OF_ONE.network {
            held.push(door.admit(None).expect("a place"));
        }
        drop(held);
        assert!(door.admit(Some(HERE)).is_ok());
    }

    /// One that says nothing, and a look at whether it is still there.
    fn silent(knocking: &mut Knocking, client: Option<IpAddr>) -> (AbortHandle, Option<&str>) {
        let reached = knocking.insert(client, std::future::pending());
        let (step, _) = knocking.steps.back().expect("it is there");
        (step.clone(), reached)
    }

    async fn is_sent_away(step: &AbortHandle) -> bool {
        // It ends when it is its turn.
        tokio::task::yield_now().await;
        step.is_finished()
    }

    #[tokio::test]
    async fn when_too_many_knock_the_oldest_is_sent_away() {
        let mut knocking = Knocking::default();
        let (oldest, _) = silent(&mut knocking, None);
        for _ in 1..KNOCKING {
            assert_eq!(silent(&mut knocking, None).1, None);
        }
        assert_eq!(silent(&mut knocking, None).1, Some("tcp_knocking"));
        assert!(is_sent_away(&oldest).await);
        assert_eq!(knocking.steps.len(), KNOCKING);
    }

    #[tokio::test]
    async fn when_too_many_of_one_network_knock_its_own_oldest_is_sent_away() {
        let mut knocking = Knocking::default();
        let (other, _) = silent(&mut knocking, Some([192, 0, 2, 2].into()));
        let (oldest, _) = silent(&mut knocking, Some(HERE));
        for _ in 1..KNOCKING_OF_ONE.network {
            assert_eq!(silent(&mut knocking, Some(HERE)).1, None);
        }
        let (newest, reached) = silent(&mut knocking, Some(HERE));
        assert_eq!(reached, Some("tcp_knocking_address"));
        assert!(is_sent_away(&oldest).await);
        assert!(!other.is_finished() && !newest.is_finished());
    }

    #[tokio::test]
    async fn a_site_of_ipv6_knocks_no_more_often_however_many_networks_it_has() {
        let mut knocking = Knocking::default();
        let ip = |number: u32| IpAddr::from([0x2001, 0xDB8, 0, number as u16, 0, 0, 0, 1]);
        let (oldest, _) = silent(&mut knocking, Some(ip(0)));
        for number in 1..KNOCKING_OF_ONE.site {
            assert_eq!(silent(&mut knocking, Some(ip(number))).1, None);
        }
        let (_, reached) = silent(&mut knocking, Some(ip(999)));
        assert_eq!(reached, Some("tcp_knocking_address"));
        assert!(is_sent_away(&oldest).await);
        assert_eq!(knocking.steps.len(), KNOCKING_OF_ONE.site as usize);
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
