//! Requests to an authority: HTTPS, one connection each, for there are a dozen an order.
//!
//! Owns whom to trust for it and the limits of an answer.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// From connecting to the last byte of the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of an answer: a chain of certificates is the longest.
const MOST_ANSWER: usize = 1 << 20;
/// Of `https` without a port.
const HTTPS: u16 = 443;

/// There is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub(super) enum UntrustedError {
    /// The file of authorities is no good.
    #[error("tls.acme.ca_file: no certificates can be read from {0}: {1}")]
    File(PathBuf, String),
    /// The library refuses its own settings.
    #[error("TLS: {0}")]
    Settings(#[from] rustls::Error),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A client that trusts the system's authorities and those of a file.
pub(super) struct Client(TlsConnector);

impl Client {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, UntrustedError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = ca_file {
            let wrong = |cause: String| UntrustedError::File(path.to_owned(), cause);
            let read = CertificateDer::pem_file_iter(path);
            for one in read.map_err(|error| wrong(error.to_string()))? {
                let one = one.map_err(|error| wrong(error.to_string()))?;
                roots.add(one).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let exchanged = timeout(ANSWER_WITHIN, exchange(connector, request)).await;
            let exchanged = exchanged.unwrap_or_else(|late| Err(late.into()));
            exchanged.map_err(Error::Other)
        })
    }
}

/// One request and its answer.
async fn exchange(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, AnyError> {
    let uri = request.uri().clone();
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
    let host = host.ok_or_else(|| format!("`{uri}` is no https:// URL"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(HTTPS))).await?;
    let name = ServerName::try_from(bare.to_owned())?;
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let authority = HeaderValue::try_from(authority)?;
    request.headers_mut().insert(HOST, authority);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path)?;
    let answered = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        Ok::<_, AnyError>(BytesResponse {
            parts,
            body: Box::new(body),
        })
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // It is over when the other side says so, and the answer may be there all the same.
        ended = connection => {
            ended?;
            answered.await
        }
    }
}
