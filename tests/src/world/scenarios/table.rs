//! The scenarios themselves.

use super::{Act, Expected, Person, Plan, Proof, Within};
use crate::link::{Conditions, Loss};
use crate::world::source::Kind;
use crate::world::{Tally, Way};
use std::time::Duration;

const OPUS: Kind = Kind::Opus { dtx: true };
pub(super) const SPEECH: Kind = Kind::Opus { dtx: false };
pub(super) const SIMULCAST: Kind = vp8(3, 3);

pub(super) const fn vp8(layers: u8, temporal: u8) -> Kind {
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
    /// Other plans of which, with the same seed, the same must be seen.
    pub twins: &'static [Twin],
}

/// What a scenario is compared with.
pub struct Twin {
    /// What is different in it.
    pub name: &'static str,
    /// The plan.
    pub plan: fn() -> Plan,
    /// How far they may be apart, which is what another way to connect costs.
    pub within: Within,
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn good() -> Conditions {
    Conditions::GOOD
}

pub(super) fn road(change: impl FnOnce(&mut Conditions)) -> Conditions {
    let mut road = Conditions::GOOD;
    change(&mut road);
    road
}

pub(super) fn lossy(share: f64) -> Conditions {
    road(|road| road.loss = Loss::Uniform(share))
}

pub(super) fn bursty() -> Conditions {
    road(|road| {
        road.loss = Loss::Bursty {
            begin: 0.005,
            end: 0.2,
        }
    })
}

pub(super) fn person(tracks: &[Kind]) -> Person {
    Person {
        tracks: tracks.to_vec(),
        dual: false,
        encrypted: false,
        pads: false,
        way: Way::Udp,
        up: good(),
        down: good(),
        server: 0,
    }
}

pub(super) fn watcher() -> Person {
    person(&[])
}

pub(super) fn camera(kind: Kind) -> Person {
    person(&[SPEECH, kind])
}

pub(super) fn up(conditions: Conditions, person: Person) -> Person {
    Person {
        up: conditions,
        ..person
    }
}

pub(super) fn down(conditions: Conditions, person: Person) -> Person {
    Person {
        down: conditions,
        ..person
    }
}

pub(super) fn dual(person: Person) -> Person {
    Person {
        dual: true,
        ..person
    }
}

pub(super) fn encrypted(person: Person) -> Person {
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

pub(super) fn at(server: usize, person: Person) -> Person {
    Person { server, ..person }
}

pub(super) fn call(people: Vec<Person>, pictures: f64, freeze_ms: u64) -> Plan {
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
        proofs: Vec::new(),
    }
}

impl Plan {
    pub(super) fn with(mut self, at_ms: u64, act: Act) -> Self {
        self.acts.push((at_ms, act));
        self
    }

    pub(super) const fn lasting(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    pub(super) fn showing(mut self, what: &'static str, holds: fn(&Tally) -> bool) -> Self {
        self.proofs.push(Proof { what, holds });
        self
    }

    pub(super) const fn expecting(mut self, pictures: f64, freeze_ms: u64) -> Self {
        self.expected.pictures = pictures;
        self.expected.freeze = ms(freeze_ms);
        self
    }

    pub(super) const fn seeing(mut self, least: u8, most: u8) -> Self {
        self.expected.layer = Some((least, most));
        self
    }
}

/// One publishes in simulcast, two watch.
pub(super) fn trio(publisher: Person, watching: Person, pictures: f64, freeze_ms: u64) -> Plan {
    call(vec![publisher, watching, watcher()], pictures, freeze_ms)
}

macro_rules! scenarios {
    ($($name:literal [$($seed:literal),+] $plan:expr;)+) => {
        /// Those of this file, but for what is compared.
        pub(super) const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: $name,
            plan: || $plan,
            seeds: &[$($seed),+],
            twins: &[],
        }),+];
    };
}
pub(super) use scenarios;

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
    "both-rebind-impaired" [1, 21169581, 21169518] trio(up(impaired(), camera(SIMULCAST)), down(impaired(), watcher()), 0.4, 2000)
        .with(6000, Act::Rebind(0)).with(6000, Act::Rebind(1)).lasting(9);
    "publisher-outage" [1] trio(camera(SIMULCAST), watcher(), 0.7, 3500).with(6000, Act::Break(0, 2000));
    "subscriber-outage" [1] trio(camera(SIMULCAST), watcher(), 0.7, 3500).with(6000, Act::Break(1, 2000));
    "everybody-outage" [1] trio(camera(SIMULCAST), watcher(), 0.6, 4000)
        .with(6000, Act::Break(0, 2000)).with(6000, Act::Break(1, 2000)).with(6000, Act::Break(2, 2000));
    "both-outage-impaired" [1] trio(up(impaired(), camera(SIMULCAST)), down(impaired(), watcher()), 0.4, 4500)
        .with(6000, Act::Break(0, 2000)).with(6000, Act::Break(1, 2000)).lasting(12);
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

pub(super) const fn against(
    name: &'static str,
    plan: fn() -> Plan,
    twins: &'static [Twin],
) -> Scenario {
    Scenario {
        name,
        plan,
        seeds: &[1, 2],
        twins,
    }
}

/// What must make no difference.
pub(super) const DIFFERENTIAL: &[Scenario] = &[
    against(
        "encryption-makes-no-difference",
        || turns_lossy(camera(SIMULCAST)),
        &[Twin {
            name: "encrypted",
            plan: || turns_lossy(encrypted(camera(SIMULCAST))),
            within: Within::frames(0),
        }],
    ),
    against(
        "encryption-makes-no-difference-h264",
        || turns_lossy(camera(Kind::H264)),
        &[Twin {
            name: "encrypted",
            plan: || turns_lossy(encrypted(camera(Kind::H264))),
            within: Within::frames(0),
        }],
    ),
    against(
        "two-connections-make-no-difference",
        || trio(camera(SIMULCAST), watcher(), 0.99, 300).seeing(2, 2),
        &[Twin {
            name: "dual",
            plan: || trio(dual(camera(SIMULCAST)), dual(watcher()), 0.99, 300).seeing(2, 2),
            within: Within::frames(15),
        }],
    ),
];

/// Its roads lose packets once everybody is connected: the handshake's own chance, which no seed
/// repeats, has no part in it then.
fn turns_lossy(publisher: Person) -> Plan {
    trio(publisher, watcher(), 0.85, 1500).with(3000, Act::Roads(1, lossy(0.03), lossy(0.03)))
}

/// What the impaired link of real clients is like.
pub(super) fn impaired() -> Conditions {
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
