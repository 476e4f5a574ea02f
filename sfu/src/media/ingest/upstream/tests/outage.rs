//! What follows a pause: an outage, or a slow picture.

use super::*;

/// A stream on which a key frame came, and so much later, after so many lost packets, the next one: is a
/// key frame asked for with it, or what was lost?
fn asked(pause: Duration, lost: u16) -> (bool, usize) {
    let (mut upstream, start) = (Upstream::new(setup(Codec::Vp8)), instant());
    upstream.handle_packet(&header(96, 1, 0), KEY, start);
    assert!(!upstream.poll_key_frame_request(start));
    let now = start + pause;
    upstream.handle_packet(&header(96, 2 + lost, 90_000), DELTA, now);
    let mut nacks = Vec::new();
    upstream.poll_nacks(None, now + ms(20), &mut nacks);
    (upstream.poll_key_frame_request(now + ms(20)), nacks.len())
}

#[test]
fn after_an_outage_a_key_frame_is_asked_for_at_once_and_nothing_of_what_was_lost() {
    assert_eq!(asked(ms(1000), 16), (true, 0));
    assert_eq!(asked(ms(999), 16), (false, 16), "repairs bridge it");
    assert_eq!(
        asked(ms(60_000), 15),
        (false, 15),
        "a slow picture that lost some"
    );
    assert_eq!(asked(ms(60_000), 0), (false, 0), "a slow picture");
}

#[test]
fn what_is_lost_within_the_burst_after_a_pause_is_asked_for() {
    let (mut upstream, start) = (Upstream::new(setup(Codec::Vp8)), instant());
    upstream.handle_packet(&header(96, 1, 0), KEY, start);
    let now = start + ms(1500);
    upstream.handle_packet(&header(96, 2, 135_000), DELTA, now);
    upstream.handle_packet(&header(96, 23, 135_000), DELTA, now + ms(30));
    assert!(!upstream.poll_key_frame_request(now + ms(30)));
    let mut nacks = Vec::new();
    upstream.poll_nacks(None, now + ms(50), &mut nacks);
    assert_eq!(nacks.len(), 20);
}

#[test]
fn a_key_frame_of_before_an_outage_is_no_answer_after_it() {
    let (mut upstream, start) = (Upstream::new(setup(Codec::Vp8)), instant());
    upstream.handle_packet(&header(96, 1, 0), KEY, start);
    upstream.handle_packet(&header(96, 3, 3000), DELTA, start);
    let now = start + ms(2000);
    upstream.handle_packet(&header(96, 60, 180_000), DELTA, now);
    upstream.handle_packet(&header(96, 2, 3000), KEY, now + ms(5));
    assert!(upstream.poll_key_frame_request(now + ms(5)));
    upstream.handle_packet(&header(96, 61, 183_000), DELTA, now + ms(33));
    assert!(upstream.poll_key_frame_request(now + ms(600)), "still");
    upstream.handle_packet(&header(96, 62, 186_000), KEY, now + ms(700));
    upstream.handle_packet(&header(96, 63, 189_000), DELTA, now + ms(733));
    assert!(!upstream.poll_key_frame_request(now + ms(1500)));
}

#[test]
fn an_outage_is_noticed_though_the_first_packet_after_it_is_an_old_one() {
    let (mut upstream, start) = (Upstream::new(setup(Codec::Vp8)), instant());
    upstream.handle_packet(&header(96, 1, 0), KEY, start);
    upstream.handle_packet(&header(96, 3, 3000), DELTA, start);
    let now = start + ms(1500);
    upstream.handle_packet(&header(96, 2, 3000), DELTA, now);
    assert!(!upstream.poll_key_frame_request(now));
    upstream.handle_packet(&header(96, 60, 130_000), DELTA, now + ms(10));
    assert!(upstream.poll_key_frame_request(now + ms(10)));
}
