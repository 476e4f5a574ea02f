//! A small client of TURN over any transport: it waits for every answer, and can misbehave.

use super::server::REALM;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turn::message::attribute::{
    CHANNEL_NUMBER, ERROR_CODE, LIFETIME, NONCE, REALM as REALM_ATTRIBUTE,
    REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, USERNAME, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};
use turn::message::integrity::Key;
use turn::message::writer::Writer;
use turn::message::{Class, Message, Method};

/// An answer comes within this, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to the server.
enum Road {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A client.
pub(crate) struct Client {
    road: Road,
    name: String,
    pub(crate) realm: String,
    key: Key,
    nonce: Vec<u8>,
    count: u64,
    pending: Vec<u8>,
}

/// An answer, or data.
#[derive(Debug, Clone)]
pub(crate) struct Received(pub(crate) Vec<u8>);

impl Received {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("a message")
    }

    /// The code of an error; 0 of a success.
    pub(crate) fn code(&self) -> u16 {
        let value = self.message().attribute(ERROR_CODE);
        value.map_or(0, |value| u16::from(value[2]) * 100 + u16::from(value[3]))
    }

    pub(crate) fn relayed(&self) -> SocketAddr {
        self.message()
            .address(XOR_RELAYED_ADDRESS)
            .expect("an allocation")
    }
}

impl Client {
    pub(crate) fn udp(server: SocketAddr, name: &str, password: &str) -> Self {
        let any = if server.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        Self::udp_from(any, server, name, password)
    }

    pub(crate) fn udp_from(from: &str, server: SocketAddr, name: &str, password: &str) -> Self {
        let socket = UdpSocket::bind(from).expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self::new(Road::Udp(socket), name, password)
    }

    pub(crate) fn tcp(server: SocketAddr, name: &str, password: &str) -> Self {
        let stream = connect(server);
        Self::new(Road::Stream(Box::new(stream)), name, password)
    }

    /// Over TLS; puts the server's certificate where it can be looked at.
    pub(crate) fn tls(
        server: SocketAddr,
        name: &str,
        password: &str,
        seen: &Arc<Mutex<Vec<u8>>>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Looking(Arc::clone(seen))))
            .with_no_client_auth();
        let name_of_server = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name_of_server).expect("a session");
        let stream = StreamOwned::new(session, connect(server));
        Self::new(Road::Stream(Box::new(stream)), name, password)
    }

    fn new(road: Road, name: &str, password: &str) -> Self {
        Self {
            road,
            name: name.into(),
            realm: REALM.into(),
            key: Key::long_term(name, REALM, password),
            nonce: Vec::new(),
            count: 0,
            pending: Vec::new(),
        }
    }

    /// Sends bytes as they are; a stream must be told of padding by the caller.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.road {
            Road::Udp(socket) => socket.send(bytes).map(drop),
            Road::Stream(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// The next message or datagram.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        match &mut self.road {
            Road::Udp(socket) => {
                let mut bytes = vec![0; 65_536];
                let len = socket.recv(&mut bytes)?;
                bytes.truncate(len);
                Ok(Received(bytes))
            }
            Road::Stream(stream) => loop {
                if let turn::frame::Frame::Whole { len, taken } = turn::frame::next(&self.pending) {
                    let frame = self.pending[..len].to_vec();
                    self.pending.drain(..taken);
                    return Ok(Received(frame));
                }
                let mut bytes = [0; 16_384];
                match stream.read(&mut bytes)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    len => self.pending.extend_from_slice(&bytes[..len]),
                }
            },
        }
    }

    /// A request of these attributes, signed once a nonce is known.
    pub(crate) fn request(
        &mut self,
        method: Method,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Vec<u8> {
        self.count += 1;
        let mut transaction = [9; 12];
        transaction[4..].copy_from_slice(&self.count.to_be_bytes());
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, method, Class::Request, &transaction);
        fill(&mut writer);
        if !self.nonce.is_empty() {
            writer
                .bytes(USERNAME, self.name.as_bytes())
                .bytes(REALM_ATTRIBUTE, self.realm.as_bytes())
                .bytes(NONCE, &self.nonce)
                .sign(&self.key, false);
        }
        writer.finish(true);
        out
    }

    pub(crate) fn ask(&mut self, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Received {
        let bytes = self.request(method, fill);
        self.send(&bytes).expect("it is taken");
        let answer = self.receive().expect("an answer");
        assert_eq!(answer.message().transaction[..], bytes[8..20]);
        answer
    }

    /// Gets a nonce.
    pub(crate) fn greet(&mut self) {
        self.nonce.clear();
        let challenge = self.ask(Method::Allocate, |_| {});
        assert_eq!(challenge.code(), 401);
        self.nonce = challenge
            .message()
            .attribute(NONCE)
            .expect("a nonce")
            .to_vec();
    }

    pub(crate) fn spoil_nonce(&mut self) {
        self.nonce[20] ^= 1;
    }

    pub(crate) fn allocate(&mut self) -> Received {
        self.allocate_family(1)
    }

    pub(crate) fn allocate_family(&mut self, family: u8) -> Received {
        if self.nonce.is_empty() {
            self.greet();
        }
        self.ask(Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .bytes(REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        })
    }

    pub(crate) fn refresh(&mut self, lifetime_s: u32) -> u16 {
        self.ask(Method::Refresh, |writer| {
            writer.word(LIFETIME, lifetime_s);
        })
        .code()
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) -> u16 {
        self.ask(Method::CreatePermission, |writer| {
            writer.address(XOR_PEER_ADDRESS, peer);
        })
        .code()
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        self.ask(Method::ChannelBind, |writer| {
            writer
                .bytes(CHANNEL_NUMBER, &[(number >> 8) as u8, number as u8, 0, 0])
                .address(XOR_PEER_ADDRESS, peer);
        })
        .code()
    }

    /// Sends over a channel and takes what comes back.
    pub(crate) fn echo(&mut self, number: u16, payload: &[u8]) -> Received {
        self.send(&channel_data(number, payload)).expect("taken");
        self.receive().expect("it comes back")
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// ChannelData, padded as a stream wants it.
pub(crate) fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut out = [&number.to_be_bytes()[..], &len, payload].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
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
