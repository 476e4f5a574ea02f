//! Pebble, an authority of ACME for tests, and a name server for which every host is this machine.

use crate::artifacts;
use crate::certified::{Certified, HOST, connect};
use crate::ports::free_port;
use crate::script;
use crate::server::{PATIENCE, free_tcp_port};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// Where it looks whether a host is ours, and how long its certificates are good.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// The port of `tls-alpn-01`.
    pub tls: u16,
    /// The port of `http-01`.
    pub http: u16,
    /// The life of a certificate.
    pub good: Duration,
}

/// The authority, until dropped.
pub struct Pebble {
    children: Vec<Child>,
    certified: Certified,
    port: u16,
    management: SocketAddr,
    log: PathBuf,
}

impl Pebble {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start(ways: Ways) -> Self {
        Self::launch(ways, serde_json::json!({})).await
    }

    /// The same, for customers alone: those who have this key, in base64, of this name.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn start_bound(ways: Ways, (kid, key): (&str, &str)) -> Self {
        let bound = serde_json::json!({
            "externalAccountBindingRequired": true,
            "externalAccountMACKeys": { kid: key },
        });
        Self::launch(ways, bound).await
    }

    async fn launch(ways: Ways, more: serde_json::Value) -> Self {
        script::set_up("pebble").await;
        let certified = Certified::default();
        certified.renew();
        let port = free_tcp_port();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (management, names) = (local(free_tcp_port()), local(free_port()));
        let mut config = serde_json::json!({ "pebble": {
            "listenAddress": local(port).to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certified.file("cert.pem"),
            "privateKey": certified.file("key.pem"),
            "httpPort": ways.http,
            "tlsPort": ways.tls,
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": {
                "description": "the only one",
                "validityPeriod": ways.good.as_secs(),
            } },
        } });
        for (key, value) in more.as_object().into_iter().flatten() {
            config["pebble"][key] = value.clone();
        }
        let file = certified.file("pebble.json");
        fs::write(&file, config.to_string()).expect("the temporary folder takes a file");
        let log = certified.file(&format!("pebble-{port}.log"));
        let mut of_names = Command::new(script::installed("pebble/pebble-challtestsrv"));
        of_names.args(["-dns01", &names.to_string()]);
        of_names.args(["-management", &local(free_tcp_port()).to_string()]);
        of_names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-doh", ""]);
        of_names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let mut authority = Command::new(script::installed("pebble/pebble"));
        authority.args(["-dnsserver", &names.to_string(), "-config"]);
        authority.arg(&file);
        // It looks at once, and at every order.
        authority.env("PEBBLE_VA_NOSLEEP", "1");
        authority.env("PEBBLE_AUTHZREUSE", "0");
        // Else it refuses one good nonce of twenty.
        authority.env("PEBBLE_WFE_NONCEREJECT", "0");
        let out = File::create(&log).expect("the temporary folder takes a log");
        let start = |mut command: Command| {
            let copied = || out.try_clone().expect("a file handle is copied");
            let command = command.stdin(Stdio::null()).stdout(copied());
            command.stderr(copied()).spawn().expect("it starts")
        };
        let mut pebble = Self {
            children: vec![start(of_names), start(authority)],
            certified,
            port,
            management,
            log,
        };
        pebble.ready(names).await;
        pebble
    }

    /// Waits for it, and for the server of `names` that it asks.
    async fn ready(&mut self, names: SocketAddr) {
        let mut tick = interval(Duration::from_millis(20));
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let wait = async {
            for at in [names, own] {
                while TcpStream::connect(at).await.is_err() {
                    tick.tick().await;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("Pebble answers");
    }

    /// Lines of configuration below `tls` that order a certificate for [`HOST`].
    #[must_use]
    pub fn config(&self, more: &str) -> String {
        format!(
            "  acme:\n    domains: [{HOST}]\n    storage: {}\n    directory_url: https://localhost:{}/dir\n    \
             ca_file: {}\n{more}",
            self.storage().display(),
            self.port,
            self.certified.root().display(),
        )
    }

    /// Where the server keeps what it is given.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.certified.file("acme")
    }

    /// Whom to trust for its certificates: it makes a root of its own with each start.
    ///
    /// # Panics
    /// When it does not tell.
    pub async fn roots(&self) -> RootCertStore {
        let own = self.certified.roots();
        let stream = connect(own, self.management, b"", &[]).await;
        let mut stream = stream.expect("hands are shaken");
        let request = "GET /roots/0 HTTP/1.0\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // It may end without saying so in TLS.
        let _ = stream.read_to_end(&mut answer).await;
        let root = CertificateDer::from_pem_slice(&answer).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("an authority");
        roots
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            artifacts::keep(&self.log);
        }
    }
}
