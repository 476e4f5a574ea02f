//! The two servers: ours in a thread of this process, coturn as a process.

use super::client::{NAME, PASSWORD, REALM_TEXT};
use super::load::{SfuTarget, Target};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use turn::config::{Config, Wall};
use turn::credentials::{Credentials, Secret};
use turn::net::{Door, LaneReceiver, LaneSender, Packet, Settings, SfuSide, Turn, lane};
use turn::policy::Prefix;

const SFU: &str = "127.0.0.1:9";
const COTURN: u16 = 34_790;

/// coturn with one relay thread, as ours has one thread.
pub(crate) struct Coturn(Child);

impl Coturn {
    pub(crate) fn start() -> Option<Self> {
        let child = Command::new("turnserver")
            .args([
                "-n",
                "--no-cli",
                "-L",
                "127.0.0.1",
                "-E",
                "127.0.0.1",
                "-m",
                "1",
            ])
            .args([
                "-p",
                &COTURN.to_string(),
                "--lt-cred-mech",
                "-r",
                REALM_TEXT,
            ])
            .args([
                "-u",
                &format!("{NAME}:{PASSWORD}"),
                "--allow-loopback-peers",
            ])
            .args([
                "--no-tls",
                "--no-dtls",
                "--min-port",
                "40000",
                "--max-port",
                "49000",
            ])
            .args([
                "--log-file",
                "/dev/null",
                "--pidfile",
                "/dev/null",
                "--no-stdout-log",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // It needs a moment to listen.
        std::thread::sleep(Duration::from_secs(2));
        Some(Self(child))
    }

    pub(crate) fn target(&self) -> Target {
        let tasks = format!("/proc/{}/task", self.0.id());
        Target {
            server: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), COTURN),
            cpu_ns: Box::new(move || cpu_ns(&tasks, |_| true)),
            sfu: None,
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the SFU beside ours does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sfu {
    /// Counts what it gets.
    Drain,
    /// Sends to whom it has heard of.
    Repeat,
}

impl Sfu {
    const fn thread(self) -> &'static str {
        match self {
            Self::Drain => "sfu-drain",
            Self::Repeat => "sfu-repeat",
        }
    }
}

/// Ours.
pub(crate) struct Ours {
    sfu: Sfu,
    turn: Turn,
    thread: String,
    arrived: Arc<AtomicU64>,
    to_send: Arc<AtomicU64>,
    in_a_row: Arc<AtomicU64>,
}

impl Ours {
    pub(crate) fn start(sfu: Sfu) -> Self {
        let wall = Wall {
            at: Instant::now(),
            unix_s: 0,
        };
        let mut config = Config::new(REALM_TEXT, wall);
        config.credentials = Credentials {
            fixed: vec![(NAME.into(), Secret::new(PASSWORD))],
            ..Credentials::default()
        };
        config.own.external = vec![Ipv4Addr::LOCALHOST.into()];
        config.own.sfu = vec![SFU.parse().expect("an address")];
        let loopback = Prefix::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
        config.peers.allow = vec![loopback.expect("a prefix")];
        config.limits.user_allocations = 0;
        config.limits.unknown_answers_burst = 1_000_000;
        let first = if sfu == Sfu::Drain { 30_000 } else { 30_100 };
        config.relay_ports = (first, first + 20);
        let mut settings = Settings::new(config, [3; 32]);
        settings.udp = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)];
        settings.relay = vec![Ipv4Addr::LOCALHOST.into()];
        let ((to_sfu, inbox), (outbox, from_sfu)) = (lane(), lane());
        settings.sfu = Some(SfuSide {
            doors: vec![Door { to_sfu, from_sfu }],
            steer: None,
        });
        let (arrived, to_send) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let in_a_row = Arc::new(AtomicU64::new(1));
        let (count, row) = (Arc::clone(&arrived), Arc::clone(&in_a_row));
        let budget = Arc::clone(&to_send);
        let thread = std::thread::Builder::new().name(sfu.thread().into());
        let serving = thread.spawn(move || serve((inbox, outbox), sfu, &count, (&budget, &row)));
        drop(serving.expect("a thread"));
        let before = threads();
        let turn = Turn::start(settings).expect("it starts");
        let thread = threads().into_iter().find(|one| !before.contains(one));
        Self {
            sfu,
            turn,
            thread: thread.expect("its thread"),
            arrived,
            to_send,
            in_a_row,
        }
    }

    pub(crate) fn target(&self) -> Target {
        let thread = self.thread.clone();
        Target {
            server: self.turn.bound().udp[0],
            cpu_ns: Box::new(move || cpu_ns("/proc/self/task", |task| task == thread)),
            sfu: None,
        }
    }

    pub(crate) fn sfu_target(&self) -> Target {
        Target {
            sfu: Some(SfuTarget {
                address: SFU.parse().expect("an address"),
                arrived: Arc::clone(&self.arrived),
                to_send: Arc::clone(&self.to_send),
                in_a_row: Arc::clone(&self.in_a_row),
                thread: self.sfu.thread(),
            }),
            ..self.target()
        }
    }
}

/// The threads of this process that are called `turn`.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    let is_turn = |task: &String| {
        let name = fs::read_to_string(format!("/proc/self/task/{task}/comm"));
        name.is_ok_and(|name| name.trim() == "turn")
    };
    // A thread takes its name a moment after it began.
    std::thread::sleep(Duration::from_millis(50));
    names.filter(is_turn).collect()
}

/// Nanoseconds that this process's threads of a name have run.
pub(crate) fn cpu_of(thread: &str) -> u64 {
    cpu_ns("/proc/self/task", |task| {
        let name = fs::read_to_string(format!("/proc/self/task/{task}/comm"));
        name.is_ok_and(|name| name.trim() == thread)
    })
}

/// Nanoseconds that this process's first thread has run: it sends.
pub(crate) fn cpu_of_sender() -> u64 {
    let own = std::process::id().to_string();
    cpu_ns("/proc/self/task", |task| task == own)
}

/// Nanoseconds that tasks have run.
fn cpu_ns(tasks: &str, of: impl Fn(&str) -> bool) -> u64 {
    let Ok(entries) = fs::read_dir(tasks) else {
        return 0;
    };
    let names = entries.filter_map(|task| task.ok()?.file_name().into_string().ok());
    let run = |task: String| {
        let text = fs::read_to_string(format!("{tasks}/{task}/schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    names.filter(|task| of(task)).filter_map(run).sum()
}

/// The SFU's thread: counts, and sends what it is told to, shared out among the last 48 it heard of.
fn serve(
    (mut inbox, mut outbox): (LaneReceiver, LaneSender),
    sfu: Sfu,
    arrived: &AtomicU64,
    (to_send, in_a_row): (&AtomicU64, &AtomicU64),
) {
    let mut known: Vec<Packet> = Vec::new();
    let mut turn = 0;
    let me = std::thread::current();
    inbox.wake_by(move || me.unpark());
    loop {
        while let Some(batch) = inbox.take() {
            arrived.fetch_add(batch.len() as u64, Ordering::Relaxed);
            for (packet, _) in batch.packets().filter(|_| sfu == Sfu::Repeat) {
                known.retain(|other| other.allocation.slot != packet.allocation.slot);
                known.insert(0, packet);
            }
            known.truncate(48);
            inbox.give_back(batch);
        }
        let wanted = to_send.swap(0, Ordering::Relaxed).min(4096);
        let row = in_a_row.load(Ordering::Relaxed).max(1) as usize;
        for _ in 0..wanted {
            if let Some(to) = known.get(turn / row % known.len().max(1)) {
                outbox.push(to.allocation, to.sfu, to.relayed, &[7; 172]);
            }
            turn += 1;
        }
        outbox.flush();
        let tick = match sfu {
            Sfu::Drain => Duration::from_secs(1),
            Sfu::Repeat => Duration::from_micros(500),
        };
        if inbox.may_sleep() {
            std::thread::park_timeout(tick);
        }
        inbox.woke();
    }
}
