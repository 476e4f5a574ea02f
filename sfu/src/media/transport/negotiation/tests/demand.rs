//! When the client is asked for sections, and for how many.

use super::*;

fn poll(world: &mut World) -> Option<(u32, u32)> {
    world.negotiation.poll_sections_needed(world.now)
}

#[test]
fn requests_wait_ten_milliseconds_or_more_after_a_negotiation() {
    let mut world = world();
    world.offer(&offer(&[("0", "audio", "recvonly")]));
    world.wait(151);
    world.subscribe(1, Codec::Vp8).expect("taken on");
    world.wait(9);
    assert_eq!(poll(&mut world), None);
    world.wait(1);
    assert_eq!(world.negotiation.poll_timeout(), Some(world.now));
    assert_eq!(poll(&mut world), Some((0, 1)));
    assert_eq!(world.negotiation.poll_timeout(), None);
    world.subscribe(2, Codec::Vp8).expect("taken on");
    world.wait(149);
    assert_eq!(poll(&mut world), None, "one was sent just now");
    world.wait(1);
    assert_eq!(
        poll(&mut world),
        Some((0, 1)),
        "without what was asked already"
    );
}

#[test]
fn many_tracks_are_one_request() {
    let mut world = world();
    world.offer(&offer(&[
        ("0", "audio", "recvonly"),
        ("1", "video", "recvonly"),
    ]));
    for index in 0..3 {
        world.subscribe(index, Codec::Vp8).expect("taken on");
        world.subscribe(10 + index, Codec::Opus).expect("taken on");
    }
    assert_eq!(world.needed(), Some((2, 2)));
    assert_eq!(world.needed(), None);
}

#[test]
fn a_track_that_finds_a_spare_section_asks_for_an_offer_only_once() {
    let mut world = world();
    world.offer(&offer(&[
        ("0", "audio", "recvonly"),
        ("1", "audio", "recvonly"),
    ]));
    world.subscribe(1, Codec::Opus).expect("taken on");
    assert_eq!(world.needed(), Some((0, 0)));
    world.subscribe(2, Codec::Opus).expect("taken on");
    assert_eq!(world.needed(), None, "the offer under way serves both");
}

#[test]
fn an_offer_that_crossed_the_request_does_not_double_it() {
    let mut world = world();
    let small = offer(&[("0", "audio", "recvonly")]);
    world.offer(&small);
    world.subscribe(1, Codec::Vp8).expect("taken on");
    assert_eq!(world.needed(), Some((0, 1)));
    world.offer(&small);
    assert_eq!(world.needed(), None, "it was made before the request came");
    let answered = world.offer(&offer(&[
        ("0", "audio", "recvonly"),
        ("1", "video", "recvonly"),
    ]));
    assert_eq!(answered.mids.len(), 1);
    assert_eq!(world.needed(), None);
}

#[test]
fn a_request_that_was_lost_is_made_again() {
    let small = offer(&[("0", "audio", "recvonly")]);
    let lost = || {
        let mut world = world();
        world.offer(&small);
        world.subscribe(1, Codec::Vp8).expect("taken on");
        assert_eq!(world.needed(), Some((0, 1)));
        world
    };
    let mut resumed = lost();
    let restart = small.replace("theirufrag", "newufrag");
    assert!(resumed.offer(&restart).remote.ice_restart);
    assert_eq!(resumed.needed(), Some((0, 1)));
    let mut slow = lost();
    slow.wait(2000);
    slow.offer(&small);
    assert_eq!(slow.needed(), Some((0, 1)));
}

#[test]
fn removing_a_track_asks_for_an_offer() {
    let mut world = world();
    world.subscribe(1, Codec::Opus).expect("taken on");
    world.offer(&offer(&[("0", "audio", "recvonly")]));
    assert_eq!(world.needed(), None);
    world.unsubscribe(1);
    assert_eq!(world.needed(), Some((0, 0)));
    world.unsubscribe(1);
    assert_eq!(world.needed(), None, "it is gone already");
}

#[test]
fn no_more_sections_are_asked_for_than_an_offer_may_have() {
    let mut world = world();
    let names: Vec<String> = (0..sdp::MAX_SECTIONS - 2).map(|n| n.to_string()).collect();
    let lines: Vec<_> = names
        .iter()
        .map(|mid| (mid.as_str(), "audio", "inactive"))
        .collect();
    world.offer(&offer(&lines));
    for index in 0..3 {
        world.subscribe(index, Codec::Vp8).expect("taken on");
    }
    assert_eq!(world.needed(), Some((0, 2)));
    for index in 3..MAX_FORWARDED as u32 {
        world.subscribe(index, Codec::Vp8).expect("taken on");
    }
    assert_eq!(world.subscribe(9999, Codec::Vp8), Err(TrackError::TooMany));
}

#[test]
fn announced_tracks_are_limited() {
    let mut world = world();
    for index in 0..MAX_ANNOUNCED as u32 {
        world.publish(index, spec(MediaKind::Audio, "x"));
    }
    let over = spec(MediaKind::Audio, "x");
    let result = world.negotiation.publish(own_track(9999), over, world.now);
    assert_eq!(result, Err(TrackError::TooMany));
}
