//! The scenarios themselves.

use super::{Act, Expected, Person, Plan};
use crate::link::{Conditions, Loss};
use crate::world::source::Kind;
use std::time::Duration;

const OPUS: Kind = Kind::Opus { dtx: true };
const SPEECH: Kind = Kind::Opus { dtx: false };
const SIMULCAST: Kind = vp8(3, 3);

const fn vp8(layers: u8, temporal: u8) -> Kind {
    Kind::Vp8 { layers, temporal }
}

/// A scenario by name.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens.
    pub plan: fn() -> Plan,
    /// Seeds run each time: the first one is arbitrary, further ones once found a bug.
    pub seeds: &'static [u64],
    /// Another plan of which, with the same seed, as much must be seen.
    pub twin: Option<Twin>,
}

/// What a scenario is compared with.
pub struct Twin {
    /// The plan.
    pub plan: fn() -> Plan,
    /// Frames of a track by which they may differ: what another way to connect costs at the start.
    pub within: u64,
}

/// The scenario of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// All scenarios, those that are compared at the end.
pub fn all() -> impl Iterator<Item = &'static Scenario> + Clone {
    SCENARIOS.iter().chain(DIFFERENTIAL)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn good() -> Conditions {
    Conditions::GOOD
}

fn road(change: impl FnOnce(&mut Conditions)) -> Conditions {
    let mut road = Conditions::GOOD;
    change(&mut road);
    road
}

fn lossy(share: f64) -> Conditions {
    road(|road| road.loss = Loss::Uniform(share))
}

fn bursty() -> Conditions {
    road(|road| {
        road.loss = Loss::Bursty {
            begin: 0.005,
            end: 0.2,
        }
    })
}

fn person(tracks: &[Kind]) -> Person {
    Person {
        tracks: tracks.to_vec(),
        dual: false,
        encrypted: false,
        pads: false,
        up: good(),
        down: good(),
        server: 0,
    }
}

fn watcher() -> Person {
    person(&[])
}

fn camera(kind: Kind) -> Person {
    person(&[SPEECH, kind])
}

fn up(conditions: Conditions, person: Person) -> Person {
    Person {
        up: conditions,
        ..person
    }
}

fn down(conditions: Conditions, person: Person) -> Person {
    Person {
        down: conditions,
        ..person
    }
}

fn dual(person: Person) -> Person {
    Person {
        dual: true,
        ..person
    }
}

fn encrypted(person: Person) -> Person {
    Person {
        encrypted: true,
        ..person
    }
}

fn padding(person: Person) -> Person {
    Person {
        pads: true,
        ..person
    }
}

fn at(server: usize, person: Person) -> Person {
    Person { server, ..person }
}

fn call(people: Vec<Person>, pictures: f64, freeze_ms: u64) -> Plan {
    Plan {
        seconds: 12,
        servers: 1,
        people,
        acts: Vec::new(),
        expected: Expected {
            pictures,
            freeze: ms(freeze_ms),
            layer: None,
        },
    }
}

impl Plan {
    fn with(mut self, at_ms: u64, act: Act) -> Self {
        self.acts.push((at_ms, act));
        self
    }

    const fn lasting(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    const fn seeing(mut self, least: u8, most: u8) -> Self {
        self.expected.layer = Some((least, most));
        self
    }
}

/// One publishes in simulcast, two watch.
fn trio(publisher: Person, watching: Person, pictures: f64, freeze_ms: u64) -> Plan {
    call(vec![publisher, watching, watcher()], pictures, freeze_ms)
}

macro_rules! scenarios {
    ($($name:literal [$($seed:literal),+] $plan:expr;)+) => {
        /// All scenarios.
        const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            plan: || $plan,
            seeds: &[$($seed),+],
            twin: None,
        }),+];
    };
}

scenarios! {
    "good-speech" [1] call(vec![person(&[OPUS]), person(&[OPUS])], 0.0, 0);
    "good-one-layer" [1] trio(camera(vp8(1, 1)), watcher(), 0.99, 300);
    "good-two-layers" [1] trio(camera(vp8(2, 2)), watcher(), 0.99, 300).seeing(1, 1);
    "good-simulcast" [1] trio(camera(SIMULCAST), watcher(), 0.99, 300).seeing(2, 2);
    "good-h264" [1] trio(camera(Kind::H264), watcher(), 0.99, 300);
    "good-dual" [1] trio(dual(camera(SIMULCAST)), dual(watcher()), 0.99, 300).seeing(2, 2);
    "good-encrypted" [1] trio(encrypted(camera(SIMULCAST)), watcher(), 0.99, 300).seeing(2, 2);
    "good-encrypted-h264" [1] trio(encrypted(camera(Kind::H264)), watcher(), 0.99, 300);
    "all-talk" [1] call((0..4).map(|_| camera(SIMULCAST)).collect(), 0.99, 300).seeing(2, 2);
    "eight-in-a-room" [1] call((0..8).map(|_| camera(vp8(1, 3))).collect(), 0.99, 300).lasting(6);
    "two-cameras" [1] trio(person(&[SPEECH, SIMULCAST, vp8(1, 1)]), watcher(), 0.99, 300);
    "up-loss-1" [1] trio(up(lossy(0.01), camera(SIMULCAST)), watcher(), 0.9, 1500);
    "up-loss-5" [1] trio(up(lossy(0.05), camera(SIMULCAST)), watcher(), 0.85, 1500);
    "up-loss-10" [1] trio(up(lossy(0.10), camera(SIMULCAST)), watcher(), 0.6, 2500);
    "up-loss-5-h264" [1] trio(up(lossy(0.05), camera(Kind::H264)), watcher(), 0.85, 1500);
    "up-burst" [1] trio(up(bursty(), camera(SIMULCAST)), watcher(), 0.8, 2000);
    "up-jitter" [1] trio(up(road(|r| r.jitter = ms(50)), camera(SIMULCAST)), watcher(), 0.98, 400);
    "up-reorder" [1] trio(up(road(|r| r.reorder = 0.02), camera(SIMULCAST)), watcher(), 0.97, 400);
    "up-reorder-10" [1, 935966987, 944837538] trio(up(road(|r| r.reorder = 0.10), camera(SIMULCAST)), watcher(), 0.97, 500);
    "up-duplicates" [1] trio(up(road(|r| r.duplicate = 0.1), camera(SIMULCAST)), watcher(), 0.99, 300);
    "up-far" [1] trio(up(road(|r| r.delay = ms(150)), camera(SIMULCAST)), watcher(), 0.99, 300);
    "up-far-loss" [1] trio(up(road(|r| { r.delay = ms(100); r.loss = Loss::Uniform(0.03); }), camera(SIMULCAST)), watcher(), 0.8, 2000);
    "down-loss-1" [1] trio(camera(SIMULCAST), down(lossy(0.01), watcher()), 0.95, 1200);
    "down-loss-5" [1] trio(camera(SIMULCAST), down(lossy(0.05), watcher()), 0.9, 1500);
    "down-loss-10" [1] trio(camera(vp8(1, 3)), down(lossy(0.10), watcher()), 0.85, 2000);
    "down-loss-5-h264" [1] trio(camera(Kind::H264), down(lossy(0.05), watcher()), 0.9, 1500);
    "down-burst" [1] trio(camera(SIMULCAST), down(bursty(), watcher()), 0.85, 2000);
    "down-jitter" [1] trio(camera(SIMULCAST), down(road(|r| r.jitter = ms(50)), watcher()), 0.98, 400);
    "down-reorder" [1] trio(camera(SIMULCAST), down(road(|r| r.reorder = 0.02), watcher()), 0.98, 400);
    "down-duplicates" [1] trio(camera(SIMULCAST), down(road(|r| r.duplicate = 0.1), watcher()), 0.99, 300);
    "both-impaired" [1, 965288120, 965511197] trio(up(impaired(), camera(SIMULCAST)), down(impaired(), watcher()), 0.7, 2000);
    "both-impaired-dual" [1, 966107326] trio(up(impaired(), dual(camera(SIMULCAST))), down(impaired(), dual(watcher())), 0.7, 2000);
    "padding" [1] trio(padding(camera(vp8(2, 0))), watcher(), 0.99, 300).seeing(1, 1);
    "padding-up-reorder" [1] trio(up(road(|r| r.reorder = 0.05), padding(camera(vp8(2, 0)))), watcher(), 0.97, 400);
    "padding-up-reorder-numbered" [1] trio(up(road(|r| r.reorder = 0.05), padding(camera(vp8(2, 3)))), watcher(), 0.97, 400);
    "padding-up-reorder-h264" [1] trio(up(road(|r| r.reorder = 0.05), padding(camera(Kind::H264))), watcher(), 0.97, 400);
    "padding-impaired" [1] trio(up(impaired(), padding(camera(vp8(2, 0)))), down(impaired(), watcher()), 0.7, 3000);
    "small-mtu" [1] trio(up(road(|r| r.mtu = 1252), camera(SIMULCAST)), down(road(|r| r.mtu = 1252), watcher()), 0.99, 300);
    "publisher-rebinds" [1] trio(camera(SIMULCAST), watcher(), 0.75, 600).with(6000, Act::Rebind(0));
    "subscriber-rebinds" [1] trio(camera(SIMULCAST), watcher(), 0.75, 2000).with(6000, Act::Rebind(1));
    "publisher-outage" [1] trio(camera(SIMULCAST), watcher(), 0.7, 3500).with(6000, Act::Break(0, 2000));
    "subscriber-outage" [1] trio(camera(SIMULCAST), watcher(), 0.7, 3500).with(6000, Act::Break(1, 2000));
    "everybody-outage" [1] trio(camera(SIMULCAST), watcher(), 0.6, 4000)
        .with(6000, Act::Break(0, 2000)).with(6000, Act::Break(1, 2000)).with(6000, Act::Break(2, 2000));
    "late-joiner" [1] trio(camera(SIMULCAST), watcher(), 0.98, 400).with(7000, Act::Join(Box::new(watcher())));
    "late-publisher" [1] call(vec![watcher(), watcher()], 0.95, 400).with(4000, Act::Join(Box::new(camera(SIMULCAST))));
    "leaver" [1] call(vec![camera(SIMULCAST), camera(vp8(1, 3)), watcher()], 0.98, 400).with(5000, Act::Leave(1));
    "vanishes" [1] call(vec![camera(SIMULCAST), camera(vp8(1, 3)), watcher()], 0.98, 400).with(5000, Act::Vanish(1)).lasting(25);
    "come-and-go" [1] call(vec![camera(SIMULCAST), watcher()], 0.95, 600)
        .with(3000, Act::Join(Box::new(camera(vp8(1, 1))))).with(5000, Act::Leave(2))
        .with(6000, Act::Join(Box::new(camera(vp8(2, 1))))).with(8000, Act::Leave(3)).lasting(14);
    "mutes-camera" [1] trio(camera(SIMULCAST), watcher(), 0.6, 600)
        .with(5000, Act::Mute(0, 1, true)).with(8000, Act::Mute(0, 1, false)).lasting(14);
    "mutes-speech" [1] trio(camera(SIMULCAST), watcher(), 0.98, 400)
        .with(5000, Act::Mute(0, 0, true)).with(8000, Act::Mute(0, 0, false));
    "wants-low" [1] trio(camera(SIMULCAST), watcher(), 0.9, 700)
        .with(5000, Act::Want(1, (0, 1), Some(0))).with(5100, Act::Want(2, (0, 1), Some(0)));
    "wants-low-then-high" [1] trio(camera(SIMULCAST), watcher(), 0.9, 900)
        .with(4000, Act::Want(1, (0, 1), Some(0))).with(8000, Act::Want(1, (0, 1), Some(2))).lasting(14);
    "wants-nothing-then-all" [1] trio(camera(SIMULCAST), watcher(), 0.5, 900)
        .with(4000, Act::Want(1, (0, 1), None)).with(8000, Act::Want(1, (0, 1), Some(2))).lasting(14);
    "signal-lost-and-resumed" [1] trio(camera(SIMULCAST), watcher(), 0.95, 700)
        .with(5000, Act::LoseSignal(1)).with(6000, Act::Resume(1));
    "publisher-resumes" [1] trio(camera(SIMULCAST), watcher(), 0.95, 700)
        .with(5000, Act::LoseSignal(0)).with(6000, Act::Resume(0));
    "dual-resumes" [1] trio(camera(SIMULCAST), dual(watcher()), 0.95, 700)
        .with(5000, Act::LoseSignal(1)).with(6000, Act::Resume(1));
    "road-turns-bad-and-good" [1] trio(camera(SIMULCAST), watcher(), 0.7, 2500)
        .with(4000, Act::Roads(1, lossy(0.1), lossy(0.1))).with(8000, Act::Roads(1, good(), good())).lasting(16);
    "two-servers" [1] two_servers();
}

const fn against(
    name: &'static str,
    plan: fn() -> Plan,
    twin: fn() -> Plan,
    within: u64,
) -> Scenario {
    Scenario {
        name,
        plan,
        seeds: &[1, 2],
        twin: Some(Twin { plan: twin, within }),
    }
}

/// What must make no difference.
const DIFFERENTIAL: &[Scenario] = &[
    against(
        "encryption-makes-no-difference",
        || turns_lossy(camera(SIMULCAST)),
        || turns_lossy(encrypted(camera(SIMULCAST))),
        0,
    ),
    against(
        "encryption-makes-no-difference-h264",
        || turns_lossy(camera(Kind::H264)),
        || turns_lossy(encrypted(camera(Kind::H264))),
        0,
    ),
    against(
        "two-connections-make-no-difference",
        || trio(camera(SIMULCAST), watcher(), 0.99, 300).seeing(2, 2),
        || trio(dual(camera(SIMULCAST)), dual(watcher()), 0.99, 300).seeing(2, 2),
        15,
    ),
];

/// Its roads lose packets once everybody is connected: the handshake's own chance, which no seed
/// repeats, has no part in it then.
fn turns_lossy(publisher: Person) -> Plan {
    trio(publisher, watcher(), 0.85, 1500).with(3000, Act::Roads(1, lossy(0.03), lossy(0.03)))
}

/// What the impaired link of real clients is like.
fn impaired() -> Conditions {
    road(|road| {
        road.loss = Loss::Uniform(0.05);
        road.jitter = ms(50);
        road.reorder = 0.02;
    })
}

/// Each publishes at the own server, and somebody watches at both. (MatrixRTC's several SFUs)
fn two_servers() -> Plan {
    let people = vec![
        camera(SIMULCAST),
        at(1, camera(vp8(1, 3))),
        watcher(),
        at(1, watcher()),
    ];
    let mut plan = call(people, 0.98, 400);
    plan.servers = 2;
    plan
}
