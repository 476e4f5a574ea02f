//! Offers that cannot be answered; the negotiation is untouched by them.

use super::*;

fn refused(sdp: &str) -> Option<OfferError> {
    world().try_offer(sdp).err()
}

fn plain() -> String {
    offer(&[("0", "audio", "recvonly"), ("1", "video", "recvonly")])
}

#[test]
fn more_than_one_transport_is_refused() {
    let sdp = plain();
    assert_eq!(refused(&sdp), None);
    let no_bundle = sdp.replace("a=group:BUNDLE 0 1\r\n", "");
    assert_eq!(refused(&no_bundle), Some(OfferError::NotBundled));
    let partial = sdp.replace("BUNDLE 0 1", "BUNDLE 0");
    assert_eq!(refused(&partial), Some(OfferError::NotBundled));
    let own = "a=mid:1\r\na=ice-ufrag:another\r\na=ice-pwd:anotherpasswordanotherpw\r\n";
    let several = sdp.replace("a=mid:1\r\n", own);
    assert_eq!(refused(&several), Some(OfferError::SeveralTransports));
    let certificates = sdp.replace("a=mid:1\r\n", "a=mid:1\r\na=fingerprint:sha-256 FF:FF\r\n");
    assert_eq!(refused(&certificates), Some(OfferError::SeveralTransports));
}

#[test]
fn a_transport_without_what_it_needs_is_refused() {
    let sdp = plain();
    let cut = |line: &str| refused(&sdp.replace(line, ""));
    assert_eq!(
        cut("a=ice-ufrag:theirufrag\r\n"),
        Some(OfferError::NoTransport)
    );
    assert_eq!(
        cut("a=fingerprint:sha-256 01:02\r\n"),
        Some(OfferError::NoFingerprint)
    );
    assert_eq!(cut("a=rtcp-mux\r\n"), Some(OfferError::NoRtcpMux));
    assert_eq!(cut("password"), Some(OfferError::BadCredentials));
    let server = sdp.replace("actpass", "passive");
    assert_eq!(refused(&server), Some(OfferError::NotDtlsClient));
    let syntax = Some(OfferError::Unreadable(sdp::ParseError::Syntax));
    assert_eq!(refused(&sdp.replace("v=0", "v=1")), syntax);
}

#[test]
fn lines_neither_vanish_nor_change_and_a_refused_offer_changes_nothing() {
    let mut world = world();
    world.subscribe(1, Codec::Vp8).expect("taken on");
    world.offer(&plain());
    let before = world.negotiation.sending();
    let fewer = offer(&[("0", "audio", "recvonly")]);
    assert_eq!(
        world.try_offer(&fewer).err(),
        Some(OfferError::SectionsMissing)
    );
    let renamed = offer(&[("0", "audio", "recvonly"), ("2", "video", "recvonly")]);
    assert_eq!(
        world.try_offer(&renamed).err(),
        Some(OfferError::SectionChanged(1))
    );
    let other_kind = offer(&[("0", "video", "recvonly"), ("1", "video", "recvonly")]);
    assert_eq!(
        world.try_offer(&other_kind).err(),
        Some(OfferError::SectionChanged(0))
    );
    assert_eq!(world.negotiation.sending(), before);
    let answered = world.offer(&plain());
    assert_eq!(answered.sending, before);
    assert!(
        answered.sdp.contains("o=- 42 2 IN"),
        "refused offers are not counted"
    );
}

#[test]
fn a_changed_user_fragment_is_a_restart() {
    let mut world = world();
    assert!(!world.offer(&plain()).remote.ice_restart);
    assert!(!world.offer(&plain()).remote.ice_restart);
    let restarted = plain().replace("theirufrag", "newufrag");
    assert!(world.offer(&restarted).remote.ice_restart);
    assert!(!world.offer(&restarted).remote.ice_restart);
}
