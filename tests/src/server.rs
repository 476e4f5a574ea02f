//! The real server as a child process on free ports, stopped when dropped.
//!
//! `FOCI_BIN` names another binary that takes the same configuration; without it the product is
//! built and its `foci` started. With `FOCI_RECORDED` every server keeps a record, which is replayed
//! in the core when it has ended and must agree.

use crate::artifacts;
pub use crate::ports::{free_tcp_port, free_udp_port};
use crate::replay;
pub use crate::request::{Answer, PATIENCE, request};
use crate::token::{KEY, SECRET};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// What it says when it has started.
const BANNER: &str = "starting Foci";
/// How long after its first answer, at most.
const BANNER_WITHIN: Duration = Duration::from_secs(2);

/// What a test says that wants no TURN server.
const NO_RELAYS: &str = "turn: {enabled: false}\n";

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
    record: Option<PathBuf>,
    /// What stands in its configuration before what a test wants.
    head: String,
    /// Where its HTTP and WebSocket answer.
    pub http: SocketAddr,
    /// Where its media answers.
    pub udp: SocketAddr,
    /// Where its media answers over TCP.
    pub tcp: SocketAddr,
    /// Where it shows its metrics.
    pub metrics: SocketAddr,
}

/// How a server is reached beside loopback.
#[derive(Clone, Copy)]
struct Reach<'a> {
    /// Where else it answers HTTP: addresses of this machine, separated by commas.
    bind: &'a str,
    /// Its media: what stands in `rtc.node_ip`, if anything.
    node_ip: &'a str,
    /// More lines below `rtc`.
    rtc: &'a [&'a str],
}

impl<'a> Reach<'a> {
    /// At addresses of this machine, of which nobody else has to be asked.
    const fn at(ips: &'a str) -> Self {
        Self {
            bind: ips,
            node_ip: ips,
            rtc: &["use_external_ip: false"],
        }
    }
}

/// What stands in the configuration of every server.
fn head(reach: Reach<'_>, [http, udp, tcp, metrics]: [u16; 4]) -> String {
    let ips = reach.bind.split(',').filter_map(|ip| ip.parse().ok());
    let outside = ips.filter(|ip: &IpAddr| !ip.is_loopback());
    let bind: String = outside.map(|ip| format!(", \"{ip}\"")).collect();
    let node_ip = match reach.node_ip {
        "" => String::new(),
        ip => format!("node_ip: \"{ip}\"\n  "),
    };
    let rtc = reach.rtc.join("\n  ");
    format!(
        "port: {http}\nbind_addresses: [127.0.0.1{bind}]\nkeys:\n  {KEY}: {SECRET}\nrtc:\n  \
         udp_port: {udp}\n  tcp_port: {tcp}\n  {node_ip}{rtc}\n  \
         enable_loopback_candidate: true\nprometheus:\n  port: {metrics}\n",
    )
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer in time; its log is printed.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with more lines of configuration.
    pub async fn start_with(more: &str) -> Self {
        Self::launch("127.0.0.1", more, &[]).await
    }

    /// Starts a server that takes its time, and waits for nothing; [`Self::ready`] does.
    #[must_use]
    pub fn begin_with(more: &str) -> Self {
        Self::begin(None, Reach::at("127.0.0.1"), more, &[])
    }

    /// Starts a server whose configuration is in a file, which [`Self::rewrite`] may change.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub async fn start_from(file: &Path, more: &str) -> Self {
        Self::launch_from(Some(file), "127.0.0.1", more, &[]).await
    }

    /// Gives the file other lines beside those that every server has.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn rewrite(&self, file: &Path, more: &str) {
        fs::write(file, format!("{}{more}", self.head)).expect("the file can be written");
    }

    /// Starts a server that is reached at another address of this machine too, and by media there
    /// only.
    pub async fn start_at(ip: impl Into<IpAddr>) -> Self {
        Self::start_at_with(&[ip.into()], "").await
    }

    /// The same at several addresses, with more lines of configuration.
    pub async fn start_at_with(ips: &[IpAddr], more: &str) -> Self {
        let ips: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
        Self::launch(&ips.join(","), more, &[]).await
    }

    /// Starts a server that answers HTTP at another address of this machine too, and whose media is reached
    /// as these keys of the section `rtc` say; with more lines of configuration.
    pub async fn start_behind(ip: IpAddr, rtc: &[&str], more: &str) -> Self {
        let reach = Reach {
            bind: &ip.to_string(),
            node_ip: "",
            rtc,
        };
        Self::launch_reached(reach, more).await
    }

    /// Starts a server whose media is reached over IPv4 and IPv6.
    pub async fn start_dual() -> Self {
        Self::launch("127.0.0.1,::1", "", &[]).await
    }

    /// Starts a server whose media is reached at every address of this machine.
    pub async fn start_everywhere() -> Self {
        Self::launch("", "", &[]).await
    }

    /// Starts a server whose TURN server, of these keys, is reached at every address of this machine,
    /// and whose media is reached through it; with more lines of configuration.
    pub async fn start_with_relays(turn: &str, more: &str) -> Self {
        // Below those that single tests take (from 26000 on), and apart for tests that run side by side.
        let first = 20_000 + std::process::id() % 300 * 20;
        let last = first + 19;
        let turn = format!(
            "{more}turn: {{enabled: true, {turn}, relay_range_start: {first}, \
             relay_range_end: {last}}}\n"
        );
        Self::launch("", &turn, &[]).await
    }

    /// Starts a server with flags.
    pub async fn start_flagged(flags: &[&str]) -> Self {
        Self::launch("127.0.0.1", "", flags).await
    }

    /// Starts a server that was granted so many file descriptors for a beginning.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn start_granted(descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -Sn {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(binary());
        let mut server = Self::begin_as(command, None, Reach::at("127.0.0.1"), "", &[]);
        server.ready().await;
        server
    }

    /// Starts a server that finds its addresses as these keys of the section `rtc` say.
    pub async fn start_reached(rtc: &[&str]) -> Self {
        let reach = Reach {
            rtc,
            ..Reach::at("")
        };
        Self::launch_reached(reach, "").await
    }

    /// What the program prints when it is asked for something else than to serve.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn printed(arguments: &[&str]) -> String {
        let output = Command::new(binary()).args(arguments).output();
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    async fn launch(node_ip: &str, more: &str, flags: &[&str]) -> Self {
        Self::launch_from(None, node_ip, more, flags).await
    }

    async fn launch_from(file: Option<&Path>, node_ip: &str, more: &str, flags: &[&str]) -> Self {
        let mut server = Self::begin(file, Reach::at(node_ip), more, flags);
        server.ready().await;
        server
    }

    async fn launch_reached(reach: Reach<'_>, more: &str) -> Self {
        let mut server = Self::begin(None, reach, more, &[]);
        server.ready().await;
        server
    }

    fn begin(file: Option<&Path>, reach: Reach<'_>, more: &str, flags: &[&str]) -> Self {
        Self::begin_as(Command::new(binary()), file, reach, more, flags)
    }

    fn begin_as(
        mut command: Command,
        file: Option<&Path>,
        reach: Reach<'_>,
        more: &str,
        flags: &[&str],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let [http, metrics, tcp] = [(); 3].map(|()| local(free_tcp_port()));
        let udp = local(free_udp_port());
        let ports = [http, udp, tcp, metrics].map(|at| at.port());
        let mut head = head(reach, ports);
        // Its ports are the same for all servers of this machine.
        if !more.contains("turn:") {
            head.push_str(NO_RELAYS);
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("foci-e2e-{}-{count}.log", std::process::id()));
        let out = File::create(&log).expect("the temporary folder takes a log");
        let record =
            (flags.is_empty() && is_set("FOCI_RECORDED")).then(|| log.with_extension("record"));
        let recording = record
            .iter()
            .flat_map(|file| ["--record".as_ref(), file.as_os_str()]);
        match file {
            Some(file) => {
                fs::write(file, format!("{head}{more}")).expect("the file can be written");
                command.arg("--config").arg(file);
            }
            None => {
                command.env("LIVEKIT_CONFIG", format!("{head}{more}"));
            }
        }
        let child = command
            .args(flags)
            .args(recording)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle is copied"))
            .stderr(out)
            .spawn()
            .expect("the server starts");
        Self {
            child,
            log,
            record,
            head,
            http,
            udp,
            tcp,
            metrics,
        }
    }

    /// Asks `/` until it answers, and waits for the line that says what it is, which comes after; one that
    /// logs little says nothing.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut answers = None;
        let mut tick = interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Ok(answer) = request(self.http, "GET", "/", "", "").await
                && answer.body == "OK"
            {
                let since = *answers.get_or_insert_with(Instant::now);
                if self.log().contains(BANNER) || since.elapsed() > BANNER_WITHIN {
                    return;
                }
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "the server ended at once: {ended:?}");
            assert!(Instant::now() < deadline, "the server does not answer");
        }
    }

    /// `GET` with extra header lines, each ended by CR LF.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn get(&self, path: &str, headers: &str) -> Answer {
        request(self.http, "GET", path, headers, "")
            .await
            .expect("an HTTP answer")
    }

    /// `POST` of `body` with extra header lines, each ended by CR LF.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        request(self.http, "POST", path, headers, body)
            .await
            .expect("an HTTP answer")
    }

    /// `PUT` of `body` with extra header lines, each ended by CR LF.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn put(&self, path: &str, headers: &str, body: &str) -> Answer {
        request(self.http, "PUT", path, headers, body)
            .await
            .expect("an HTTP answer")
    }

    /// The value of a series on the metrics page: of all lines with this name and these labels
    /// (`name="value"`), the sum.
    ///
    /// # Panics
    /// When there is no such series.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let sum = series(&self.get_metrics().await, name, labels);
        sum.unwrap_or_else(|| panic!("no series {name} {labels:?}"))
    }

    /// Waits until there is such a series, with a value that will do.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn until_metric(&self, name: &str, labels: &[&str], will_do: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(50));
        while !series(&self.get_metrics().await, name, labels).is_some_and(&will_do) {
            assert!(
                Instant::now() < deadline,
                "{name} {labels:?}: {}",
                self.log()
            );
            tick.tick().await;
        }
    }

    /// The metrics page.
    ///
    /// # Panics
    /// When there is none.
    pub async fn get_metrics(&self) -> String {
        let page = request(self.metrics, "GET", "/metrics", "", "").await;
        page.expect("the metrics page").body
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Asks it to read its configuration and look at its addresses again.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends it a signal, for example `HUP`.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// Waits until the log holds this.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn logs(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "the log never says: {text}");
            tick.tick().await;
        }
    }

    /// Asks it on the metrics port to look at its addresses again.
    ///
    /// # Panics
    /// When it does not take that.
    pub async fn check_addresses(&self) {
        let asked = request(self.metrics, "POST", "/addresses/check", "", "").await;
        assert_eq!(asked.expect("an answer").status, 202);
    }

    /// Waits until the process has ended, and tells whether it ended well.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            tick.tick().await;
        }
    }

    /// All it has logged so far.
    ///
    /// # Panics
    /// When the log is gone.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
    }

    /// Asserts that nothing it logged since its start asks for anybody's attention.
    ///
    /// # Panics
    /// When there is a warning, an error or a panic; these lines are told.
    pub fn assert_calm(&self) {
        let log = self.log();
        let (_, running) = log.split_once(BANNER).expect("a banner");
        let is_loud = |line: &&str| {
            let level = line.split_whitespace().nth(1);
            matches!(level, Some("WARN" | "ERROR")) || line.contains("panicked at")
        };
        let loud: Vec<_> = running.lines().filter(is_loud).collect();
        assert!(loud.is_empty(), "the log is not calm:\n{}", loud.join("\n"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            artifacts::keep(&self.log);
            let text = self.log();
            let from = text.lines().count().saturating_sub(60);
            // A line may hold a whole session description.
            let cut = |line: &str| line.chars().take(400).collect::<String>();
            let tail: Vec<_> = text.lines().skip(from).map(cut).collect();
            show(&format!(
                "--- the server's last lines ---\n{}",
                tail.join("\n")
            ));
        }
        let _ = fs::remove_file(&self.log);
        if let Some(record) = self.record.take() {
            judge(&record);
        }
    }
}

/// Replays the record of a server that has ended.
fn judge(record: &Path) {
    let report = replay::run(record).expect("a record");
    // It may be cut short, for the server was killed; where it has a gap nothing was judged behind that.
    let good = report.divergence.is_none() && report.lost == 0;
    if !good || std::thread::panicking() {
        artifacts::keep(record);
    }
    fs::remove_file(record).expect("it was there");
    assert!(
        good || std::thread::panicking(),
        "the replay of {}: {report}",
        record.display()
    );
}

/// Is this variable of the environment set?
fn is_set(name: &str) -> bool {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test harness is configured from outside"
    )]
    let given = std::env::var_os(name);
    given.is_some_and(|value| !value.is_empty())
}

#[allow(clippy::print_stderr, reason = "a failing test shows the server's log")]
/// Prints what people are to see.
pub fn show(text: &str) {
    eprintln!("{text}");
}

/// What a program says that does not start, and ends by itself.
///
/// # Panics
/// When it ends well.
#[must_use]
pub fn refused(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output();
    let output = output.expect("the program starts");
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The binary under test, built if it is ours.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        #[allow(
            clippy::disallowed_methods,
            reason = "a test harness is configured from outside"
        )]
        let given = std::env::var("FOCI_BIN");
        if let Ok(path) = given {
            return path.into();
        }
        // All packages and a test, so that features unify as in the test's own build: nothing is
        // compiled twice.
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "-p",
            "proto",
            "-p",
            "jwt-service",
            "-p",
            "sfu",
            "-p",
            "tests",
            "--bin",
            "foci",
            "--test",
            "e2e",
        ]);
        // What cargo tells a running test of its package; a build script that watches these would
        // run again, and all that depends on it be compiled again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        let built = build.status();
        assert!(
            built.expect("cargo is there").success(),
            "the server does not build"
        );
        // …/<profile>/deps/e2e-… stands two below …/<profile>/foci.
        let test = std::env::current_exe().expect("a test has a file");
        let profile = test
            .parent()
            .and_then(|deps| deps.parent())
            .expect("two folders up");
        profile.join("foci")
    })
}

/// The sum of all lines of a metrics page with this name and these labels, if there are any.
fn series(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let of_series = page.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    });
    let values = of_series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value)
}
