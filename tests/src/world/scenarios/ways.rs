//! Scenarios of those who come by TCP or through TURN, or change to that, and that it makes no
//! difference.

use super::table::{
    SIMULCAST, SPEECH, Scenario, Twin, against, at, call, camera, down, dual, encrypted, impaired,
    lossy, ms, person, road, scenarios, trio, up, vp8, watcher,
};
use super::{Act, Person, Plan, Told, Within};
use crate::link::Conditions;
use crate::world::source::Kind;
use crate::world::{Tally, Way};
use std::time::Duration;

/// The TURN server beside the server of the call.
const RELAY: Way = relay(0, false, true);
/// The same, each packet in a message of its own.
const MESSAGES: Way = relay(0, false, false);
/// The same, reached over TCP.
const STREAM: Way = relay(0, true, true);
/// One beside another server: it comes to the server of the call as anybody's datagrams do.
const ELSEWHERE: Way = relay(1, false, true);

const fn relay(at: usize, stream: bool, channels: bool) -> Way {
    Way::Relay {
        at,
        stream,
        channels,
    }
}

fn by(way: Way, person: Person) -> Person {
    Person { way, ..person }
}

/// The publisher and the first who watches come this way.
fn pair(way: Way) -> Plan {
    let plan = trio(by(way, camera(SIMULCAST)), by(way, watcher()), 0.99, 300);
    plan.seeing(2, 2)
}

/// Beside another server, of which nobody knows but its TURN.
fn elsewhere(way: Way) -> Plan {
    Plan {
        servers: 2,
        ..pair(way)
    }
}

/// In one layer, for no window grows on lossy roads.
fn small(way: Way) -> Plan {
    let one = camera(vp8(1, 3));
    lossy_later(trio(by(way, one), by(way, watcher()), 0.85, 1500), 0.02)
}

/// Lossy roads once everybody is connected: a lost handshake takes each way a time of its own, and twins
/// are compared.
fn lossy_later(plan: Plan, share: f64) -> Plan {
    let lossy = || lossy(share);
    plan.with(3000, Act::Roads(0, lossy(), lossy()))
        .with(3000, Act::Roads(1, lossy(), lossy()))
}

fn narrow() -> Conditions {
    road(|road| road.rate_bps = Some(500_000))
}

const fn relays(tally: &Tally) -> bool {
    tally.relayed > 1000
}

const fn connects(tally: &Tally) -> bool {
    tally.opened >= 1
}

scenarios! {
    "tcp-good" [1] pair(Way::Tcp).showing("two connections", |tally| tally.opened == 2);
    "tcp-dual" [1] trio(by(Way::Tcp, dual(camera(SIMULCAST))), by(Way::Tcp, dual(watcher())), 0.99, 300)
        .showing("three connections", |tally| tally.opened >= 3);
    "tcp-h264" [1] trio(by(Way::Tcp, camera(Kind::H264)), by(Way::Tcp, watcher()), 0.99, 300);
    "tcp-up-loss" [1] trio(up(lossy(0.01), by(Way::Tcp, encrypted(camera(SIMULCAST)))), watcher(), 0.9, 1500)
        .showing("segments sent again", |tally| tally.repeated > 10);
    "tcp-down-loss" [1] trio(camera(SIMULCAST), down(lossy(0.02), by(Way::Tcp, watcher())), 0.9, 1500)
        .showing("segments sent again", |tally| tally.repeated > 10);
    "tcp-down-jitter" [1] trio(camera(SIMULCAST), down(road(|r| r.jitter = ms(50)), by(Way::Tcp, watcher())), 0.98, 500);
    "tcp-down-reorder" [1] trio(camera(SIMULCAST), down(road(|r| r.reorder = 0.05), by(Way::Tcp, watcher())), 0.98, 500);
    "tcp-impaired" [1, 979216158] trio(up(impaired(), by(Way::Tcp, camera(vp8(1, 3)))), down(impaired(), by(Way::Tcp, watcher())), 0.6, 4000);
    "tcp-narrow-for-a-while" [1] trio(camera(SIMULCAST), by(Way::Tcp, watcher()), 0.4, 6000)
        .with(4000, Act::Roads(1, Conditions::GOOD, narrow())).with(7000, Act::Roads(1, Conditions::GOOD, Conditions::GOOD))
        .lasting(14).showing("media dropped and counted", |tally| tally.late > 50);
    "tcp-publisher-outage" [1] trio(by(Way::Tcp, camera(SIMULCAST)), watcher(), 0.6, 5000).with(6000, Act::Break(0, 2000)).lasting(14);
    "tcp-subscriber-outage" [1] trio(camera(SIMULCAST), by(Way::Tcp, watcher()), 0.6, 5000).with(6000, Act::Break(1, 2000)).lasting(14);
    "tcp-publisher-cut" [1] pair(Way::Tcp).expecting(0.9, 1000).with(6000, Act::Cut(0))
        .showing("a connection closed", |tally| tally.closed == 1 && tally.opened == 3);
    "tcp-subscriber-cut" [1] pair(Way::Tcp).expecting(0.9, 1000).with(6000, Act::Cut(1))
        .showing("a connection closed", |tally| tally.closed == 1 && tally.opened == 3);
    "tcp-rebinds" [1] pair(Way::Tcp).expecting(0.8, 3000).with(6000, Act::Rebind(1));
    "tcp-resumes" [1] pair(Way::Tcp).expecting(0.95, 700).with(5000, Act::LoseSignal(1)).with(6000, Act::Resume(1));
    "tcp-vanishes" [1] call(vec![camera(SIMULCAST), by(Way::Tcp, camera(Kind::H264)), watcher()], 0.98, 400)
        .with(5000, Act::Vanish(1)).lasting(25).showing("a connection", connects);
    "tcp-speech-held-up" [1] call(vec![by(Way::Tcp, person(&[SPEECH])), watcher()], 0.0, 0).with(5000, Act::Break(0, 1800));
    "relay-good" [1] pair(RELAY).showing("relayed packets", relays);
    "relay-messages" [1] pair(MESSAGES).showing("relayed packets", relays);
    "relay-dual" [1] trio(by(RELAY, dual(camera(SIMULCAST))), by(RELAY, dual(watcher())), 0.99, 300)
        .showing("relayed packets", relays);
    "relay-stream" [1] pair(STREAM).showing("relayed packets", relays);
    "relay-elsewhere" [1] elsewhere(ELSEWHERE).showing("relayed packets", relays);
    "relay-elsewhere-stream" [1] elsewhere(relay(1, true, false)).showing("relayed packets", relays);
    "relay-for-eight" [1] call((0..8).map(|n| by(if n % 2 == 0 { RELAY } else { STREAM }, camera(Kind::H264))).collect(), 0.99, 300)
        .lasting(6).showing("relayed packets", relays);
    "relay-up-loss" [1] trio(up(lossy(0.05), by(RELAY, camera(SIMULCAST))), watcher(), 0.8, 1500).showing("relayed packets", relays);
    "relay-down-loss" [1] trio(camera(SIMULCAST), down(lossy(0.05), by(RELAY, watcher())), 0.85, 1500).showing("relayed packets", relays);
    "relay-impaired" [1] trio(up(impaired(), by(RELAY, camera(SIMULCAST))), down(impaired(), by(MESSAGES, watcher())), 0.5, 5000);
    "relay-stream-impaired" [1] trio(up(impaired(), by(STREAM, camera(vp8(1, 3)))), down(impaired(), by(STREAM, watcher())), 0.5, 5000);
    "relay-publisher-outage" [1] trio(by(RELAY, camera(SIMULCAST)), watcher(), 0.6, 5000).with(6000, Act::Break(0, 2000));
    "relay-subscriber-outage" [1] trio(camera(SIMULCAST), by(RELAY, watcher()), 0.6, 5000).with(6000, Act::Break(1, 2000));
    "relay-publisher-expires" [1] trio(by(RELAY, camera(SIMULCAST)), watcher(), 0.5, 8500)
        .with(5000, Act::Neglect(0, 8000)).lasting(20).showing("an allocation expired", |tally| tally.expired == 1 && tally.allocated == 2);
    "relay-subscriber-expires" [1] trio(camera(SIMULCAST), by(MESSAGES, watcher()), 0.5, 8500)
        .with(5000, Act::Neglect(1, 8000)).lasting(20).showing("an allocation expired", |tally| tally.expired == 1 && tally.allocated == 2);
    "relay-elsewhere-expires" [1] Plan { servers: 2, ..trio(camera(SIMULCAST), by(ELSEWHERE, watcher()), 0.5, 8500) }
        .with(5000, Act::Neglect(1, 8000)).lasting(20).showing("an allocation expired", |tally| tally.expired == 1 && tally.allocated == 2);
    "relay-rebinds" [1] trio(camera(SIMULCAST), by(RELAY, watcher()), 0.5, 6000).with(6000, Act::Rebind(1)).lasting(16)
        .showing("another allocation", |tally| tally.allocated == 2);
    "relay-stream-cut" [1] pair(STREAM).expecting(0.85, 2500).with(6000, Act::Cut(0)).with(8000, Act::Cut(1))
        .showing("allocations ended with their connections", |tally| tally.disconnected == 2 && tally.allocated == 4);
    "relay-vanishes" [1] call(vec![camera(SIMULCAST), by(RELAY, camera(Kind::H264)), watcher()], 0.98, 400)
        .with(5000, Act::Vanish(1)).lasting(25).showing("an allocation expired", |tally| tally.expired == 1);
    "udp-then-tcp" [1] pair(Way::Udp).expecting(0.8, 2300).with(5000, Act::GoBy(0, Way::Tcp)).with(7000, Act::GoBy(1, Way::Tcp))
        .showing("two connections", |tally| tally.opened == 2);
    "udp-then-relay" [1] pair(Way::Udp).expecting(0.8, 2300).with(5000, Act::GoBy(0, RELAY)).with(7000, Act::GoBy(1, RELAY))
        .showing("two allocations", |tally| tally.allocated == 2);
    "tcp-then-udp" [1] pair(Way::Tcp).expecting(0.8, 2300).with(5000, Act::GoBy(0, Way::Udp)).with(7000, Act::GoBy(1, Way::Udp))
        .showing("connections closed", |tally| tally.closed == 2);
    "relay-then-tcp-then-udp" [1] pair(RELAY).expecting(0.7, 2300).with(4000, Act::GoBy(0, Way::Tcp)).with(5000, Act::GoBy(1, STREAM))
        .with(7000, Act::GoBy(0, Way::Udp)).with(8000, Act::GoBy(1, Way::Udp)).showing("relayed packets", relays);
    "walled-then-tcp" [1] pair(Way::Udp).expecting(0.65, 4000).with(5000, Act::Wall(0)).with(5000, Act::Wall(1))
        .with(6500, Act::GoBy(0, Way::Tcp)).with(6500, Act::GoBy(1, Way::Tcp)).showing("two connections", |tally| tally.opened == 2);
    "walled-then-relay-stream" [1] pair(Way::Udp).expecting(0.65, 4000).with(5000, Act::Wall(0)).with(5000, Act::Wall(1))
        .with(6500, Act::GoBy(0, STREAM)).with(6500, Act::GoBy(1, STREAM)).showing("relayed packets", relays);
    "all-ways-in-a-room" [1] Plan { servers: 2, ..call([Way::Udp, Way::Tcp, RELAY, STREAM, ELSEWHERE].map(|way| by(way, camera(Kind::H264))).into(), 0.99, 300) }
        .lasting(8).showing("relayed packets", relays);
    "two-servers-one-turn" [1] two_servers();
}

/// Those of another server come by the TURN server of the first one, beside its own.
fn two_servers() -> Plan {
    let people = vec![
        by(RELAY, camera(SIMULCAST)),
        at(1, by(RELAY, camera(Kind::H264))),
        by(RELAY, watcher()),
        at(1, by(RELAY, watcher())),
    ];
    Plan {
        servers: 2,
        ..call(people, 0.99, 300).showing("relayed packets", relays)
    }
}

/// What another way costs on a good road: some frames until it is there, and some time on each.
const fn costs(frames: u64, later_ms: u64) -> Within {
    Within {
        count: frames,
        frames: Some(3),
        later: Some(Duration::from_millis(later_ms)),
        loss: Told::Same,
    }
}

const fn twin(name: &'static str, plan: fn() -> Plan, within: Within) -> Twin {
    Twin { name, plan, within }
}

/// What must make no difference, but for what the way allows.
pub(super) const DIFFERENTIAL: &[Scenario] = &[
    against(
        "ways-make-no-difference",
        || pair(Way::Udp),
        &[
            twin("tcp", || pair(Way::Tcp), costs(20, 60)),
            twin("relay", || pair(RELAY), costs(20, 25)),
            twin("messages", || pair(MESSAGES), costs(20, 25)),
            twin("stream", || pair(STREAM), costs(20, 60)),
            twin("elsewhere", || elsewhere(ELSEWHERE), costs(20, 25)),
        ],
    ),
    against(
        "ways-make-no-difference-lossy",
        || small(Way::Udp),
        &[
            twin("tcp", || small(Way::Tcp), LOSSLESS),
            twin("stream", || small(STREAM), LOSSLESS),
            twin("relay", || small(RELAY), Within::frames(60)),
        ],
    ),
    against(
        "a-change-of-way-makes-no-difference",
        || pair(Way::Udp),
        &[
            twin("tcp", || changes(Way::Tcp), CHANGE),
            twin("relay", || changes(RELAY), CHANGE),
            twin("stream", || changes(STREAM), CHANGE),
        ],
    ),
];

/// A stream loses nothing that was put into it.
const LOSSLESS: Within = Within {
    count: 60,
    frames: None,
    later: None,
    loss: Told::None,
};

/// What is on its way while the way changes may be lost.
const CHANGE: Within = Within {
    count: 75,
    frames: Some(75),
    later: None,
    loss: Told::Any,
};

/// The publisher, then who watches, goes another way in mid-call.
fn changes(way: Way) -> Plan {
    pair(Way::Udp)
        .expecting(0.8, 2300)
        .with(5000, Act::GoBy(0, way))
        .with(7000, Act::GoBy(1, way))
}
