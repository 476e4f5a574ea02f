//! One request to a homeserver, or to an SFU elsewhere.
//!
//! Owns connecting: addresses are looked up and judged here, and the connection goes to an address
//! that was judged, so that DNS cannot answer differently a moment later. Bounded in time by the
//! caller, in size here. Errors never hold the path, which may carry a token. Used by `discovery`
//! and `openid`; `client_api`, `homeserver` and `twirp` ask more by it.

use crate::bearer::Token;
use crate::dns::{Dns, Unresolved};
use crate::matrix::{Destination, Host};
use crate::reach::Reach;
use crate::settled::Settled;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address may take to accept a connection.
const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// How long one address may take to agree on TLS.
const TLS_WITHIN: Duration = Duration::from_secs(5);

/// The head of an answer.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The way to homeservers; cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetch {
    dns: Dns,
    settled: Settled,
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: &'a str,
    /// What we show, if anything.
    pub(crate) bearer: Option<&'a Token>,
    /// Of `content_type`; not for a `GET`.
    pub(crate) body: Bytes,
    /// What is sent and wanted.
    pub(crate) content_type: &'static str,
}

const JSON: &str = "application/json";

impl<'a> Ask<'a> {
    /// A `GET`.
    pub(crate) const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            bearer: None,
            body: Bytes::new(),
            content_type: JSON,
        }
    }

    /// A `POST` of an empty JSON object.
    pub(crate) const fn post(path: &'a str) -> Self {
        Self {
            method: Method::POST,
            path,
            bearer: None,
            body: Bytes::from_static(b"{}"),
            content_type: JSON,
        }
    }

    fn request(&self, to: &Destination) -> Result<Request<Full<Bytes>>, FetchError> {
        let mut request = Request::builder().method(&self.method).uri(self.path);
        if self.method != Method::GET {
            request = request.header(header::CONTENT_TYPE, self.content_type);
        }
        if let Some(token) = self.bearer {
            let value = format!("Bearer {}", token.reveal());
            let mut value = HeaderValue::try_from(value).map_err(|_| FetchError::Request)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request
            .header(header::HOST, to.host_header.as_str())
            .header(
                header::USER_AGENT,
                concat!("foci/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, self.content_type)
            .header(header::CONNECTION, "close")
            .body(Full::new(self.body.clone()))
            .map_err(|_| FetchError::Request)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The host has no address.
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    /// It has only such that the policy forbids.
    #[error(
        "{0} is a private address: if this homeserver is yours, name it in \
         matrix.full_access_homeservers or matrix.homeservers, or set matrix.allow_private_addresses"
    )]
    Private(IpAddr),
    /// No address accepts a connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// No TLS with it: mostly a certificate for someone else.
    #[error("no TLS with {0}: {1}")]
    Tls(SocketAddr, io::Error),
    /// The other side does not speak HTTP.
    #[error("no HTTP with {0}: {1}")]
    Http(SocketAddr, hyper::Error),
    /// The answer is too long.
    #[error("the answer is too long")]
    TooLong,
    /// The request has no form.
    #[error("no request can be made of this name")]
    Request,
}

impl FetchError {
    /// One word for counters.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Unresolved(_) => "dns",
            Self::Private(_) => "private_address",
            Self::Connect(..) => "connect",
            Self::Tls(..) => "tls",
            Self::Http(..) => "http",
            Self::TooLong => "too_long",
            Self::Request => "invalid_name",
        }
    }
}

impl Fetch {
    pub(crate) const fn new(dns: Dns, settled: Settled) -> Self {
        Self { dns, settled }
    }

    /// `GET` of `path` (with its query) from the first address of `to` that answers. The body may
    /// have `max_bytes`.
    pub(crate) async fn get(
        &self,
        to: &Destination,
        reach: Reach,
        path: &str,
        max_bytes: usize,
    ) -> Result<Answer, FetchError> {
        self.ask(to, reach, &Ask::get(path), max_bytes).await
    }

    /// Any request, otherwise as [`Self::get`].
    pub(crate) async fn ask(
        &self,
        to: &Destination,
        reach: Reach,
        ask: &Ask<'_>,
        max_bytes: usize,
    ) -> Result<Answer, FetchError> {
        let mut failed = FetchError::Request;
        for ip in self.addresses(&to.host, reach).await? {
            let address = SocketAddr::new(ip, to.port);
            match self.ask_one(address, to, ask, max_bytes).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The addresses of a host that may be connected to; at least one.
    async fn addresses(&self, host: &Host, reach: Reach) -> Result<Vec<IpAddr>, FetchError> {
        let found = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.dns.addresses(name).await?,
        };
        let (allowed, closed): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|ip| reach.allows(*ip));
        match closed.first() {
            Some(ip) if allowed.is_empty() => Err(FetchError::Private(*ip)),
            _ => Ok(allowed),
        }
    }

    async fn ask_one(
        &self,
        address: SocketAddr,
        to: &Destination,
        ask: &Ask<'_>,
        max_bytes: usize,
    ) -> Result<Answer, FetchError> {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let request = ask.request(to)?;
        let stream = timeout(DIAL_WITHIN, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|error| FetchError::Connect(address, error))?;
        let Some(name) = &to.tls_name else {
            return exchange(stream, address, request, max_bytes).await;
        };
        let tls = self.settled.tls();
        let stream = timeout(TLS_WITHIN, tls.connect(stream, name))
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|error| FetchError::Tls(address, error))?;
        exchange(stream, address, request, max_bytes).await
    }
}

/// One request and its answer over a fresh connection.
async fn exchange<S>(
    stream: S,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error| FetchError::Http(address, error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut answer = pin!(async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, max_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => failed(*error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>(), "{error}");
                FetchError::TooLong
            }
        })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    });
    // The connection only moves while it is polled; what it read before it ended is still there.
    tokio::select! {
        biased;
        answer = answer.as_mut() => answer,
        _ = connection => answer.await,
    }
}
