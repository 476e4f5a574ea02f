//! What the running server costs: `cargo bench -p sfu --bench server`.
//!
//! The server is a process of its own; light clients here join it over real WebSockets and real UDP,
//! with ICE, DTLS and SRTP. Printed: processor time per outgoing packet, user and kernel apart;
//! resident memory; the time from opening the WebSocket to the first received media packet.
//!
//! All is loopback, so the kernel's share holds the receiving side's protocol work as well.
//!
//! `-- --seconds 60` measures for longer. `-- --against ws://127.0.0.1:7890 --pid 1234` measures
//! another server that speaks the same protocol in the same run (`--key`, `--secret`: its API key;
//! start it afresh, or its idle memory is not idle). `-- --pause 30` waits before the end of each
//! load, for a profiler.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a benchmark waits, reads the clock, makes a thread and prints; its modules are its own"
)]

#[path = "forward/client.rs"]
#[allow(dead_code, reason = "peer and path are for a plane without sockets")]
mod client;
#[path = "server/packets.rs"]
mod packets;
#[path = "server/process.rs"]
mod process;
#[path = "server/session.rs"]
mod session;
#[path = "server/wire.rs"]
mod wire;

use client::Shared;
use packets::Media;
use process::Process;
use proto::token::{Keys, Secret};
use session::{Participant, Plan, Target};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wire::{Tally, Wire};

/// Participants that receive.
const SUBSCRIBERS: usize = 50;
/// Joins that are timed.
const JOINS: usize = 20;
/// How long a join may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// After the last join: key frames are through, allocations made.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two timed joins: the one before is forgotten, its key frame long sent.
const BETWEEN: Duration = Duration::from_millis(1200);

fn main() {
    let Some(options) = Options::read() else {
        return;
    };
    // Each server is gone, or idle, before the next is measured.
    let ours = Bench::new(Process::start(), process::KEY, process::SECRET).run("foci", &options);
    let other = options.against.as_ref().map(|(url, pid)| {
        let process = Process::attach(url, *pid);
        Bench::new(process, &options.key, &options.secret).run("other", &options)
    });
    println!(
        "host: {} cores; {SUBSCRIBERS} subscribers, publishers receive nothing; {} s each load; all clients on this host",
        std::thread::available_parallelism().map_or(0, usize::from),
        options.seconds.as_secs()
    );
    print(ours.iter().chain(other.iter().flatten()));
}

fn print<'a>(lines: impl Iterator<Item = &'a String>) {
    for line in lines {
        println!("{line}");
    }
}

/// What the command line says.
struct Options {
    seconds: Duration,
    pause: Duration,
    against: Option<(String, u32)>,
    key: String,
    secret: String,
}

impl Options {
    /// `None` when not run by `cargo bench`: a test run must not take minutes.
    fn read() -> Option<Self> {
        let words: Vec<String> = std::env::args().collect();
        if !words.iter().any(|word| word == "--bench") {
            println!("run it with cargo bench");
            return None;
        }
        let value = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            words.get(at + 1).cloned()
        };
        let number = |name: &str| value(name).and_then(|text| text.parse::<u32>().ok());
        Some(Self {
            seconds: Duration::from_secs(number("--seconds").unwrap_or(20).into()),
            pause: Duration::from_secs(number("--pause").unwrap_or(0).into()),
            against: value("--against").zip(number("--pid")),
            key: value("--key").unwrap_or_else(|| "devkey".into()),
            secret: value("--secret").unwrap_or_else(|| "secret".into()),
        })
    }
}

/// One server and the clients that load it.
struct Bench {
    process: Process,
    target: Arc<Target>,
    runtime: Runtime,
    next_id: usize,
}

/// What a load cost.
struct Load {
    received: u64,
    expected: u64,
    user: f64,
    kernel: f64,
    seconds: f64,
    counters: Option<process::Counters>,
    opened: u64,
    refused: u64,
}

impl Bench {
    fn new(process: Process, key: &str, secret: &str) -> Self {
        let target = Target {
            authority: process.authority.clone(),
            keys: Keys::from_iter([(key.to_owned(), Secret::new(secret))]),
            wire: Wire::start().expect("epoll"),
            shared: Shared::new(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            process,
            target: Arc::new(target),
            runtime,
            next_id: 0,
        }
    }

    /// Everything, as lines to print.
    fn run(&mut self, name: &str, options: &Options) -> Vec<String> {
        std::thread::sleep(Duration::from_secs(1));
        let idle = self.process.resident();
        let (video, full) = self.load("video", Media::Video, 1, options);
        let joins = self.joins();
        let (audio, _) = self.load("audio", Media::Audio, 10, options);
        let participants = (SUBSCRIBERS + 1) as f64;
        vec![
            format!(
                "{name:>6}  {:<14} {:>9} {:>9} {:>9} {:>8} {:>10} {:>9} {:>9} {:>9}",
                "load",
                "user ns",
                "kernel ns",
                "sum ns",
                "cores",
                "packets/s",
                "delivered",
                "counted",
                "per send"
            ),
            video.line(name, "1 video x 50"),
            audio.line(name, "10 audio x 50"),
            format!(
                "{name:>6}  resident: idle {:.1} MiB; with {participants} participants of 1 video {:.1} MiB, {:.0} KiB each",
                idle / 1024.0,
                full / 1024.0,
                (full - idle) / participants
            ),
            format!(
                "{name:>6}  WebSocket open to first media, {JOINS} joins: median {:.1} ms, worst {:.1} ms",
                millis(median(&joins)),
                millis(joins.iter().copied().max().unwrap_or_default())
            ),
        ]
    }

    fn join(
        &mut self,
        room: &str,
        publish: Option<Media>,
        take: Option<(u32, u32)>,
    ) -> Participant {
        self.next_id += 1;
        let plan = Plan {
            id: self.next_id,
            room: room.to_owned(),
            publish,
            take,
        };
        Participant::join(self.runtime.handle(), &self.target, plan)
    }

    /// Publishers and subscribers in one room; also the resident memory with all of them there.
    fn load(
        &mut self,
        room: &str,
        media: Media,
        publishers: usize,
        options: &Options,
    ) -> (Load, f64) {
        let publishing: Vec<Participant> = (0..publishers)
            .map(|_| self.publisher(room, media))
            .collect();
        let sections = match media {
            Media::Audio => (publishers as u32, 1),
            Media::Video => (1, publishers as u32),
        };
        let mut subscribing = Vec::new();
        for _ in 0..SUBSCRIBERS {
            let subscriber = self.join(room, None, Some(sections));
            until(&subscriber.tally, "media comes", |tally| {
                tally.first_media.get().is_some()
            });
            subscribing.push(subscriber);
        }
        std::thread::sleep(SETTLE);
        let resident = self.process.resident();
        let mut load = self.measure(&publishing, &subscribing, options.seconds);
        load.opened = total(&subscribing, |tally| &tally.opened);
        load.refused = total(&subscribing, |tally| &tally.refused);
        std::thread::sleep(options.pause);
        drop((publishing, subscribing));
        std::thread::sleep(SETTLE);
        (load, resident)
    }

    fn publisher(&mut self, room: &str, media: Media) -> Participant {
        let publisher = self.join(room, Some(media), None);
        until(&publisher.tally, "media leaves", |tally| {
            tally.sent.load(Relaxed) > 0
        });
        publisher
    }

    fn measure(
        &self,
        publishing: &[Participant],
        subscribing: &[Participant],
        length: Duration,
    ) -> Load {
        let snapshot = || {
            (
                self.process.cpu(),
                total(publishing, |tally| &tally.sent),
                total(subscribing, |tally| &tally.received),
                self.process.counters(),
            )
        };
        let start = Instant::now();
        let (cpu, sent, received, counters) = snapshot();
        std::thread::sleep(length);
        let (cpu_then, sent_then, received_then, counters_then) = snapshot();
        Load {
            received: received_then - received,
            expected: (sent_then - sent) * SUBSCRIBERS as u64,
            user: cpu_then.user - cpu.user,
            kernel: cpu_then.kernel - cpu.kernel,
            seconds: start.elapsed().as_secs_f64(),
            counters: counters_then.zip(counters).map(|(then, now)| then - now),
            opened: 0,
            refused: 0,
        }
    }

    /// One join after the other to a publisher of video who is already sending.
    fn joins(&mut self) -> Vec<Duration> {
        let _publisher = self.publisher("joins", Media::Video);
        std::thread::sleep(SETTLE);
        let mut times = Vec::new();
        for at in 0..JOINS {
            let joiner = self.join("joins", None, Some((3, 3)));
            until(&joiner.tally, "media comes", |tally| {
                tally.first_media.get().is_some()
            });
            let (began, first) = (joiner.tally.began.get(), joiner.tally.first_media.get());
            times.extend(first.zip(began).map(|(first, began)| *first - *began));
            drop(joiner);
            // Not in step with the publisher's frames.
            std::thread::sleep(BETWEEN + Duration::from_millis(at as u64 * 7 % 34));
        }
        times
    }
}

impl Load {
    fn line(&self, name: &str, load: &str) -> String {
        let per_packet = |seconds: f64| seconds * 1e9 / self.received.max(1) as f64;
        let (counted, per_send) = self.counters.map_or(("-".into(), "-".into()), |counters| {
            (
                format!(
                    "{:.1} %",
                    100.0 * counters.packets / self.received.max(1) as f64
                ),
                format!("{:.2}", counters.datagrams / counters.sends.max(1.0)),
            )
        });
        let mut line = format!(
            "{name:>6}  {load:<14} {:>9.0} {:>9.0} {:>9.0} {:>8.3} {:>10.0} {:>7.2} % {counted:>9} {per_send:>9}",
            per_packet(self.user),
            per_packet(self.kernel),
            per_packet(self.user + self.kernel),
            (self.user + self.kernel) / self.seconds,
            self.received as f64 / self.seconds,
            100.0 * self.received as f64 / self.expected.max(1) as f64,
        );
        if let Some(counters) = self.counters {
            line.push_str(&format!(
                "  (media thread {:.3} cores)",
                counters.busy / self.seconds
            ));
        }
        if self.refused > 0 || self.opened == 0 {
            line.push_str(&format!(
                "  NOT SOUND: {} opened, {} not",
                self.opened, self.refused
            ));
        }
        line
    }
}

impl std::ops::Sub for process::Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            sends: self.sends - earlier.sends,
            datagrams: self.datagrams - earlier.datagrams,
            busy: self.busy - earlier.busy,
        }
    }
}

fn total(participants: &[Participant], of: impl Fn(&Tally) -> &AtomicU64) -> u64 {
    participants
        .iter()
        .map(|one| of(&one.tally).load(Relaxed))
        .sum()
}

fn until(tally: &Tally, what: &str, seen: impl Fn(&Tally) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen(tally) {
        assert!(
            Instant::now() < deadline,
            "not within {PATIENCE:?}: {what} (transport connected: {})",
            tally.connected.load(Relaxed)
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
