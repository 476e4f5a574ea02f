//! What the authorization service alone costs: `cargo bench -p sfu --bench authorization`.
//!
//! `foci jwt` is a process of its own between a homeserver and an SFU that answer at once; clients here
//! ask it for tokens over connections that stay open. Printed: resident memory after the start, after
//! requests, and with delegated leaves; tokens a second, and how long one takes. Clients, homeserver and
//! SFU run on the same host, and every token opens a connection to each of the two anew.
//!
//! `-- --seconds 30` measures for longer, `-- --clients 64` with more at a time.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark waits, reads the clock, makes threads and prints"
)]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Delegated leaves, each of a participant who is in a call.
const LEAVES: usize = 10_000;
/// Threads of the homeserver and of the SFU, each with one connection at a time.
const ANSWERING: usize = 16;
/// How long a start, and what follows the last leave, may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Its users create rooms.
const HOME: &str = "example.com";
/// Its users join rooms of others.
const AWAY: &str = "away.example";

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if !words.iter().any(|word| word == "--bench") {
        println!("run it with cargo bench");
        return;
    }
    let number = |name: &str, usual: usize| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok())
            .unwrap_or(usual)
    };
    let seconds = Duration::from_secs(number("--seconds", 10) as u64);
    let clients = number("--clients", 16);
    let restarts = Arc::<AtomicUsize>::default();
    let service = Service::start(homeserver(Arc::clone(&restarts)), sfu());
    println!(
        "host: {} cores; {clients} clients; all on this host",
        thread::available_parallelism().map_or(0, usize::from)
    );
    println!("after the start: {:.1} MiB", service.resident_mib());
    for (what, server) in [("room made on the SFU", HOME), ("no room made", AWAY)] {
        let load = service.load(server, clients, seconds);
        println!("tokens, {what}: {load}");
    }
    let before = service.resident_mib();
    println!("after these tokens: {before:.1} MiB");
    service.delegate(clients);
    // Each is restarted when it is handed over, and when its participant is found.
    let deadline = Instant::now() + PATIENCE;
    while restarts.load(Relaxed) < 2 * LEAVES {
        assert!(Instant::now() < deadline, "not all participants are found");
        thread::sleep(Duration::from_millis(50));
    }
    let after = service.resident_mib();
    println!(
        "with {LEAVES} delegated leaves: {after:.1} MiB, {:.0} bytes each",
        (after - before) * 1_048_576.0 / LEAVES as f64
    );
}

/// Vouches for Alice of whatever server, and counts restarts.
fn homeserver(restarts: Arc<AtomicUsize>) -> SocketAddr {
    serve(move |path| {
        if path.contains("/delayed_events/") {
            restarts.fetch_add(1, Relaxed);
            return "{}".to_owned();
        }
        let server = path.rsplit('-').next().unwrap_or_default();
        format!(r#"{{"sub":"@alice:{server}"}}"#)
    })
}

/// Takes every room, and has every participant.
fn sfu() -> SocketAddr {
    serve(|path| {
        let found = path.ends_with("/GetParticipant");
        if found { "\n\u{4}PA_1" } else { "" }.to_owned()
    })
}

/// A server that answers each connection's only request.
fn serve(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let shared = Arc::new((listener, answer));
    for _ in 0..ANSWERING {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (listener, answer) = &*shared;
            while let Ok((stream, _)) = listener.accept() {
                // A client that has gone needs no answer.
                let _ = reply(stream, answer);
            }
        });
    }
    address
}

fn reply(mut stream: TcpStream, answer: &impl Fn(&str) -> String) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (line, _) = message(&mut reader)?;
    let body = answer(line.split(' ').nth(1).unwrap_or_default());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes())
}

/// First line and body of a request or an answer.
fn message(reader: &mut impl BufRead) -> io::Result<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((first, body))
}

/// The process.
struct Service {
    child: Child,
    address: SocketAddr,
}

/// What a load came to.
struct Load {
    /// Of each token, sorted.
    took: Vec<Duration>,
    seconds: f64,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |part: usize| {
            let took = self.took[self.took.len() * part / 1000];
            took.as_secs_f64() * 1000.0
        };
        write!(
            f,
            "{:.0} a second; p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            self.took.len() as f64 / self.seconds,
            at(500),
            at(990),
            at(999)
        )
    }
}

impl Service {
    fn start(homeserver: SocketAddr, sfu: SocketAddr) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let at = format!("http://{homeserver}");
        let file = format!(
            "matrix:\n  homeservers: {{ {HOME}: \"{at}\", {AWAY}: \"{at}\" }}\n  requests_per_user: 0\n"
        );
        let child = Command::new(env!("CARGO_BIN_EXE_foci"))
            .arg("jwt")
            .env("LIVEKIT_CONFIG", file)
            .env("LIVEKIT_URL", format!("ws://{sfu}"))
            .env("LIVEKIT_KEY", "benchkey")
            .env(
                "LIVEKIT_SECRET",
                "a-secret-of-the-benchmark-that-is-long-enough",
            )
            .env("LIVEKIT_FULL_ACCESS_HOMESERVERS", HOME)
            .env("LIVEKIT_CS_API_URL_OVERRIDES", format!("{HOME}={at}"))
            .env("LIVEKIT_JWT_BIND", address.to_string())
            .env("LIVEKIT_LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .spawn()
            .expect("the service starts");
        let service = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the service does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        service
    }

    fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the service runs");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.expect("a process has resident memory") / 1024.0
    }

    /// Each client asks for one token after the other.
    fn load(&self, server: &'static str, clients: usize, seconds: Duration) -> Load {
        let began = Instant::now();
        let address = self.address;
        let client = move |client: usize| {
            let mut connection = Connection::open(address);
            let mut took = Vec::new();
            while began.elapsed() < seconds {
                let asked = Instant::now();
                connection.token(server, &format!("{client}"), "");
                took.push(asked.elapsed());
            }
            took
        };
        let clients: Vec<_> = (0..clients)
            .map(|number| thread::spawn(move || client(number)))
            .collect();
        let took = clients.into_iter().map(|client| client.join());
        let mut took: Vec<Duration> = took.flat_map(|took| took.expect("a client")).collect();
        let seconds = began.elapsed().as_secs_f64();
        took.sort_unstable();
        Load { took, seconds }
    }

    /// Hands over all leaves, each of a participant of its own.
    fn delegate(&self, clients: usize) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut connection = Connection::open(self.address);
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= LEAVES {
                            break;
                        }
                        let more = format!(r#","delay_id":"d-{number}","delay_timeout":3600000"#);
                        connection.token(HOME, &format!("leave-{number}"), &more);
                    }
                });
            }
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client's connection.
struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        let reader = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, reader }
    }

    /// One token for Alice of `server`.
    fn token(&mut self, server: &str, member: &str, more: &str) {
        let body = format!(
            r#"{{"room_id":"!room:{server}","slot_id":"m.call#ROOM","openid_token":{{"access_token":"of-{server}","matrix_server_name":"{server}"}},"member":{{"id":"{member}","claimed_user_id":"@alice:{server}","claimed_device_id":"D"}}{more}}}"#
        );
        let length = body.len();
        let text = format!(
            "POST /get_token HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(text.as_bytes()).expect("sent");
        let (line, body) = message(&mut self.reader).expect("answered");
        let text = String::from_utf8_lossy(&body);
        assert!(line.contains(" 200 "), "{line}{text}");
    }
}
