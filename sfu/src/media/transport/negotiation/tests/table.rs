//! The direction of each section, and which track it belongs to. (LK: signalling §4.4, §5.1)

use super::*;

#[test]
fn a_spare_receiving_section_is_answered_sendonly_without_msid() {
    let answered = world().offer(&offer(&[("0", "audio", "recvonly")]));
    assert_eq!(directions(&answered), [Direction::SendOnly]);
    assert!(!answered.sdp.contains("a=msid:"));
}

#[test]
fn a_section_the_client_sends_in_is_answered_recvonly() {
    for direction in ["sendonly", "sendrecv"] {
        let lines = format!("{direction} msid:-_mic");
        let answered = world().offer(&offer(&[("0", "audio", lines.as_str())]));
        assert_eq!(directions(&answered), [Direction::RecvOnly]);
        assert_eq!(answered.receiving[0].track, None);
    }
}

#[test]
fn a_section_that_forwards_and_publishes_is_answered_sendrecv() {
    let mut world = world();
    world.subscribe(1, Codec::Opus).expect("taken on");
    world.offer(&offer(&[("0", "audio", "recvonly")]));
    let answered = world.offer(&offer(&[("0", "audio", "sendrecv msid:-_mic")]));
    assert_eq!(directions(&answered), [Direction::SendRecv]);
    assert_eq!((answered.receiving.len(), answered.sending.len()), (1, 1));
    world.unsubscribe(1);
    let answered = world.offer(&offer(&[("0", "audio", "sendrecv msid:-_mic")]));
    assert_eq!(directions(&answered), [Direction::RecvOnly]);
}

#[test]
fn a_sending_section_is_never_given_a_forwarded_track() {
    let mut world = world();
    world.subscribe(1, Codec::Opus).expect("taken on");
    let answered = world.offer(&offer(&[("0", "audio", "sendrecv msid:-_mic")]));
    assert_eq!(directions(&answered), [Direction::RecvOnly]);
    assert_eq!(world.needed(), Some((1, 0)));
}

#[test]
fn a_stopped_section_stays_stopped_and_frees_its_tracks() {
    let mut world = world();
    world.subscribe(1, Codec::Vp8).expect("taken on");
    world.offer(&offer(&[
        ("0", "video", "recvonly"),
        ("1", "video", "recvonly"),
    ]));
    let answered = world.offer(&offer(&[
        ("0", "video", "0 inactive"),
        ("1", "video", "recvonly"),
    ]));
    assert!(sections(&answered.sdp)[0].rejected);
    assert_eq!(
        answered.mids,
        [("1".to_owned(), remote_track(1))],
        "it moved"
    );
    let answered = world.offer(&offer(&[
        ("0", "video", "inactive"),
        ("1", "video", "recvonly"),
    ]));
    assert_eq!(directions(&answered)[0], Direction::Inactive);
}

#[test]
fn a_stopped_section_may_lose_its_mid() {
    let mut world = world();
    world.publish(1, spec(MediaKind::Audio, "mic"));
    let both = [
        ("0", "audio", "sendonly msid:-_mic"),
        ("1", "video", "recvonly"),
    ];
    world.offer(&offer(&both));
    let stopped = offer(&[("0", "audio", "0 inactive"), both[1]]).replace("a=mid:0\r\n", "");
    let answered = world.offer(&stopped);
    assert_eq!(answered.ended, [own_track(1)]);
}

#[test]
fn a_section_that_stops_sending_ends_its_track() {
    for after in ["inactive", "recvonly", "0 sendonly"] {
        let mut world = world();
        world.publish(1, spec(MediaKind::Audio, "mic"));
        let spare = ("1", "audio", "recvonly");
        let answered = world.offer(&offer(&[("0", "audio", "sendonly msid:-_mic"), spare]));
        assert_eq!(answered.receiving[0].track, Some(own_track(1)));
        let answered = world.offer(&offer(&[("0", "audio", after), spare]));
        assert_eq!(answered.ended, [own_track(1)], "{after}");
        assert!(answered.receiving.is_empty());
    }
}

#[test]
fn a_section_with_another_msid_is_another_track() {
    let mut world = world();
    world.publish(1, spec(MediaKind::Audio, "mic"));
    world.offer(&offer(&[("0", "audio", "sendonly msid:-_mic")]));
    world.publish(2, spec(MediaKind::Audio, "other"));
    let answered = world.offer(&offer(&[("0", "audio", "sendonly msid:-_other")]));
    assert_eq!(answered.ended, [own_track(1)]);
    assert_eq!(answered.receiving[0].track, Some(own_track(2)));
}

#[test]
fn a_track_is_matched_by_its_id_before_its_kind() {
    let mut world = world();
    world.publish(1, spec(MediaKind::Audio, "first"));
    world.publish(2, spec(MediaKind::Audio, "second"));
    world.publish(3, spec(MediaKind::Video, "third"));
    let answered = world.offer(&offer(&[
        ("0", "audio", "sendonly msid:-_unheard"),
        ("1", "audio", "sendonly msid:-_first"),
        ("2", "audio", "sendonly msid:-_surplus"),
    ]));
    let tracks: Vec<_> = answered
        .receiving
        .iter()
        .map(|r| r.track.map(|t| t.index))
        .collect();
    assert_eq!(tracks, [Some(2), Some(1), None]);
}

#[test]
fn a_track_announced_after_its_offer_is_matched_at_once() {
    let mut world = world();
    world.offer(&offer(&[
        ("0", "audio", "sendonly msid:-_a"),
        ("1", "audio", "sendonly msid:-_b"),
    ]));
    let matched = world
        .publish(1, spec(MediaKind::Audio, "b"))
        .expect("waits");
    assert_eq!(
        (matched.mid.as_str(), matched.track),
        ("1", Some(own_track(1)))
    );
    assert_eq!(
        world.publish(1, spec(MediaKind::Audio, "b")),
        None,
        "only once"
    );
    let other = world
        .publish(2, spec(MediaKind::Audio, "renamed"))
        .expect("by kind");
    assert_eq!(other.mid, "0");
    assert_eq!(world.negotiation.receiving().len(), 2);
}

#[test]
fn an_unpublished_track_is_turned_off_and_its_section_is_nobody_elses() {
    let mut world = world();
    let sending = offer(&[("0", "audio", "sendonly msid:-_mic")]);
    world.publish(1, spec(MediaKind::Audio, "mic"));
    world.offer(&sending);
    world.negotiation.unpublish(own_track(1));
    assert!(world.negotiation.receiving().is_empty());
    assert_eq!(world.publish(2, spec(MediaKind::Audio, "other")), None);
    let answered = world.offer(&sending);
    assert_eq!(directions(&answered), [Direction::Inactive]);
    assert!(answered.ended.is_empty(), "it ended before");
    // The same source announced again is welcome, after one more offer.
    world.negotiation.unpublish(own_track(2));
    assert_eq!(world.publish(3, spec(MediaKind::Audio, "mic")), None);
    assert_eq!(world.needed(), Some((0, 0)));
    let answered = world.offer(&sending);
    assert_eq!(answered.receiving[0].track, Some(own_track(3)));
}

#[test]
fn a_second_data_section_is_refused() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\na=mid:";
    let sdp = offer(&[("0", "audio", "recvonly")]).replace("BUNDLE 0", "BUNDLE 0 1 2");
    let answered = world().offer(&format!("{sdp}{data}1\r\n{data}2\r\n"));
    let rejected: Vec<bool> = sections(&answered.sdp).iter().map(|s| s.rejected).collect();
    assert_eq!(rejected, [false, false, true]);
}

#[test]
fn a_track_forwarded_again_has_its_new_ssrc_only() {
    let mut world = world();
    let join = offer(&[("0", "video", "recvonly"), ("1", "video", "recvonly")]);
    world.subscribe(1, Codec::Vp8).expect("taken on");
    let first = world.offer(&join).sending[0].ssrc;
    world.subscribe(1, Codec::Vp8).expect("taken on");
    let answered = world.offer(&join);
    assert_eq!(answered.sending.len(), 1);
    assert_ne!(answered.sending[0].ssrc, first);
    assert_eq!(
        directions(&answered),
        [Direction::Inactive, Direction::SendOnly]
    );
}
