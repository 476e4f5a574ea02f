//! A homeserver of its own for a test: Synapse from PyPI, with federation over TLS under a
//! certificate authority that nobody else knows. Stopped when dropped.

use crate::artifacts;
use crate::server::{free_tcp_port, request};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

/// How long a start may take: two seconds of work, on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where a homeserver will be, settled before anything runs: the server under test is told.
pub struct Site {
    folder: PathBuf,
    client: u16,
    federation: u16,
    /// It federates, on this machine.
    federates: bool,
    registered: bool,
}

impl Site {
    /// Takes ports and a folder, and makes the authority and the certificate.
    ///
    /// # Panics
    /// When the temporary folder takes no files.
    #[must_use]
    pub fn new() -> Self {
        let (client, federation) = (free_tcp_port(), free_tcp_port());
        let folder = std::env::temp_dir().join(format!("foci-synapse-{federation}"));
        fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        let site = Self {
            folder,
            client,
            federation,
            federates: false,
            registered: false,
        };
        site.certify().expect("certificates are made");
        site
    }

    /// The server name, with a port: it is found there and nowhere else.
    #[must_use]
    pub fn name(&self) -> String {
        format!("localhost:{}", self.federation)
    }

    /// The base URL of the client API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.client)
    }

    /// What a server is configured with for it: it is found by its name, at a private address, and shows
    /// a certificate of an authority of its own; it has no well-known file for clients.
    #[must_use]
    pub fn configuration(&self) -> String {
        let (name, url) = (self.name(), self.url());
        let authority = self.authority();
        format!(
            "matrix:\n  full_access_homeservers: [\"{name}\"]\n  ca_file: \"{}\"\n  client_apis: {{ \"{name}\": \"{url}\" }}\n",
            authority.display(),
        )
    }

    /// The PEM file of the authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// This homeserver and another one federate: it trusts the other's authority, and looks for it on
    /// this machine.
    ///
    /// # Panics
    /// When a file cannot be read or written.
    pub fn federate_with(&mut self, other: &Self) {
        let authorities = [self.authority(), other.authority()];
        let [own, others] =
            authorities.map(|path| fs::read_to_string(path).expect("a certificate"));
        self.write("other.pem", &others);
        self.write("trusted.pem", &(own + &others));
        self.federates = true;
    }

    /// The PEM file of all authorities of those that federate.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.folder.join("trusted.pem")
    }

    /// The file of a registration as an application service.
    #[must_use]
    pub fn registration(&self) -> PathBuf {
        self.folder.join("registration.yaml")
    }

    /// Takes such a registration, before it opens.
    pub fn register(&mut self, registration: &str) {
        self.write("registration.yaml", registration);
        self.registered = true;
    }

    fn certify(&self) -> Result<(), rcgen::Error> {
        let mut of_authority = CertificateParams::new(Vec::new())?;
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for each other.
        let name = format!("authority of {}", self.name());
        of_authority
            .distinguished_name
            .push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec!["localhost".into()])?.signed_by(&key, &authority)?;
        self.write("authority.pem", &authority.pem());
        self.write("tls.pem", &certificate.pem());
        self.write("tls.key", &key.serialize_pem());
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("synapse-{}.log", self.federation))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("the temporary folder takes a file");
    }

    /// Starts Synapse with a transport for calls, and waits until it answers.
    ///
    /// # Panics
    /// When it does not in time; its log is kept with the artifacts.
    pub async fn open(self, python: &Path, service: &str) -> Homeserver {
        let secret = random();
        self.write("signing.key", &format!("ed25519 a_test {}", random()));
        let mut config = self.config(service, &secret);
        if self.federates {
            // It reads one certificate of each file.
            config["federation_custom_ca_list"] = json!(["authority.pem", "other.pem"]);
            config["ip_range_blacklist"] = json!([]);
            config["federation_ip_range_blacklist"] = json!([]);
        }
        self.write("homeserver.yaml", &config.to_string());
        let out = File::create(self.log()).expect("a log");
        let child = Command::new(python)
            .args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle is copied"))
            .stderr(out)
            .spawn()
            .expect("Synapse starts");
        let mut homeserver = Homeserver {
            child,
            site: self,
            secret,
        };
        homeserver.ready().await;
        homeserver
    }

    /// JSON is YAML.
    fn config(&self, service: &str, secret: &str) -> Value {
        let listener = |port, tls, names: &[&str]| {
            json!({ "port": port, "tls": tls, "bind_addresses": ["127.0.0.1"], "type": "http",
                "resources": [{ "names": names, "compress": false }] })
        };
        let free = json!({ "per_second": 10_000, "burst_count": 10_000 });
        let registrations: &[&str] = if self.registered {
            &["registration.yaml"]
        } else {
            &[]
        };
        json!({
            "server_name": self.name(),
            "app_service_config_files": registrations,
            "public_baseurl": format!("http://localhost:{}/", self.client),
            "report_stats": false,
            "pid_file": "synapse.pid",
            "media_store_path": "media",
            "database": { "name": "sqlite3", "args": { "database": "synapse.db" } },
            "listeners": [
                listener(self.client, false, &["client"]),
                listener(self.federation, true, &["federation", "openid"]),
            ],
            "tls_certificate_path": "tls.pem",
            "tls_private_key_path": "tls.key",
            "signing_key_path": "signing.key",
            "trusted_key_servers": [],
            "suppress_key_server_warning": true,
            "macaroon_secret_key": random(),
            "form_secret": random(),
            "registration_shared_secret": secret,
            "bcrypt_rounds": 4,
            // What calls of Element Call stand on.
            "matrix_rtc": { "transports": [{ "type": "livekit", "livekit_service_url": service }] },
            "max_event_delay_duration": "24h",
            "experimental_features": {
                "msc3266_enabled": true, "msc4143_enabled": true,
                "msc4222_enabled": true, "msc4354_enabled": true,
                "msc4502_enabled": true, "msc4512_enabled": true,
            },
            "rc_message": free, "rc_registration": free, "rc_room_creation": free,
            "rc_delayed_event_mgmt": free,
            "rc_login": { "address": free, "account": free, "failed_attempts": free },
            "rc_joins": { "local": free, "remote": free },
            "rc_invites": { "per_room": free, "per_user": free, "per_issuer": free },
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// A running Synapse.
pub struct Homeserver {
    child: Child,
    site: Site,
    /// Whoever knows it may make accounts.
    pub secret: String,
}

impl Homeserver {
    /// The base URL of its client API.
    #[must_use]
    pub fn url(&self) -> String {
        self.site.url()
    }

    /// Makes an account; its access token.
    pub async fn account(&self, name: &str) -> String {
        let [_, _, token] = self.user(name).await;
        token
    }

    /// Asks its client API in the name of whoever has this access token.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, self.site.client));
        let shown = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let headers = format!("{shown}Content-Type: application/json\r\n");
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let answer = request(host, method, path, &headers, &body).await;
        let answer = answer.expect("an answer");
        let told = serde_json::from_str(&answer.body);
        (answer.status, told.expect("JSON"))
    }

    /// Its server name.
    #[must_use]
    pub fn name(&self) -> String {
        self.site.name()
    }

    /// The same, and it must not refuse.
    ///
    /// # Panics
    /// When it does.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let (status, told) = self.ask(method, path, token, body).await;
        assert_eq!(status, 200, "{method} {path}: {told}");
        told
    }

    /// Makes an account; its user id, device and access token.
    pub async fn user(&self, name: &str) -> [String; 3] {
        const PATH: &str = "/_synapse/admin/v1/register";
        let nonce = self.call("GET", PATH, "", &Value::Null).await["nonce"].clone();
        let password = random();
        let words = [
            nonce.as_str().expect("a nonce"),
            name,
            &password,
            "notadmin",
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        let mac = hmac::sign(&key, words.join("\0").as_bytes());
        let mac: String = mac.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let account = json!({ "nonce": nonce, "username": name, "password": password,
            "admin": false, "mac": mac });
        let made = self.call("POST", PATH, "", &account).await;
        ["user_id", "device_id", "access_token"]
            .map(|field| made[field].as_str().expect("a text").to_owned())
    }

    /// Both listeners take connections: the last thing it does when it starts.
    async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(50));
        for port in [self.site.client, self.site.federation] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            while TcpStream::connect(address).await.is_err() {
                let ended = self.child.try_wait().expect("our own child");
                assert!(ended.is_none(), "Synapse ended at once: {ended:?}");
                assert!(Instant::now() < deadline, "Synapse does not answer");
                tick.tick().await;
            }
        }
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            artifacts::keep(&self.site.log());
        }
    }
}

/// A secret, and as long as a signing key is.
fn random() -> String {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("chance");
    STANDARD_NO_PAD.encode(bytes)
}
