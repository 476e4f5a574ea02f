//! What only a whole world can break: each rule is broken on purpose, and must tell.

use super::invariants::Invariant;
use super::source::Kind;
use super::*;

const TRACKS: [Kind; 2] = [
    Kind::Opus { dtx: true },
    Kind::Vp8 {
        layers: 3,
        temporal: 3,
    },
];

/// One publishes, the other watches, for some seconds; in the middle something is broken.
fn broken_by(spoil: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = World::new(1, 1);
    for tracks in [&TRACKS[..], &[]] {
        let manner = Manner {
            identity: format!("p{}", world.seats.len()),
            tracks: tracks.to_vec(),
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
    world.broken
}

fn tells(broken: &[String], rule: Invariant) -> bool {
    let rule = format!(": {rule:?}: ");
    !broken.is_empty() && broken.iter().all(|broken| broken.contains(&rule))
}

#[test]
fn nothing_is_told_where_nothing_is_broken() {
    assert_eq!(broken_by(|_| ()), [""; 0]);
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
