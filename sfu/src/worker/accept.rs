//! Takes connections on `rtc.tcp_port` and hands each to the worker of the peer it is for.
//!
//! Owns who may knock, and how often and how long: the port is open to everybody. A connection says
//! with its first frame for whom it is; it is handed on, frame and all, and what it says is judged
//! there. It never answers. Runs on the control runtime, for no packet of a call passes it.

use super::placement::Workers;
use super::tcp::Accepted;
use crate::config::faults::Point;
use crate::faults::Faults;
use crate::handover::{Carried, Handed};
use crate::media::demux::{self, Place};
use crate::media::transport::framing::{Deframer, FRAME_MAX};
use crate::metrics::Metrics;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the first frame may take: a round trip of a bad line, and a resend.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
/// The longest first frame: a check is a tenth of it.
const FIRST_MAX: usize = 1500;
/// Connections that have not said yet for whom they are; each costs some 20 KiB for three seconds.
const KNOCKING: usize = 1024;
/// The same from one address.
const KNOCKING_PER_ADDRESS: usize = 32;
/// Connections in all: each may hold a quarter of a MiB of unsent media, and as many participants
/// are more than one machine's media threads serve.
const OPEN: usize = 8192;
/// The same from one address: an office behind one NAT.
const OPEN_PER_ADDRESS: usize = 256;
/// Until the next attempt after the system could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Counted by its clones: one is kept here, one is held by each connection.
type Count = Arc<()>;

/// What one address has.
#[derive(Debug, Default)]
struct Visitor {
    knocking: Count,
    open: Count,
}

/// Who may knock.
#[derive(Debug, Default)]
struct Door {
    knocking: Count,
    open: Count,
    visitors: HashMap<IpAddr, Visitor>,
}

/// The places of one connection: those it holds while it knocks, those it holds while it is open.
#[derive(Debug)]
struct Places {
    _knocking: Vec<Count>,
    open: Vec<Count>,
}

impl Door {
    /// Places for a connection from `ip`.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    fn admit(&mut self, ip: IpAddr) -> Result<Places, &'static str> {
        if self.visitors.len() > OPEN {
            self.visitors.retain(|_, one| held(&one.open) > 0);
        }
        let visitor = self.visitors.entry(network(ip)).or_default();
        let limits = [
            (&self.open, OPEN, "tcp_connections"),
            (&visitor.open, OPEN_PER_ADDRESS, "tcp_connections_address"),
            (&self.knocking, KNOCKING, "tcp_knocking"),
            (
                &visitor.knocking,
                KNOCKING_PER_ADDRESS,
                "tcp_knocking_address",
            ),
        ];
        for (count, most, name) in limits {
            if held(count) >= most {
                return Err(name);
            }
        }
        Ok(Places {
            _knocking: vec![Arc::clone(&self.knocking), Arc::clone(&visitor.knocking)],
            open: vec![Arc::clone(&self.open), Arc::clone(&visitor.open)],
        })
    }
}

/// So many hold a clone besides us.
fn held(count: &Count) -> usize {
    Arc::strong_count(count) - 1
}

/// Whom an address is counted for: of IPv6 everybody has a /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
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
    let mut knocking = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = comings.next() => accepted,
            Some(_) = knocking.join_next() => continue,
        };
        let accepted = if faults.strike(Point::AcceptError) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            accepted
        };
        let (stream, remote) = match accepted {
            Ok((stream, remote)) => (
                stream,
                SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            ),
            Err(error) => {
                tracing::warn!(%error, "a media connection cannot be accepted");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        match door.admit(remote.ip()) {
            Ok(places) => {
                let workers = workers.clone();
                knocking.spawn(async move {
                    let shown = timeout(FIRST_WITHIN, show_in(stream, remote, places, &workers));
                    if !matches!(shown.await, Ok(Ok(()))) {
                        tracing::debug!(%remote, "a media connection said not in time for whom it is");
                    }
                });
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
) -> io::Result<()> {
    let mut deframer = Deframer::default();
    let place = loop {
        if let Some(place) = wanted(&deframer)? {
            break place;
        }
        stream.readable().await?;
        match stream.try_read(deframer.room()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => deframer.filled(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
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
    workers
        .adopt(place, Box::new(accepted))
        .map_err(io::Error::other)
}

/// Where the peer is that the first frame names; `None` while it is not whole.
fn wanted(deframer: &Deframer) -> io::Result<Option<Place>> {
    let Some(frame) = deframer.peek().map_err(io::Error::other)? else {
        return if deframer.waiting() > FIRST_MAX {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(None)
        };
    };
    let place = demux::username(frame).and_then(Place::of);
    place.map(Some).ok_or(io::ErrorKind::InvalidData.into())
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
        for _ in 0..KNOCKING_PER_ADDRESS {
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
        assert_eq!(held.len() + places.len(), OPEN_PER_ADDRESS);
        assert_eq!(door.admit(HERE).err(), Some("tcp_connections_address"));
        drop((held, places));
        assert!(door.admit(HERE).is_ok());
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_visitor() {
        let ip = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
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
