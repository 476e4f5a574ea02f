//! The authorization service alone, `foci jwt`, as a child process that is configured by its
//! environment and stopped when dropped.

use crate::artifacts;
use crate::server::{Answer, PATIENCE, binary, free_tcp_port, request, show};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// A running service.
pub struct Alone {
    child: Child,
    log: PathBuf,
    /// Where it answers.
    pub http: SocketAddr,
}

/// How a service that did not start ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: Option<i32>,
    /// What it told on stderr.
    pub stderr: String,
}

/// `foci jwt` with these variables and no others.
fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.arg("jwt").args(arguments).stdin(Stdio::null());
    command.env_clear().envs(variables.iter().copied());
    command
}

impl Alone {
    /// Starts a service with these variables, at a port of its own, and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer in time; its log is printed.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_with(&[], variables).await
    }

    /// The same with arguments.
    ///
    /// # Panics
    /// As above.
    pub async fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_tcp_port()));
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-alone-{}-{count}.log", std::process::id());
        let log = std::env::temp_dir().join(name);
        let out = File::create(&log).expect("the temporary folder takes a log");
        let child = command(arguments, variables)
            .env("LIVEKIT_JWT_BIND", http.to_string())
            .stdout(out.try_clone().expect("a file handle is copied"))
            .stderr(out)
            .spawn()
            .expect("the service starts");
        let mut service = Self { child, log, http };
        service.ready().await;
        service
    }

    /// Runs one that cannot start to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn fail(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output = command(arguments, variables).output();
        let output = output.expect("the service starts");
        Ended {
            status: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Ok(answer) = request(self.http, "GET", "/healthz", "", "").await
                && answer.status == 200
            {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "the service ended at once: {ended:?}");
            assert!(Instant::now() < deadline, "the service does not answer");
        }
    }

    /// One request with extra header lines, each ended by CR LF.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        request(self.http, method, path, headers, body)
            .await
            .expect("an HTTP answer")
    }

    /// Asks it to end with this signal, for example `TERM`.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// Waits until the process has ended; its exit status.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the service does not end");
            tick.tick().await;
        }
    }

    /// The process's number, to look at it from outside.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has logged so far.
    ///
    /// # Panics
    /// When the log is gone.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
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
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            artifacts::keep(&self.log);
            show(&format!("--- the service's log ---\n{}", self.log()));
        }
        let _ = fs::remove_file(&self.log);
    }
}
