//! What only a whole world can break: each rule is broken on purpose, and must tell.

use super::invariants::Invariant;
use super::source::Kind;
use super::*;
use sfu::rtp::header::Header;

const TRACKS: [Kind; 2] = [
    Kind::Opus { dtx: true },
    Kind::Vp8 {
        layers: 3,
        temporal: 3,
    },
];

/// One publishes, the other watches, for some seconds; in the middle something is broken.
fn broken_by(spoil: impl FnOnce(&mut World)) -> Vec<String> {
    broken_on(Way::Udp, spoil)
}

/// The same, with both coming this way.
fn broken_on(way: Way, spoil: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = World::new(1, 1);
    for tracks in [&TRACKS[..], &[]] {
        let manner = Manner {
            identity: format!("p{}", world.seats.len()),
            tracks: tracks.to_vec(),
            way,
            ..Manner::default()
        };
        world.join(manner, 0, &Conditions::GOOD, &Conditions::GOOD);
    }
    world.run(Duration::from_secs(4));
    assert_eq!(world.broken, [""; 0]);
    spoil(&mut world);
    world.run(Duration::from_secs(7));
    let (sent, received) = world.reports_judged();
    assert!(sent > 5 && received > 20, "{sent} {received}");
    world.judge_ways();
    world.broken
}

const RELAY: Way = Way::Relay {
    at: 0,
    stream: false,
    channels: true,
};

fn told_of(broken: &[String], rule: Invariant) -> bool {
    broken
        .iter()
        .any(|broken| broken.contains(&format!("{rule:?}: ")))
}

fn tells(broken: &[String], rule: Invariant) -> bool {
    let rule = format!(": {rule:?}: ");
    !broken.is_empty() && broken.iter().all(|broken| broken.contains(&rule))
}

#[test]
fn nothing_is_told_where_nothing_is_broken() {
    for way in [Way::Udp, Way::Tcp, RELAY] {
        assert_eq!(broken_on(way, |_| ()), [""; 0]);
    }
}

#[test]
fn what_nobody_sent_so_is_told_in_either_direction() {
    let down = broken_by(|world| world.deliver(1, Leg::First, &[0x80, 111, 0, 1]));
    assert!(told_of(&down, Invariant::AsSent), "{down:?}");
    let up = broken_by(|world| {
        let from = world.seats[0].access[0].address;
        world.put(world.now, Event::ToServer(0, from, vec![0x80; 40]));
    });
    assert!(told_of(&up, Invariant::AsSent), "{up:?}");
    let stranger = broken_by(|world| {
        let from = SocketAddr::from(([203, 0, 113, 1], 9));
        world.put(world.now, Event::ToServer(0, from, vec![0x80; 40]));
    });
    assert!(stranger[0].contains("nobody"), "{stranger:?}");
}

#[test]
fn a_frame_that_its_server_did_not_put_into_a_connection_is_told() {
    let broken = broken_on(Way::Tcp, |world| {
        let mut streams = world.streams.values_mut();
        let stream = streams.find(|stream| stream.who == 1).expect("connected");
        stream.down.write(&[0, 4, 0x80, 111, 0, 1]);
    });
    assert!(told_of(&broken, Invariant::InTurn), "{broken:?}");
}

#[test]
fn a_frame_that_is_left_out_and_not_counted_is_told() {
    let broken = broken_on(Way::Tcp, |world| {
        let mut streams = world.streams.values_mut();
        let stream = streams.find(|stream| stream.who == 1).expect("connected");
        stream.frames.sent(&[0x80, 111, 0, 1]);
    });
    assert!(told_of(&broken, Invariant::Counted), "{broken:?}");
}

#[test]
fn what_passes_for_an_allocation_that_has_ended_is_told() {
    let broken = broken_on(RELAY, |world| {
        let seen = world.seen.keys().find_map(|(_, carrier, _)| match carrier {
            Carrier::Relay { slot, generation } => Some((*slot, *generation)),
            _ => None,
        });
        let (slot, generation) = seen.expect("allocated");
        world.turns[0].believe_ended(::turn::address::AllocationId { slot, generation });
    });
    assert!(told_of(&broken, Invariant::Relayed), "{broken:?}");
}

#[test]
fn who_is_refused_by_turn_is_told() {
    let mut world = World::new(1, 1);
    let manner = Manner {
        identity: "p0".into(),
        tracks: TRACKS.to_vec(),
        way: RELAY,
        ..Manner::default()
    };
    world.join(manner, 0, &Conditions::GOOD, &Conditions::GOOD);
    world.run(Duration::from_millis(65));
    let ticket = world.seats[0].client.ticket.as_mut().expect("told");
    ticket.1.push('x');
    world.run(Duration::from_secs(1));
    assert!(
        world.broken[0].contains("refused with 401"),
        "{:?}",
        world.broken
    );
}

#[test]
fn a_transport_that_is_not_the_one_somebody_comes_by_is_told() {
    let mut world = World::new(1, 1);
    let manner = Manner {
        identity: "p0".into(),
        tracks: TRACKS.to_vec(),
        ..Manner::default()
    };
    world.join(manner, 0, &Conditions::GOOD, &Conditions::GOOD);
    world.run(Duration::from_secs(2));
    world.judge_ways();
    assert_eq!(world.broken, [""; 0]);
    world.seats[0].access[0].way = Way::Tcp;
    world.judge_ways();
    assert!(told_of(&world.broken, Invariant::Transport));
}

#[test]
fn sound_that_is_reported_late_is_told() {
    let late = |ms| {
        broken_by(|world| {
            world.seats[0].client.tracks[0].reports_off = Duration::from_millis(ms);
        })
    };
    assert_eq!(late(5), [""; 0]);
    assert!(tells(&late(50), Invariant::Skew), "{:?}", late(50));
}

#[test]
fn a_wish_the_server_never_hears_of_is_told() {
    for highest in [Some(1), None] {
        let broken = broken_by(|world| {
            let track = world.seats[0].client.tracks[1].sid.clone();
            let since = world.now;
            let wish = Wish { highest, since };
            world.seats[1].client.wishes.insert(track, wish);
        });
        assert!(tells(&broken, Invariant::Wish), "{broken:?}");
    }
}

#[test]
fn a_loss_that_reports_do_not_tell_is_told() {
    let broken = broken_by(|world| {
        let ssrc = world.seats[0].client.tracks[0].ssrc(0);
        let mut packet = vec![0x80, 111, 0x40, 0, 0, 0, 0, 1];
        packet.extend(ssrc.to_be_bytes());
        let never = Header::parse(&packet).expect("a header");
        world.seats[0].losses.arrived(&never);
    });
    assert!(tells(&broken, Invariant::Loss), "{broken:?}");
}
