//! Asks STUN servers for our address: one after the other, until one answers.

use crate::advertise::Family;
use crate::advertise::query::{self, Transaction};
use rand::Rng;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

/// How long a server gets: it is asked three times in it.
const RESEND_AFTER: Duration = Duration::from_millis(500);
/// How often one server is asked.
const TRIES: usize = 3;
/// How long the look-up of its name may take.
const NAME_WITHIN: Duration = Duration::from_secs(3);
/// Larger than any answer.
const ANSWER_BYTES: usize = 1500;

/// What a server said.
pub(super) struct Answer {
    pub(super) server: String,
    /// From where it was asked.
    pub(super) local: SocketAddr,
    /// Our address as it sees it.
    pub(super) ip: IpAddr,
}

/// Our address in this family as the first server sees it that answers.
pub(super) async fn ask(
    servers: &[String],
    family: Family,
    from: Option<IpAddr>,
) -> Option<Answer> {
    for server in servers {
        match ask_one(server, family, from).await {
            Ok(Some((local, ip))) => {
                let server = server.clone();
                return Some(Answer { server, local, ip });
            }
            Ok(None) => tracing::debug!(stunServer = server, ?family, "no answer"),
            Err(error) => tracing::debug!(stunServer = server, ?family, %error, "cannot be asked"),
        }
    }
    None
}

async fn ask_one(
    server: &str,
    family: Family,
    from: Option<IpAddr>,
) -> io::Result<Option<(SocketAddr, IpAddr)>> {
    let found = timeout(NAME_WITHIN, lookup_host(server)).await??;
    let mut found = found.filter(|at| Family::of(at.ip()) == family);
    let Some(server) = found.next() else {
        return Ok(None);
    };
    let anywhere = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((from.unwrap_or(anywhere), 0)).await?;
    socket.connect(server).await?;
    let transaction: Transaction = rand::rng().random();
    let mut answer = [0; ANSWER_BYTES];
    for _ in 0..TRIES {
        socket.send(&query::request(&transaction)).await?;
        let heard = timeout(RESEND_AFTER, async {
            loop {
                let len = socket.recv(&mut answer).await?;
                if let Some(mapped) = query::mapped(&answer[..len], &transaction) {
                    return io::Result::Ok(mapped.ip());
                }
            }
        });
        if let Ok(mapped) = heard.await {
            return Ok(Some((socket.local_addr()?, mapped?)));
        }
    }
    Ok(None)
}
