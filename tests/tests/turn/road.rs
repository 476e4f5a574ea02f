//! Ways to the server, for clients that speak for themselves: messages and ChannelData go in and come out
//! whole.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turn::frame::{Frame, next};

/// An answer comes within this, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to the server.
pub(crate) enum Road {
    Udp(UdpSocket),
    Stream {
        stream: Box<dyn Stream>,
        pending: Vec<u8>,
    },
}

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Road {
    pub(crate) fn udp(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let socket = UdpSocket::bind(any).expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self::Udp(socket)
    }

    pub(crate) fn tcp(server: SocketAddr) -> Self {
        Self::stream(connect(server))
    }

    /// Over TLS; puts the server's certificate where it can be looked at.
    pub(crate) fn tls(server: SocketAddr, seen: &Arc<Mutex<Vec<u8>>>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Looking(Arc::clone(seen))))
            .with_no_client_auth();
        let name_of_server = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name_of_server).expect("a session");
        Self::stream(StreamOwned::new(session, connect(server)))
    }

    fn stream(stream: impl Stream + 'static) -> Self {
        Self::Stream {
            stream: Box::new(stream),
            pending: Vec::new(),
        }
    }

    /// Sends bytes as they are; a stream must be told of padding by the caller.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(bytes).map(drop),
            Self::Stream { stream, .. } => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// The next message or datagram.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut bytes = vec![0; 65_536];
                let len = socket.recv(&mut bytes)?;
                bytes.truncate(len);
                Ok(bytes)
            }
            Self::Stream { stream, pending } => loop {
                if let Frame::Whole { len, taken } = next(pending) {
                    let frame = pending[..len].to_vec();
                    pending.drain(..taken);
                    return Ok(frame);
                }
                let mut bytes = [0; 16_384];
                match stream.read(&mut bytes)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    len => pending.extend_from_slice(&bytes[..len]),
                }
            },
        }
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// Takes any certificate, and remembers it.
#[derive(Debug)]
struct Looking(Arc<Mutex<Vec<u8>>>);

impl ServerCertVerifier for Looking {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("nobody panicked") = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
