use super::*;
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
        Some(&param(request)),
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
        ice_servers: vec![livekit::IceServer::default()],
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
    let missing = check(None, None, Hints::default()).expect_err("refused");
    assert_eq!(
        (missing.status(), missing.to_string().as_str()),
        (400, "join_request is required")
    );
    let bad = check(None, Some("%"), Hints::default()).expect_err("refused");
    assert_eq!(bad, JoinError::Request(JoinRequestError::Base64));
    let no_token = check(None, Some(&param(&plain())), Hints::default());
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
    let admission = check(Some(verified(&alice())), Some(&param(&request)), hints);
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
    assert_eq!(join.publish_codecs, Codec::ALL);
    assert_eq!(join.subscribe_codecs, [Codec::Vp8, Codec::Opus]);
    assert!(join.client_configuration.is_some());
    assert_eq!((join.add_tracks.len(), join.ice_servers.len()), (1, 1));
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
