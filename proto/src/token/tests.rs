use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use livekit_protocol::TrackSource;
use livekit_protocol::participant_info::{Kind, KindDetail};
use proptest::prelude::*;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn keys() -> Keys {
    [("devkey", "secret"), ("other", "another secret")]
        .into_iter()
        .map(|(name, secret)| (name.to_owned(), Secret::new(secret)))
        .collect()
}

/// Signs any JSON as a body, as a foreign issuer would.
fn token(body: &serde_json::Value, algorithm: Algorithm, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), body, &key).expect("encode")
}

fn verify(body: &serde_json::Value) -> Result<Claims, TokenError> {
    let token = token(body, Algorithm::HS256, "secret");
    keys().verify(&token, NOW).map(Verified::into_inner)
}

#[test]
fn a_token_of_another_issuer_is_read_whole() {
    let claims = verify(&json!({
        "iss": "devkey", "sub": "alice", "nbf": NOW - 1, "exp": NOW + 60, "identity": "mallory",
        "name": "Alice", "metadata": "{}", "attributes": {"a": "b"}, "kind": "agent",
        "kindDetails": ["forwarded", "new_one"], "sha256": "x", "roomPreset": "p",
        "unknown": {"x": [1]},
        "roomConfig": {"emptyTimeout": 7, "maxParticipants": 3, "unheardOf": true},
        "video": {"roomJoin": true, "room": "lobby", "canPublishSources": ["camera"], "hidden": true},
    }))
    .expect("valid");
    assert_eq!(claims.identity, "alice");
    assert_eq!(claims.expires_at, NOW + 60);
    assert_eq!(
        (claims.name.as_str(), claims.metadata.as_str()),
        ("Alice", "{}")
    );
    assert_eq!(claims.attributes.get("a").map(String::as_str), Some("b"));
    assert_eq!(claims.kind, Kind::Agent);
    assert_eq!(claims.kind_details, [KindDetail::Forwarded]);
    assert!(claims.is_dependent());
    let config = claims.room_config.as_ref().expect("config");
    assert_eq!((config.empty_timeout, config.max_participants), (7, 3));
    let grant = claims.grant();
    assert!(grant.room_join && grant.hidden && !grant.recorder);
    assert_eq!(grant.room, "lobby");
}

#[test]
fn the_token_id_names_the_participant_if_the_subject_does_not() {
    let claims = verify(&json!({"iss": "devkey", "jti": "bob", "exp": NOW})).expect("valid");
    assert_eq!(claims.identity, "bob");
    assert_eq!(claims.video, None);
    assert!(!claims.grant().room_join);
}

#[test]
fn nulls_and_unknown_words_count_as_absent() {
    let claims = verify(&json!({
        "iss": "devkey", "sub": "a", "exp": NOW as f64 + 0.5, "metadata": null, "attributes": null,
        "kind": "wizard", "video": {"canPublish": null, "canPublishSources": null, "room": null},
    }))
    .expect("valid");
    assert_eq!(claims.kind, Kind::Standard);
    assert!(claims.grant().can_publish());
    assert_eq!(claims.expires_at, NOW);
}

#[test]
fn each_fault_of_a_token_has_livekits_text() {
    let good = json!({"iss": "devkey", "sub": "a", "exp": NOW});
    let refused = |token: &str| keys().verify(token, NOW).expect_err("refused").to_string();
    for malformed in ["", "abc", "a.b.c", "....", "\u{0}.é.ü"] {
        assert_eq!(refused(malformed), "invalid authorization token");
    }
    let unknown = json!({"iss": "nobody", "sub": "a", "exp": NOW});
    assert_eq!(
        refused(&token(&unknown, Algorithm::HS256, "secret")),
        "invalid API key"
    );
    let no_issuer = json!({"sub": "a", "exp": NOW});
    assert_eq!(
        refused(&token(&no_issuer, Algorithm::HS256, "secret")),
        "invalid API key"
    );
    assert_eq!(
        refused(&token(&good, Algorithm::HS256, "wrong")),
        "invalid authorization token: signature is invalid"
    );
    assert_eq!(
        refused(&token(&good, Algorithm::HS512, "secret")),
        "invalid authorization token: unexpected signing algorithm"
    );
    assert_eq!(
        TokenError::Scheme.to_string(),
        "invalid authorization header. Must start with Bearer "
    );
}

#[test]
fn a_token_signed_with_another_keys_secret_is_refused() {
    let body = json!({"iss": "other", "sub": "a", "exp": NOW});
    let forged = token(&body, Algorithm::HS256, "secret");
    assert_eq!(keys().verify(&forged, NOW), Err(TokenError::Signature));
}

#[test]
fn an_unsigned_token_is_refused() {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let body = part(r#"{"iss":"devkey","sub":"a","exp":99999999999}"#);
    let unsigned = format!("{}.{body}.", part(r#"{"alg":"none"}"#));
    assert_eq!(keys().verify(&unsigned, NOW), Err(TokenError::Malformed));
    let empty_signature = format!("{}.{body}.", part(r#"{"alg":"HS256"}"#));
    assert_eq!(
        keys().verify(&empty_signature, NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn times_are_kept_with_a_minute_of_leeway() {
    let at = |exp: u64, nbf: u64| {
        verify(&json!({"iss": "devkey", "sub": "a", "exp": exp, "nbf": nbf})).map(|_| ())
    };
    assert_eq!(at(NOW - 60, 0), Ok(()));
    assert_eq!(at(NOW - 61, 0), Err(TokenError::Expired));
    assert_eq!(at(NOW, NOW + 60), Ok(()));
    assert_eq!(at(NOW, NOW + 61), Err(TokenError::NotYetValid));
    assert_eq!(at(u64::MAX, 0), Ok(()));
    let endless = verify(&json!({"iss": "devkey", "sub": "a"}));
    assert_eq!(endless, Err(TokenError::NoExpiry));
}

#[test]
fn claims_of_a_wrong_type_are_refused() {
    let odd = verify(&json!({"iss": "devkey", "sub": "a", "exp": NOW, "video": 5}));
    assert_eq!(odd, Err(TokenError::Claims));
}

#[test]
fn what_is_signed_comes_back_when_verified() {
    let claims = Claims {
        identity: "alice".into(),
        name: "Alice".into(),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
        kind: Kind::Sip,
        kind_details: vec![KindDetail::BridgeRtsp],
        video: Some(VideoGrant {
            can_publish: Some(false),
            can_publish_sources: vec![TrackSource::ScreenShare, TrackSource::Unknown],
            ..VideoGrant::join("lobby")
        }),
        room_config: Some(livekit_protocol::RoomConfiguration {
            departure_timeout: 9,
            ..Default::default()
        }),
        ..Claims::default()
    };
    let token = keys()
        .sign(&claims, Duration::from_secs(600), NOW)
        .expect("signed");
    let back = keys().verify(&token, NOW).expect("valid").into_inner();
    let expected = Claims {
        expires_at: NOW + 600,
        ..claims
    };
    assert_eq!(back, expected);
    assert_eq!(keys().verify(&token, NOW + 661), Err(TokenError::Expired));
}

#[test]
fn without_a_key_nothing_is_signed() {
    let signed = Keys::default().sign(&Claims::default(), Duration::from_secs(1), NOW);
    assert_eq!(signed, Err(SignError::NoKey));
}

#[test]
fn absent_rights_have_livekits_meaning() {
    let silent = VideoGrant::join("r");
    assert!(silent.can_publish() && silent.can_subscribe() && silent.can_publish_data());
    assert!(!silent.can_update_own_metadata() && !silent.can_subscribe_metrics());
    let mute = VideoGrant {
        can_publish: Some(false),
        can_publish_sources: vec![TrackSource::Camera],
        ..VideoGrant::NONE
    };
    assert!(!mute.can_publish_data());
    assert!(!mute.can_publish_source(TrackSource::Camera));
}

#[test]
fn a_list_of_sources_admits_only_these() {
    let of = |sources: &[TrackSource]| VideoGrant {
        can_publish_sources: sources.to_vec(),
        ..VideoGrant::NONE
    };
    assert!(of(&[]).can_publish_source(TrackSource::Unknown));
    assert!(of(&[TrackSource::Camera]).can_publish_source(TrackSource::Camera));
    assert!(!of(&[TrackSource::Camera]).can_publish_source(TrackSource::Microphone));
    assert!(!of(&[TrackSource::Unknown]).can_publish_source(TrackSource::Unknown));
    let misspelt: VideoGrant =
        serde_json::from_value(json!({"canPublishSources": ["CAMERA"]})).expect("grant");
    assert!(!misspelt.can_publish_source(TrackSource::Camera));
    let permission = of(&[TrackSource::Microphone]).permission();
    assert_eq!(
        permission.can_publish_sources,
        [TrackSource::Microphone as i32]
    );
    assert!(permission.can_publish && permission.can_subscribe);
}

#[test]
fn a_secret_is_not_readable() {
    let shown = format!("{:?}", keys());
    assert!(shown.contains("devkey"));
    assert!(!shown.contains("secret\""), "{shown}");
    assert!(!shown.contains("another"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(text in ".*") {
        prop_assert!(keys().verify(&text, NOW).is_err());
    }

    #[test]
    fn any_signed_body_is_judged_without_panic(body in ".*", exp in any::<f64>(), nbf in any::<i64>()) {
        let claims = json!({"iss": "devkey", "sub": body, "exp": exp, "nbf": nbf});
        let _ = verify(&claims);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let raw = format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&body), part("x"));
        prop_assert!(keys().verify(&raw, NOW).is_err());
    }
}
