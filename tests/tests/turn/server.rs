//! A server in this process, on ports of its own, with an SFU that sends everything back.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use turn::config::{Config, Wall};
use turn::credentials::{Credentials, Secret};
use turn::net::{
    Door, End, LaneReceiver, LaneSender, Observation, Settings, SfuSide, Totals, Turn, lane, tls,
};
use turn::policy::Prefix;

pub(crate) const REALM: &str = "example.org";
pub(crate) const SECRET: &str = "north";
/// Nobody listens there: what is sent to it must go in process.
pub(crate) const SFU: &str = "127.0.0.1:7882";
pub(crate) const SFU_IPV6: &str = "[::1]:7882";

/// Test servers run side by side, each with ports of its own.
static NEXT_RANGE: AtomicU16 = AtomicU16::new(0);

/// A running server.
pub(crate) struct Server {
    pub(crate) turn: Option<Turn>,
    totals: Arc<Mutex<Totals>>,
    ended: Arc<AtomicBool>,
    /// What the SFU is told of allocations that are gone.
    ends: Receiver<End>,
    sfu: Option<JoinHandle<()>>,
}

/// Settings for a server that relays to the loopback.
pub(crate) fn settings() -> Settings {
    let wall = wall();
    let mut config = Config::new(REALM, wall);
    config.credentials = Credentials {
        fixed: ["alice", "bob", "carol"]
            .map(|name| (name.to_owned(), Secret::new(format!("{name}-password"))))
            .into(),
        shared: vec![Secret::new(SECRET)],
        lookup: None,
    };
    config.own.external = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    config.own.sfu = [SFU, SFU_IPV6]
        .map(|text| text.parse().expect("an address"))
        .into();
    let loopback = |ip, bits| Prefix::new(ip, bits).expect("a prefix");
    config.peers.allow = vec![
        loopback(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        loopback(Ipv6Addr::LOCALHOST.into(), 128),
    ];
    config.limits.user_allocations = 0;
    config.limits.unknown_answers_burst = 100_000;
    let mut settings = Settings::new(config, [7; 32]);
    let any: [SocketAddr; 2] = [
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0),
    ];
    settings.udp = any.into();
    settings.tcp = any.into();
    settings.tls = any.into();
    settings.certificates = Some(certificates());
    settings.relay = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    settings.streams.accepts_burst = 10_000;
    settings
}

pub(crate) fn wall() -> Wall {
    #[expect(clippy::disallowed_methods, reason = "the server begins now")]
    let (at, since) = (
        std::time::Instant::now(),
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH),
    );
    Wall {
        at,
        unix_s: since.map_or(0, |since| since.as_secs()),
    }
}

/// A new certificate of the server.
pub(crate) fn certificates() -> tls::Certificates {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let (chain, key) = (cert.pem(), signing_key.serialize_pem());
    tls::certificates(chain.as_bytes(), key.as_bytes()).expect("they belong together")
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl Fn(&mut Settings)) -> Self {
        // Another process may have a port of a range: then the next one is tried.
        for _ in 0..40 {
            let range = NEXT_RANGE.fetch_add(1, Ordering::Relaxed);
            let first = 20_000 + (std::process::id() as u16 % 100) * 100 + range % 40 * 22;
            if let Some(server) = Self::try_start(first, &change) {
                return server;
            }
        }
        panic!("no range of ports is free");
    }

    fn try_start(first: u16, change: &impl Fn(&mut Settings)) -> Option<Self> {
        let totals = Arc::new(Mutex::new(Totals::default()));
        let seen = Arc::clone(&totals);
        let mut settings = settings();
        settings.server.relay_ports = (first, first + 20);
        change(&mut settings);
        settings.observe = Box::new(move |observation| {
            if let Observation::Totals(now) = observation {
                *lock(&seen) = *now;
            }
        });
        let (to_sfu, inbox) = lane();
        let (outbox, from_sfu) = lane();
        settings.sfu = Some(SfuSide {
            doors: vec![Door { to_sfu, from_sfu }],
            steer: None,
        });
        let ended = Arc::new(AtomicBool::new(false));
        let (tell, ends) = channel();
        let sfu = echo((inbox, outbox), tell, Arc::clone(&ended));
        let turn = Turn::start(settings).ok();
        let mut server = Self {
            turn,
            totals,
            ended,
            ends,
            sfu: Some(sfu),
        };
        if server.turn.is_none() {
            server.end();
            return None;
        }
        Some(server)
    }

    pub(crate) fn turn(&self) -> &Turn {
        self.turn.as_ref().expect("it runs")
    }

    pub(crate) fn udp(&self) -> SocketAddr {
        self.turn().bound().udp[0]
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.turn().bound().tcp[0]
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.turn().bound().tls[0]
    }

    /// Waits until the SFU is told of an end.
    pub(crate) fn end_told(&self) -> End {
        let told = self.ends.recv_timeout(Duration::from_secs(10));
        told.expect("the SFU is told")
    }

    /// The totals as last told: up to a second old.
    pub(crate) fn totals(&self) -> Totals {
        *lock(&self.totals)
    }

    /// Waits for totals that something holds of; traffic makes the server tell them.
    pub(crate) fn until(&self, what: impl Fn(&Totals) -> bool) -> Totals {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        probe
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        for _ in 0..200 {
            let totals = self.totals();
            if what(&totals) {
                return totals;
            }
            // A request that is answered wakes it; the answer is the wait.
            let _ = probe.send_to(&[0; 3], self.udp());
            let _ = probe.recv(&mut [0; 10]);
        }
        panic!("never: {:?}", self.totals());
    }

    fn end(&mut self) {
        drop(self.turn.take());
        self.ended.store(true, Ordering::SeqCst);
        if let Some(sfu) = self.sfu.take() {
            sfu.thread().unpark();
            sfu.join().expect("the SFU ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panicked with it")
}

/// An SFU that sends every packet back to the allocation it came from, and tells of those that are gone.
fn echo(
    (mut inbox, mut outbox): (LaneReceiver, LaneSender),
    tell: Sender<End>,
    ended: Arc<AtomicBool>,
) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "the SFU of a test")]
    let handle = std::thread::spawn(move || {
        let me = std::thread::current();
        inbox.wake_by(move || me.unpark());
        while !ended.load(Ordering::SeqCst) {
            while let Some(batch) = inbox.take() {
                for (packet, bytes) in batch.packets() {
                    outbox.push(packet.allocation, packet.sfu, packet.relayed, bytes);
                }
                for end in batch.ends() {
                    // Most tests do not listen.
                    let _ = tell.send(*end);
                }
                inbox.give_back(batch);
            }
            outbox.flush();
            if inbox.may_sleep() {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            inbox.woke();
        }
    });
    handle
}

/// A peer that sends every datagram back.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn start(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).expect("a socket");
        let address = socket.local_addr().expect("bound");
        #[expect(clippy::disallowed_methods, reason = "the peer of a test")]
        std::thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            // It lives as long as the test process.
            while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..len], from);
            }
        });
        Self { address }
    }
}
