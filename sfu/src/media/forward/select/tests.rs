use super::*;
use crate::media::packet::Span;
use crate::rtp::vp8::{Descriptor, Temporal};
use crate::units::{ExtSeq, RtpTime};

#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn epoch() -> Instant {
    Instant::now()
}

fn packet(spatial: u8, key_frame: bool, now: Instant) -> Packet {
    Packet {
        seq: ExtSeq(1),
        time: RtpTime(1),
        arrival: now,
        payload_type: 96,
        marker: true,
        spatial,
        key_frame,
        late: false,
        codec: CodecInfo::None,
        trailer: 0,
        span: Span { start: 0, len: 10 },
    }
}

fn thinned(layer: u8, sync: bool, frame_start: bool, now: Instant) -> Packet {
    Packet {
        codec: CodecInfo::Vp8(Descriptor {
            frame_start,
            temporal: Some(Temporal { layer, sync }),
            ..Descriptor::default()
        }),
        ..packet(0, false, now)
    }
}

fn wish(spatial: u8, temporal: u8) -> Wish {
    Wish {
        enabled: true,
        spatial,
        temporal,
    }
}

const FOLLOW: Choice = Choice::Follow { filter: false };

#[test]
fn a_start_waits_a_second_for_the_wanted_layer_and_then_takes_any() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, Wish::ALL);
    assert_eq!(
        selector.choose(&packet(0, true, now), 0b111, false, now),
        Choice::Drop
    );
    assert_eq!(selector.wants_key_frame(now), Some(2));
    let later = now + HOLD;
    assert_eq!(selector.poll_timeout(now), Some(later));
    assert_eq!(
        selector.choose(&packet(0, false, later), 0b111, false, later),
        Choice::Drop
    );
    assert_eq!(
        selector.choose(&packet(0, true, later), 0b111, false, later),
        Choice::Switch
    );
}

#[test]
fn a_wanted_layer_that_does_not_live_is_not_waited_for() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, Wish::ALL);
    selector.handle_layers(0b001);
    assert_eq!(selector.wants_key_frame(now), Some(0), "before any packet");
    assert_eq!(
        selector.choose(&packet(0, false, now), 0b001, false, now),
        Choice::Drop
    );
    assert_eq!(selector.wants_key_frame(now), Some(0));
    assert_eq!(
        selector.choose(&packet(0, true, now), 0b001, false, now),
        Choice::Switch
    );
    selector.handle_switched(0);
    assert_eq!(selector.wants_key_frame(now), None);
    // Dynacast, or the uplink, lets the wanted layer come.
    assert_eq!(
        selector.choose(&packet(2, false, now), 0b101, false, now),
        Choice::Drop
    );
    assert_eq!(selector.wants_key_frame(now), Some(2));
    assert_eq!(
        selector.choose(&packet(2, true, now), 0b101, false, now),
        Choice::Switch
    );
}

#[test]
fn a_wanted_layer_that_dies_while_a_start_waits_for_it_is_given_up() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, Wish::ALL);
    selector.choose(&packet(0, false, now), 0b101, false, now);
    assert_eq!(selector.wants_key_frame(now), Some(2));
    assert_eq!(
        selector.choose(&packet(0, true, now), 0b001, false, now),
        Choice::Switch
    );
}

#[test]
fn the_wanted_layer_starts_at_once() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, wish(1, 3));
    assert_eq!(
        selector.choose(&packet(1, true, now), 0b111, false, now),
        Choice::Switch
    );
    selector.handle_switched(1);
    assert_eq!(
        selector.choose(&packet(1, false, now), 0b111, true, now),
        FOLLOW
    );
    assert_eq!(
        selector.choose(&packet(2, true, now), 0b111, true, now),
        Choice::Drop
    );
    assert_eq!(selector.wants_key_frame(now), None);
}

#[test]
fn a_track_without_simulcast_is_wanted_at_its_only_layer() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b1, Wish::ALL);
    assert_eq!(
        selector.choose(&packet(0, true, now), 0b1, false, now),
        Choice::Switch
    );
}

#[test]
fn a_switch_goes_towards_the_target_at_key_frames_only() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, Wish::ALL);
    selector.choose(&packet(2, true, now), 0b111, false, now);
    selector.handle_switched(0);
    assert_eq!(
        selector.choose(&packet(1, false, now), 0b111, false, now),
        Choice::Drop
    );
    assert_eq!(
        selector.choose(&packet(1, true, now), 0b111, false, now),
        Choice::Switch
    );
    selector.handle_switched(1);
    selector.handle_wish(wish(0, 3));
    assert_eq!(selector.wants_key_frame(now), Some(0));
    assert_eq!(
        selector.choose(&packet(2, true, now), 0b111, false, now),
        Choice::Drop
    );
    assert_eq!(
        selector.choose(&packet(1, false, now), 0b111, true, now),
        FOLLOW
    );
    assert_eq!(
        selector.choose(&packet(0, true, now), 0b111, false, now),
        Choice::Switch
    );
}

#[test]
fn a_layer_that_died_is_replaced_by_the_best_below() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, Wish::ALL);
    selector.handle_switched(2);
    assert_eq!(
        selector.choose(&packet(1, true, now), 0b011, false, now),
        Choice::Switch
    );
    assert_eq!(selector.wants_key_frame(now), Some(1));
    assert_eq!(selector.missing_layers(), 0);
    selector.handle_switched(1);
    assert_eq!(selector.missing_layers(), 1);
    assert_eq!(selector.highest_in_use(), Some(2));
}

#[test]
fn an_overshoot_comes_back_down() {
    let now = epoch();
    let mut selector = Selector::new(true, 0b111, wish(0, 3));
    selector.choose(&packet(2, false, now), 0b100, false, now);
    let later = now + HOLD;
    assert_eq!(
        selector.choose(&packet(2, true, later), 0b100, false, later),
        Choice::Switch
    );
    selector.handle_switched(2);
    assert_eq!(
        selector.choose(&packet(0, true, later), 0b101, false, later),
        Choice::Switch
    );
}

#[test]
fn nothing_begins_at_a_late_packet() {
    let now = epoch();
    let mut selector = Selector::new(true, 1, Wish::ALL);
    let late = Packet {
        late: true,
        ..packet(0, true, now)
    };
    assert_eq!(selector.choose(&late, 1, false, now), Choice::Drop);
}

#[test]
fn audio_begins_anywhere_and_never_asks() {
    let now = epoch();
    let mut selector = Selector::new(false, 1, Wish::ALL);
    assert_eq!(
        selector.choose(&packet(0, false, now), 1, false, now),
        Choice::Switch
    );
    assert_eq!(selector.wants_key_frame(now), None);
}

#[test]
fn a_temporal_layer_comes_at_a_sync_frame_and_goes_at_any_frame() {
    let now = epoch();
    let mut selector = Selector::new(true, 1, wish(0, 0));
    selector.handle_switched(0);
    let filtered = |selector: &mut Selector, layer, sync, start| {
        let choice = selector.choose(&thinned(layer, sync, start, now), 1, true, now);
        choice == Choice::Follow { filter: true }
    };
    assert!(filtered(&mut selector, 1, true, true), "not wanted");
    selector.handle_wish(wish(0, 2));
    assert!(
        filtered(&mut selector, 1, false, true),
        "depends on frames not sent"
    );
    assert!(filtered(&mut selector, 2, true, true), "two steps up");
    assert!(
        filtered(&mut selector, 1, true, false),
        "not at the frame's start"
    );
    assert!(!filtered(&mut selector, 1, true, true));
    assert!(!filtered(&mut selector, 2, true, true));
    selector.handle_wish(wish(0, 0));
    assert!(
        !filtered(&mut selector, 2, false, false),
        "the frame is finished"
    );
    assert!(filtered(&mut selector, 2, false, true));
}
