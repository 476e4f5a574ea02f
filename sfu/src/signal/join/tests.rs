use super::*;
use crate::config::check::turn::Access;
use crate::ice_servers::Credential;
use proto::livekit::{ConnectionSettings, JoinRequest, ReconnectReason};
use proto::signal::encode_join_request as param;
use proto::token::{Keys, Secret, VideoGrant};
use std::time::Duration;

fn verified(claims: &Claims) -> Verified<Claims> {
    let keys: Keys = [("key".to_owned(), Secret::new("secret"))]
        .into_iter()
        .collect();
    let token = keys
        .sign(claims, Duration::from_secs(60), 1000)
        .expect("signed");
    keys.verify(&token, 1000).expect("verified")
}

/// The least a client sends: an empty message would be an empty parameter.
fn plain() -> JoinRequest {
    JoinRequest {
        client_info: Some(livekit::ClientInfo {
            protocol: 17,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn alice() -> Claims {
    Claims {
        identity: "alice".into(),
        video: Some(VideoGrant::join("lobby")),
        ..Claims::default()
    }
}

fn with_grant(grant: VideoGrant) -> Claims {
    Claims {
        video: Some(grant),
        ..alice()
    }
}

fn checked(claims: &Claims, request: &JoinRequest) -> Result<Admission, JoinError> {
    check(
        Some(verified(claims)),
        Asked::Request(Some(&param(request))),
        Hints::default(),
    )
}

fn refused(claims: &Claims) -> (u16, String) {
    let error = checked(claims, &plain()).expect_err("refused");
    (error.status(), error.to_string())
}

fn policy() -> Policy {
    Policy {
        codecs: Codec::ALL.to_vec(),
        ice_servers: vec![IceServer {
            urls: Vec::new(),
            credential: Credential::Theirs(Access::Open),
        }],
        auto_create: true,
    }
}

const PEER: PeerId = PeerId {
    worker: 0,
    slot: 4,
    generation: 2,
};

#[test]
fn the_join_request_is_judged_before_the_token() {
    let missing = check(None, Asked::Request(None), Hints::default()).expect_err("refused");
    assert_eq!(
        (missing.status(), missing.to_string().as_str()),
        (400, "join_request is required")
    );
    let bad = check(None, Asked::Request(Some("%")), Hints::default()).expect_err("refused");
    assert_eq!(bad, JoinError::Request(JoinRequestError::Base64));
    let no_token = check(
        None,
        Asked::Request(Some(&param(&plain()))),
        Hints::default(),
    );
    let no_token = no_token.expect_err("refused");
    assert_eq!(no_token.status(), 401);
    assert_eq!(no_token.to_string(), "no permissions to access the room");
}

#[test]
fn a_token_is_judged_in_livekits_order_and_words() {
    let nobody = |grant: VideoGrant| Claims {
        identity: String::new(),
        ..with_grant(grant)
    };
    let no_grant = Claims {
        video: None,
        ..nobody(VideoGrant::NONE)
    };
    assert_eq!(
        refused(&no_grant),
        (401, "no permissions to access the room".into())
    );
    assert_eq!(
        refused(&nobody(VideoGrant::NONE)),
        (401, "permissions denied".into())
    );
    assert_eq!(
        refused(&nobody(VideoGrant::join(""))),
        (400, "identity cannot be empty".into())
    );
    let long = Claims {
        identity: "i".repeat(257),
        ..with_grant(VideoGrant::join(""))
    };
    let text = "participant identity length exceeds limits: max length 256";
    assert_eq!(refused(&long), (400, text.into()));
    assert_eq!(
        refused(&with_grant(VideoGrant::join(""))),
        (400, "no room name".into())
    );
    let text = "room name length exceeds limits: max length 256";
    assert_eq!(
        refused(&with_grant(VideoGrant::join(&"r".repeat(257)))),
        (400, text.into())
    );
    let at_the_limit = Claims {
        identity: "i".repeat(256),
        ..with_grant(VideoGrant::join(&"r".repeat(256)))
    };
    assert!(checked(&at_the_limit, &plain()).is_ok());
}

#[test]
fn who_describes_himself_needs_the_right_to() {
    let with_metadata = JoinRequest {
        metadata: "m".into(),
        ..Default::default()
    };
    let with_attributes = JoinRequest {
        participant_attributes: [("b", "2"), ("c", ""), ("a", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    };
    for request in [&with_metadata, &with_attributes] {
        assert_eq!(
            checked(&alice(), request).expect_err("refused"),
            JoinError::NoAccess
        );
    }
    let entitled = with_grant(VideoGrant {
        can_update_own_metadata: Some(true),
        ..VideoGrant::join("lobby")
    });
    let join = |request| {
        checked(&entitled, request)
            .expect("admitted")
            .into_join(SessionId(1), PEER, &policy())
    };
    assert_eq!(join(&with_metadata).metadata, "m");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        join(&with_attributes).attributes,
        [pair("a", "1"), pair("b", "2")]
    );
}

#[test]
fn a_join_carries_what_client_token_and_operator_said() {
    let request = JoinRequest {
        client_info: Some(livekit::ClientInfo {
            protocol: 17,
            browser: "firefox".into(),
            os: "linux".into(),
            ..Default::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: true,
            ..Default::default()
        }),
        add_track_requests: vec![livekit::AddTrackRequest::default()],
        publisher_offer: Some(livekit::SessionDescription::default()),
        ..Default::default()
    };
    let hints = Hints {
        user_agent: None,
        address: Some(IpAddr::from([192, 0, 2, 7])),
    };
    let admission = check(
        Some(verified(&alice())),
        Asked::Request(Some(&param(&request))),
        hints,
    );
    let admission = admission.expect("admitted");
    assert_eq!((admission.room(), admission.identity()), ("lobby", "alice"));
    assert!(!admission.resumes());
    let join = admission.into_join(SessionId(9), PEER, &policy());
    assert_eq!((join.session, join.peer), (SessionId(9), PEER));
    assert_eq!(join.claims.expires_at, 1060);
    assert_eq!(
        (join.client.protocol, join.client.address.as_str()),
        (17, "192.0.2.7")
    );
    assert_eq!(join.address, hints.address);
    assert!(join.auto_subscribe && join.adaptive_stream && join.one_codec_per_section);
    // Firefox on Linux publishes no H264 and does not play RED.
    let without = |missing: Codec| {
        Codec::ALL
            .into_iter()
            .filter(move |codec| *codec != missing)
    };
    assert!(without(Codec::H264).eq(join.publish_codecs));
    assert!(without(Codec::Red).eq(join.subscribe_codecs));
    assert!(join.client_configuration.is_some());
    assert_eq!((join.add_tracks.len(), join.ways.ice_servers.len()), (1, 1));
    assert!(join.offer.is_some());
}

#[test]
fn a_request_without_settings_subscribes_to_nothing_by_itself() {
    let admission = checked(&alice(), &plain()).expect("admitted");
    let join = admission.into_join(SessionId(1), PEER, &policy());
    assert!(!join.auto_subscribe && !join.adaptive_stream && !join.one_codec_per_section);
    assert_eq!(join.client_configuration, None);
}

#[test]
fn a_resume_says_who_he_believes_to_be() {
    let mut request = JoinRequest {
        reconnect: true,
        reconnect_reason: ReconnectReason::RrPublisherFailed as i32,
        participant_sid: "PA_1".into(),
        ..Default::default()
    };
    let resume = |request: &JoinRequest| {
        let admission = checked(&alice(), request).expect("admitted");
        assert!(admission.resumes());
        admission.into_resume(SessionId(3), &policy())
    };
    let told = resume(&request);
    assert_eq!(
        (told.session, told.identity.as_str()),
        (SessionId(3), "alice")
    );
    assert_eq!(told.sid, Some(ParticipantSid::from_wire("PA_1")));
    assert_eq!(told.reason, ReconnectReason::RrPublisherFailed);
    request.participant_sid.clear();
    assert_eq!(resume(&request).sid, None);
}

#[test]
fn without_auto_create_only_a_creator_may_come_first() {
    let closed = Policy {
        auto_create: false,
        ..policy()
    };
    let admission = checked(&alice(), &plain()).expect("admitted");
    assert!(admission.needs_existing_room(&closed));
    assert!(!admission.needs_existing_room(&policy()));
    let creator = with_grant(VideoGrant {
        room_create: true,
        ..VideoGrant::join("lobby")
    });
    let admission = checked(&creator, &plain()).expect("admitted");
    assert!(!admission.needs_existing_room(&closed));
    assert_eq!(JoinError::RoomMissing.status(), 404);
    assert_eq!(
        JoinError::RoomMissing.to_string(),
        "requested room does not exist"
    );
    assert_eq!(JoinError::Overloaded.status(), 503);
}

fn by_parameters(claims: &Claims, pairs: &[(&str, &str)]) -> Result<Admission, JoinError> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let pairs: Vec<_> = pairs.iter().map(owned).collect();
    check(
        Some(verified(claims)),
        Asked::Parameters(&pairs),
        Hints::default(),
    )
}

fn joined(admission: Admission) -> Join {
    admission.into_join(SessionId(1), PEER, &policy())
}

#[test]
fn parameters_ask_for_two_connections_and_a_join_request_for_one() {
    let dual = joined(by_parameters(&alice(), &[("protocol", "9")]).expect("admitted"));
    assert!(dual.dual && dual.auto_subscribe && dual.reuse_sections);
    assert_eq!((dual.client.protocol, dual.offer), (9, None));
    let request = param(&plain());
    let single = by_parameters(&alice(), &[("protocol", "9"), ("join_request", &request)]);
    let single = joined(single.expect("admitted"));
    assert!(!single.dual && !single.auto_subscribe);
    assert_eq!(single.client.protocol, 17);
    let broken = by_parameters(&alice(), &[("join_request", "!")]);
    assert_eq!(broken.expect_err("refused").status(), 400);
}

#[test]
fn sections_are_not_reused_for_safari_and_old_clients() {
    for (protocol, browser, reused) in [
        ("3", "Chrome", false),
        ("4", "Chrome", true),
        ("17", "Safari", false),
        ("17", "Firefox", true),
    ] {
        let asked = [("protocol", protocol), ("browser", browser)];
        let join = joined(by_parameters(&alice(), &asked).expect("admitted"));
        assert_eq!(join.reuse_sections, reused, "{protocol} {browser}");
    }
}

#[test]
fn only_the_go_sdk_is_not_let_choose_its_dtls_role() {
    for (sdk, passive) in [("go", true), ("js", false), ("rust", false)] {
        let join = joined(by_parameters(&alice(), &[("sdk", sdk)]).expect("admitted"));
        assert_eq!(join.passive_offers, passive, "{sdk}");
    }
}

#[test]
fn a_resume_by_parameters_names_its_sid_and_reason() {
    let asked = [
        ("reconnect", "1"),
        ("sid", "PA_1"),
        ("reconnect_reason", "3"),
    ];
    let admission = by_parameters(&alice(), &asked).expect("admitted");
    assert!(admission.resumes());
    let resume = admission.into_resume(SessionId(1), &policy());
    assert_eq!(
        resume.sid.as_ref().map(ParticipantSid::as_str),
        Some("PA_1")
    );
    assert_eq!(resume.reason, ReconnectReason::RrSubscriberFailed);
}

#[test]
fn a_session_that_only_publishes_has_its_own_identity_also_when_its_token_is_renewed() {
    let asked = [("publish", "screen")];
    let mut claims = alice();
    for _ in 0..2 {
        let join = joined(by_parameters(&claims, &asked).expect("admitted"));
        assert_eq!(join.claims.identity, "alice#screen");
        assert!(!join.claims.grant().can_subscribe());
        claims = join.claims;
    }
    let mut grant = VideoGrant::join("lobby");
    grant.can_publish = Some(false);
    let refused = by_parameters(&with_grant(grant), &asked);
    assert_eq!(refused.expect_err("refused"), JoinError::NoAccess);
    let long = "x".repeat(300);
    let refused = by_parameters(&alice(), &[("publish", &long)]);
    assert_eq!(refused.expect_err("refused"), JoinError::LongIdentity);
}

#[test]
fn attributes_that_cannot_be_read_spoil_only_a_validation() {
    let asked = [("attributes", "!")];
    let refused = by_parameters(&alice(), &asked);
    assert_eq!(refused.expect_err("no right to"), JoinError::NoAccess);
    let mut grant = VideoGrant::join("lobby");
    grant.can_update_own_metadata = Some(true);
    let admission = by_parameters(&with_grant(grant), &asked).expect("admitted");
    assert_eq!(admission.validated(), Err(JoinError::Attributes));
    assert!(joined(admission).attributes.is_empty());
}
