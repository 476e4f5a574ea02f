//! The server under measurement: started by us or already there, and what the kernel says of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The API key of a server we start.
pub const KEY: &str = "benchkey";
/// Its secret.
pub const SECRET: &str = "a-secret-of-the-benchmark-that-is-long-enough";
/// Ticks of /proc/<pid>/stat in a second, the same on every Linux we know.
const TICKS: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(10);

/// A server process.
pub struct Process {
    child: Option<Child>,
    pid: u32,
    /// `host:port` of its signalling.
    pub authority: String,
    metrics: Option<SocketAddr>,
}

/// Processor time so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub user: f64,
    pub kernel: f64,
}

/// The server's own counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub packets: f64,
    pub sends: f64,
    pub datagrams: f64,
    pub busy: f64,
}

impl Process {
    /// Starts the server built with this benchmark on free ports.
    pub fn start() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (http, metrics) = (local(free_tcp_port()), local(free_tcp_port()));
        let config = format!(
            "port: {}\nbind_addresses: [127.0.0.1]\nkeys:\n  {KEY}: {SECRET}\nlogging:\n  level: warn\n\
             prometheus:\n  port: {}\n  bind_addresses: [127.0.0.1]\nrtc:\n  udp_port: {}\n  tcp_port: {}\n  \
             node_ip: 127.0.0.1\n  use_external_ip: false\n  enable_loopback_candidate: true\n",
            http.port(),
            metrics.port(),
            free_udp_port(),
            free_tcp_port(),
        );
        let child = Command::new(env!("CARGO_BIN_EXE_foci"))
            .env("LIVEKIT_CONFIG", config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let process = Self {
            pid: child.id(),
            child: Some(child),
            authority: http.to_string(),
            metrics: Some(metrics),
        };
        let deadline = Instant::now() + PATIENCE;
        while get(http, "/").is_none() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    /// A server that runs already.
    pub fn attach(url: &str, pid: u32) -> Self {
        let authority = url.trim_start_matches("ws://").trim_end_matches('/');
        Self {
            child: None,
            pid,
            authority: authority.to_owned(),
            metrics: None,
        }
    }

    /// Processor time used by all of its threads. (proc(5), fields 14 and 15)
    pub fn cpu(&self) -> Cpu {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
        let mut ticks = fields.split(' ').skip(11).map(|field| {
            let ticks: f64 = field.parse().expect("a number of ticks");
            ticks / TICKS
        });
        let mut next = || ticks.next().expect("a stat line has 52 fields");
        Cpu {
            user: next(),
            kernel: next(),
        }
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> f64 {
        let status = self.proc("status");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .expect("a process has resident memory")
    }

    /// The server's counters, if it is ours.
    pub fn counters(&self) -> Option<Counters> {
        let page = get(self.metrics?, "/metrics")?;
        let sum = |name: &str, labels: &[&str]| {
            let lines = page.lines().filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            });
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        Some(Counters {
            packets: sum("livekit_packet_total{", &["\"outgoing\"", "\"initial\""]),
            sends: sum("foci_udp_sends_total{", &[]),
            datagrams: sum("foci_gso_segments_total{", &[]),
            busy: sum("foci_worker_busy_ns_total{", &[]) / 1e9,
        })
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("the server runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The body of a page, if it is served.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

fn free_tcp_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("a bound socket").port()
}

fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("a bound socket").port()
}
