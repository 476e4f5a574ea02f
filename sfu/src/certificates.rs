//! The certificates shown to clients, and the TLS they are shown in.
//!
//! Owns where they come from (files that are looked at again and again), which one a client is shown,
//! and how long each is good. A new pair is taken without a word to the connections that are open; a
//! bad one never takes the place of a good one. It listens nowhere. Made and asked by `server`.

pub mod pair;
pub mod challenge;
pub mod shelf;
mod watched;
mod acme;

use crate::config::check::Acme;
use crate::config::check::pair::Pair;
use crate::metrics::Metrics;
use acme::Orders;
use challenge::{ACME_TLS, Answers};
use pair::Fault;
use shelf::{Chooser, Shelf};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use watched::Keeper;

/// A connection over TLS.
pub type Secured = tokio_rustls::server::TlsStream<TcpStream>;

/// The protocol of TURN in a handshake. (RFC 7443)
pub const STUN_TURN: &[u8] = b"stun.turn";
/// That of HTTP and WebSocket. (RFC 7301 §6)
const HTTP: &[u8] = b"http/1.1";

/// Requests to look at the files that wait: the first does for all.
const TOLD_DEPTH: usize = 1;

/// A certificate that the server cannot start with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A pair of files is of no use.
    #[error("{key}: {cert_file} with {key_file}: {fault}; {}", fault.fix())]
    Pair {
        /// The key that names it.
        key: &'static str,
        /// The certificate.
        cert_file: PathBuf,
        /// Its key.
        key_file: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// The library refuses its own settings.
    #[error("TLS: {0}")]
    Settings(#[from] tokio_rustls::rustls::Error),
}

impl CertificateError {
    fn pair(pair: &Pair, fault: Fault) -> Self {
        Self::Pair {
            key: pair.key,
            cert_file: pair.cert_file.clone(),
            key_file: pair.key_file.clone(),
            fault,
        }
    }
}

/// Certificates, and TLS with them; cheap to clone.
#[derive(Clone)]
pub struct Certificates {
    acceptor: TlsAcceptor,
    shelf: watch::Receiver<Arc<Shelf>>,
    answers: watch::Receiver<Arc<Answers>>,
    told: mpsc::Sender<()>,
}

impl Certificates {
    /// Reads all pairs and watches them from now on; begins to order one of an authority.
    ///
    /// # Errors
    /// A pair is of no use, and nobody is making it. One that has expired is taken: it is complained of.
    pub fn start(
        pairs: &[Pair],
        acme: Option<&Acme>,
        metrics: &Metrics,
    ) -> Result<Self, CertificateError> {
        let (mut keeper, shelf) = Keeper::new(pairs, metrics.clone())?;
        let (sender, answers) = watch::channel(Arc::default());
        let config = config(&shelf, &answers)?;
        let (told, requests) = mpsc::channel(TOLD_DEPTH);
        keeper.report();
        tokio::spawn(keeper.run(requests));
        if let Some(acme) = acme {
            let orders = Orders {
                acme: acme.clone(),
                answers: sender,
                told: told.clone(),
                metrics: metrics.clone(),
            };
            tokio::spawn(orders.run());
        }
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shelf,
            answers,
            told,
        })
    }

    /// The files may have changed: they are looked at now, and told of what is wrong at once.
    pub fn reload(&self) {
        // One that waits already does for this one too.
        let _ = self.told.try_send(());
    }

    /// Shakes hands over `stream`, as a server of HTTP and of TURN; which of them the client chose is in
    /// [`is_turn`]. The caller limits the time.
    ///
    /// # Errors
    /// There is no certificate yet, or the client does not shake hands.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Secured> {
        self.acceptor.accept(stream).await
    }

    /// What a handshake goes by, for who shakes hands elsewhere: what it shows is always what is in use.
    #[must_use]
    pub fn settings(&self) -> Arc<ServerConfig> {
        Arc::clone(self.acceptor.config())
    }

    /// What the authority is to find on the main port below this token. (RFC 8555 §8.3)
    #[must_use]
    pub fn page(&self, token: &str) -> Option<String> {
        self.answers.borrow().page(token).map(str::to_owned)
    }

    /// All that may be shown now.
    #[must_use]
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.borrow())
    }
}

/// Did the client choose TURN in its handshake? One that chose nothing may still speak it.
#[must_use]
pub fn is_turn(stream: &Secured) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(STUN_TURN)
}

/// Looks once at pairs that nobody is making, and tells of those that are of no use now.
#[must_use]
pub fn examine(pairs: &[Pair]) -> Vec<CertificateError> {
    let own = pairs.iter().filter(|pair| !pair.awaited);
    let faulty = own.filter_map(|pair| {
        let fault = watched::examine(pair).err()?;
        Some(CertificateError::pair(pair, fault))
    });
    faulty.collect()
}

/// Was it an authority that shook hands, to see whether a host is ours? Nothing else is said.
#[must_use]
pub fn is_challenge(stream: &Secured) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ACME_TLS)
}

/// TLS 1.2 and 1.3. It stays the same when certificates change, so that sessions can be resumed.
fn config(
    shelf: &watch::Receiver<Arc<Shelf>>,
    answers: &watch::Receiver<Arc<Answers>>,
) -> Result<ServerConfig, CertificateError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Chooser::new(shelf.clone(), answers.clone())));
    config.alpn_protocols = [HTTP, STUN_TURN, ACME_TLS].map(<[u8]>::to_vec).to_vec();
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

/// Seconds since 1970: certificates tell their ends so.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates expire by the calendar"
)]
fn unix_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is wrong, and then everything has yet to begin.
    since.map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
pub(crate) mod tests;
