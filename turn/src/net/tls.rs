//! TLS of one connection, driven from epoll. The only file that names rustls.
//!
//! Owns the session, not the socket. Certificates are of the configuration a session began with:
//! those that are open do not notice that new ones have come.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Certificate and key, as new connections get them.
pub type Certificates = Arc<ServerConfig>;

/// Sealed bytes that wait within the session; what is more waits outside, where it can be dropped.
const SEALED_BYTES: usize = 64 << 10;

/// Why certificate and key are not taken. Whoever has others keeps them.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// The certificate file is not PEM, or holds none.
    #[error("no certificate can be read: {0}")]
    Certificate(String),
    /// The key file is not PEM, or holds none.
    #[error("no private key can be read: {0}")]
    Key(String),
    /// They do not belong together, or are of a kind nobody takes.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// A configuration for TLS 1.2 and 1.3 from PEM.
///
/// # Errors
/// [`CertificateFault`].
pub fn certificates(chain_pem: &[u8], key_pem: &[u8]) -> Result<Certificates, CertificateFault> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateFault::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(CertificateFault::Certificate("none in the file".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| CertificateFault::Key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// A session.
#[derive(Debug)]
pub(super) struct Session(ServerConnection);

impl Session {
    pub(super) fn new(certificates: &Certificates) -> io::Result<Self> {
        let session = ServerConnection::new(Arc::clone(certificates)).map_err(io::Error::other)?;
        let mut session = Self(session);
        session.0.set_buffer_limit(Some(SEALED_BYTES));
        Ok(session)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Reads once from the socket and opens what it can; tells how many bytes were opened, zero at
    /// the end of the stream.
    pub(super) fn read(&mut self, socket: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.0.read_tls(socket)? == 0 {
                return Ok(0);
            }
            let state = self.0.process_new_packets();
            // An alert is still to be told.
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Seals some of these bytes; tells how many.
    pub(super) fn seal(&mut self, bytes: &[u8]) -> usize {
        if self.0.is_handshaking() {
            return 0;
        }
        self.0.writer().write(bytes).unwrap_or(0)
    }

    /// Writes what is sealed; tells whether the socket took some of it, and `WouldBlock` besides if some
    /// is left.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> (bool, io::Result<()>) {
        let mut progress = false;
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(count) => progress |= count > 0,
                Err(error) => return (progress, Err(error)),
            }
        }
        (progress, Ok(()))
    }

    pub(super) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::server::ResolvesServerCertUsingSni;

    /// A socket with room for so many bytes.
    struct Narrow(usize);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_socket_took_before_is_told() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let mut session = Session::new(&Arc::new(config)).expect("a session");
        // An alert is the least there is to be written.
        session.0.send_close_notify();
        let flush = |session: &mut Session, room| {
            let (progress, done) = session.flush(&mut Narrow(room));
            (progress, done.map_err(|error| error.kind()))
        };
        let full = Err(io::ErrorKind::WouldBlock);
        assert_eq!(flush(&mut session, 0), (false, full));
        assert_eq!(flush(&mut session, 3), (true, full));
        assert_eq!(flush(&mut session, 100), (true, Ok(())));
        assert_eq!(flush(&mut session, 100), (false, Ok(())));
    }
}
