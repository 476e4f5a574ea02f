//! Certificates for a server under test, and connections that look at what it shows.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The host of all of them.
pub const HOST: &str = "rtc.example.org";
/// Another host that they are for.
pub const OTHER_HOST: &str = "example.org";

/// What the authority's certificate is called in its folder.
const ROOT: &str = "authority.pem";

/// An authority, and a folder with what it has signed; both go when it goes.
pub struct Certified {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A connection in TLS.
pub type Secured = TlsStream<TcpStream>;

impl Default for Certified {
    /// # Panics
    /// When the temporary folder takes nothing.
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-certified-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("the temporary folder takes one");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Browsers look an issuer up by its name.
        let name = "An authority of Foci's tests";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
        fs::write(folder.join(ROOT), authority.pem()).expect("written");
        let key = authority.key().serialize_pem();
        fs::write(folder.join("authority-key.pem"), key).expect("written");
        Self { authority, folder }
    }
}

impl Certified {
    /// Where this file of its folder is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The certificate of the authority, for clients of others.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.file(ROOT)
    }

    /// A new pair for [`HOST`] in place of what is in `cert.pem` and `key.pem`, each exchanged at one blow;
    /// returns the certificate.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let hosts = [HOST, "localhost", OTHER_HOST].map(str::to_owned);
        let params = CertificateParams::new(hosts).expect("names");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        self.put("cert.pem", &certificate.pem());
        self.put("key.pem", &key.serialize_pem());
        // Some programs want both in one file.
        let both = certificate.pem() + &key.serialize_pem();
        self.put("both.pem", &both);
        certificate.der().clone()
    }

    /// A key that no certificate is for, in place of the one that is.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn spoil(&self) {
        let key = KeyPair::generate().expect("a key");
        self.put("key.pem", &key.serialize_pem());
    }

    fn put(&self, name: &str, text: &str) {
        let fresh = self.folder.join("fresh");
        fs::write(&fresh, text).expect("the temporary folder takes a file");
        fs::rename(fresh, self.folder.join(name)).expect("renamed");
    }

    /// Lines of configuration that open a port of TLS with what is in the folder.
    #[must_use]
    pub fn config(&self, port: u16) -> String {
        format!("tls: {{port: {port}, {}}}\n", self.keys())
    }

    /// The keys of a section that name the pair.
    #[must_use]
    pub fn keys(&self) -> String {
        format!(
            "cert_file: {}, key_file: {}",
            self.file("cert.pem").display(),
            self.file("key.pem").display()
        )
    }

    /// Connects to a port of TLS, says `before` in the clear, and shakes hands with a server that must have
    /// a certificate of ours.
    ///
    /// # Errors
    /// It does not connect, or does not shake hands.
    pub async fn connect(&self, at: SocketAddr, before: &[u8]) -> std::io::Result<Secured> {
        connect(self.roots(), at, before, &[]).await
    }

    /// Whom to trust for what is signed here.
    ///
    /// # Panics
    /// When the authority is none.
    #[must_use]
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.pem().as_bytes());
        let added = roots.add(root.expect("a certificate"));
        added.expect("an authority");
        roots
    }

    /// A way into a host's port of TLS for those who speak without: what comes to the address returned is
    /// carried there in TLS.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn tunnel(
        self: &Arc<Self>,
        (to, host): (SocketAddr, &'static str),
    ) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("a bound socket");
        let own = Arc::clone(self);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let own = Arc::clone(&own);
                tokio::spawn(async move {
                    let far = TcpStream::connect(to).await.expect("it listens");
                    let far = shake_hands(own.roots(), far, host, &[]).await;
                    let mut far = far.expect("hands are shaken");
                    // Either end may close first.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        (at, task)
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        // It is only a folder in the temporary one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The same with other authorities, and protocols offered.
///
/// # Errors
/// It does not connect, or does not shake hands.
pub async fn connect(
    roots: RootCertStore,
    at: SocketAddr,
    before: &[u8],
    protocols: &[&[u8]],
) -> std::io::Result<Secured> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(before).await?;
    shake_hands(roots, stream, HOST, protocols).await
}

/// Shakes hands on a connection with a server that must have a certificate for `host`.
///
/// # Errors
/// It does not.
///
/// # Panics
/// When the library refuses its own settings.
pub async fn shake_hands(
    roots: RootCertStore,
    stream: TcpStream,
    host: &'static str,
    protocols: &[&[u8]],
) -> std::io::Result<Secured> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    let name = ServerName::try_from(host).expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// The certificate that a server has shown.
///
/// # Panics
/// When it has shown none.
#[must_use]
pub fn shown(stream: &Secured) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates();
    chain.expect("a certificate")[0].clone().into_owned()
}

/// One request on a connection that stays open; the answer up to the end of its head, or less when the
/// connection ends.
///
/// # Errors
/// The connection is gone.
pub async fn ask(stream: &mut Secured, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).await?;
        answer.extend_from_slice(&bytes[..count]);
        if count == 0 || answer.windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}
