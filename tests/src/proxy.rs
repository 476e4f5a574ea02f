//! A proxy in front of the server, set up as a page of `docs/proxies` says: what runs are the code blocks
//! of the page, with its example names and ports replaced.

use crate::artifacts;
use crate::certified::{Secured, shake_hands};
use crate::request::{Answer, Request, exchange};
use crate::server::PATIENCE;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::rustls::RootCertStore;

/// Where visitors come from: not from where a proxy comes.
pub const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// A page of `docs/proxies`.
pub struct Page {
    name: &'static str,
    text: String,
}

/// A file as a page has it, and as it is made to run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting(String);

impl Page {
    /// Reads one.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn open(name: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proxies");
        let text = fs::read_to_string(folder.join(name).with_extension("md"));
        let text = text.unwrap_or_else(|error| panic!("docs/proxies/{name}.md: {error}"));
        Self { name, text }
    }

    /// The code block of this file, which its first line names after `# `, in the part with this heading.
    ///
    /// # Panics
    /// When there is none, or several.
    #[must_use]
    pub fn file(&self, part: &str, file: &str) -> Setting {
        let heading = format!("\n## {part}\n");
        let part_text = self.text.split_once(&heading).map(|(_, after)| after);
        let part_text = part_text.unwrap_or_else(|| panic!("{}: no part `{part}`", self.name));
        let part_text = part_text.split("\n## ").next().unwrap_or_default();
        // Text, block, text, block …
        let blocks = part_text.split("\n```").skip(1).step_by(2);
        let named = blocks.filter_map(|block| {
            let (_, body) = block.split_once('\n')?;
            let first = body.lines().next()?.strip_prefix("# ")?;
            (first == file).then(|| format!("{body}\n"))
        });
        let mut named: Vec<String> = named.collect();
        assert_eq!(named.len(), 1, "{}: `{file}` in `{part}`", self.name);
        Setting(named.remove(0))
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Setting {
    /// With something of this machine in the place of the page's example.
    ///
    /// # Panics
    /// When the page does not have it.
    #[must_use]
    pub fn with(self, example: &str, here: &str) -> Self {
        assert!(self.0.contains(example), "`{example}` is not in {}", self.0);
        Self(self.0.replace(example, here))
    }

    /// With lines after it that the page leaves to its readers.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        Self(self.0 + more)
    }

    /// Asserts that it has all of these lines, or parts of lines.
    ///
    /// # Panics
    /// When one is missing.
    #[must_use]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.0.contains(part), "`{part}` is not in {}", self.0);
        }
        self
    }

    /// The text as it runs.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A folder of a proxy, gone when dropped.
pub struct Folder(PathBuf);

impl Default for Folder {
    /// # Panics
    /// When the temporary folder takes none.
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-proxy-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("the temporary folder takes one");
        Self(folder)
    }
}

impl Folder {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file of it is.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file, and returns where it is.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, text: &str) -> String {
        let at = self.at(name);
        fs::write(&at, text).expect("the temporary folder takes a file");
        at
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is only a folder in the temporary one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running proxy, stopped when dropped.
pub struct Proxy {
    child: Child,
    folder: Folder,
    /// Where it speaks TLS.
    pub https: SocketAddr,
}

impl Proxy {
    /// Starts one of its folder, and waits until `localhost` has a certificate that these vouch for at its
    /// port: some listen before they have read everything.
    ///
    /// # Panics
    /// When it does not in time; its log is shown.
    pub async fn start(
        folder: Folder,
        mut command: Command,
        (port, roots): (u16, RootCertStore),
    ) -> Self {
        let log = File::create(folder.at("proxy.log")).expect("the temporary folder takes a log");
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle is copied"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut proxy = Self {
            child,
            folder,
            https: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        while come_in_tls(&roots, proxy.https, "localhost").await.is_err() {
            let ended = proxy.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{ended:?}: {}", proxy.log());
            assert!(Instant::now() < deadline, "{}", proxy.log());
            tick.tick().await;
        }
        proxy
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.at("proxy.log")).unwrap_or_default()
    }

    /// All that it has written of its own accord: what it printed, and its other logs.
    ///
    /// # Panics
    /// When its folder is gone.
    #[must_use]
    pub fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path()).expect("its folder");
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.filter_map(|path| fs::read_to_string(path).ok())
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            artifacts::keep(Path::new(&self.folder.at("proxy.log")));
            crate::server::show(&format!("--- the proxy's log ---\n{}", self.log()));
        }
    }
}

/// A connection from [`VISITOR`].
///
/// # Errors
/// Nobody listens.
pub async fn come(at: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((VISITOR, 0)))?;
    socket.connect(at).await
}

/// One in TLS to a host, which must show a certificate for it.
///
/// # Errors
/// Nobody listens, or shakes hands.
pub async fn come_in_tls(
    roots: &RootCertStore,
    at: SocketAddr,
    host: &'static str,
) -> io::Result<Secured> {
    shake_hands(roots.clone(), come(at).await?, host, &[]).await
}

/// One request by one.
///
/// # Panics
/// When there is no answer.
pub async fn visit(
    roots: &RootCertStore,
    (at, host): (SocketAddr, &'static str),
    request: Request<'_>,
) -> Answer {
    let exchanged = async {
        let stream = come_in_tls(roots, at, host).await?;
        exchange(stream, &format!("{host}:{}", at.port()), request).await
    };
    let answer = timeout(PATIENCE, exchanged).await.expect("in time");
    answer.unwrap_or_else(|error| panic!("{} at {host}: {error}", request.path))
}
